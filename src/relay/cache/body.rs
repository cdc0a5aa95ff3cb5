//! The body of an image's response: bytes of an entry or of an unshared transfer, in turns with other image bodies,
//! within the shaper's limits, and exactly as many as its Content-Length says.
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

use super::client::{Client, UnsharedBody};
use super::reader::{Next, Reader};

/// Bytes that are sent per turn, rounded up to a whole piece. No piece is longer.
const CHUNK: usize = 128 * 1024;

type Requested = Pin<Box<dyn Future<Output = io::Result<UnsharedBody>> + Send>>;

/// Where the bytes come from.
enum Source {
    /// An entry.
    Shared(Reader),
    /// A request for the rest of an image that its entry no longer has.
    Requested(Requested),
    /// An unshared transfer.
    Unshared(UnsharedBody),
}

/// An image's body.
pub struct ImageBody {
    client: Client,
    path: String,
    source: Source,
    /// Bytes that were not sent yet.
    left: u64,
    /// A piece that the shaper has accounted for and that was not sent yet.
    piece: Bytes,
    /// Completes when the shaper lets the piece be sent.
    pause: Option<Pin<Box<Sleep>>>,
    /// Bytes that may still be sent in this turn.
    turn: usize,
    /// Waits for the next turn.
    next_turn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl ImageBody {
    /// `length` bytes of an entry. If it no longer has them, they are requested from `client` by `path`.
    pub fn shared(reader: Reader, length: u64, client: &Client, path: &str) -> Self {
        Self::new(Source::Shared(reader), length, client, path)
    }

    /// `length` bytes of an unshared transfer.
    pub fn unshared(body: UnsharedBody, length: u64, client: &Client, path: &str) -> Self {
        Self::new(Source::Unshared(body), length, client, path)
    }

    fn new(source: Source, left: u64, client: &Client, path: &str) -> Self {
        let (client, path) = (client.clone(), path.to_owned());
        Self { client, path, source, left, piece: Bytes::new(), pause: None, turn: 0, next_turn: None }
    }

    /// The next piece from the source, and how long its packets have to wait.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Bytes, Duration)>> {
        loop {
            match &mut self.source {
                Source::Shared(reader) => match ready!(reader.poll_next(context, CHUNK))? {
                    Next::Bytes(bytes) => return Poll::Ready(Ok((bytes, Duration::ZERO))),
                    Next::Gone { at } => {
                        let version = reader.entry().version.clone();
                        let (client, path) = (self.client.clone(), self.path.clone());
                        let part = (at, at + self.left - 1);
                        let rest = async move { client.part(&path, &version, part).await };
                        self.source = Source::Requested(Box::pin(rest));
                    }
                    Next::End => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                },
                Source::Requested(requested) => {
                    self.source = Source::Unshared(ready!(requested.as_mut().poll(context))?);
                }
                Source::Unshared(unshared) => {
                    let Some(frame) = ready!(Pin::new(&mut unshared.body).poll_frame(context)) else {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    };
                    // Trailers are ignored: no machine needs them.
                    if let Ok(bytes) = frame?.into_data() {
                        let more = bytes.len().saturating_sub(unshared.accounted);
                        unshared.accounted -= bytes.len() - more;
                        return Poll::Ready(Ok((bytes, self.client.shaper.unshared(more))));
                    }
                }
            }
        }
    }

    /// Gets the next piece, if there is none, and has the shaper account for it.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.piece.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (bytes, wait) = ready!(self.poll_piece(context))?;
        if bytes.len() as u64 > self.left {
            let error = io::Error::other("the response is longer than its Content-Length");
            return Poll::Ready(Err(error));
        }
        let wait = wait.max(self.client.shaper.send(bytes.len()));
        self.pause = (!wait.is_zero()).then(|| Box::pin(sleep_until(Instant::now() + wait)));
        self.piece = bytes;
        Poll::Ready(Ok(()))
    }

    /// Waits for a turn. The scheduler does not wait for its end: a body that cannot send now delays no other.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let scheduler = &self.client.scheduler;
        let next_turn = self.next_turn.get_or_insert_with(|| Box::pin(Arc::clone(scheduler).turn()));
        ready!(next_turn.as_mut().poll(context));
        self.next_turn = None;
        self.turn = CHUNK;
        Poll::Ready(())
    }
}

impl Drop for ImageBody {
    fn drop(&mut self) {
        // Otherwise machines that disconnect early could use up the limit that others share.
        self.client.shaper.refund_send(self.piece.len());
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
        ready!(body.poll_fill(context))?;
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
