//! Responds to requests for boot scripts: with the boot service's script, with the last good one if the boot service
//! fails, or else with a script that prints the reason and asks again.
//!
//! Must never: give iPXE a response after which it does not ask again.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::CONTENT_ENCODING;
use hyper::{Response, StatusCode};
use leafboot_core::attempt::UpstreamProblem;
use leafboot_core::relay::ipxe::{self, ScriptImages};
use leafboot_core::relay::kinds::Kind;
use tokio::time::sleep;

use super::super::body::Body;
use super::super::lifecycle::Lifecycle;
use super::super::responses;
use super::context::{Answered, RequestContext};
use super::forward::machine_response;
use crate::metrics::OwnScript;

/// How long a request still waits for a script when its connection must end. Less than the connection's grace period.
const LAST_WAIT: Duration = Duration::from_secs(4);

/// Responds to a request for a script.
pub async fn respond(context: &RequestContext<'_>) -> Answered {
    match fetch(context).await {
        Ok(answer) => {
            store(context, answer.body());
            let images = Some(ScriptImages::of(answer.body()));
            Answered { images, ..Answered::with_status(machine_response(answer)) }
        }
        Err(Failure { problem, reason }) => {
            context.warn(Kind::Script, &reason);
            let unavailable = context.unavailable(Kind::Script, problem, &reason);
            match last_good(context, &reason) {
                Some(response) => Answered { response, own_script: Some(OwnScript::Stale), ..unavailable },
                None => unavailable,
            }
        }
    }
}

/// Why there is no script.
struct Failure {
    problem: UpstreamProblem,
    /// In words.
    reason: String,
}

/// The boot service's script, or why there is none.
async fn fetch(context: &RequestContext<'_>) -> Result<Response<Bytes>, Failure> {
    let boot_service = &context.port.state.boot_service;
    let answer = tokio::select! {
        biased;
        answer = context.fetch(boot_service, Kind::Script, |answer| why_unusable(answer).is_none()) => {
            answer.map_err(|error| Failure {
                problem: error.problem(),
                reason: format!("the boot service: {error}"),
            })?
        }
        // Without a response iPXE would give up.
        () = must_end(context) => {
            let reason = "the boot service: it has not answered, and the relay ends".to_owned();
            return Err(Failure { problem: UpstreamProblem::Ending, reason });
        }
    };
    match why_unusable(&answer) {
        None => Ok(answer),
        Some(flaw) => {
            let problem = match answer.status() {
                StatusCode::OK => UpstreamProblem::Unusable,
                status => UpstreamProblem::Status(status.as_u16()),
            };
            Err(Failure { problem, reason: format!("the boot service {flaw}") })
        }
    }
}

/// Waits until the connection must end, and `LAST_WAIT` longer.
async fn must_end(context: &RequestContext<'_>) {
    let mut lifecycle = context.port.lifecycle.clone();
    let _ = lifecycle.wait_for(Lifecycle::must_end).await.is_ok();
    sleep(LAST_WAIT).await;
}

/// Why an answer is not a usable script; none: it is one. The text continues a sentence that begins with "the boot
/// service".
fn why_unusable(answer: &Response<Bytes>) -> Option<String> {
    match answer.status() {
        StatusCode::OK if answer.body().is_empty() => Some("gives an empty script".to_owned()),
        // leafboot does not ask for a coding, and iPXE does not decode any.
        StatusCode::OK if answer.headers().contains_key(CONTENT_ENCODING) => {
            Some("gives a script with a Content-Encoding".to_owned())
        }
        StatusCode::OK if !ipxe::is_script(answer.body()) => Some("gives what is no iPXE script".to_owned()),
        StatusCode::OK => None,
        status => Some(format!("says {status}")),
    }
}

/// Stores a good script, for when the boot service fails.
fn store(context: &RequestContext<'_>, script: &Bytes) {
    let state = &context.port.state;
    if let Some(scripts) = &state.scripts {
        let now = state.started.elapsed();
        scripts.with(|scripts| scripts.store(&context.identity.port, context.target(), script, now));
    }
}

/// The last good script, if there is one. It prints `reason`, why it is sent in place of a new one.
fn last_good(context: &RequestContext<'_>, reason: &str) -> Option<Response<Body>> {
    let state = &context.port.state;
    let scripts = state.scripts.as_ref().filter(|_| context.is_ipxe())?;
    let now = state.started.elapsed();
    let script = context.with_unavailable(reason, |unavailable| {
        scripts.with(|scripts| scripts.get(context.target(), unavailable, now))
    })?;
    Some(responses::text(StatusCode::OK, script))
}
