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
use super::key::{Question, Version};
use super::object::{BLOCK, Filler, Object};
use super::shelf::{Outcome, Shelf, Told};
use crate::relay::body::Body;
use crate::relay::upstream::{UNFRAMED, is_framed};

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
        // Whoever may fetch it is to find nothing.
        shelf.take_back(&path, &told, None);
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
            () = object.displaced() => return info!(path, "the room of an image's transfer was needed for others"),
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
                let ahead = (self.shelf.blocks() / 8 * BLOCK) as u64;
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
            news.told(filler.append(bytes).map_err(Failure::Given)?);
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
