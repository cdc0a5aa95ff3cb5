//! One connection to an origin. It has no task of its own: whoever sends a request over it, or reads the answer, does its
//! work meanwhile, so that a request costs no turn of another task.
//!
//! Must never: be waited for without its work being done, or wake anybody who does not wait for it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::alarm::Alarm;
use super::super::body::Body;
use super::bell::Bell;

/// A connection that takes one request at a time.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    work: Work,
    _large: Option<OwnedSemaphorePermit>,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// It did not begin in time.
    Late,
    /// The connection broke. The request as it was, where nothing of it was sent.
    Broken(hyper::Error, Option<Box<Request<Body>>>),
}

impl Connection {
    /// HTTP/1.1 over `stream`. `buffer`: what is read at once, in bytes; `large`: its place among those that read much.
    pub(super) async fn begin<T>(
        stream: T,
        buffer: usize,
        large: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Box<Self>>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = Builder::new();
        // A request is a head, and seldom more: one piece costs the kernel less than a list with one.
        http.writev(false).max_buf_size(buffer);
        let (sender, work) = http.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let bell = Arc::<Bell>::default();
        let rope = Waker::from(Arc::clone(&bell));
        let work = Work { to_do: Some(Box::pin(work)), bell, rope, alarm: Alarm::default() };
        Ok(Box::new(Self { sender, work, _large: large }))
    }

    /// Whether it takes no request any more, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        self.work.to_do.is_none() || self.sender.is_closed()
    }

    /// Sends a request and waits for its answer, which has the connection from then on: at most `until` for its head.
    pub(super) async fn ask(
        mut self: Box<Self>,
        request: Box<Request<Body>>,
        until: Option<Instant>,
    ) -> Result<Response<Arriving>, Failure> {
        let Self { sender, work, .. } = &mut *self;
        // A request that goes before the connection is ready would fail.
        if !sender.is_ready() {
            let is_ready = |context: &mut Context<'_>| sender.poll_ready(context);
            match work.result_until(until, is_ready).await {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(Failure::Broken(error, Some(request))),
                None => return Err(Failure::Late),
            }
        }
        // Boxed: it has room for the request, which may come back unsent, and would be moved with whoever waits for it.
        let mut answer = Box::pin(sender.try_send_request(*request));
        match work.result_until(until, |context| answer.as_mut().poll(context)).await {
            Some(Ok(answer)) => Ok(answer.map(|body| Arriving { body, connection: Some(self) })),
            Some(Err(mut failed)) => {
                let unsent = failed.take_message().map(Box::new);
                Err(Failure::Broken(failed.into_error(), unsent))
            }
            None => Err(Failure::Late),
        }
    }
}

/// An answer's body as it arrives over its connection.
pub(super) struct Arriving {
    body: Incoming,
    connection: Option<Box<Connection>>,
}

impl Arriving {
    /// Gives the connection back. What has not come yet will not come any more.
    pub(super) fn release(&mut self) -> Option<Box<Connection>> {
        self.connection.take()
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { body, connection } = &mut *self;
        let mut next = |silent: &mut Context<'_>| Pin::new(&mut *body).poll_frame(silent);
        match (next(&mut Context::from_waker(Waker::noop())), connection) {
            // What has come is taken before more is read.
            (Poll::Pending, Some(connection)) => connection.work.result(context, next),
            (here, _) => here,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the HTTP library does of a connection: it reads and writes.
struct Work {
    /// None: it has come to its end. Which is said to whom it concerns, with the answer or its body.
    to_do: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    bell: Arc<Bell>,
    /// Rings it.
    rope: Waker,
    /// For who waits for a result.
    alarm: Alarm,
}

impl Work {
    /// Does it until the result is there; none: it is `until`.
    async fn result_until<T>(
        &mut self,
        until: Option<Instant>,
        mut look: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        poll_fn(|context| match (self.result(context, &mut look), until) {
            (Poll::Ready(result), _) => Poll::Ready(Some(result)),
            (Poll::Pending, Some(until)) => self.alarm.poll(until, context).map(|()| None),
            (Poll::Pending, None) => Poll::Pending,
        })
        .await
    }

    /// Does what can be done now, and looks for its result, which comes of nothing else: so `look` need not have anybody
    /// woken.
    fn result<T>(
        &mut self,
        context: &mut Context<'_>,
        look: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Some(to_do) = &mut self.to_do {
            self.bell.mute();
            if to_do.as_mut().poll(&mut Context::from_waker(&self.rope)).is_ready() {
                self.to_do = None;
            }
        }
        let result = look(&mut Context::from_waker(Waker::noop()));
        if result.is_pending() {
            self.bell.ring_for(context.waker());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Duration, sleep};

    use super::*;

    fn request() -> Box<Request<Body>> {
        Box::new(Request::get("/").header("host", "boot.example").body(Body::empty()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_arrives_in_pieces_and_then_the_connection_takes_another_request() {
        let (ours, mut theirs) = duplex(64);
        let answering = async {
            for _ in 0..2 {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(theirs.read_u8().await.unwrap());
                }
                for piece in ["HTTP/1.1 200 OK\r\ncontent-", "length: 6\r\n\r\nabc", "def"] {
                    sleep(Duration::from_secs(1)).await;
                    theirs.write_all(piece.as_bytes()).await.unwrap();
                }
            }
            theirs
        };
        let asking = async {
            let mut connection = Connection::begin(ours, 8192, None).await.unwrap();
            for _ in 0..2 {
                let mut answer = connection.ask(request(), None).await.ok().unwrap();
                assert_eq!(answer.body_mut().collect().await.unwrap().to_bytes(), "abcdef");
                connection = answer.body_mut().release().unwrap();
                assert!(!connection.is_closed());
            }
            connection
        };
        let (connection, theirs) = tokio::join!(asking, answering);
        drop(theirs);
        let failure = connection.ask(request(), None).await.err().expect("it is closed");
        let is_unsent = matches!(failure, Failure::Broken(_, Some(_)));
        assert!(is_unsent, "nobody saw that it was closed before");
    }
}
