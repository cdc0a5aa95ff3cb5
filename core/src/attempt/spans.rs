//! An attempt that has ended as a trace of OpenTelemetry: a span for the boot, and in it a span for each stage.
//!
//! A stage lasts until the next one is reached, and the last one until the attempt ends, so that the spans show where the time
//! went. A stage that a request has shown has the request's id: the spans of the server that has answered it lie in it.
//!
//! Must never: give two spans of a trace the same id.

use super::stage::Outcome;
use super::{Attempt, AttemptEnd, Moment, StageRecord};
use crate::names::PortName;
use crate::otlp::{Attribute, Span, SpanKind, Value};

/// The spans of an attempt on `port`, its root first. An attempt that goes on has none yet.
pub fn spans(attempt: &Attempt, port: &PortName) -> Vec<Span> {
    let Some((ended, end)) = attempt.end else { return Vec::new() };
    // A restarted leaf has another clock: such an attempt ends with what was seen last.
    let last = attempt.stages.iter().map(|record| record.last).max();
    let ended = ended.max(last.unwrap_or(attempt.began)).max(attempt.began);
    let clock = Clock(attempt);
    let root = root_id(attempt);
    let mut attributes: Vec<Attribute> = vec![
        ("leafboot.port", Value::Text(port.to_string())),
        ("leafboot.attempt", Value::Number(attempt.number)),
        ("leafboot.end", Value::Text(name_of(end).to_owned())),
    ];
    attributes.extend(attempt.mac.map(|mac| ("leafboot.mac", Value::Text(mac.to_string()))));
    let boot = Span {
        trace: attempt.id.to_bytes(),
        id: root,
        parent: None,
        name: "boot",
        kind: SpanKind::Internal,
        start: clock.nanoseconds(attempt.began),
        end: clock.nanoseconds(ended),
        attributes,
        error: None,
    };
    let stages = attempt.stages.iter().map(|record| {
        let later = attempt.stages.iter().map(|other| other.first).filter(|first| *first > record.first);
        Span {
            trace: attempt.id.to_bytes(),
            id: stage_id(attempt, record),
            parent: Some(root),
            name: record.stage.as_str(),
            kind: if record.detail.request().is_some() { SpanKind::Server } else { SpanKind::Internal },
            start: clock.nanoseconds(asked(record).max(attempt.began)),
            end: clock.nanoseconds(later.min().unwrap_or(ended)),
            attributes: attributes_of(record),
            error: error(record),
        }
    });
    std::iter::once(boot).chain(stages).collect()
}

/// When the stage began: a request is recorded when it is answered.
fn asked(record: &StageRecord) -> Moment {
    let took = record.detail.request().filter(|_| record.count == 1).map_or(0, |request| request.ms);
    Moment(record.first.0.saturating_sub(u64::from(took) * 1000))
}

fn attributes_of(record: &StageRecord) -> Vec<Attribute> {
    let mut attributes = vec![
        ("leafboot.seen", Value::Text(record.to_string())),
        ("leafboot.count", Value::Number(u64::from(record.count))),
    ];
    if let Some(request) = record.detail.request() {
        attributes.push(("url.path", Value::Text(request.path.to_string())));
        if let Outcome::Answered { status } | Outcome::Refused { status } = request.outcome {
            attributes.push(("http.response.status_code", Value::Number(u64::from(status))));
        }
    }
    attributes
}

fn error(record: &StageRecord) -> Option<String> {
    let outcome = &record.detail.request()?.outcome;
    (!outcome.is_success()).then(|| outcome.to_string())
}

fn name_of(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Carrier => "carrier",
        AttemptEnd::Released => "released",
        AttemptEnd::Next => "next",
        AttemptEnd::LeafRestarted => "leaf-restarted",
    }
}

/// The half of the trace's id that is never 0.
fn root_id(attempt: &Attempt) -> [u8; 8] {
    low_half(attempt).to_be_bytes()
}

