//! Images in proxy mode: one transfer from the partition cache for all machines that ask for the same object.
//!
//! `shelf` knows the objects, `cache` is asked for one, `fill` fetches it, `object` is what is filled and followed, `key`
//! tells versions apart, `range` chooses a part, `room` is what all of them may take of memory, `stream` sends a part,
//! `turns` and `spending` say when.
//!
//! Must never: send anything of a machine's but its conditions to the cache (the answer is everybody's), or give a
//! broken transfer the look of a whole one.

use std::sync::Arc;

use hyper::body::Body as _;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use hyper::{Method, Response, StatusCode};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::body::{self, Body};
use super::log::Log;
use super::tls::TlsError;
use super::upstream::{Buffers, Manner, Upstream, UpstreamError};
use crate::metrics::{Gauge, Metrics, OneMore};
use cache::Cache;
use leafboot_core::names::PortName;
use leafboot_core::relay::ranges::{self, Conditions, Part};
use leafboot_core::relay::validators::Version;
use leafboot_core::settings::relay;
use object::Object;
use shelf::{Found, Outcome, Shelf};
use spending::Spending;
use stream::ImageBody;
use turns::Turns;

mod cache;
mod fill;
pub mod object;
pub mod room;
pub mod shelf;
mod spending;
mod stream;
mod turns;

/// An answer without a Content-Length for one machine alone is held up to this size, to be given one (iPXE).
const UNKNOWN_MAX: usize = 1024 * 1024;
/// A part that begins this close behind what is there is waited for; one further on is asked for by itself.
const NEAR: u64 = 4 * 1024 * 1024;

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

/// Why a machine gets no image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Nobody behind the relay answered.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The shared transfer did not come about, or broke before its length was known.
    #[error("{0}")]
    Transfer(String),
    /// The cache gave an answer that cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// Neither the cache nor leafboot knows the length.
    #[error("the partition cache's answer has no Content-Length and is longer than {UNKNOWN_MAX} bytes")]
    NoLength,
}

impl ImageError {
    /// Whether there was an answer that is of no use (502, RFC 9110 15.6.3), and not just none for now (503).
    pub fn is_of_an_answer(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_of_an_answer(),
            Self::Unusable(_) | Self::NoLength => true,
            Self::Transfer(_) => false,
        }
    }
}

/// The images of one leaf.
pub struct Images {
    cache: Cache,
    shelf: Arc<Shelf>,
    metrics: Arc<Metrics>,
}

/// The leaf's images, as one port gives them out.
pub struct PortImages {
    cache: Cache,
    shelf: Arc<Shelf>,
    port: PortName,
    /// The port begins one transfer for everybody at a time: a machine that asks and goes, again and again, could fill
    /// the shelf and take the cache's packets with what nobody wants.
    place: Arc<Semaphore>,
    /// What is said of the transfers that it begins.
    log: Log,
    /// The port's machines that are sent a shared image, and one of their own.
    sharing: Gauge,
    alone: Gauge,
}

impl Images {
    /// Nothing is asked or held yet. Needs a runtime.
    pub fn new(settings: &relay::Cache, metrics: &Arc<Metrics>) -> Result<Self, TlsError> {
        let host = HeaderValue::from_str(&settings.name.authority()).ok();
        let upstream = |name, buffers| {
            let manner = Manner { name, buffers, host: host.clone(), is_judged_by_status: true };
            Upstream::new(manner, &settings.upstream, metrics).map(Arc::new)
        };
        let shelf = Arc::new(Shelf::new(settings.memory));
        metrics.watch_cache({
            let shelf = Arc::clone(&shelf);
            move || shelf.state()
        });
        tokio::spawn(expire(Arc::clone(&shelf)));
        Ok(Self {
            cache: Cache {
                fills: upstream("cache", Buffers::FAST)?,
                streams: upstream("cache_alone", Buffers::MANY)?,
                budget: Spending::new(&settings.budget, metrics),
                turns: Turns::begin(),
                begun: Instant::now(),
            },
            shelf,
            metrics: Arc::clone(metrics),
        })
    }

