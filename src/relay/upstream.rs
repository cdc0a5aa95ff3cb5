//! The relay's client side: one request to the boot service, its whole answer or an error, within a deadline.
//!
//! Must never: return a part of an answer as a whole one, or more than `BODY_MAX`.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::HttpOrigin;

/// metal-hammer gives its configuration request 5 s and has no second try; the answer must be back before that.
const DEADLINE: Duration = Duration::from_millis(4500);
/// A host of the partition that does not take a connection in this time is not well.
const CONNECT: Duration = Duration::from_secs(2);
/// Scripts and configurations are a few kilobytes.
const BODY_MAX: usize = 256 * 1024;

/// Why the boot service gave no answer that can be passed on.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// No connection.
    #[error("cannot connect to the boot service: {0}")]
    Connect(io::Error),
    /// No whole answer in time.
    #[error("the boot service did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// The connection broke or did not speak HTTP.
    #[error("the boot service's answer broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// More than a script or a configuration can be.
    #[error("the boot service's answer is longer than {BODY_MAX} bytes")]
    TooLong,
    /// The request could not be put together.
    #[error("the request cannot be forwarded: {0}")]
    Request(#[from] hyper::http::Error),
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The boot service's status.
    pub status: StatusCode,
    /// Its `Content-Type`.
    pub content_type: Option<HeaderValue>,
    /// Its `Retry-After`.
    pub retry_after: Option<HeaderValue>,
    /// Its body.
    pub body: Bytes,
}

/// Asks `origin` for a path, over a connection of its own: one that was kept could be closed just then.
pub async fn get(origin: &HttpOrigin, path: &str, headers: HeaderMap) -> Result<Answer, UpstreamError> {
    timeout(DEADLINE, exchange(origin, path, headers)).await.unwrap_or(Err(UpstreamError::Late(DEADLINE)))
}

async fn exchange(origin: &HttpOrigin, path: &str, headers: HeaderMap) -> Result<Answer, UpstreamError> {
    let connecting = timeout(CONNECT, TcpStream::connect((origin.host(), origin.port()))).await;
    let stream =
        connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(UpstreamError::Connect)?;
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    let mut request = Request::get(path).header(HOST, origin.authority()).header(CONNECTION, "close");
    if let Some(own) = request.headers_mut() {
        own.extend(headers);
    }
    let request = request.body(Empty::new())?;
    let answering = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(unreadable)?.to_bytes();
        let header = |name| head.headers.get(name).cloned();
        Ok(Answer {
            status: head.status,
            content_type: header(CONTENT_TYPE),
            retry_after: header(hyper::header::RETRY_AFTER),
            body,
        })
    };
    // The connection does its work only while it is polled; it ends by itself when the answer is there.
    tokio::pin!(answering);
    tokio::select! {
        answer = &mut answering => answer,
        end = connection => { end?; answering.await }
    }
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> UpstreamError {
    match error.downcast::<hyper::Error>() {
        Ok(broken) => UpstreamError::Broken(*broken),
        Err(other) if other.is::<LengthLimitError>() => UpstreamError::TooLong,
        Err(other) => UpstreamError::Connect(io::Error::other(other)),
    }
}