fn low_half(attempt: &Attempt) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = attempt.id.to_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The id of the stage's last request, or one that differs from the root's in some bits. The last bit stays set.
fn stage_id(attempt: &Attempt, record: &StageRecord) -> [u8; 8] {
    let request =
        record.detail.request().and_then(|request| u64::from_str_radix(request.request.as_str(), 16).ok());
    let own = low_half(attempt) ^ ((record.stage as u64 + 1) << 1);
    request.unwrap_or(own).to_be_bytes()
}

/// Turns moments into the time of day.
struct Clock<'a>(&'a Attempt);

impl Clock<'_> {
    fn nanoseconds(&self, at: Moment) -> u64 {
        let Attempt { began, began_unix_ms, .. } = self.0;
        began_unix_ms.saturating_mul(1_000_000).saturating_add(at.since(*began).saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{AttemptId, Detail, RequestRecord, Solicitor, Stage, Text, UpstreamProblem};
    use super::*;

    fn record(stage: Stage, first: u64, detail: Detail) -> StageRecord {
        StageRecord { stage, first: Moment(first), last: Moment(first), count: 1, detail }
    }

    fn request(id: &str, ms: u32, outcome: Outcome) -> Detail {
        let record = RequestRecord { request: Text::new(id), path: Text::new("/boot.ipxe"), ms, outcome };
        Detail::Request(Box::new(record))
    }

    fn attempt(end: Option<(Moment, AttemptEnd)>) -> Attempt {
        let reason = Text::new("connection refused");
        let failed = Outcome::Failed { problem: UpstreamProblem::Unreachable, reason };
        let solicitation = Detail::Solicitation { solicitor: Solicitor::Ipxe, answered_us: Some(100) };
        Attempt {
            id: AttemptId::new(0x0123_4567_89ab_cdef_0000_0000_0000_0040),
            number: 7,
            began: Moment(1_000_000),
            began_unix_ms: 1_700_000_000_000,
            end,
            mac: None,
            stages: vec![
                record(Stage::Link, 1_000_000, Detail::Link),
                record(Stage::Solicitation, 1_500_000, solicitation),
                record(Stage::Script, 2_000_000, request("00000000000000aa", 4, failed)),
                record(Stage::Kernel, 2_500_000, request("00000000000000bb", 0, Outcome::Redirected)),
            ],
        }
    }

    #[test]
    fn each_stage_lasts_until_the_next() {
        let port = "Ethernet0".parse().unwrap();
        assert!(spans(&attempt(None), &port).is_empty(), "it goes on");
        let spans = spans(&attempt(Some((Moment(4_000_000), AttemptEnd::Next))), &port);
        let begin = 1_700_000_000_000_000_000;
        let times: Vec<_> = spans
            .iter()
            .map(|span| (span.name, (span.start - begin) / 1_000_000, (span.end - begin) / 1_000_000))
            .collect();
        let expected = [
            ("boot", 0, 3000),
            ("link", 0, 500),
            ("solicitation", 500, 1000),
            ("script", 996, 1500),
            ("kernel", 1500, 3000),
        ];
        assert_eq!(times, expected);
        let ids: BTreeSet<_> = spans.iter().map(|span| span.id).collect();
        assert!(ids.len() == spans.len() && !ids.contains(&[0; 8]));
        assert!(
            spans.iter().skip(1).all(|span| span.parent == Some(spans[0].id) && span.trace == spans[0].trace)
        );
        assert_eq!(spans[3].id, [0, 0, 0, 0, 0, 0, 0, 0xaa], "the parent of the boot service's span");
        assert_eq!(spans[3].error.as_deref(), Some("connection refused"));
        assert_eq!(spans[4].error, None);
    }

    #[test]
    fn an_attempt_before_the_leafs_restart_ends_with_what_was_seen_last() {
        let spans =
            spans(&attempt(Some((Moment(0), AttemptEnd::LeafRestarted))), &"Ethernet0".parse().unwrap());
        assert!(spans.iter().all(|span| span.start <= span.end && span.end <= spans[0].end));
        assert_eq!(spans[0].end - spans[0].start, 1_500_000_000);
    }
}
