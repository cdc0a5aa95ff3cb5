//! Verdicts on the port itself: its state, SONiC, its link, and a machine that has not solicited.
//!
//! Must never: speak of a machine before the port can serve one.

use super::{Evidence, Verdict, VerdictReason};
use crate::attempt::{Attempt, Limit, Stage};
use crate::probe::Probe;
use crate::status::PortState;

/// A machine's power-on self-test takes some minutes. Silence that lasts longer, in seconds, is a fault.
const SELF_TEST_MAX: u64 = 600;
/// A limit that was exceeded so long ago, in seconds, no longer explains anything.
const LIMITED_FOR: u64 = 30;
/// The same for a failed handshake: iPXE tries again within seconds.
const HANDSHAKE_FOR: u64 = 60;

/// The verdict, if the port itself explains it.
pub fn verdict(evidence: &Evidence<'_>) -> Option<Verdict> {
    let status = evidence.status;
    match status.state {
        PortState::Boot | PortState::Orphaned => {}
        PortState::Rejected => {
            let message = status.message.as_deref().unwrap_or("the document's entry is rejected");
            return Some(Verdict::fault(VerdictReason::Rejected, format!("rejected: {message}")));
        }
        PortState::Releasing => {
            return Some(Verdict::waiting(VerdictReason::NotBooting, "the port is leaving boot"));
        }
        PortState::Released => return Some(Verdict::ok(VerdictReason::NotBooting, "the port does not boot")),
    }
    let sonic = status.waiting.as_ref().filter(|_| !status.settled);
    let with_sonic =
        |verdict: Verdict| verdict.with_all(sonic.map(|waiting| format!("SONiC: {}", waiting.message)));
    match evidence.link {
        Some(link) if !link.admin_up => {
            let message = "the port is administratively down";
            return Some(with_sonic(Verdict::fault(VerdictReason::AdminDown, message)));
        }
        Some(link) if !link.carrier => {
            let message = "no carrier: the machine is off, or the cable is not connected";
            return Some(with_sonic(Verdict::fault(VerdictReason::NoCarrier, message)));
        }
        _ => {}
    }
    if let Some(waiting) = sonic {
        let message = format!("waiting for SONiC: {}", waiting.message);
        return Some(Verdict::waiting(VerdictReason::WaitingForSonic, message));
    }
    recent_refusal(evidence)
}

/// A handshake that failed, or a limit that was exceeded, just now.
fn recent_refusal(evidence: &Evidence<'_>) -> Option<Verdict> {
    let seconds = |at| evidence.now.since(at) / 1_000_000;
    if let Some((at, reason)) = evidence.history.handshake_failure() {
        let attempt = evidence.history.current()?;
        let is_newest = attempt
            .stages
            .iter()
            .filter(|record| record.stage > Stage::Address)
            .all(|record| record.last < *at);
        if is_newest && seconds(*at) < HANDSHAKE_FOR {
            let message = format!("TLS handshake fails: {reason}");
            let is_cause = |probe: &Probe| matches!(probe, Probe::Certificate(_) | Probe::Clock);
            let cause = evidence.failed(is_cause).map(|(probe, problem)| format!("{probe}: {problem}"));
            return Some(Verdict::fault(VerdictReason::TlsHandshake, message).with_all(cause));
        }
    }
    let (at, limit) = evidence.history.limited()?;
    let message = match limit {
        Limit::Requests => "the machine is turned away: it asks more often than relay.requests allows",
        Limit::Connections => {
            "the machine is turned away: it has more connections than relay.connections allows"
        }
        Limit::MinRate => "the machine was disconnected: it reads more slowly than relay.min_rate",
        Limit::Solicitations => "the machine floods the port with Router Solicitations",
    };
    (seconds(at) < LIMITED_FOR).then(|| Verdict::fault(VerdictReason::RateLimited, message))
}

/// The verdict on a machine that has not solicited a router.
pub fn no_solicitation(evidence: &Evidence<'_>, attempt: Option<&Attempt>) -> Verdict {
    let seconds = attempt.map_or(0, |attempt| evidence.now.since(attempt.began) / 1_000_000);
    let message = format!(
        "link up for {seconds} s, no Router Solicitation: self-test, not booting the CD, or firmware without IPv6"
    );
    let level = if seconds < SELF_TEST_MAX { Verdict::waiting } else { Verdict::fault };
    level(VerdictReason::NoSolicitation, message)
}
