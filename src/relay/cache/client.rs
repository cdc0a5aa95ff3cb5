//! Requests to the partition cache: for shared and for unshared transfers, of whole images and of parts.
//!
//! Must never: send a header of a machine that the caller did not pass, or take a part of one version for a part of
//! another.

use std::io;
use std::sync::Arc;

use hyper::body::Body as _;
use hyper::header::{CONTENT_RANGE, HeaderMap, IF_RANGE, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::sleep;

use super::headers;
use super::scheduler::Scheduler;
use super::shaper::Shaper;
use crate::relay::body::Body;
use crate::relay::upstream::{Outgoing, Upstream, UpstreamError};
use leafboot_core::relay::validators::Version;

/// Bytes of a response that the partition cache sends although no task reads them: the kernel buffers them
/// (`Buffers::MANY`).
const UNREAD: usize = 96 * 1024;

/// Requests to the partition cache, for one port's machines. A clone is for the same port.
#[derive(Clone)]
pub struct Client {
    /// For shared transfers.
    pub shared: Arc<Upstream>,
    /// For unshared transfers.
    pub unshared: Arc<Upstream>,
    /// Limits both.
    pub shaper: Shaper,
    /// Gives image bodies their turns.
    pub scheduler: Arc<Scheduler>,
}

/// The body of an unshared transfer.
pub struct UnsharedBody {
    /// The body.
    pub body: Body,
    /// How many of its next bytes the shaper has already accounted for.
    pub accounted: usize,
}

impl Client {
    /// Sends a request with no other headers than these. Returns the response.
    pub async fn request(
        &self,
        upstream: &Upstream,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Body>, UpstreamError> {
        let request = || {
            let mut request = Box::new(Request::new(Body::empty()));
            *request.method_mut() = method.clone();
            // A path that the routes let through has plain characters only.
            *request.uri_mut() = path.parse().unwrap_or_default();
            *request.headers_mut() = headers.clone();
            request
        };
        upstream.send(Outgoing::Idempotent(&request), None).await
    }

    /// Sends a request for an unshared transfer. Waits first until the shaper lets it. The shaper accounts
    /// for the bytes that arrive, whether a machine reads them or not.
    pub async fn request_unshared(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<UnsharedBody>, UpstreamError> {
        let pause = self.shaper.begin_unshared(UNREAD);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let response = self.request(&self.unshared, method, path, headers).await;
        let accounted = response.as_ref().map_or(0, |response| {
            let length = response.body().size_hint().exact().map(usize::try_from);
            length.and_then(Result::ok).unwrap_or(UNREAD).min(UNREAD)
        });
        self.shaper.refund_unshared(UNREAD, accounted);
        response.map(|response| response.map(|body| UnsharedBody { body, accounted }))
    }

    /// The bytes `first` to `last` of `version`, unshared.
    pub async fn part(
        &self,
        path: &str,
        version: &Version,
        (first, last): (u64, u64),
    ) -> io::Result<UnsharedBody> {
        let part = VersionPart::new(version, first, last).map_err(TransferError::into_error)?;
        let response = self.request_unshared(Method::GET, path, part.headers()).await;
        part.body_of(response.map_err(io::Error::other)?).map_err(TransferError::into_error)
    }

    /// The bytes of `version` from `first` on, shared.
    pub async fn resume(&self, path: &str, version: &Version, first: u64) -> Result<Body, TransferError> {
        let last = version.length.unwrap_or_default().saturating_sub(1);
        let part = VersionPart::new(version, first, last)?;
        let response = self.request(&self.shared, Method::GET, path, part.headers()).await;
        part.body_of(response.map_err(|error| TransferError::Interrupted(io::Error::other(error)))?)
    }
}

/// A part of one version. Its request has `If-Range`, so that the response cannot have a part of another version.
struct VersionPart<'a> {
    version: &'a Version,
    validator: &'a str,
    first: u64,
    last: u64,
}

impl<'a> VersionPart<'a> {
    fn new(version: &'a Version, first: u64, last: u64) -> Result<Self, TransferError> {
        let validator = version.strong_validator().filter(|_| version.length.is_some());
        let validator = validator
            .ok_or_else(|| TransferError::fatal("cannot be resumed: the response had no strong validator"))?;
        Ok(Self { version, validator, first, last })
    }

    fn headers(&self) -> HeaderMap {
        let range = (RANGE, format!("bytes={}-{}", self.first, self.last));
        headers::from_pairs([range, (IF_RANGE, self.validator.to_owned())])
    }

    /// The body of a response, if it has this part.
    fn body_of<T>(&self, response: Response<T>) -> Result<T, TransferError> {
        let status = response.status();
        if headers::is_temporary(status) {
            return Err(TransferError::Interrupted(io::Error::other(format!("it answered {status}"))));
        }
        let length = self.version.length;
        let expected = format!("bytes {}-{}/{}", self.first, self.last, length.unwrap_or_default());
        let is_this = status == StatusCode::PARTIAL_CONTENT
            && headers::text(response.headers(), &CONTENT_RANGE) == Some(expected)
            && headers::version(response.headers(), length).has_same_bytes(self.version);
        if is_this {
            Ok(response.into_body())
        } else {
            Err(TransferError::fatal("the partition cache has another version now"))
        }
    }
}

/// Why a transfer ended before its end.
pub enum TransferError {
    /// The connection broke, or there was a temporary error: the rest can be requested.
    Interrupted(io::Error),
    /// The rest cannot be requested.
    Fatal(io::Error),
}

impl TransferError {
    /// An error after which the rest cannot be requested.
    fn fatal(reason: &str) -> Self {
        Self::Fatal(io::Error::other(reason))
    }

    /// The reason.
    pub fn into_error(self) -> io::Error {
        let (Self::Interrupted(error) | Self::Fatal(error)) = self;
        error
    }
}
