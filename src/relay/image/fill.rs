//! Fetches an object from the partition cache, in a task of its own: it does not end with the machine that asked
//! first, and no machine can slow it down.
//!
//! Must never: join bytes of two versions, or tell that an object is whole before its last byte is there.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::key::{self, Question, Version};
use super::object::{BLOCK, Filler, Object};
use super::shelf::{Outcome, Shelf, Told};
use super::spending::Spending;
use super::turns::Turns;
use crate::relay::body::{self, Body};
use crate::relay::upstream::{Repeat, UNFRAMED, Upstream, UpstreamError, is_framed};

/// A broken transfer is taken up again at once, and after these pauses while nothing comes of it: a cache that is
/// restarted is there again within seconds.
const RESUME_AFTER: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// A transfer that broke so often within a block is given up.
const FRUITLESS_MAX: u32 = 3;
/// A transfer that nobody reads goes on for this long: a machine that broke off comes back.
const UNREAD_MAX: Duration = Duration::from_secs(10);
/// An object that nobody asked for in this time goes: the memory is the switch's.
const KEPT_UNUSED: Duration = Duration::from_secs(600);

/// Readers wait so long for a helping before they are given a part of it.
const GATHER: Duration = Duration::from_secs(1);

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
            let mut request = Request::new(body::empty());
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
        let part = Part::new(version, first, last).map_err(End::into_error)?;
        let (answer, paid) =
            self.ask_alone(Method::GET, path, part.headers()).await.map_err(io::Error::other)?;
        Ok((part.of(answer).map_err(End::into_error)?, paid))
    }

    /// The bytes of `version` from `first` on, for everybody.
    async fn resume(&self, path: &str, version: &Version, first: u64) -> Result<Body, End> {
        let last = version.length.unwrap_or_default().saturating_sub(1);
        let part = Part::new(version, first, last)?;
        let answer = self.ask(&self.fills, Method::GET, path, part.headers()).await;
        part.of(answer.map_err(|error| End::Broken(io::Error::other(error)))?)
    }
}

/// A body for one machine alone, and of how many of its next bytes the packets are paid for.
pub type Alone = (Body, usize);

/// What the cache sends of an answer that nobody reads: the kernel takes it (`Buffers::MANY`).
const UNREAD: usize = 96 * 1024;

/// A part of a version, that must be none of another.
struct Part<'a> {
    known: &'a Version,
    validator: &'a str,
    first: u64,
    last: u64,
}

impl<'a> Part<'a> {
    fn new(known: &'a Version, first: u64, last: u64) -> Result<Self, End> {
        let validator = known.strong().filter(|_| known.length.is_some());
        let validator =
            validator.ok_or_else(|| End::given("the cache gave no strong validator to go on with"))?;
        Ok(Self { known, validator, first, last })
    }

    fn headers(&self) -> HeaderMap {
        let range = (RANGE, format!("bytes={}-{}", self.first, self.last));
        headers([range, (IF_RANGE, self.validator.to_owned())])
    }

    /// The part's bytes, if an answer has them.
    fn of(&self, answer: Response<Body>) -> Result<Body, End> {
        if is_trouble(answer.status()) {
            return Err(End::Broken(io::Error::other(format!("the cache answered {}", answer.status()))));
        }
        let length = self.known.length;
        let expected = format!("bytes {}-{}/{}", self.first, self.last, length.unwrap_or_default());
        let is_it = answer.status() == StatusCode::PARTIAL_CONTENT
            && text(answer.headers(), &CONTENT_RANGE) == Some(expected)
            && version(answer.headers(), length).is(self.known);
        if is_it { Ok(answer.into_body()) } else { Err(End::given("the cache has another version now")) }
    }
}

