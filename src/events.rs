//! What happens to machines on ports, as it happens: tasks publish, and readers of `GET /v1/events` follow.
//!
//! Must never: wait for a reader, or keep an event when there is no reader.

use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::broadcast;

use leafboot_core::names::PortName;

/// Events that a reader may be behind.
pub const QUEUE_MAX: usize = 64;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// An attempt has begun or ended.
    Attempt,
    /// An attempt has reached a stage.
    Stage,
    /// A port has another verdict.
    Verdict,
}

/// Something that has happened on a port: the `data` of an event.
#[derive(Debug, Serialize)]
pub struct PortEvent<'a, V> {
    /// The port.
    pub port: &'a PortName,
    /// The attempt's identifier; none: there is no attempt.
    pub attempt: Option<String>,
    /// The attempt's number.
    pub number: Option<u64>,
    /// The stage that the attempt has reached; none: none yet.
    pub stage: Option<&'static str>,
    /// When: RFC 3339, in milliseconds.
    pub at: String,
    /// What was seen, in a few words (attempts and stages).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<V>,
}

/// The events of all ports.
#[derive(Debug)]
pub struct Events(broadcast::Sender<Bytes>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(QUEUE_MAX))
    }
}

impl Events {
    /// Publishes an event to all who follow.
    pub fn publish<V: Serialize>(&self, kind: EventKind, event: &PortEvent<'_, V>) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let name = match kind {
            EventKind::Attempt => "attempt",
            EventKind::Stage => "stage",
            EventKind::Verdict => "verdict",
        };
        // The maps' keys are strings, so serializing cannot fail.
        let data = serde_json::to_string(event).unwrap_or_default();
        // WHATWG HTML 9.2.5: fields, then an empty line. JSON has no end of line in it.
        let frame = format!("event: {name}\ndata: {data}\n\n");
        // Err: the last reader has just gone.
        let _ = self.0.send(frame.into());
    }

    /// Follows what is published from now on, each event as bytes of `text/event-stream`.
    pub fn subscribe(&self) -> broadcast::Receiver<Bytes> {
        self.0.subscribe()
    }
}

/// A time of the API's: RFC 3339, in milliseconds.
pub fn time(unix_ms: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_is_one_frame_and_no_reader_delays_it() {
        let events = Events::default();
        let port: PortName = "Ethernet0".parse().unwrap();
        let event = |message: &str| PortEvent::<()> {
            port: &port,
            attempt: None,
            number: Some(1),
            stage: Some("script"),
            at: time(1_700_000_000_123),
            message: Some(message.to_owned()),
            verdict: None,
        };
        events.publish(EventKind::Stage, &event("no reader"));
        let mut reader = events.subscribe();
        events.publish(EventKind::Stage, &event("a\nb"));
        let frame = r#"event: stage
data: {"port":"Ethernet0","attempt":null,"number":1,"stage":"script","at":"2023-11-14T22:13:20.123Z","message":"a\nb"}

"#;
        assert_eq!(reader.recv().await.unwrap(), frame);
        for _ in 0..=QUEUE_MAX {
            events.publish(EventKind::Attempt, &event(""));
        }
        assert!(reader.recv().await.is_err(), "it is too far behind");
    }
}
