//! Relays metal-hammer's configuration, which has a token, unchanged.
//!
//! Must never: send one token request twice, or store a token.

use leafboot_core::relay::kinds::Kind;

use super::context::{Answered, RequestContext};
use super::forward::machine_response;

/// Responds to a request for a token.
pub async fn respond(context: &RequestContext<'_>) -> Answered {
    match context.fetch(&context.port.state.boot_service, Kind::Token, |_| true).await {
        Ok(answer) => Answered::with_status(machine_response(answer)),
        Err(error) => context.failed(Kind::Token, "boot service", &error, error.problem()),
    }
}