    /// They, with a budget and counts of a port's own.
    pub fn for_port(&self, port: &PortName, log: &Log) -> PortImages {
        let readers = |source| self.metrics.image_readers(port.as_str(), source);
        PortImages {
            cache: Cache { budget: self.cache.budget.for_port(port), ..self.cache.clone() },
            shelf: Arc::clone(&self.shelf),
            port: port.clone(),
            place: Arc::new(Semaphore::new(1)),
            log: log.clone(),
            sharing: readers("shared"),
            alone: readers("alone"),
        }
    }
}

impl PortImages {
    /// The answer to a machine.
    pub async fn answer(&self, mut asked: ImageRequest) -> Result<Response<Body>, ImageError> {
        if asked.method == Method::HEAD {
            // RFC 9110 14.2: a part of a GET's answer only.
            asked.headers.remove(RANGE);
        }
        let conditions = conditions(&asked.headers);
        let late = ranges::starts_late(&conditions);
        if asked.method == Method::HEAD || late {
            return match self.shelf.look(&asked.path, now()) {
                Some(object)
                    if object.version.length.is_some() && (!late || self.is_near(&object, &conditions)) =>
                {
                    self.shared(&object, &conditions, &asked).await
                }
                _ => self.alone(asked).await,
            };
        }
        match self.outcome(&asked.path).await {
            Outcome::Shared(object) => self.shared(&object, &conditions, &asked).await,
            Outcome::TooLarge | Outcome::NoRoom => self.alone(asked).await,
            Outcome::Other(answer) => Ok(other(answer.0, &answer.1)),
            Outcome::Failed(reason) => Err(ImageError::Transfer(reason.to_string())),
            Outcome::Unusable(reason) => Err(ImageError::Unusable(reason.to_string())),
        }
    }

    fn is_near(&self, object: &Object, conditions: &Conditions) -> bool {
        let length = object.version.length.unwrap_or_default();
        match ranges::part(conditions, &object.version, length) {
            Part::Slice { first, .. } => object.has(first, NEAR),
            Part::Whole => object.has(0, 0),
            Part::NotModified | Part::Unsatisfiable => true,
        }
    }

