//! One database's keyspace events: which keys' rows have come, changed or gone.
//!
//! Must never: lose an event without saying so. Redis drops a subscriber that reads too slowly, and that is a lost
//! connection; what it emits no event for (FLUSHDB) is not known here.

use futures_util::{FutureExt, StreamExt};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisError, RedisResult, Value};
use tokio::task::unconstrained;
use tokio::time::timeout;

use super::database::one_line;
use super::{DbError, TIMEOUT};

/// The events of a subscription.
pub(super) struct Events {
    name: &'static str,
    /// What a channel's name has before the key.
    prefix: String,
    sink: PubSubSink,
    stream: PubSubStream,
}

impl Events {
    /// The events of a subscription whose channels are keys behind `prefix`.
    pub(super) fn new(name: &'static str, prefix: String, sink: PubSubSink, stream: PubSubStream) -> Self {
        Self { name, prefix, sink, stream }
    }

    /// Waits for the next event, and returns its key; none: the connection is lost. Cancel-safe. A key that is no text is
    /// none of SONiC's, and reads as empty.
    pub(super) async fn next(&mut self) -> Option<String> {
        let message = self.stream.next().await?;
        Some(key(&self.prefix, &message))
    }

    /// The keys of all events of what Redis has done until now.
    ///
    /// Redis answers in order: behind the answer to a PING on this connection no event of anything earlier is still to come.
    pub(super) async fn until_now(&mut self) -> Result<Vec<String>, DbError> {
        let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        let answered: RedisResult<Value> = timeout(TIMEOUT, self.sink.ping()).await.unwrap_or_else(late);
        answered.map_err(|e| self.failed(&e))?;
        let mut keys = Vec::new();
        // Tokio lets a task take so much and no more at a time; here all must be taken.
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
