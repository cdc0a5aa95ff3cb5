//! The body of an image's answer: bytes of a shared object or of an answer of one's own, in turns with everybody
//! else's, within the budget, and exactly as many as its Content-Length says.
//!
//! Must never: end before its Content-Length without an error, or hold more than one piece.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::cache::{Alone, Cache};
use super::object::{Follower, Next};
use crate::relay::body::Body;

/// What one machine gets in its turn, up to its last whole piece; a piece is not longer.
const CHUNK: usize = 128 * 1024;

/// Where the bytes come from.
enum Source {
    /// A shared object.
    Shared(Follower),
    /// The rest of it, for one machine alone, is asked for.
    Asking(Pin<Box<dyn Future<Output = io::Result<Alone>> + Send>>),
    /// An answer for one machine alone, and of how many of its next bytes the packets are paid for.
    Own(Body, usize),
}

/// An image's body.
pub struct ImageBody {
    cache: Cache,
    path: String,
    source: Source,
    /// Bytes that were not given yet.
    left: u64,
    /// A piece that is paid for and waits for its time.
    piece: Bytes,
    pause: Option<Pin<Box<Sleep>>>,
    /// What it may still give in this turn.
    turn: usize,
    /// Its next turn, waited for.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl ImageBody {
    /// `length` bytes of a shared object. `cache` and `path` say where they are, should the object's window pass.
    pub fn shared(follower: Follower, length: u64, cache: &Cache, path: &str) -> Self {
        Self::new(Source::Shared(follower), length, cache, path)
    }

    /// `length` bytes of an answer for one machine alone; the packets of `paid` are paid for.
    pub fn own(body: Body, paid: usize, length: u64, cache: &Cache, path: &str) -> Self {
        Self::new(Source::Own(body, paid), length, cache, path)
    }

    fn new(source: Source, left: u64, cache: &Cache, path: &str) -> Self {
        let (cache, path) = (cache.clone(), path.to_owned());
        Self { cache, path, source, left, piece: Bytes::new(), pause: None, turn: 0, waiting: None }
    }

    /// The next piece from the source, and what it costs beside being sent.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Bytes, Duration)>> {
        loop {
            match &mut self.source {
                Source::Shared(follower) => match ready!(follower.poll_next(context, CHUNK))? {
                    Next::Bytes(bytes) => return Poll::Ready(Ok((bytes, Duration::ZERO))),
                    Next::Passed { at } => {
                        let version = follower.object().version.clone();
                        let (cache, path) = (self.cache.clone(), self.path.clone());
                        let part = (at, at + self.left - 1);
                        let rest = async move { cache.rest(&path, &version, part).await };
                        self.source = Source::Asking(Box::pin(rest));
                    }
                    Next::End => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                },
                Source::Asking(asking) => {
                    let (body, paid) = ready!(asking.as_mut().poll(context))?;
                    self.source = Source::Own(body, paid);
                }
                Source::Own(body, paid) => match ready!(Pin::new(body).poll_frame(context)) {
                    None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Some(frame) => {
                        // Trailers are not for machines.
                        if let Ok(bytes) = frame?.into_data() {
                            let owed = bytes.len().saturating_sub(*paid);
                            *paid -= bytes.len() - owed;
                            let wait = self.cache.budget.fetch_alone(owed, self.cache.now());
                            return Poll::Ready(Ok((bytes, wait)));
                        }
                    }
                },
            }
        }
    }
}

impl ImageBody {
    /// Waits for a turn. It is over as soon as it is there: whoever cannot give anything now holds up nobody.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let turns = &self.cache.turns;
        let waiting = self.waiting.get_or_insert_with(|| {
            let turns = Arc::clone(turns);
            Box::pin(turns.take())
        });
        ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        self.turn = CHUNK;
        Poll::Ready(())
    }
}

impl Drop for ImageBody {
    fn drop(&mut self) {
        // Or machines that ask and go could take what others wait for.
        self.cache.budget.unsent(self.piece.len());
    }
}

impl HttpBody for ImageBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = &mut *self;
        if body.left == 0 {
            return Poll::Ready(None);
        }
        if body.piece.is_empty() {
            let (bytes, wait) = ready!(body.poll_piece(context))?;
            if bytes.len() as u64 > body.left {
                return Poll::Ready(Some(Err(io::Error::other(
                    "the answer is longer than its Content-Length",
                ))));
            }
            let wait = wait.max(body.cache.budget.send(bytes.len(), body.cache.now()));
            body.pause = (!wait.is_zero()).then(|| Box::pin(sleep_until(Instant::now() + wait)));
            body.piece = bytes;
        }
        if let Some(pause) = &mut body.pause {
            ready!(pause.as_mut().poll(context));
            body.pause = None;
        }
        if body.turn == 0 {
            ready!(body.poll_turn(context));
        }
        let piece = std::mem::take(&mut body.piece);
        body.turn = body.turn.saturating_sub(piece.len());
        body.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
