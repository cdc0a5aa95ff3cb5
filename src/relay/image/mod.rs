//! Images in proxy mode: each request goes to the partition cache, and the answer comes back as it is read.
//!
//! Must never: hold more of an image than a piece of it.

use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response};

use super::body::{self, Body};
use super::upstream::{Repeat, Upstream, UpstreamError};
use crate::config::relay::Cache;
use crate::net::PortName;

/// A machine's request for an image.
#[derive(Debug)]
pub struct ImageRequest {
    /// GET or HEAD.
    pub method: Method,
    /// A path that `route` has let through; it has no query.
    pub path: String,
    /// Of the machine's headers: `range`, `if-range`, `if-none-match`, `if-modified-since`.
    pub headers: HeaderMap,
    /// What leafboot says of the request: the claim, the request's id, the trace.
    pub claim: HeaderMap,
    /// Where it came in.
    pub port: PortName,
}

/// The images of one leaf.
#[derive(Debug)]
pub struct Images {
    host: String,
}

impl Images {
    /// Nothing is asked or held yet.
    pub fn new(cache: &Cache) -> Self {
        Self { host: cache.name.authority() }
    }

    /// The answer to a machine.
    pub async fn answer(
        &self,
        upstream: &Upstream,
        asked: ImageRequest,
    ) -> Result<Response<Body>, UpstreamError> {
        let mut request = Request::new(body::empty());
        *request.method_mut() = asked.method;
        // `route` lets only plain characters through.
        if let Ok(target) = asked.path.parse() {
            *request.uri_mut() = target;
        }
        let headers = request.headers_mut();
        headers.extend(asked.headers);
        headers.extend(asked.claim);
        headers.extend(HeaderValue::from_str(&self.host).ok().map(|host| (HOST, host)));
        let mut answer = upstream.send(request, Repeat::Freely, None).await?;
        answer.headers_mut().remove(CONNECTION);
        answer.headers_mut().remove(TRANSFER_ENCODING);
        Ok(answer)
    }
}
