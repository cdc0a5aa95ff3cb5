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
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
};
use hyper::{Method, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::cache::{Cache, Failure, headers, is_trouble, only, text, version};
use super::object::{BLOCK, Filler, Object, overhead};
use super::room::Room;
use super::shelf::{Outcome, Shelf, Told};
use crate::relay::body::Body;
use crate::relay::log::Log;
use leafboot_core::relay::validators::{Question, Version};

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

/// Readers wait so long for a helping before they are given a part of it.
const GATHER: Duration = Duration::from_secs(1);

/// Asks the cache for `path`, tells what came of it, and fetches the object if there is one to fetch. `known`: what
/// the path was before. `place`: the caller's to fetch, free again when the cache has nothing more to do; none: it may
/// only ask. `log`: the caller's.
pub async fn run(
    cache: Cache,
    shelf: Arc<Shelf>,
    path: String,
    known: Option<Arc<Object>>,
    told: Told,
    place: Option<OwnedSemaphorePermit>,
    log: Log,
) {
    let answer = match confirmed(&cache, &path, known.clone()).await {
        Ok(answer) => answer,
        Err(outcome) => {
            if let Outcome::Failed(reason) | Outcome::Unusable(reason) = &outcome
                && log.has_room()
            {
                warn!(port = %log.port(), path, %reason, "an image cannot be fetched");
            }
            if matches!(outcome, Outcome::Other(_) | Outcome::Failed(_) | Outcome::Unusable(_)) {
                shelf.take_back(&path, &told, known);
            }
            told.send_replace(Some(outcome));
            return;
        }
    };
    let Some(place) = place else {
        // Whoever may fetch it is to find nothing.
        shelf.take_back(&path, &told, None);
        told.send_replace(Some(Outcome::NoRoom));
        return;
    };
    // Its room may be what is missing.
    drop(known);
    let (version, kept, body) = described(answer);
    let room = match room(&shelf, &version, overhead(&path, &version, &kept)) {
        Ok(room) => room,
        Err(outcome) => {
            told.send_replace(Some(outcome));
            return;
        }
    };
    let (object, filler) = Object::new(version, kept, room.own, room.bytes);
    told.send_replace(Some(Outcome::Shared(Arc::clone(&object))));
    // It holds the object, too.
    drop(told);
    Transfer { cache, shelf, path, whole: room.whole, log }.run(object, filler, body, place).await;
}

/// What is told of an object, and its body. Nothing else is kept of its answer's head, which would keep the buffer that it
/// was read into for as long as the transfer takes.
fn described(answer: Response<Body>) -> (Version, HeaderMap, Body) {
    let (head, body) = answer.into_parts();
    let version = version(&head.headers, body.size_hint().exact());
    (version, only(&head.headers, &[CONTENT_TYPE, CONTENT_ENCODING]), body)
}

/// The cache's answer with another object than the known one; otherwise what came of the question.
async fn confirmed(cache: &Cache, path: &str, known: Option<Arc<Object>>) -> Result<Response<Body>, Outcome> {
    let question = known.as_ref().and_then(|known| known.version.question()).map(|question| match question {
        Question::NoneMatch(etag) => headers([(IF_NONE_MATCH, etag)]),
        Question::ModifiedSince(date) => headers([(IF_MODIFIED_SINCE, date)]),
    });
    let ask = async |headers| {
        let answer = cache.ask(&cache.fills, Method::GET, path, headers).await;
        answer.map_err(|error| Outcome::failed(&error))
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
        StatusCode::OK => {
            let version = version(answer.headers(), answer.body().size_hint().exact());
            match known.filter(|known| known.version.is(&version)) {
                Some(known) => Err(Outcome::Shared(known)),
                None => Ok(answer),
            }
        }
        // Nobody asked whether it is modified.
        StatusCode::NOT_MODIFIED => Err(Outcome::Unusable("it answered 304 to a plain GET".into())),
        status if status.is_redirection() || (status.is_client_error() && !is_trouble(status)) => {
            Err(Outcome::Other(Arc::new((status, only(answer.headers(), &[LOCATION])))))
        }
        status => Err(Outcome::Failed(format!("it answered {status}").into())),
    }
}

/// Room for an object.
struct Rooms {
    /// For itself.
    own: Room,
    /// For its bytes.
    bytes: Room,
    /// Whether that is for all of them.
    whole: bool,
}

/// Room for a version, and for the `overhead` of its object. Up to half of the shelf it is kept whole. A larger one gets a
/// window of a quarter, which moves with its fastest reader: whoever falls behind it asks for the rest alone, which takes a
/// strong validator. An object of unknown length grows as it comes.
fn room(shelf: &Shelf, version: &Version, overhead: usize) -> Result<Rooms, Outcome> {
    let reserve = |bytes: usize, whole| {
        let mut all = shelf.reserve(overhead.saturating_add(bytes)).ok_or(Outcome::NoRoom)?;
        let own = all.split(overhead).ok_or(Outcome::NoRoom)?;
        Ok(Rooms { own, bytes: all, whole })
    };
    let Some(length) = version.length else {
        return reserve(BLOCK, true);
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let is_small = length <= shelf.bytes() / 2;
    if is_small && let Ok(room) = reserve(length, true) {
        return Ok(room);
    }
    let window = shelf.bytes() / 4 / BLOCK * BLOCK;
    if length <= window {
        return Err(Outcome::NoRoom);
    }
    if window < WINDOW_LEAST || version.strong().is_none() {
        return Err(if is_small { Outcome::NoRoom } else { Outcome::TooLarge });
    }
    reserve(window, false)
}

/// A smaller window would be passed at once by most readers.
const WINDOW_LEAST: usize = 16 * BLOCK;

/// One object's transfer.
struct Transfer {
    cache: Cache,
    shelf: Arc<Shelf>,
    path: String,
    /// Whether everything is kept, or the last bytes only.
    whole: bool,
    /// Of the port that has begun it.
    log: Log,
}

impl Transfer {
    async fn run(self, object: Arc<Object>, mut filler: Filler, body: Body, place: OwnedSemaphorePermit) {
        let begun = Instant::now();
        let path = &self.path;
        let fetched = tokio::select! {
            fetched = self.fetch(&mut filler, body) => fetched,
            () = object.abandoned(UNREAD_MAX) => Err(io::Error::other("nobody reads it")),
            () = object.displaced() => {
                if self.log.has_room() {
                    info!(port = %self.log.port(), path, "the room of an image's transfer was needed for others");
                }
                return;
            }
        };
        drop(place);
        let bytes = filler.filled();
        let end = match fetched {
            Ok(()) => filler.finish(),
            Err(error) => {
                filler.fail(&error.to_string());
                Err(error)
            }
        };
        if self.log.has_room() {
            let (port, ms) = (self.log.port(), begun.elapsed().as_millis());
            match &end {
                Ok(()) => info!(%port, path, bytes, ms, "fetched an image"),
                Err(error) => warn!(%port, path, %error, "an image's transfer failed"),
            }
        }
        if end.is_err() || !self.whole {
            self.shelf.forget(path, &object);
        }
    }

    /// Appends everything, from where a broken connection left off if need be.
    async fn fetch(&self, filler: &mut Filler, mut body: Body) -> io::Result<()> {
        let mut fruitless = 0;
        loop {
            let at = filler.filled();
            let error = match self.append_all(filler, body).await {
                Ok(()) => return Ok(()),
                Err(Failure::Broken(error)) => error,
                Err(Failure::Given(error)) => return Err(error),
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
                Err(Failure::Broken(reason)) => last = Some(reason),
                Err(Failure::Given(reason)) => return Err(io::Error::other(format!("{error}; {reason}"))),
            }
        }
        Err(last.unwrap_or(error))
    }

    async fn append_all(&self, filler: &mut Filler, mut body: Body) -> Result<(), Failure> {
        let length = filler.object().version.length;
        let mut news = News::default();
        // The budget's, before the next piece.
        let mut pause = Duration::ZERO;
        loop {
            if !self.whole {
                // The window's other half is for those who are slower.
                let ahead = (self.shelf.bytes() / 8) as u64;
                filler.reader_at(filler.filled().saturating_sub(ahead)).await;
            }
            let piece = async {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                next(&mut body).await
            };
            let Some(bytes) = news.while_waiting(filler, piece).await.map_err(Failure::Broken)? else {
                return match length {
                    Some(length) if length != filler.filled() => {
                        Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()))
                    }
                    _ => Ok(()),
                };
            };
            pause = self.cache.budget.fetch(bytes.len(), self.cache.now());
            self.grow(filler, bytes.len()).map_err(Failure::Given)?;
            news.told(filler.append(&bytes).map_err(Failure::Given)?);
        }
    }

    /// More room for an object whose length nobody knows.
    fn grow(&self, filler: &mut Filler, bytes: usize) -> io::Result<()> {
        if filler.object().version.length.is_some() {
            return Ok(());
        }
        let too_long = || io::Error::other("it has no Content-Length, and is too long to be kept");
        let after = usize::try_from(filler.filled()).unwrap_or(usize::MAX).saturating_add(bytes);
        if after > self.shelf.bytes() / 2 {
            return Err(too_long());
        }
        let more = after.next_multiple_of(BLOCK).saturating_sub(filler.object().room());
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
