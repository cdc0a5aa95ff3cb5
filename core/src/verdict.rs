//! The verdict on a port: what its machine waits for, or what is wrong, in one line. A pure function of what is known.
//!
//! `reason` names the verdicts, `evidence` is what they follow from. The rules are in the order of a boot: `port` for the port
//! itself, `script` up to the boot script, `image` for what comes from the partition cache, `linux` for the rest. A machine
//! that begins anew again and again keeps the fault of the attempt before until it is as far (`attempts`).
//!
//! Must never: blame what is not shown. A verdict that is a guess says which guesses there are.

pub use diagnosis::{Diagnosis, PortDiagnosis};
pub use evidence::{Evidence, LeafFacts};
pub use reason::{Level, Verdict, VerdictReason};

use crate::attempt::{Attempt, Stage, StageRecord};

mod attempts;
mod diagnosis;
mod evidence;
mod image;
mod linux;
mod port;
mod reason;
mod script;
#[cfg(test)]
mod tests;

/// One attempt, and all that is known beside.
struct Case<'a> {
    evidence: &'a Evidence<'a>,
    attempt: &'a Attempt,
}

impl Case<'_> {
    /// Seconds since a stage was last seen.
    fn age(&self, record: &StageRecord) -> u64 {
        self.evidence.now.since(record.last) / 1_000_000
    }
}

/// The verdict on a port.
pub fn verdict(evidence: &Evidence<'_>) -> Verdict {
    if let Some(verdict) = port::verdict(evidence) {
        return verdict;
    }
    let Some(attempt) = evidence.history.current() else {
        return port::no_solicitation(evidence, None);
    };
    let verdict = stage_verdict(&Case { evidence, attempt });
    let earlier = attempts::before(evidence.history, evidence.now)
        .filter(|_| verdict.level != Level::Fault)
        .and_then(|before| fault_at_end(evidence, before));
    attempts::with_loop(earlier.unwrap_or(verdict), evidence.history)
}

/// The fault that an attempt had when it ended.
fn fault_at_end(evidence: &Evidence<'_>, attempt: &Attempt) -> Option<Verdict> {
    let (now, _) = attempt.end?;
    // The counters are those of the attempt that goes on.
    let evidence = &Evidence { now, counters: None, ..*evidence };
    Some(stage_verdict(&Case { evidence, attempt })).filter(|verdict| verdict.level == Level::Fault)
}

fn stage_verdict(case: &Case<'_>) -> Verdict {
    let Some(last) = case.attempt.last_stage() else {
        return port::no_solicitation(case.evidence, Some(case.attempt));
    };
    match last.stage {
        Stage::Link => port::no_solicitation(case.evidence, Some(case.attempt)),
        Stage::Solicitation | Stage::Address => script::before(case, last),
        Stage::Script => script::after(case, last),
        Stage::Kernel | Stage::Initrd => image::boot_image(case, last),
        Stage::Linux | Stage::Lldp => linux::before_token(case, last),
        Stage::Token => linux::after_token(case, last),
        Stage::Image => image::os_image(case, last),
        Stage::Released => Verdict::ok(VerdictReason::NotBooting, "the port has left boot"),
    }
}
