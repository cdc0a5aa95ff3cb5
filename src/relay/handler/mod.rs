//! Responds to one request: validates it, finds its kind, and calls the kind's handler. When something fails, iPXE gets
//! a script that prints the reason and asks again.
//!
//! A kind's row in the policy table (`kinds`) has the rules for its requests and for how they are forwarded. The kind's
//! file here builds its response.
//!
//! Must never: log a query, a header or a body, for they may hold secrets; or know the listener.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response, Version};
use leafboot_core::attempt::UpstreamProblem;
use leafboot_core::relay::forwarded::Machine;
use leafboot_core::relay::kinds::{self, Kind};
use leafboot_core::relay::port_limits::Work;
use leafboot_core::relay::validate::{self, Head};

use super::body::Body;
use super::lifecycle::ServiceStage;
use super::peer::Peer;
use super::port::RelayPort;
use super::responses;
use context::{Answered, RequestContext};

mod api;
mod context;
mod forward;
mod image;
mod script;
mod token;

/// Responds to one request when its port's rate limit allows it.
pub(super) async fn handle(
    port: &RelayPort,
    machine: Machine,
    peer: &Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    port.limiter.delay(Work::Request).await;
    let (parts, incoming) = request.into_parts();
    let mut context = RequestContext::new(port, machine, peer, parts);
    let kind = match classify(&context) {
        Ok(kind) => kind,
        Err(response) => return Ok(context.finish_refused(None, Answered::refused(*response))),
    };
    context.begin(kind);
    let context = context;
    if let Some(answered) = not_served(&context, kind) {
        return Ok(context.finish_refused(Some(kind), answered));
    }
    let answered = match kind {
        Kind::Script => script::respond(&context).await,
        Kind::Token => token::respond(&context).await,
        Kind::Image => image::respond(&context).await,
        Kind::Api => api::respond(&context, incoming).await,
    };
    Ok(context.finish_relayed(kind, answered))
}

/// The kind of a valid request, or the response that refuses it.
fn classify(context: &RequestContext) -> Result<Kind, Box<Response<Body>>> {
    let (is_1_1, has_both) = (context.parts.version == Version::HTTP_11, context.peer.is_ambiguous());
    let mut head = Head { is_1_1, has_both, ..Head::default() };
    for (name, value) in &context.parts.headers {
        head.add(name.as_str(), value.as_bytes());
    }
    validate::check(&head).map_err(|fault| Box::new(responses::invalid(fault)))?;
    let routes = &context.port.state.settings.routes;
    let uri = &context.parts.uri;
    let kind = kinds::kind_of(routes, context.parts.method.as_str(), uri.path(), uri.query())
        .map_err(|refusal| Box::new(responses::refused(routes, refusal)))?;
    let checked = validate::check_body(kind, &head);
    checked.map(|()| kind).map_err(|fault| Box::new(responses::invalid(fault)))
}

/// The response to a valid request that cannot be served at this stage of the port.
fn not_served(context: &RequestContext, kind: Kind) -> Option<Answered> {
    let unavailable = |reason| context.unavailable(kind, UpstreamProblem::Ending, reason);
    let reason = match context.stage {
        ServiceStage::Released => "this port is not in boot any more",
        ServiceStage::Interrupted => "this port has lost its link or its address since the connection began",
        ServiceStage::Draining if kind == Kind::Image && context.port.images.is_some() => {
            return Some(unavailable("leafboot is about to be restarted"));
        }
        ServiceStage::Serving | ServiceStage::Draining | ServiceStage::Stopping => return None,
    };
    let answered = unavailable(reason);
    Some(Answered { response: responses::closing(answered.response), ..answered })
}
