//! Relays calls of metal-apiserver. Both bodies are passed on as they arrive. A stream of the API may be silent for any
//! time.
//!
//! Must never: keep a stream for a machine that has gone.

use hyper::body::Incoming;
use leafboot_core::attempt::UpstreamProblem;
use leafboot_core::relay::kinds::{Kind, Refusal};

use super::super::body::Body;
use super::super::monitored::Monitored;
use super::super::peer::Presence;
use super::super::upstream::Outgoing;
use super::super::{responses, upload};
use super::context::{Answered, RequestContext};
use super::forward::remove_hop_by_hop;

/// Responds to a call.
pub async fn respond(context: &RequestContext<'_>, incoming: Incoming) -> Answered {
    let settings = &context.port.state.settings;
    let Some(api) = &context.port.state.api else {
        return Answered::refused(responses::refused(&settings.routes, Refusal::Path));
    };
    let most = usize::try_from(Kind::Api.policy().body_max).unwrap_or(usize::MAX);
    let (body, fault) =
        upload::limited(incoming, most, settings.min_rate.unwrap_or_default(), settings.min_rate_window);
    let mut presence = Presence::watch(context.peer);
    let answer = tokio::select! {
        biased;
        answer = api.send(Outgoing::Once(context.upstream_request(Kind::Api, body)), None) => answer,
        () = presence.gone() => {
            let answered = context.unavailable(Kind::Api, UpstreamProblem::BrokeOff, "the machine has gone");
            return Answered { response: responses::closing(answered.response), ..answered };
        }
    };
    match (answer, fault.get()) {
        (Ok(mut answer), _) => {
            remove_hop_by_hop(answer.headers_mut());
            Answered::with_status(answer.map(|body| Body::stream(Monitored::new(body, presence))))
        }
        (Err(_), Some(fault)) => Answered::refused(responses::invalid(fault)),
        (Err(error), None) => context.failed(Kind::Api, "metal-apiserver", &error, error.problem()),
    }
}
