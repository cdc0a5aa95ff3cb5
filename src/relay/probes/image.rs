//! HEAD of an image on the partition cache, over the way that a machine takes: from the boot VRF, to the cache's public name.
//!
//! Must never: fetch an image.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, DATE, HOST, HeaderMap, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use leafboot_core::names::HttpOrigin;
use leafboot_core::probe::ProbeProblem;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::problem;
use crate::relay::body::Body;
use crate::relay::tls::TlsClient;
use crate::relay::upstream::AGENT;

/// A machine's own first packet is repeated after a second.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What the cache answers to HEAD.
pub(super) struct Answer {
    status: StatusCode,
    /// The cache's clock (RFC 9110 6.6.1).
    pub(super) date: Option<SystemTime>,
    /// The image's length in bytes.
    pub(super) size: Option<u64>,
}

impl Answer {
    /// Why a machine would not get the image.
    pub(super) fn problem(&self) -> Option<ProbeProblem> {
        // A server that does not take HEAD says nothing about the image.
        let takes_no_head =
            matches!(self.status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED);
        let is_good = self.status.is_success() || self.status.is_redirection() || takes_no_head;
        (!is_good).then(|| ProbeProblem::Status(self.status.as_u16()))
    }
}

/// Asks the cache at `address` for the head of `path`, from `device`.
pub(super) async fn head(
    cache: &HttpOrigin,
    address: IpAddr,
    path: &str,
    device: &str,
    tls: Option<&TlsClient>,
) -> Result<Answer, ProbeProblem> {
    let asking = async {
        let stream = connect(SocketAddr::new(address, cache.port()), device).await?;
        match tls {
            None => exchange(stream, cache, path).await,
            Some(tls) => exchange(tls.connect(cache.host(), stream).await?, cache, path).await,
        }
    };
    timeout(TIMEOUT, asking).await.map_err(|_| ProbeProblem::TimedOut)?.map_err(|error| problem(&error))
}

async fn connect(to: SocketAddr, device: &str) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

async fn exchange<T>(stream: T, cache: &HttpOrigin, path: &str) -> io::Result<Answer>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::builder()
        .method(Method::HEAD)
        .uri(path)
        .header(HOST, cache.authority())
        .header(USER_AGENT, AGENT)
        .body(Body::empty())
        .map_err(io::Error::other)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // A server may close with its answer.
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    let answer = answer.map_err(io::Error::other)?;
    let size = answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    Ok(Answer { status: answer.status(), date: date(answer.headers()), size })
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}
