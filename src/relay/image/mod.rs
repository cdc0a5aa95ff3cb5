//! Images in proxy mode: each request goes to the partition cache, and the answer comes back as it is read.
//!
//! Must never: hold more of an image than a piece of it.

use std::sync::Arc;

use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response};

use super::body::{self, Body};
use super::tls::TlsError;
use super::upstream::{Repeat, Upstream, UpstreamError};
use crate::config::relay::Cache;

/// A machine's request for an image.
#[derive(Debug)]
pub struct ImageRequest {
    /// GET or HEAD.
    pub method: Method,
    /// A path that `route` has let through; it has no query.
    pub path: String,
    /// The machine's headers; only its conditions and its range are looked at.
    pub headers: HeaderMap,
}

/// The images of one leaf.
#[derive(Clone)]
pub struct Images {
    host: String,
    upstream: Arc<Upstream>,
}

impl Images {
    /// Nothing is asked or held yet.
    pub fn new(cache: &Cache) -> Result<Self, TlsError> {
        Ok(Self {
            host: cache.name.authority(),
            upstream: Arc::new(Upstream::new("cache", &cache.upstream)?),
        })
    }

    /// The same images with a budget of their own, for another port.
    pub fn for_port(&self) -> Self {
        self.clone()
    }

    /// The answer to a machine.
    pub async fn answer(&self, asked: ImageRequest) -> Result<Response<Body>, UpstreamError> {
        let mut request = Request::new(body::empty());
        *request.method_mut() = asked.method;
        // `route` lets only plain characters through.
        if let Ok(target) = asked.path.parse() {
            *request.uri_mut() = target;
        }
        let headers = request.headers_mut();
        headers.extend(asked.headers);
        headers.extend(HeaderValue::from_str(&self.host).ok().map(|host| (HOST, host)));
        let mut answer = self.upstream.send(request, Repeat::Freely, None).await?;
        answer.headers_mut().remove(CONNECTION);
        answer.headers_mut().remove(TRANSFER_ENCODING);
        Ok(answer)
    }
}
