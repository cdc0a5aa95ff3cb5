//! Verdicts while metal-hammer runs.
//!
//! Must never: show a token, or the body of an answer.

use super::{Case, Verdict, VerdictReason, image};
use crate::attempt::{Outcome, StageRecord, UpstreamProblem};

/// metal-hammer asks for its token within this time after Linux has solicited, in seconds.
const TOKEN: u64 = 30;
/// Bytes per second that are an image.
const FLOWING: f64 = 1_000_000.0;

/// Linux runs; the token was not asked for.
pub fn before_token(case: &Case<'_>, last: &StageRecord) -> Verdict {
    let age = case.age(last);
    if age < TOKEN {
        return Verdict::waiting(VerdictReason::Booting, "Linux runs");
    }
    let message = format!(
        "Linux runs for {age} s and asked for no token: metal-hammer has no address or no route, or is an older one"
    );
    Verdict::fault(VerdictReason::NoTokenRequest, message)
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
