//! Verdicts on kernel, initrd and OS image.
//!
//! Must never: call a cache down because one machine does not fetch from it.

use super::{Case, Verdict, VerdictReason};
use crate::attempt::{Outcome, RequestRecord, Stage, StageRecord, UpstreamProblem};
use crate::probe::{Probe, ProbeProblem};

/// A kernel and its initrd are loaded, unpacked and started within this time, in seconds.
const LINUX_START: u64 = 60;
/// Before this time, in seconds, no bytes are no fault: SONiC counts them once a second.
const FIRST_BYTES: u64 = 4;
/// After this time, in seconds, an image of which nothing comes has come or stands still: rates are over the last seconds.
const STOPPED: u64 = 10;
/// Bytes per second that are a transfer.
const FLOWING: f64 = 100_000.0;
/// A machine that receives its image so many times more slowly than the others has a problem of its own.
const SLOW_FACTOR: f64 = 4.0;
/// Fewer others say nothing.
const OTHERS_MIN: usize = 2;
/// The share of an image that counts as whole: the counter also counts other packets.
const WHOLE: f64 = 0.99;

/// The machine has asked for its kernel or initrd.
pub fn boot_image(case: &Case<'_>, last: &StageRecord) -> Verdict {
    let Some(request) = last.detail.request() else { return unclear(last) };
    if let Some(verdict) = not_given(case, request) {
        return verdict;
    }
    let (age, rate) = (case.age(last), case.evidence.rate());
    if rate > FLOWING {
        let message = format!("{} {}", last.stage.as_str(), self::rate(rate));
        return Verdict::waiting(VerdictReason::ImageTransfer, message);
    }
    if !has_come(case)
        && let Some(verdict) = not_fetched(case, last, request)
    {
        return verdict;
    }
    if age < LINUX_START {
        return Verdict::waiting(
            VerdictReason::Booting,
            format!("{} requested {age} s ago, Linux starts", last.stage.as_str()),
        );
    }
    let message = format!(
        "{} requested {age} s ago, and Linux is silent: it crashed, or has no driver for the NIC",
        last.stage.as_str()
    );
    Verdict::fault(VerdictReason::LinuxSilent, message)
}

/// metal-hammer has asked for the OS image.
pub fn os_image(case: &Case<'_>, last: &StageRecord) -> Verdict {
    let Some(request) = last.detail.request() else { return unclear(last) };
    if let Some(verdict) = not_given(case, request) {
        return verdict;
    }
    let rate = case.evidence.rate();
    let came = case.evidence.since_image();
    let size = case.evidence.probes.size(request.path.as_str());
    let share = came.zip(size).filter(|(_, size)| *size > 0).map(|(came, size)| came as f64 / size as f64);
    if rate > FLOWING && share.is_none_or(|share| share < WHOLE) {
        return transfer(case, rate, share);
    }
    if !has_come(case)
        && let Some(verdict) = not_fetched(case, last, request)
    {
        return verdict;
    }
    if let Some(share) = share.filter(|share| *share < WHOLE) {
        let percent = format!("{:.0} %", share * 100.0);
        return if case.age(last) < STOPPED {
            Verdict::waiting(VerdictReason::ImageTransfer, format!("image requested, {percent}"))
        } else {
            let message = format!("the image stopped at {percent}: {}", self::rate(rate));
            Verdict::fault(VerdictReason::SlowImage, message)
        };
    }
    if case.age(last) < STOPPED {
        let message = format!("image requested {} s ago", case.age(last));
        return Verdict::waiting(VerdictReason::ImageTransfer, message);
    }
    let message = match came {
        Some(bytes) => format!("{} came; installed, waiting for release", self::bytes(bytes)),
        None => "image requested; waiting for release".to_owned(),
    };
    Verdict::ok(VerdictReason::Installed, message)
}

fn transfer(case: &Case<'_>, rate: f64, share: Option<f64>) -> Verdict {
    let percent = share.map_or(String::new(), |share| format!(", {:.0} %", share * 100.0));
    let speed = format!("{}{percent}", self::rate(rate));
    let mut others = case.evidence.other_rates.to_vec();
    others.sort_by(f64::total_cmp);
    match others.get(others.len() / 2) {
        Some(median) if others.len() >= OTHERS_MIN && rate * SLOW_FACTOR < *median => {
            let message = format!("{speed}: {:.0} times slower than the leaf's other ports", median / rate);
            Verdict::fault(VerdictReason::SlowImage, message)
        }
        _ => Verdict::waiting(VerdictReason::ImageTransfer, speed),
    }
}

