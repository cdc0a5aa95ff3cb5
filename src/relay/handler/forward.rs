//! Turns a machine's request into the request to an upstream, and the upstream's answer into the response to the
//! machine.
//!
//! Must never: forward a machine's header that a server could take for one of leafboot's.

use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use hyper::{Request, Response, Uri};
use leafboot_core::relay::kinds::Kind;
use leafboot_core::relay::{forwarded, trace};

use super::super::body::Body;
use super::super::responses;
use super::super::upstream::{Outgoing, Upstream, UpstreamError};
use super::context::{REQUEST_ID, RequestContext};

const TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);
/// The longest answer in bytes. Scripts and configurations have a few kilobytes.
const ANSWER_MAX: usize = 256 * 1024;
/// The deadline of a whole answer, for kinds whose row has none.
const DEADLINE: Duration = Duration::from_secs(60);

impl RequestContext<'_> {
    /// Sends the request, without a body, to `upstream` and returns the whole answer. The deadline is that of the
    /// kind's row. An idempotent request is sent to the next origin if `is_usable` rejects an answer.
    pub async fn fetch(
        &self,
        upstream: &Upstream,
        kind: Kind,
        is_usable: impl Fn(&Response<Bytes>) -> bool,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let policy = kind.policy();
        let deadline: Instant = self.began + policy.deadline.unwrap_or(DEADLINE);
        let request = || self.upstream_request(kind, Body::empty());
        let outgoing = match policy.idempotent {
            true => Outgoing::Idempotent(&request),
            false => Outgoing::Once(request()),
        };
        upstream.fetch(outgoing, deadline, ANSWER_MAX, is_usable).await
    }

    /// The request to the upstream: the machine's target, the machine's headers that the kind's row forwards, and
    /// leafboot's own headers.
    pub fn upstream_request(&self, kind: Kind, body: Body) -> Box<Request<Body>> {
        let mut request = Box::new(Request::new(body));
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        let headers = request.headers_mut();
        *headers = self.port.identity_headers(&self.identity, self.machine, self.began);
        headers.extend(self.forwarded_headers(kind));
        let parent = HeaderValue::try_from(trace::traceparent(self.identity.attempt, self.id)).ok();
        let fields = [(TRACEPARENT, parent), (REQUEST_ID, self.id_value())];
        headers.extend(fields.into_iter().filter_map(|(name, value)| Some((name, value?))));
        request
    }

    /// The machine's headers that are forwarded. leafboot's own headers are not among them.
    pub fn forwarded_headers(&self, kind: Kind) -> HeaderMap {
        let connection = connection_options(&self.parts.headers);
        let headers = self.parts.headers.iter();
        let passing = headers.filter(|(name, _)| forwarded::passes(kind, name.as_str(), &connection));
        let mut all = HeaderMap::new();
        for (name, value) in passing {
            all.append(name.clone(), value.clone());
        }
        all
    }
}

/// The response to the machine: the answer's status and body, and those of its headers that a machine uses.
pub fn machine_response(answer: Response<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Full(answer.body().clone()));
    *response.status_mut() = answer.status();
    let answered = answer.headers();
    let used: [(HeaderName, Option<HeaderValue>); 3] = [
        (CONTENT_TYPE, answered.get(CONTENT_TYPE).cloned()),
        (CONTENT_ENCODING, answered.get(CONTENT_ENCODING).cloned()),
        (RETRY_AFTER, answered.get(RETRY_AFTER).and_then(responses::retry_after)),
    ];
    response.headers_mut().extend(used.into_iter().filter_map(|(name, value)| Some((name, value?))));
    response
}

/// Removes the headers that belong to the connection to the server only (RFC 9110 7.6.1).
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let connection = connection_options(headers);
    let is_hop_by_hop = |name: &str| forwarded::is_hop_by_hop(name) || forwarded::is_named(&connection, name);
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The values of a `Connection` field as one text.
fn connection_options(headers: &HeaderMap) -> String {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}
