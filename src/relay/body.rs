//! Bodies: what goes from a server behind to a machine, whole or as it comes.
//!
//! Must never: end a broken body as if it were whole. An error of a body ends the connection that it goes over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// A body of a request or an answer.
#[derive(Debug)]
pub enum Body {
    /// All of it is there, so its length is known.
    Here(Bytes),
    /// It comes piece by piece.
    Coming(UnsyncBoxBody<Bytes, io::Error>),
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::Here(Bytes::new())
    }

    /// A body that is there.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Here(bytes.into())
    }

    /// A body as it comes.
    pub fn coming(body: impl HttpBody<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self::Coming(body.boxed_unsync())
    }
}

/// All bytes of a body when they are there; none: they are more than `most`. An error is the body's.
pub async fn gather<B>(body: &mut B, most: usize) -> io::Result<Option<Bytes>>
where
    B: HttpBody<Data = Bytes, Error = io::Error> + Unpin,
{
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        // Trailers say nothing that anybody here asks for.
        let Ok(piece) = frame?.into_data() else { continue };
        if first.len().max(all.len()) + piece.len() > most {
            return Ok(None);
        }
        // Most bodies are one piece, which need not be copied.
        if first.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&piece);
        }
    }
    Ok(Some(if all.is_empty() { first } else { all.into() }))
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Here(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Coming(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Here(bytes) => bytes.is_empty(),
            Self::Coming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Here(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Coming(body) => body.size_hint(),
        }
    }
}

/// A body whose pieces do not keep anybody waiting longer than `idle`; none: as long as they take.
pub struct Patient<B> {
    body: B,
    idle: Option<Duration>,
    /// Ends when the next piece has been waited for too long; none: nobody waits for it.
    late: Option<Pin<Box<Sleep>>>,
}

impl<B> Patient<B> {
    /// `body`, with an error instead of a piece that takes too long.
    pub fn new(body: B, idle: Option<Duration>) -> Self {
        Self { body, idle, late: None }
    }

    /// The body.
    pub fn inner(&mut self) -> &mut B {
        &mut self.body
    }

    /// Whether the next piece has been waited for too long.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let Some(idle) = self.idle else {
            return false;
        };
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(idle)));
        late.as_mut().poll(context).is_ready()
    }
}

impl<B> HttpBody for Patient<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.late = None;
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
            Poll::Pending if self.is_late(context) => {
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "it stood still"))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that holds something as long as it is under way.
pub struct Holding<T> {
    body: Body,
    _held: T,
}

/// `body`, holding `held` until it is through or given up.
pub fn holding<T: Send + Unpin + 'static>(body: Body, held: T) -> Body {
    Body::coming(Holding { body, _held: held })
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Pieces, and then an error if there is one.
    struct Pieces(VecDeque<io::Result<&'static str>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            Poll::Ready(self.0.pop_front().map(|piece| piece.map(|piece| Frame::data(piece.into()))))
        }
    }

    fn coming<const N: usize>(pieces: [&'static str; N]) -> Body {
        Body::coming(Pieces(pieces.into_iter().map(Ok).collect()))
    }

    #[tokio::test]
    async fn all_pieces_are_gathered_or_none() {
        for (mut body, all) in [
            (Body::empty(), Some("")),
            (Body::whole("abcdef"), Some("abcdef")),
            (Body::whole("abcdefg"), None),
            (coming(["abcdef"]), Some("abcdef")),
            (coming(["ab", "", "cd", "ef"]), Some("abcdef")),
            (coming(["", "abc", "def"]), Some("abcdef")),
            (coming(["abc", "def", "g"]), None),
        ] {
            assert_eq!(gather(&mut body, 6).await.unwrap(), all.map(Bytes::from));
        }
        let broken = [Ok("ab"), Err(io::ErrorKind::BrokenPipe.into())];
        let mut broken = Body::coming(Pieces(broken.into_iter().collect()));
        assert_eq!(gather(&mut broken, 6).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
