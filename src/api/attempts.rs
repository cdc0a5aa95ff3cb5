//! `GET /v1/ports/<name>/attempts`: the last attempts to boot on a port.
//!
//! Must never: show an attempt of another port.

use hyper::StatusCode;
use serde::Serialize;

use super::answer::{self, Reply};
use crate::attempts::Recorder;
use crate::events::time;
use leafboot_core::attempt::{Attempt, AttemptEnd, Moment, PortHistory, StageRecord};
use leafboot_core::names::PortName;
use leafboot_core::verdict::{Diagnosis, Verdict};

#[derive(Serialize)]
struct Attempts<'a> {
    port: &'a PortName,
    total: u64,
    attempts: Vec<AttemptView<'a>>,
}

#[derive(Serialize)]
struct AttemptView<'a> {
    attempt: String,
    number: u64,
    began: String,
    ended: Option<String>,
    end: Option<AttemptEnd>,
    machine: Option<String>,
    stages: Vec<StageView<'a>>,
    verdict: Option<&'a Verdict>,
}

#[derive(Serialize)]
struct StageView<'a> {
    stage: &'static str,
    offset_ms: f64,
    last_offset_ms: f64,
    count: u32,
    message: String,
    request: Option<&'a str>,
    path: Option<&'a str>,
}

/// Reports the attempts of a port.
/// The verdict is on the one that goes on.
pub(super) fn of_port(port: &PortName, attempts: &Recorder, diagnosis: &Diagnosis) -> Reply {
    let history = attempts.get(port).map(|attempts| attempts.history()).unwrap_or_default();
    let verdict = diagnosis.get(port).map(|diagnosis| &diagnosis.verdict);
    answer::json(StatusCode::OK, &view(port, &history, verdict))
}

fn view<'a>(port: &'a PortName, history: &'a PortHistory, verdict: Option<&'a Verdict>) -> Attempts<'a> {
    let view = |attempt: &'a Attempt| self::attempt(attempt, verdict.filter(|_| attempt.is_open()));
    Attempts { port, total: history.total(), attempts: history.attempts().map(view).collect() }
}

fn attempt<'a>(attempt: &'a Attempt, verdict: Option<&'a Verdict>) -> AttemptView<'a> {
    let ended = |(at, _): (Moment, AttemptEnd)| time(attempt.began_unix_ms + at.since(attempt.began) / 1000);
    AttemptView {
        attempt: attempt.id.to_string(),
        number: attempt.number,
        began: time(attempt.began_unix_ms),
        ended: attempt.end.map(ended),
        end: attempt.end.map(|(_, end)| end),
        machine: attempt.mac.map(|mac| mac.to_string()),
        stages: attempt.stages.iter().map(|record| stage(record, attempt.began)).collect(),
        verdict,
    }
}

fn stage(record: &StageRecord, began: Moment) -> StageView<'_> {
    let request = record.detail.request();
    StageView {
        stage: record.stage.as_str(),
        offset_ms: milliseconds(record.first, began),
        last_offset_ms: milliseconds(record.last, began),
        count: record.count,
        message: record.to_string(),
        request: request.map(|request| request.request.as_str()),
        path: request.map(|request| request.path.as_str()),
    }
}

/// Milliseconds in tenths.
#[expect(clippy::cast_precision_loss, reason = "an attempt lasts less than 285 years")]
fn milliseconds(at: Moment, began: Moment) -> f64 {
    (at.since(began) / 100) as f64 / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::attempt::{Event, Now};
    use serde_json::json;

    #[test]
    fn an_attempt_is_told_with_its_stages_and_its_end() {
        let mut history = PortHistory::default();
        let now = |ms: u64| Now { moment: Moment(9_000_000 + ms * 1000), unix_ms: 1_700_000_000_000 + ms };
        history.apply(&Event::Link { carrier: true, carriers: 1 }, now(0), 0x10);
        let solicitation = Event::Solicitation {
            from: "fe80::1".parse().unwrap(),
            mac: leafboot_core::names::Mac([0x52, 0x54, 0, 0xb0, 7, 0]),
        };
        history.apply(&solicitation, now(300), 0);
        history.apply(&Event::SolicitationAnswered { us: 140 }, now(300), 0);
        history.apply(&Event::Link { carrier: false, carriers: 1 }, now(1300), 0);
        let port = "Ethernet0".parse().unwrap();
        let expected = json!({"port": "Ethernet0", "total": 1, "attempts": [{
        "attempt": "00000000000000000000000000000011", "number": 1,
        "began": "2023-11-14T22:13:20.000Z", "ended": "2023-11-14T22:13:21.300Z", "end": "carrier",
        "machine": "52:54:00:b0:07:00", "verdict": null, "stages": [
            {"stage": "link", "offset_ms": 0.0, "last_offset_ms": 0.0, "count": 1, "message": "carrier",
             "request": null, "path": null},
            {"stage": "solicitation", "offset_ms": 300.0, "last_offset_ms": 300.0, "count": 1,
             "message": "iPXE, answered in 0.1 ms", "request": null, "path": null},
        ]}]});
        assert_eq!(serde_json::to_value(view(&port, &history, None)).unwrap(), expected);
    }
}
