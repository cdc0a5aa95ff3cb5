//! The way to the partition cache: leafboot's own questions, for everybody or for one machine alone, and what comes of them.
//!
//! Must never: send anything of a machine's but what it is given, or take a part of one version for a part of another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body as _;
use hyper::header::{
    CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED,
    RANGE,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, sleep};

use super::spending::Spending;
use super::turns::Turns;
use crate::relay::body::Body;
use crate::relay::upstream::{Repeat, Upstream, UpstreamError};
use leafboot_core::relay::validators::{self, Version};

/// What the cache sends of an answer that nobody reads: the kernel takes it (`Buffers::MANY`).
const UNREAD: usize = 96 * 1024;

/// The way to the partition cache. A clone is the same way.
#[derive(Clone)]
pub struct Cache {
    /// Transfers for everybody.
    pub fills: Arc<Upstream>,
    /// Transfers for one machine each.
    pub streams: Arc<Upstream>,
    /// What both may take.
    pub budget: Spending,
    /// Who gives a chunk next.
    pub turns: Arc<Turns>,
    /// The budget's clock counts from here.
    pub begun: Instant,
}

impl Cache {
    /// The budget's time.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The cache's answer to a request of leafboot's own words.
    pub async fn ask(
        &self,
        upstream: &Upstream,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Body>, UpstreamError> {
        let request = || {
            let mut request = Box::new(Request::new(Body::empty()));
            *request.method_mut() = method.clone();
            // `route` lets only plain characters through.
            *request.uri_mut() = path.parse().unwrap_or_default();
            *request.headers_mut() = headers.clone();
            request
        };
        upstream.send(Repeat::Freely(&request), None).await
    }

    /// The cache's answer for one machine alone, and of how many of its bytes the packets are paid for already: of those
    /// that come whether anybody reads them or not.
    pub async fn ask_alone(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<(Response<Body>, usize), UpstreamError> {
        let pause = self.budget.ask_alone(UNREAD, self.now());
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let answer = self.ask(&self.streams, method, path, headers).await;
        let comes = answer.as_ref().map_or(0, |answer| {
            let length = answer.body().size_hint().exact().map(usize::try_from);
            length.and_then(Result::ok).unwrap_or(UNREAD).min(UNREAD)
        });
        self.budget.unfetched(UNREAD, comes);
        answer.map(|answer| (answer, comes))
    }

    /// The bytes `first` to `last` of `version`, for one machine alone.
    pub async fn rest(&self, path: &str, version: &Version, (first, last): (u64, u64)) -> io::Result<Alone> {
        let rest = Remainder::new(version, first, last).map_err(Failure::into_error)?;
        let (answer, paid) =
            self.ask_alone(Method::GET, path, rest.headers()).await.map_err(io::Error::other)?;
        Ok((rest.of(answer).map_err(Failure::into_error)?, paid))
    }

    /// The bytes of `version` from `first` on, for everybody.
    pub async fn resume(&self, path: &str, version: &Version, first: u64) -> Result<Body, Failure> {
        let last = version.length.unwrap_or_default().saturating_sub(1);
        let rest = Remainder::new(version, first, last)?;
        let answer = self.ask(&self.fills, Method::GET, path, rest.headers()).await;
        rest.of(answer.map_err(|error| Failure::Broken(io::Error::other(error)))?)
    }
}

/// A body for one machine alone, and of how many of its next bytes the packets are paid for.
pub type Alone = (Body, usize);

/// A part of a version, that must be none of another.
struct Remainder<'a> {
    known: &'a Version,
    validator: &'a str,
    first: u64,
    last: u64,
}

impl<'a> Remainder<'a> {
    fn new(known: &'a Version, first: u64, last: u64) -> Result<Self, Failure> {
        let validator = known.strong().filter(|_| known.length.is_some());
        let validator =
            validator.ok_or_else(|| Failure::given("the cache gave no strong validator to go on with"))?;
        Ok(Self { known, validator, first, last })
    }

    fn headers(&self) -> HeaderMap {
        let range = (RANGE, format!("bytes={}-{}", self.first, self.last));
        headers([range, (IF_RANGE, self.validator.to_owned())])
    }

    /// The part's bytes, if an answer has them.
    fn of(&self, answer: Response<Body>) -> Result<Body, Failure> {
        if is_trouble(answer.status()) {
            return Err(Failure::Broken(io::Error::other(format!("the cache answered {}", answer.status()))));
        }
        let length = self.known.length;
        let expected = format!("bytes {}-{}/{}", self.first, self.last, length.unwrap_or_default());
        let is_it = answer.status() == StatusCode::PARTIAL_CONTENT
            && text(answer.headers(), &CONTENT_RANGE) == Some(expected)
            && version(answer.headers(), length).is(self.known);
        if is_it { Ok(answer.into_body()) } else { Err(Failure::given("the cache has another version now")) }
    }
}

/// Whether a status means that the same question may be answered better a little later.
pub fn is_trouble(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// The headers of a question. Header values are made of checked characters or came as header values.
pub fn headers<const N: usize>(pairs: [(HeaderName, String); N]) -> HeaderMap {
    pairs.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))).collect()
}

/// A header's value as text.
pub fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Of an answer's headers those with the given names, copied: as they came they are parts of the buffer that they were read
/// into, and would keep all of that as long as somebody keeps them.
pub fn only(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let copied = |name: &HeaderName| HeaderValue::from_bytes(headers.get(name)?.as_bytes()).ok();
    names.iter().filter_map(|name| Some((name.clone(), copied(name)?))).collect()
}

/// The version that an answer's headers tell of, with the length of its body where that is known.
pub fn version(headers: &HeaderMap, length: Option<u64>) -> Version {
    let declared = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let last_modified = text(headers, &LAST_MODIFIED);
    let is_settled = validators::is_settled(last_modified.as_deref(), text(headers, &DATE).as_deref());
    Version { etag: text(headers, &ETAG), last_modified, length: length.or(declared), is_settled }
}

/// Why a transfer ended before its end.
pub enum Failure {
    /// The connection broke: the rest can be asked for.
    Broken(io::Error),
    /// It was given up.
    Given(io::Error),
}

impl Failure {
    /// Given up for this reason.
    pub fn given(reason: &str) -> Self {
        Self::Given(io::Error::other(reason))
    }

    /// The reason alone.
    pub fn into_error(self) -> io::Error {
        let (Self::Broken(error) | Self::Given(error)) = self;
        error
    }
}
