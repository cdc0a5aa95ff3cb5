//! One HTTP/1.1 connection to an origin. A task of its own drives it.
//!
//! Must never: let the task outlive its `Connection`: when a machine goes away, its request must end.

use std::io;

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::relay::body::Body;

/// A connection that takes one request at a time. Dropping it closes the connection.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    task: AbortHandle,
    _large: Option<OwnedSemaphorePermit>,
}

/// Why a request got no answer.
pub(super) enum SendError {
    /// The answer's head did not arrive in time.
    TimedOut,
    /// The connection broke. Has the request if no byte of it was sent.
    Broken(hyper::Error, Option<Box<Request<Body>>>),
}

impl Connection {
    /// Starts HTTP/1.1 on `stream`. `buffer` is the most that one read takes, in bytes; `large` is the permit for a large
    /// buffer, held as long as the connection.
    pub(super) async fn start<T>(
        stream: T,
        buffer: usize,
        large: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = Builder::new().max_buf_size(buffer).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        // `sender` or the answer's body report its errors.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, task, _large: large })
    }

    /// Whether the connection is known to be closed.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits until `until` for the head of its answer. The connection must be kept until the answer's
    /// body is complete.
    pub(super) async fn send(
        &mut self,
        request: Box<Request<Body>>,
        until: Option<Instant>,
    ) -> Result<Response<Incoming>, SendError> {
        let answer = async {
            // hyper refuses a request that is sent before the connection is ready.
            if let Err(error) = self.sender.ready().await {
                return Err(SendError::Broken(error, Some(request)));
            }
            self.sender.try_send_request(*request).await.map_err(|mut failed| {
                let unsent = failed.take_message().map(Box::new);
                SendError::Broken(failed.into_error(), unsent)
            })
        };
        match until {
            Some(until) => timeout_at(until, answer).await.unwrap_or(Err(SendError::TimedOut)),
            None => answer.await,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Duration, sleep, timeout};

    use super::*;

    fn request() -> Box<Request<Body>> {
        Box::new(Request::get("/").header("host", "boot.example").body(Body::empty()).unwrap())
    }

    async fn read_head(stream: &mut DuplexStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_arrives_in_pieces_and_then_the_connection_takes_another_request() {
        let (ours, mut theirs) = duplex(64);
        let answering = async {
            for _ in 0..2 {
                read_head(&mut theirs).await;
                for piece in ["HTTP/1.1 200 OK\r\ncontent-", "length: 6\r\n\r\nabc", "def"] {
                    sleep(Duration::from_secs(1)).await;
                    theirs.write_all(piece.as_bytes()).await.unwrap();
                }
            }
            theirs
        };
        let asking = async {
            let mut connection = Connection::start(ours, 8192, None).await.unwrap();
            for _ in 0..2 {
                let answer = connection.send(request(), None).await.ok().unwrap();
                assert_eq!(answer.collect().await.unwrap().to_bytes(), "abcdef");
                assert!(!connection.is_closed());
            }
            connection
        };
        let (mut connection, theirs) = tokio::join!(asking, answering);
        drop(theirs);
        let error = connection.send(request(), None).await.expect_err("it is closed");
        assert!(matches!(error, SendError::Broken(_, Some(_))), "the request was not sent");
        assert!(connection.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_connection_is_closed_while_its_answer_arrives() {
        let (ours, mut theirs) = duplex(1024);
        let mut connection = Connection::start(ours, 8192, None).await.unwrap();
        let answering = async {
            read_head(&mut theirs).await;
            theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc").await.unwrap();
        };
        let (answer, ()) = tokio::join!(connection.send(request(), None), answering);
        let _answer = answer.ok().unwrap();
        assert!(timeout(Duration::from_secs(60), theirs.read_u8()).await.is_err(), "it is open");
        drop(connection);
        let end = timeout(Duration::from_secs(1), theirs.read_u8()).await.unwrap();
        assert!(end.is_err(), "it is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_connection_is_closed_while_its_request_cannot_be_written() {
        let (ours, mut theirs) = duplex(8);
        let mut connection = Connection::start(ours, 8192, None).await.unwrap();
        let until = Instant::now() + Duration::from_secs(1);
        let error = connection.send(request(), Some(until)).await.expect_err("the server reads nothing");
        assert!(matches!(error, SendError::TimedOut));
        drop(connection);
        let mut sent = Vec::new();
        timeout(Duration::from_secs(1), theirs.read_to_end(&mut sent)).await.unwrap().unwrap();
        assert_eq!(sent.len(), 8);
    }
}
