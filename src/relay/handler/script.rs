//! Boot scripts: the boot service's, the last good one, or one that says what is wrong.
//!
//! Must never: be a dead end on a machine's console.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::CONTENT_ENCODING;
use hyper::{Response, StatusCode};
use leafboot_core::relay::ipxe;
use leafboot_core::relay::kinds::Kind;
use tokio::time::sleep;

use super::super::body::Body;
use super::super::lifecycle::Lifecycle;
use super::super::responses;
use super::context::RequestContext;
use super::forward::response_of;

/// When a connection must end, for how long a script is still waited for: less than the connection's grace period.
const LAST_WAIT: Duration = Duration::from_secs(4);

/// Responds to a request for a script.
pub async fn respond(context: &RequestContext<'_>) -> Response<Body> {
    match fetch(context).await {
        Ok(answer) => {
            keep(context, answer.body());
            response_of(answer)
        }
        Err(reason) => {
            context.warn(Kind::Script, &reason);
            last_good(context, &reason).unwrap_or_else(|| context.unavailable(Kind::Script, &reason))
        }
    }
}

/// The boot service's script, or why there is none.
async fn fetch(context: &RequestContext<'_>) -> Result<Response<Bytes>, String> {
    let boot_service = &context.port.state.boot_service;
    let answer = tokio::select! {
        biased;
        answer = context.fetch(boot_service, Kind::Script, |answer| why_unusable(answer).is_none()) => {
            answer.map_err(|error| format!("the boot service: {error}"))?
        }
        // No script at all would be a dead end.
        () = must_end(context) => {
            return Err("the boot service: it has not answered, and the relay ends".to_owned());
        }
    };
    match why_unusable(&answer) {
        None => Ok(answer),
        Some(flaw) => Err(format!("the boot service {flaw}")),
    }
}

/// Waits until the connection has little time left.
async fn must_end(context: &RequestContext<'_>) {
    let mut lifecycle = context.port.lifecycle.clone();
    let _ = lifecycle.wait_for(Lifecycle::must_end).await.is_ok();
    sleep(LAST_WAIT).await;
}

/// What is wrong with an answer to a request for a script, as it goes on after "the boot service".
fn why_unusable(answer: &Response<Bytes>) -> Option<String> {
    match answer.status() {
        StatusCode::OK if answer.body().is_empty() => Some("gives an empty script".to_owned()),
        // No machine asked for it, and iPXE would not decode it.
        StatusCode::OK if answer.headers().contains_key(CONTENT_ENCODING) => {
            Some("gives a script with a Content-Encoding".to_owned())
        }
        StatusCode::OK if !ipxe::is_script(answer.body()) => Some("gives what is no iPXE script".to_owned()),
        StatusCode::OK => None,
        status => Some(format!("says {status}")),
    }
}

/// Remembers a good script.
fn keep(context: &RequestContext<'_>, script: &Bytes) {
    let state = &context.port.state;
    if let Some(scripts) = &state.scripts {
        let now = state.started.elapsed();
        scripts.with(|scripts| scripts.store(&context.identity.port, context.target(), script, now));
    }
}

/// The last good script, with the reason why it is given out.
fn last_good(context: &RequestContext<'_>, reason: &str) -> Option<Response<Body>> {
    let state = &context.port.state;
    let scripts = state.scripts.as_ref().filter(|_| context.is_ipxe())?;
    let now = state.started.elapsed();
    let script = context.with_unavailable(reason, |unavailable| {
        scripts.with(|scripts| scripts.get(context.target(), unavailable, now))
    })?;
    Some(responses::text(StatusCode::OK, script))
}
