//! Publishes what is new in ports' attempts as events.
//!
//! Must never: publish a stage twice, or what was there before the agent's start.

use std::collections::BTreeMap;

use leafboot_core::attempt::{Attempt, AttemptEnd, AttemptId, Moment, PortHistory, Stage, StageRecord};
use leafboot_core::names::PortName;

use crate::events::{EventKind, Events, PortEvent, time};

/// What was published of each port.
#[derive(Default)]
pub struct Publisher(BTreeMap<PortName, Published>);

#[derive(Default, Clone)]
struct Published {
    /// The last attempt that was seen.
    last: Option<AttemptId>,
    number: u64,
    stages: Vec<Stage>,
    is_over: bool,
}

impl Publisher {
    /// A publisher that knows what there is, and publishes what comes.
    pub fn knowing(histories: &BTreeMap<PortName, PortHistory>) -> Self {
        let known = histories.iter().map(|(port, history)| {
            let last = history.attempts().last().map(Published::of);
            (port.clone(), last.unwrap_or_default())
        });
        Self(known.collect())
    }

    /// Publishes what is new.
    pub fn publish(&mut self, port: &PortName, history: &PortHistory, events: &Events) {
        let published = self.0.entry(port.clone()).or_default();
        // Attempts count from 1 again when the port has left boot and comes back.
        let is_known = |attempt: &Attempt| published.last == Some(attempt.id);
        let first = history.attempts().position(is_known).unwrap_or_else(|| {
            history.attempts().position(|attempt| attempt.number > published.number).unwrap_or_default()
        });
        for attempt in history.attempts().skip(first) {
            publish_attempt(port, attempt, published, events);
            *published = Published::of(attempt);
        }
    }
}

impl Published {
    fn of(attempt: &Attempt) -> Self {
        Self {
            last: Some(attempt.id),
            number: attempt.number,
            stages: attempt.stages.iter().map(|record| record.stage).collect(),
            is_over: !attempt.is_open(),
        }
    }
}

/// Publishes what is new in one attempt.
fn publish_attempt(port: &PortName, attempt: &Attempt, before: &Published, events: &Events) {
    let is_new = before.last != Some(attempt.id);
    let send = |kind, stage: Option<Stage>, at: Moment, message: String| {
        let event = PortEvent::<()> {
            port,
            attempt: Some(attempt.id.to_string()),
            number: Some(attempt.number),
            stage: stage.map(Stage::as_str),
            at: time(attempt.began_unix_ms + at.since(attempt.began) / 1000),
            message: Some(message),
            verdict: None,
        };
        events.publish(kind, &event);
    };
    if is_new {
        send(EventKind::Attempt, None, attempt.began, "began".to_owned());
    }
    let is_published = |record: &&StageRecord| !is_new && before.stages.contains(&record.stage);
    for record in attempt.stages.iter().filter(|record| !is_published(record)) {
        send(EventKind::Stage, Some(record.stage), record.first, record.to_string());
    }
    if let Some((at, end)) = attempt.end.filter(|_| is_new || !before.is_over) {
        let stage = attempt.last_stage().map(|record| record.stage);
        send(EventKind::Attempt, stage, at, format!("ended: {}", reason(end)));
    }
}

fn reason(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Carrier => "the carrier went",
        AttemptEnd::Released => "the port was released",
        AttemptEnd::Next => "the machine began anew",
        AttemptEnd::LeafRestarted => "the leaf was restarted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::attempt::{Event, Now};

    #[tokio::test]
    async fn each_beginning_stage_and_end_is_published_once() {
        let port: PortName = "Ethernet0".parse().unwrap();
        let mut history = PortHistory::default();
        let now = |ms: u64| Now { moment: Moment(ms * 1000), unix_ms: 1_700_000_000_000 + ms };
        let link = |history: &mut PortHistory, carrier, ms: u64| {
            history.apply(&Event::Link { carrier, carriers: 1 }, now(ms), u128::from(ms) * 2);
        };
        link(&mut history, true, 1);
        let mut publisher = Publisher::knowing(&[(port.clone(), history.clone())].into());
        let events = Events::default();
        let mut reader = events.subscribe();
        let mut told = |publisher: &mut Publisher, history: &PortHistory| {
            publisher.publish(&port, history, &events);
            let frames = std::iter::from_fn(|| reader.try_recv().ok());
            let text = |frame: hyper::body::Bytes| String::from_utf8(frame.to_vec()).unwrap();
            frames.map(text).collect::<Vec<_>>()
        };
        assert!(told(&mut publisher, &history).is_empty(), "that was there before");
        link(&mut history, false, 2);
        link(&mut history, true, 3);
        let frames = told(&mut publisher, &history);
        let said = ["\"ended: the carrier went\"", "\"began\"", "\"stage\":\"link\""];
        assert_eq!(frames.len(), said.len(), "{frames:?}");
        for (frame, said) in frames.iter().zip(said) {
            assert!(frame.contains(said), "{frame}");
        }
        assert!(frames[1].starts_with("event: attempt\ndata: {\"port\":\"Ethernet0\",\"attempt\":\"0000"));
        assert!(frames[2].starts_with("event: stage\n") && frames[2].contains("\"message\":\"carrier\""));
        assert!(told(&mut publisher, &history).is_empty(), "once");
    }
}
