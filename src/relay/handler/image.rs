//! Responds to requests for kernels, initrds and OS images: with a redirect to the partition cache, or with the image
//! where machines cannot reach the cache.
//!
//! Must never: send an image through the relay that machines can fetch from the partition cache.

use leafboot_core::attempt::Outcome;
use leafboot_core::relay::kinds::Kind;

use super::super::cache::{ImageRequest, PortImages};
use super::super::{monitored, responses};
use super::context::{Answered, RequestContext};

/// Responds to a request for an image.
pub async fn respond(context: &RequestContext<'_>) -> Answered {
    match &context.port.images {
        None => {
            let cache = &context.port.state.settings.cache.name;
            let response = responses::redirect(format!("{cache}{}", context.parts.uri.path()));
            Answered { response, outcome: Outcome::Redirected, images: None, own_script: None }
        }
        Some(images) => relay(context, images).await,
    }
}

async fn relay(context: &RequestContext<'_>, images: &PortImages) -> Answered {
    let request = ImageRequest {
        method: context.parts.method.clone(),
        path: context.parts.uri.path().to_owned(),
        headers: context.forwarded_headers(Kind::Image),
    };
    // A process that must end waits until this receiver is dropped.
    let transfer = context.port.state.image_transfers.subscribe();
    match images.respond(request).await {
        Ok(answer) => Answered::with_status(answer.map(|body| monitored::with_alive(body, transfer))),
        Err(error) => context.failed(Kind::Image, "partition cache", &error, error.problem()),
    }
}