    /// What the path is now: asks the cache, or waits for whoever has asked already.
    async fn outcome(&self, path: &str) -> Outcome {
        if self.shelf.bytes() == 0 {
            return Outcome::TooLarge;
        }
        let place = Arc::clone(&self.place).try_acquire_owned().ok();
        let mut telling = match self.shelf.find(path, &self.port, place.is_some(), now()) {
            Found::Asked(telling) => telling,
            Found::Ask(told, known) => {
                let telling = told.subscribe();
                let (shelf, log) = (Arc::clone(&self.shelf), self.log.clone());
                tokio::spawn(fill::run(self.cache.clone(), shelf, path.to_owned(), known, told, place, log));
                telling
            }
            Found::Nothing => return Outcome::NoRoom,
        };
        match telling.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Outcome::Failed("its transfer ended".into()),
        }
    }

    async fn shared(
        &self,
        object: &Arc<Object>,
        conditions: &Conditions,
        asked: &ImageRequest,
    ) -> Result<Response<Body>, ImageError> {
        // The reader is counted before the length is waited for: a transfer that nobody reads is given up.
        let everything = object.follow(0, u64::MAX);
        let length = object.length().await.map_err(|error| ImageError::Transfer(error.to_string()))?;
        drop(everything);
        let part = ranges::part(conditions, &object.version, length);
        let (status, first, end) = match part {
            Part::Whole => (StatusCode::OK, 0, length),
            Part::Slice { first, last } => (StatusCode::PARTIAL_CONTENT, first, last + 1),
            Part::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Part::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
        let is_body = asked.method != Method::HEAD && end > first;
        let body = if is_body {
            let follower = object.follow(first, end);
            let body = ImageBody::shared(follower, end - first, &self.cache, &asked.path);
            body::holding(Body::coming(body), OneMore::of(&self.sharing))
        } else {
            Body::empty()
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.extend(about(&object.version));
        if matches!(part, Part::Whole | Part::Slice { .. }) {
            headers.extend(object.headers.clone());
            headers.insert(CONTENT_LENGTH, (end - first).into());
        }
        let range = match part {
            Part::Slice { first, last } => Some(format!("bytes {first}-{last}/{length}")),
            Part::Unsatisfiable => Some(format!("bytes */{length}")),
            Part::Whole | Part::NotModified => None,
        };
        headers.extend(
            range.and_then(|range| HeaderValue::from_str(&range).ok()).map(|range| (CONTENT_RANGE, range)),
        );
        Ok(response)
    }

    /// An answer of the cache for one machine alone, as it is read.
    async fn alone(&self, asked: ImageRequest) -> Result<Response<Body>, ImageError> {
        let own = cache::only(&asked.headers, &[RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE]);
        let is_head = asked.method == Method::HEAD;
        let (answer, paid) = self.cache.ask_alone(asked.method, &asked.path, own).await?;
        let (head, mut body) = answer.into_parts();
        let served = matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
        if !served
            && head.status != StatusCode::NOT_MODIFIED
            && head.status != StatusCode::RANGE_NOT_SATISFIABLE
        {
            if cache::is_trouble(head.status) {
                return Err(ImageError::Transfer(format!("it answered {}", head.status)));
            }
            return Ok(other(head.status, &cache::only(&head.headers, &[LOCATION])));
        }
        let mut names = vec![ETAG, LAST_MODIFIED, ACCEPT_RANGES, CONTENT_RANGE];
        if served {
            names.extend([CONTENT_TYPE, CONTENT_ENCODING]);
        }
        if is_head {
            names.push(CONTENT_LENGTH);
        }
        let body = match body.size_hint().exact() {
            _ if !served || is_head => Body::empty(),
            Some(0) => Body::empty(),
            Some(length) => {
                let body = ImageBody::own(body, paid, length, &self.cache, &asked.path);
                body::holding(Body::coming(body), OneMore::of(&self.alone))
            }
            None => match body::gather(&mut body, UNKNOWN_MAX).await {
                Ok(whole) => Body::whole(whole.ok_or(ImageError::NoLength)?),
                Err(broken) => return Err(ImageError::Transfer(broken.to_string())),
            },
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = cache::only(&head.headers, &names);
        Ok(response)
    }
}

/// Takes what nobody asks for any more off the shelf, as long as its runtime runs.
async fn expire(shelf: Arc<Shelf>) {
    loop {
        sleep_until(shelf.expire(now()).into()).await;
    }
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn conditions(headers: &HeaderMap) -> Conditions {
    let text = |name| cache::text(headers, &name);
    Conditions {
        range: text(RANGE),
        if_range: text(IF_RANGE),
        if_none_match: text(IF_NONE_MATCH),
        if_modified_since: text(IF_MODIFIED_SINCE),
    }
}

fn about(version: &Version) -> HeaderMap {
    let tags = [(ETAG, &version.etag), (LAST_MODIFIED, &version.last_modified)];
    let tags =
        tags.into_iter().filter_map(|(name, tag)| Some((name, HeaderValue::from_str(tag.as_ref()?).ok()?)));
    tags.chain([(ACCEPT_RANGES, HeaderValue::from_static("bytes"))]).collect()
}

/// What is no object goes on to the machine: a redirect as it is, an error with words of leafboot's.
fn other(status: StatusCode, headers: &HeaderMap) -> Response<Body> {
    let body = match status.is_redirection() {
        true => Body::empty(),
        false => Body::whole(format!("the partition cache answered {status}\n")),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers.clone();
    response
}
