//! Verdicts while metal-hammer runs.
//!
//! Must never: show a token, or the body of an answer.

use super::{Case, Level, Verdict, VerdictReason, image};
use crate::attempt::{Outcome, Stage, StageRecord, UpstreamProblem};

/// metal-hammer asks for its token within this time after Linux has solicited, in seconds.
const TOKEN: u64 = 30;
/// iPXE asks for its boot script within this time after it has solicited, in seconds.
const SCRIPT: u64 = 8;
/// Bytes per second that are an image.
const FLOWING: f64 = 1_000_000.0;

/// Linux runs; the token was not asked for.
pub fn before_token(case: &Case<'_>, last: &StageRecord) -> Verdict {
    let age = case.age(last);
    if let Some(verdict) = ipxe_again(case, last) {
        return verdict;
    }
    if age < TOKEN {
        return Verdict::waiting(VerdictReason::Booting, "Linux runs");
    }
    let message = format!(
        "Linux runs for {age} s and asked for no token: metal-hammer has no address or no route, or is an older one"
    );
    Verdict::fault(VerdictReason::NoTokenRequest, message)
}

/// The kernel's fault, if the solicitation may be iPXE's: iPXE and Linux solicit alike, and no Linux runs whose kernel did not
/// come. If it is iPXE, it asks for its boot script within seconds.
fn ipxe_again(case: &Case<'_>, last: &StageRecord) -> Option<Verdict> {
    let is_fresh = last.stage == Stage::Linux && last.count == 1 && case.age(last) < SCRIPT;
    let image = case.attempt.stage(Stage::Initrd).or_else(|| case.attempt.stage(Stage::Kernel))?;
    let verdict = image::boot_image(case, image);
    let is_cause = verdict.level == Level::Fault && verdict.reason != VerdictReason::LinuxSilent;
    (is_fresh && is_cause).then_some(verdict)
}

/// The token was asked for.
pub fn after_token(case: &Case<'_>, last: &StageRecord) -> Verdict {
    let Some(request) = last.detail.request() else { return image::unclear(last) };
    match &request.outcome {
        Outcome::Answered { status: status @ 400.. } | Outcome::Refused { status } => {
            Verdict::fault(VerdictReason::TokenRefused, format!("token refused: status {status}"))
        }
        Outcome::Failed { problem: UpstreamProblem::Status(status), .. } => {
            Verdict::fault(VerdictReason::TokenRefused, format!("token refused: status {status}"))
        }
        Outcome::Failed { problem: UpstreamProblem::Ending, .. } => {
            Verdict::waiting(VerdictReason::Booting, "leafboot restarts; metal-hammer asks again")
        }
        Outcome::Failed { reason, .. } => {
            let detail = reason.as_str().trim_start_matches("the boot service:").trim_start();
            Verdict::fault(VerdictReason::BootServiceDown, format!("no token, boot service down: {detail}"))
        }
        Outcome::Answered { .. } | Outcome::Redirected if case.evidence.rate() > FLOWING => {
            let message = format!("metal-hammer receives {}", image::rate(case.evidence.rate()));
            Verdict::waiting(VerdictReason::ImageTransfer, message)
        }
        Outcome::Answered { .. } | Outcome::Redirected => {
            Verdict::waiting(VerdictReason::Booting, "metal-hammer has its token")
        }
    }
}