/// Whether a status means that the same question may be answered better a little later.
pub fn is_trouble(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Header values are made of checked characters or came as header values.
fn headers<const N: usize>(pairs: [(HeaderName, String); N]) -> HeaderMap {
    pairs.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))).collect()
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Of an answer's headers those with the given names.
pub fn only(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    names.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

/// Asks the cache for `path`, tells what came of it, and fetches the object if there is one to fetch. `known`: what
/// the path was before. `place`: the caller's to fetch, free again when the cache has nothing more to do; none: it may
/// only ask.
pub async fn run(
    cache: Cache,
    shelf: Arc<Shelf>,
    path: String,
    known: Option<Arc<Object>>,
    told: Told,
    place: Option<OwnedSemaphorePermit>,
) {
    let answer = match confirmed(&cache, &path, known.clone()).await {
        Ok(answer) => answer,
        Err(outcome) => {
            if let Outcome::Failed(reason) = &outcome {
                warn!(path, %reason, "an image cannot be fetched");
            }
            if matches!(outcome, Outcome::Other(_) | Outcome::Failed(_)) {
                shelf.take_back(&path, &told, known);
            }
            told.send_replace(Some(outcome));
            return;
        }
    };
    let Some(place) = place else {
        told.send_replace(Some(Outcome::NoRoom));
        return;
    };
    // Its room may be what is missing.
    drop(known);
    let (head, body) = answer.into_parts();
    let version = version(&head.headers, body.size_hint().exact());
    let (room, whole) = match room(&shelf, &version) {
        Ok(room) => room,
        Err(outcome) => {
            told.send_replace(Some(outcome));
            return;
        }
    };
    let kept = only(&head.headers, &[CONTENT_TYPE, CONTENT_ENCODING]);
    let (object, filler) = Object::new(version, kept, room);
    told.send_replace(Some(Outcome::Shared(Arc::clone(&object))));
    // It holds the object, too.
    drop(told);
    Transfer { cache, shelf, path, whole }.run(object, filler, body, place).await;
}

/// The cache's answer with another object than the known one; otherwise what came of the question.
async fn confirmed(cache: &Cache, path: &str, known: Option<Arc<Object>>) -> Result<Response<Body>, Outcome> {
    let question = known.as_ref().and_then(|known| known.version.question()).map(|question| match question {
        Question::NoneMatch(etag) => headers([(IF_NONE_MATCH, etag)]),
        Question::ModifiedSince(date) => headers([(IF_MODIFIED_SINCE, date)]),
    });
    let ask = async |headers| {
        let answer = cache.ask(&cache.fills, Method::GET, path, headers).await;
        answer.map_err(|error| Outcome::Failed(error.to_string().into()))
    };
    let mut answer = ask(question.unwrap_or_default()).await?;
    let mut known = known.filter(|known| known.can_be_joined());
    if answer.status() == StatusCode::NOT_MODIFIED {
        // A server may mean «not after»; and the object may have broken, or its window moved, while it was asked.
        let date = text(answer.headers(), &LAST_MODIFIED);
        let is_it = |known: &mut Arc<Object>| {
            known.version.etag.is_some() || date.is_none_or(|date| known.version.is_of(&date))
        };
        match known.take_if(is_it) {
            Some(known) => return Err(Outcome::Shared(known)),
            None => answer = ask(HeaderMap::new()).await?,
        }
    }
    match answer.status() {
        StatusCode::OK if !is_framed(answer.headers()) => Err(Outcome::Failed(UNFRAMED.into())),
        StatusCode::OK => {
            let version = version(answer.headers(), answer.body().size_hint().exact());
            match known.filter(|known| known.version.is(&version)) {
                Some(known) => Err(Outcome::Shared(known)),
                None => Ok(answer),
            }
        }
        // Nobody asked whether it is modified.
        StatusCode::NOT_MODIFIED => Err(Outcome::Failed("it answered 304 to a plain GET".into())),
        status if status.is_redirection() || (status.is_client_error() && !is_trouble(status)) => {
            Err(Outcome::Other(Arc::new((status, only(answer.headers(), &[LOCATION])))))
        }
        status => Err(Outcome::Failed(format!("it answered {status}").into())),
    }
}

fn version(headers: &HeaderMap, length: Option<u64>) -> Version {
    let declared = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let last_modified = text(headers, &LAST_MODIFIED);
    let is_settled = key::is_settled(last_modified.as_deref(), text(headers, &DATE).as_deref());
    Version { etag: text(headers, &ETAG), last_modified, length: length.or(declared), is_settled }
}

/// Room for a version, and whether it is kept whole. Up to half of the shelf it is. A larger one gets a window of a
/// quarter, which moves with its fastest reader: whoever falls behind it asks for the rest alone, which takes a
/// strong validator. An object of unknown length grows as it comes.
fn room(shelf: &Shelf, version: &Version) -> Result<(OwnedSemaphorePermit, bool), Outcome> {
    let reserve = |blocks| shelf.reserve(blocks).ok_or(Outcome::NoRoom);
    let Some(length) = version.length else {
        return Ok((reserve(1)?, true));
    };
    let blocks = usize::try_from(length.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX).max(1);
    if blocks <= shelf.blocks() / 2
        && let Ok(room) = reserve(blocks)
    {
        return Ok((room, true));
    }
    let window = (shelf.blocks() / 4).min(blocks);
    if window < WINDOW_LEAST || version.strong().is_none() {
        return Err(if blocks <= shelf.blocks() / 2 { Outcome::NoRoom } else { Outcome::TooLarge });
    }
    Ok((reserve(window)?, window == blocks))
}

/// A window of fewer blocks would be passed at once by most readers.
const WINDOW_LEAST: usize = 16;

/// One object's transfer.
struct Transfer {
    cache: Cache,
    shelf: Arc<Shelf>,
    path: String,
    /// Whether everything is kept, or the last bytes only.
    whole: bool,
}

impl Transfer {
    async fn run(self, object: Arc<Object>, mut filler: Filler, body: Body, place: OwnedSemaphorePermit) {
        let begun = Instant::now();
        let path = &self.path;
        let fetched = tokio::select! {
            fetched = self.fetch(&mut filler, body) => fetched,
            () = object.abandoned(UNREAD_MAX) => Err(io::Error::other("nobody reads it")),
        };
        drop(place);
        let end = match fetched {
            Ok(()) => {
                let bytes = filler.filled();
                filler
                    .finish()
                    .map(|()| info!(path, bytes, ms = begun.elapsed().as_millis(), "fetched an image"))
            }
            Err(error) => {
                filler.fail(&error.to_string());
                Err(error)
            }
        };
        if let Err(error) = &end {
            warn!(path, %error, "an image's transfer failed");
        }
        if end.is_err() || !self.whole {
            return self.shelf.forget(path, &object);
        }
        let kept = Arc::downgrade(&object);
        drop(object);
        while let Some(object) = kept.upgrade() {
            match self.shelf.unused(path, &object, std::time::Instant::now()) {
                Some(unused) if unused < KEPT_UNUSED => {
                    drop(object);
                    sleep(KEPT_UNUSED - unused).await;
                }
                Some(_) => self.shelf.forget(path, &object),
                None => return,
            }
        }
    }

    /// Appends everything, from where a broken connection left off if need be.
    async fn fetch(&self, filler: &mut Filler, mut body: Body) -> io::Result<()> {
        let mut fruitless = 0;
        loop {
            let at = filler.filled();
            let error = match self.append_all(filler, body).await {
                Ok(()) => return Ok(()),
                Err(End::Broken(error)) => error,
                Err(End::Given(error)) => return Err(error),
            };
            filler.tell();
            fruitless = if filler.filled() >= at + BLOCK as u64 { 0 } else { fruitless + 1 };
            if fruitless == FRUITLESS_MAX {
                return Err(error);
            }
            body = self.resume(filler, error).await?;
        }
    }

    /// The rest of a transfer that broke for `error`.
    async fn resume(&self, filler: &Filler, error: io::Error) -> io::Result<Body> {
        let (object, at) = (Arc::clone(filler.object()), filler.filled());
        let mut last = None;
        for pause in RESUME_AFTER {
            sleep(pause).await;
            debug!(path = self.path, %error, at, "a transfer broke; taking it up again");
            match self.cache.resume(&self.path, &object.version, at).await {
                Ok(rest) => return Ok(rest),
                Err(End::Broken(reason)) => last = Some(reason),
                Err(End::Given(reason)) => return Err(io::Error::other(format!("{error}; {reason}"))),
            }
        }
        Err(last.unwrap_or(error))
    }

    async fn append_all(&self, filler: &mut Filler, mut body: Body) -> Result<(), End> {
        let length = filler.object().version.length;
        let mut news = News::default();
        // The budget's, before the next piece.
        let mut pause = Duration::ZERO;
        loop {
            if !self.whole {
                // The window's other half is for those who are slower.
                let ahead = (self.shelf.blocks() / 8 * BLOCK) as u64;
                filler.reader_at(filler.filled().saturating_sub(ahead)).await;
            }
            let piece = async {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                next(&mut body).await
            };
            let Some(bytes) = news.while_waiting(filler, piece).await.map_err(End::Broken)? else {
                return match length {
                    Some(length) if length != filler.filled() => {
                        Err(End::Broken(io::ErrorKind::UnexpectedEof.into()))
                    }
                    _ => Ok(()),
                };
            };
            pause = self.cache.budget.fetch(bytes.len(), self.cache.now());
            self.grow(filler, bytes.len()).map_err(End::Given)?;
            news.told(filler.append(bytes).map_err(End::Given)?);
        }
    }

    /// More room for an object whose length nobody knows.
    fn grow(&self, filler: &mut Filler, bytes: usize) -> io::Result<()> {
        if filler.object().version.length.is_some() {
            return Ok(());
        }
        let blocks = |bytes: u64| usize::try_from(bytes.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
        let (filled, after) = (filler.filled(), filler.filled() + bytes as u64);
        let more = blocks(after) - blocks(filled).max(1).min(blocks(after));
        let too_long = || io::Error::other("it has no Content-Length, and is too long to be kept");
        if blocks(after) > self.shelf.blocks() / 2 {
            return Err(too_long());
        }
        if more > 0 {
            filler.extend(self.shelf.reserve(more).ok_or_else(too_long)?);
        }
        Ok(())
    }
}

/// When readers were given something last.
#[derive(Default)]
struct News(Option<Instant>);

impl News {
    /// Waits for the next piece, and gives readers those before if it takes a while.
    async fn while_waiting<T>(&mut self, filler: &Filler, piece: impl Future<Output = T>) -> T {
        let until = self.0.map_or_else(Instant::now, |told| told + GATHER);
        if until <= Instant::now() {
            self.told(filler.tell());
        }
        tokio::pin!(piece);
        match timeout_at(until, piece.as_mut()).await {
            Ok(piece) => piece,
            Err(_) => {
                self.told(filler.tell());
                piece.await
            }
        }
    }

    fn told(&mut self, is_told: bool) {
        if is_told {
            self.0 = Some(Instant::now());
        }
    }
}

/// Why a transfer ended before its end.
enum End {
    /// The connection broke: the rest can be asked for.
    Broken(io::Error),
    /// It was given up.
    Given(io::Error),
}

impl End {
    fn given(reason: &str) -> Self {
        Self::Given(io::Error::other(reason))
    }

    fn into_error(self) -> io::Error {
        let (Self::Broken(error) | Self::Given(error)) = self;
        error
    }
}

/// The next bytes of a body; trailers are not for machines.
async fn next(body: &mut Body) -> io::Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data()
            && !bytes.is_empty()
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
