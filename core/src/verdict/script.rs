//! Verdicts from the first Router Solicitation to the kernel's request.
//!
//! Must never: say that a machine has an address before it has used one.

use super::{Case, Verdict, VerdictReason, image};
use crate::attempt::{Detail, Outcome, RequestRecord, Solicitor, Stage, StageRecord, UpstreamProblem};
use crate::probe::Probe;

/// iPXE asks for the boot script, and then for the kernel, within this time, in seconds.
const NEXT_REQUEST: u64 = 8;
/// The same for a machine that has asked for the boot script before.
const NEXT_REQUEST_AGAIN: u64 = 2;
/// A machine that asks for the boot script more often does not get past it.
const REQUESTS_MAX: u32 = 30;
/// Firmware that has solicited starts the CD within this time, in seconds.
const FIRMWARE: u64 = 60;
/// Bytes per second that are more than the boot script and Router Advertisements.
const FLOWING: f64 = 100_000.0;

/// The machine has not asked for the boot script.
pub fn before(case: &Case<'_>, last: &StageRecord) -> Verdict {
    if let Some(verdict) = stale_address(case) {
        return verdict;
    }
    let solicitation = case.attempt.stage(Stage::Solicitation);
    let is_firmware = solicitation.is_some_and(|record| {
        matches!(record.detail, Detail::Solicitation { solicitor: Solicitor::Firmware, .. })
    });
    if case.age(last) < if is_firmware { FIRMWARE } else { NEXT_REQUEST } && last.count < 4 {
        let message = if is_firmware { "the firmware is at work" } else { "the machine gets its address" };
        return Verdict::waiting(VerdictReason::Booting, message);
    }
    let resolvers = &case.evidence.leaf.resolvers;
    let names = case.evidence.failed(|probe| matches!(probe, Probe::Name { .. }));
    let names = names.map(|(probe, problem)| case.evidence.asked(probe, problem));
    let likely = match solicitation {
        Some(_) if is_firmware => {
            "the firmware solicited, not the CD: boot order, or the CD is not connected"
        }
        Some(StageRecord { detail: Detail::Solicitation { answered_us: None, .. }, .. }) => {
            "no Router Advertisement was sent to it"
        }
        Some(record) if record.count > 2 => {
            "it solicits again and again: it does not accept the advertisement, or its address is a duplicate"
        }
        _ if resolvers.is_empty() => {
            "the CD's script does not ask the leaf, or it needs a name and ra.dns is empty"
        }
        _ => "the CD's script does not ask the leaf, or cannot resolve its name",
    };
    let message = format!("solicited {} s ago and asked for no boot script: {likely}", case.age(last));
    Verdict::fault(VerdictReason::NoScriptRequest, message).with_all(names)
}

/// The machine has asked for the boot script, and for nothing else.
pub fn after(case: &Case<'_>, last: &StageRecord) -> Verdict {
    let Some(request) = last.detail.request() else { return image::unclear(last) };
    match &request.outcome {
        Outcome::Failed { problem, reason } => no_script(*problem, reason.as_str()),
        Outcome::Refused { status } => {
            let message = format!("leafboot refuses the boot script request: {status}; see its log");
            Verdict::fault(VerdictReason::NoBootScript, message)
        }
        Outcome::Answered { .. } | Outcome::Redirected => no_kernel(case, last, request),
    }
}

/// The boot service has given no script. `reason` begins with "the boot service".
fn no_script(problem: UpstreamProblem, reason: &str) -> Verdict {
    let detail = reason.trim_start_matches("the boot service").trim_start_matches(':').trim_start();
    match problem {
        UpstreamProblem::Unreachable if reason.contains("cannot be resolved") => Verdict::fault(
            VerdictReason::NameNotResolved,
            format!("the leaf cannot resolve the boot service: {detail}"),
        ),
        UpstreamProblem::Unreachable | UpstreamProblem::Silent | UpstreamProblem::BrokeOff => {
            Verdict::fault(VerdictReason::BootServiceDown, format!("boot service down: {detail}"))
        }
        UpstreamProblem::Status(status) => Verdict::fault(
            VerdictReason::BootServiceRefuses,
            format!("boot service refuses the script: status {status}"),
        ),
        UpstreamProblem::Unusable => {
            Verdict::fault(VerdictReason::NoBootScript, format!("no boot script: the boot service {detail}"))
        }
        UpstreamProblem::Ending => {
            Verdict::waiting(VerdictReason::Booting, "leafboot restarts; the machine asks again")
        }
    }
}

/// The script was answered, and the kernel's request has not come to the relay.
fn no_kernel(case: &Case<'_>, last: &StageRecord, request: &RequestRecord) -> Verdict {
    let age = case.age(last);
    if case.evidence.rate() > FLOWING {
        let message = format!("receives {}, past the relay", image::rate(case.evidence.rate()));
        return Verdict::waiting(VerdictReason::ImageTransfer, message);
    }
    // Requests that got an error script are counted, too.
    let next_request = if last.count < 4 { NEXT_REQUEST } else { NEXT_REQUEST_AGAIN };
    if age < next_request && last.count < REQUESTS_MAX {
        return Verdict::waiting(VerdictReason::Booting, "the machine has its boot script");
    }
    if let Some((probe, problem)) = case.evidence.failed(|probe| matches!(probe, Probe::Name { .. })) {
        let message = "boot script answered, no kernel request: the names in it are not resolved";
        return Verdict::fault(VerdictReason::NameNotResolved, message)
            .with(case.evidence.asked(probe, problem));
    }
    if let Some((probe, problem)) = case.evidence.failed(|probe| matches!(probe, Probe::Route(_))) {
        let message =
            format!("boot script answered, no kernel request: no route from the boot VRF to {probe}");
        return Verdict::fault(VerdictReason::CacheNoRoute, message)
            .with(case.evidence.asked(probe, problem));
    }
    let denied = case.evidence.denied();
    if let Some((rule, packets)) = denied.first() {
        let message = format!(
            "boot script answered, no kernel request: the boot ACL's {rule} dropped {packets} packets"
        );
        return Verdict::fault(VerdictReason::AclDrops, message);
    }
    let message = format!(
        "boot script answered {age} s ago ({} in {} ms), no kernel request: its URLs lead elsewhere, or iPXE stopped",
        request.outcome, request.ms
    );
    Verdict::fault(VerdictReason::KernelNotFetched, message)
}

/// The machine uses an address of a prefix that the port no longer has.
fn stale_address(case: &Case<'_>) -> Option<Verdict> {
    let prefix = case.evidence.status.prefix?;
    let Detail::Address(address) = case.attempt.stage(Stage::Address)?.detail else { return None };
    let is_stale = !address.is_unicast_link_local() && !prefix.net().contains(&address);
    is_stale.then(|| {
        let message = format!("the machine still uses {address}, and the port's prefix is {prefix} now");
        Verdict::fault(VerdictReason::StaleAddress, message)
    })
}
