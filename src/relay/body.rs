//! The body of a request or a response: complete in memory, or streamed.
//!
//! Must never: end a broken body as if it were complete. An error of a body ends the connection that it is sent over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

/// The body of a request or a response.
#[derive(Debug)]
pub enum Body {
    /// Complete, so its length is known.
    Full(Bytes),
    /// Comes frame by frame.
    Stream(UnsyncBoxBody<Bytes, io::Error>),
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl Body {
    /// A body without content.
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    /// A body that is complete.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(bytes.into())
    }

    /// A body that comes frame by frame.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self::Stream(body.boxed_unsync())
    }
}

/// Collects a body; none: it is longer than `most` bytes. Fails if the body does.
pub async fn gather<B>(body: &mut B, most: usize) -> io::Result<Option<Bytes>>
where
    B: HttpBody<Data = Bytes, Error = io::Error> + Unpin,
{
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        // Trailers are not used.
        let Ok(piece) = frame?.into_data() else { continue };
        if first.len().max(all.len()) + piece.len() > most {
            return Ok(None);
        }
        // Most bodies are one frame, which is not copied.
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
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A body of these frames.
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

    fn stream<const N: usize>(pieces: [&'static str; N]) -> Body {
        Body::stream(Pieces(pieces.into_iter().map(Ok).collect()))
    }

    #[tokio::test]
    async fn all_pieces_are_gathered_or_none() {
        for (mut body, all) in [
            (Body::empty(), Some("")),
            (Body::full("abcdef"), Some("abcdef")),
            (Body::full("abcdefg"), None),
            (stream(["abcdef"]), Some("abcdef")),
            (stream(["ab", "", "cd", "ef"]), Some("abcdef")),
            (stream(["", "abc", "def"]), Some("abcdef")),
            (stream(["abc", "def", "g"]), None),
        ] {
            assert_eq!(gather(&mut body, 6).await.unwrap(), all.map(Bytes::from));
        }
        let broken = [Ok("ab"), Err(io::ErrorKind::BrokenPipe.into())];
        let mut broken = Body::stream(Pieces(broken.into_iter().collect()));
        assert_eq!(gather(&mut broken, 6).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
