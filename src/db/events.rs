//! The keyspace events of one database: the keys whose rows have come, changed or gone.
//!
//! Must never: lose an event silently. Redis disconnects a subscriber that reads too slowly, and the caller sees a lost
//! connection. Redis emits no event for FLUSHDB, so this file does not know of it.

use futures_util::{FutureExt, StreamExt};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisError, RedisResult, Value};
use tokio::task::unconstrained;
use tokio::time::timeout;

use super::database::one_line;
use super::{DbError, TIMEOUT};

/// A subscription to keyspace events.
pub(super) struct KeyspaceEvents {
    name: &'static str,
    /// The part of a channel's name before the key.
    prefix: String,
    sink: PubSubSink,
    stream: PubSubStream,
}

impl KeyspaceEvents {
    /// The events of a subscription whose channels are named `prefix` and key.
    pub(super) fn new(name: &'static str, prefix: String, sink: PubSubSink, stream: PubSubStream) -> Self {
        Self { name, prefix, sink, stream }
    }

    /// Waits for the next event and returns its key; none when the connection is lost. Cancel-safe. A key that is not text
    /// reads as empty: all of SONiC's keys are text.
    pub(super) async fn next(&mut self) -> Option<String> {
        let message = self.stream.next().await?;
        Some(key(&self.prefix, &message))
    }

    /// The keys of all events of everything that Redis has done until now.
    ///
    /// Redis answers in order: when it has answered a PING on this connection, every earlier event has arrived.
    pub(super) async fn until_now(&mut self) -> Result<Vec<String>, DbError> {
        let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        let answered: RedisResult<Value> = timeout(TIMEOUT, self.sink.ping()).await.unwrap_or_else(late);
        answered.map_err(|e| self.failed(&e))?;
        let mut keys = Vec::new();
        // Tokio's cooperative budget would end this loop early, and every event must be read.
        while let Some(Some(message)) = unconstrained(self.stream.next()).now_or_never() {
            keys.push(key(&self.prefix, &message));
        }
        Ok(keys)
    }

    fn failed(&self, error: &RedisError) -> DbError {
        DbError::Command { database: self.name, reason: one_line(error) }
    }
}

fn key(prefix: &str, message: &Msg) -> String {
    message.get_channel_name().strip_prefix(prefix).unwrap_or_default().to_owned()
}
