//! Events from redis: keyspace events of the watched tables, and the model's orders.
//!
//! Owns: the subscribed connection, and the thread that does nothing but read it.
//! Must never: interpret an event, or lose one.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::{Connection, Msg, RedisError, RedisResult};

use super::database::{Databases, Error};

/// The channel on which the model takes orders.
pub const CONTROL: &str = "sonic-model";

const END: &str = "end";

/// A running subscription.
pub struct Events {
    messages: Receiver<RedisResult<Msg>>,
    publisher: Connection,
    /// The model's own channel: a message on it arrives after every event that was published before.
    private: String,
    fences: u64,
    reader: Option<JoinHandle<()>>,
}

impl Events {
    /// Subscribes to these patterns and to the orders. From now on it misses no event.
    pub fn start(databases: &Databases, patterns: Vec<String>) -> Result<Self, Error> {
        let mut subscriber = databases.open("CONFIG_DB")?.into_connection();
        let id: i64 = redis::cmd("CLIENT").arg("ID").query(&mut subscriber)?;
        let private = format!("{CONTROL}:{id}");
        let (sender, messages) = channel();
        let (subscribed, confirmation) = channel();
        let channels = [CONTROL.to_owned(), private.clone()];
        let reader = std::thread::spawn(move || {
            read(&mut subscriber, &patterns, &channels, &subscribed, &sender);
        });
        let publisher = databases.open("CONFIG_DB")?.into_connection();
        let events = Self { messages, publisher, private, fences: 0, reader: Some(reader) };
        confirmation.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(events)
    }

    /// The next event, or nothing if there is none until then.
    pub fn next(&mut self, until: Instant) -> Result<Option<Msg>, Error> {
        let patience = until.saturating_duration_since(Instant::now());
        match self.receive(patience)? {
            // A late answer to an earlier call.
            Some(message) if message.get_channel_name() == self.private => Ok(None),
            message => Ok(message),
        }
    }

    /// Every event of the writes before this call.
    pub fn arrived(&mut self) -> Result<Vec<Msg>, Error> {
        self.fences += 1;
        let fence = self.fences.to_string();
        redis::cmd("PUBLISH").arg(&self.private).arg(&fence).exec(&mut self.publisher)?;
        let mut arrived = Vec::new();
        loop {
            let message = self.messages.recv().unwrap_or_else(|_| Err(gone()))?;
            if message.get_channel_name() != self.private {
                arrived.push(message);
            } else if message.get_payload::<String>()? == fence {
                return Ok(arrived);
            }
        }
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<Msg>, Error> {
        match self.messages.recv_timeout(patience) {
            Ok(message) => Ok(Some(message?)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(gone().into()),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // If redis is gone, the reader has ended already.
        let _ = redis::cmd("PUBLISH").arg(&self.private).arg(END).exec(&mut self.publisher);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read(
    subscriber: &mut Connection,
    patterns: &[String],
    channels: &[String; 2],
    subscribed: &Sender<RedisResult<()>>,
    sender: &Sender<RedisResult<Msg>>,
) {
    let [_, private] = channels;
    let mut events = subscriber.as_pubsub();
    let result = events.psubscribe(patterns).and_then(|()| events.subscribe(channels.as_slice()));
    if subscribed.send(result).is_err() {
        return;
    }
    loop {
        let message = events.get_message();
        let is_last = message.as_ref().map_or(true, |message| {
            message.get_channel_name() == private
                && message.get_payload::<String>().is_ok_and(|payload| payload == END)
        });
        if sender.send(message).is_err() || is_last {
            return;
        }
    }
}

fn gone() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
}