/// The verdict if the relay could not give the machine what it asked for.
fn not_given(case: &Case<'_>, request: &RequestRecord) -> Option<Verdict> {
    let path = &request.path;
    match &request.outcome {
        Outcome::Redirected => None,
        Outcome::Answered { status: 404 | 410 } => {
            Some(Verdict::fault(VerdictReason::CacheNotFound, format!("the cache does not have {path}")))
        }
        Outcome::Answered { status: status @ 400.. } => Some(Verdict::fault(
            VerdictReason::CacheRefuses,
            format!("the cache answers {status} for {path}"),
        )),
        Outcome::Answered { .. } => None,
        Outcome::Refused { status } => {
            let message = format!("leafboot refuses {path}: {status}; see its log");
            Some(Verdict::fault(VerdictReason::CacheRefuses, message))
        }
        Outcome::Failed { problem, reason } => {
            let cause = match problem {
                UpstreamProblem::Unreachable if reason.as_str().contains("cannot be resolved") => {
                    VerdictReason::NameNotResolved
                }
                UpstreamProblem::Silent => VerdictReason::CacheSilent,
                UpstreamProblem::Status(404) => VerdictReason::CacheNotFound,
                UpstreamProblem::Ending => {
                    let message = "leafboot restarts; the machine asks again";
                    return Some(Verdict::waiting(VerdictReason::Booting, message));
                }
                UpstreamProblem::Unreachable
                | UpstreamProblem::BrokeOff
                | UpstreamProblem::Status(_)
                | UpstreamProblem::Unusable => VerdictReason::CacheRefuses,
            };
            let verdict = Verdict::fault(cause, format!("the cache gives no image: {reason}"));
            Some(verdict.with(format!("relay.cache of {}", case.evidence.leaf.leaf)))
        }
    }
}

/// Whether more than a connection's packets are known to have come since the request.
fn has_come(case: &Case<'_>) -> bool {
    const CONNECTION: u64 = 100_000;
    case.evidence.since_image().is_some_and(|bytes| bytes > CONNECTION)
}

/// Why a redirected machine does not fetch, if it shows.
fn not_fetched(case: &Case<'_>, last: &StageRecord, request: &RequestRecord) -> Option<Verdict> {
    let evidence = case.evidence;
    let path = request.path.as_str();
    if let Some((probe, problem)) =
        evidence.failed(|probe| matches!(probe, Probe::Image(probed) if probed == path))
    {
        let cache = &evidence.leaf.cache;
        let (reason, message) = match problem {
            ProbeProblem::Refused => {
                (VerdictReason::CacheRefuses, format!("the cache refuses connections: {cache}"))
            }
            ProbeProblem::Status(404 | 410) => {
                (VerdictReason::CacheNotFound, format!("the cache does not have {path}"))
            }
            ProbeProblem::Status(status) => {
                (VerdictReason::CacheRefuses, format!("the cache answers {status} for {path}"))
            }
            ProbeProblem::NoRoute => {
                (VerdictReason::CacheNoRoute, format!("no route from the boot VRF to {cache}"))
            }
            ProbeProblem::NoAddress(_) => {
                (VerdictReason::NameNotResolved, format!("{cache} is not resolved"))
            }
            ProbeProblem::TimedOut | ProbeProblem::Other(_) | ProbeProblem::ClockDiffers(_) => {
                (VerdictReason::CacheSilent, format!("the cache does not answer: {cache}"))
            }
            ProbeProblem::Tls(_) => (VerdictReason::CacheRefuses, format!("TLS to the cache fails: {cache}")),
        };
        return Some(Verdict::fault(reason, message).with(evidence.asked(probe, problem)));
    }
    if case.age(last) < FIRST_BYTES && last.count < 4 {
        return None;
    }
    if let Some((rule, packets)) = evidence.denied().first() {
        let message =
            format!("the boot ACL's {rule} dropped {packets} packets, and no {} came", last.stage.as_str());
        return Some(Verdict::fault(VerdictReason::AclDrops, message));
    }
    if let Some((probe, problem)) = evidence.failed(|probe| matches!(probe, Probe::Name { .. })) {
        let message = format!("the cache's name is not resolved, and no {} came", last.stage.as_str());
        return Some(
            Verdict::fault(VerdictReason::NameNotResolved, message).with(evidence.asked(probe, problem)),
        );
    }
    // The leaf reaches the cache, and the machine does not.
    (evidence.leaf.is_redirected && evidence.since_image().is_some()).then(|| {
        let message = format!(
            "redirected {} s ago, and no {} came: the machine does not reach the cache; see acl.cache and its route",
            case.age(last),
            if last.stage == Stage::Image { "image" } else { last.stage.as_str() },
        );
        Verdict::fault(VerdictReason::CacheSilent, message)
    })
}

/// A stage whose record does not say more.
pub fn unclear(last: &StageRecord) -> Verdict {
    Verdict::waiting(VerdictReason::Booting, format!("at the stage {}", last.stage.as_str()))
}

/// A rate for people: megabytes or kilobytes per second.
pub fn rate(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.0} MB/s", rate / 1e6) } else { format!("{:.0} kB/s", rate / 1e3) }
}

fn bytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= 1e9 { format!("{:.1} GB", bytes / 1e9) } else { format!("{:.0} MB", bytes / 1e6) }
}
