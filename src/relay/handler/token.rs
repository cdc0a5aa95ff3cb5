//! metal-hammer's configuration with its token: passed on as it is.
//!
//! Must never: ask twice for one token, or keep one.

use hyper::Response;
use leafboot_core::relay::kinds::Kind;

use super::super::body::Body;
use super::context::RequestContext;
use super::forward::response_of;

/// Responds to a request for a token.
pub async fn respond(context: &RequestContext<'_>) -> Response<Body> {
    match context.fetch(&context.port.state.boot_service, Kind::Token, |_| true).await {
        Ok(answer) => response_of(answer),
        Err(error) => context.failed(Kind::Token, "boot service", &error, error.is_bad_answer()),
    }
}
