//! One request over one connection to an origin, up to the head of its answer.
//!
//! Must never: lose a request that was not sent: another origin may get it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Body as _;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};

use super::answer::AnswerBody;
use super::driver::{Connection, SendError};
use super::error::{UpstreamError, causes};
use super::origin::Origin;
use crate::relay::body::Body;

/// The deadline of a probe. No machine waits for it, and an origin that needs longer does not answer a token request in
/// time either.
const PROBE: Duration = Duration::from_secs(10);
/// The `User-Agent` of the requests that leafboot sends by itself.
pub const AGENT: HeaderValue = HeaderValue::from_static(concat!("leafboot/", env!("CARGO_PKG_VERSION")));

/// Why a request got no answer.
pub(super) struct Unanswered {
    pub(super) error: UpstreamError,
    /// The request, if no byte of it was sent.
    pub(super) unsent: Option<Box<Request<Body>>>,
}

/// How long to wait for an answer; none: without a bound.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// Until its first byte.
    pub(super) first_byte: Option<Duration>,
    /// Between two pieces of its body.
    pub(super) idle: Option<Duration>,
}

/// Sends a request and returns the head of its answer, before `deadline`.
pub(super) async fn exchange(
    origin: &Arc<Origin>,
    mut connection: Connection,
    mut request: Box<Request<Body>>,
    timeouts: Timeouts,
    deadline: Option<Instant>,
) -> Result<Response<AnswerBody>, Unanswered> {
    request.headers_mut().insert(HOST, origin.host.clone());
    let begun = Instant::now();
    let first_byte = timeouts.first_byte.and_then(|after| begun.checked_add(after));
    let until = first_byte.into_iter().chain(deadline).min();
    let answer = connection.send(request, until.map(Into::into)).await.map_err(|error| match error {
        SendError::Broken(error, unsent) => {
            Unanswered { error: reason(origin, &error, unsent.is_some()), unsent }
        }
        SendError::TimedOut => {
            let after = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(begun));
            Unanswered { error: UpstreamError::Late { origin: origin.name.clone(), after }, unsent: None }
        }
    })?;
    if let Some(flaw) = flaw(answer.headers(), answer.body().size_hint().exact()) {
        let error = UpstreamError::Unusable { origin: origin.name.clone(), reason: flaw.to_owned() };
        return Err(Unanswered { error, unsent: None });
    }
    Ok(answer.map(|body| AnswerBody::new(body, connection, Arc::clone(origin), timeouts.idle)))
}

/// Sends `HEAD /` (RFC 9110 9.3.2) over a new connection and returns why the origin does not answer. A connection alone
/// proves nothing: a server that hangs takes connections, too. The answer's status matters only if
/// `is_ejected_by_status`.
pub(super) async fn probe(
    origin: &Arc<Origin>,
    timeouts: Timeouts,
    is_ejected_by_status: bool,
) -> Result<(), String> {
    let deadline = Instant::now() + PROBE;
    let connection = origin.connector.connect().await.map_err(|error| error.to_string())?;
    let mut request = Box::new(Request::new(Body::empty()));
    *request.method_mut() = Method::HEAD;
    request.headers_mut().insert(USER_AGENT, AGENT);
    let answer = exchange(origin, connection, request, timeouts, Some(deadline)).await;
    let status = answer.map_err(|unanswered| unanswered.error.to_string())?.status();
    if is_ejected_by_status && is_gateway_failure(status) {
        Err(format!("it answered {status}"))
    } else {
        Ok(())
    }
}

/// Whether a status says that the origin, or a server behind it, does not work (RFC 9110 15.6).
pub(super) fn is_gateway_failure(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn reason(origin: &Origin, error: &hyper::Error, is_unsent: bool) -> UpstreamError {
    let (origin, reason) = (origin.name.clone(), causes(error));
    match is_unsent {
        true => UpstreamError::Connect { origin, reason: io::Error::other(reason) },
        false if error.is_user() => UpstreamError::Request { reason },
        false if error.is_parse() => UpstreamError::Unusable { origin, reason },
        false => UpstreamError::Broken { origin, reason },
    }
}

/// Why the end of an answer's body is not known, if that is so (RFC 9112 6.1, 6.3). `length` is the body's length if
/// hyper knows it; hyper knows it of an answer without a body, too.
fn flaw(headers: &HeaderMap, length: Option<u64>) -> Option<&'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if headers.contains_key(TRANSFER_ENCODING) {
        // hyper would take the coded bytes up to the connection's end for the body. leafboot asks for no coding.
        return match codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            false => Some("its Transfer-Encoding is not chunked"),
            true if headers.contains_key(CONTENT_LENGTH) => {
                Some("it has Content-Length and Transfer-Encoding, which exclude each other")
            }
            true => None,
        };
    }
    let is_unframed = length.is_none() && !headers.contains_key(CONTENT_LENGTH);
    is_unframed.then_some("its body ends with its connection, so a part of it would look complete")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::header::HeaderName;

    use super::*;

    fn request() -> Box<Request<Body>> {
        let mut request = Box::new(Request::new(Body::full("body")));
        *request.method_mut() = Method::POST;
        request
    }

    #[test]
    fn an_answer_says_in_one_way_where_its_body_ends() {
        let flaw = |headers: &[(HeaderName, &'static str)], length| {
            let value =
                |(name, text): &(HeaderName, &'static str)| (name.clone(), HeaderValue::from_static(text));
            flaw(&headers.iter().map(value).collect(), length)
        };
        assert_eq!(flaw(&[(CONTENT_LENGTH, "7")], Some(7)), None);
        assert_eq!(flaw(&[(TRANSFER_ENCODING, "Chunked")], None), None);
        assert_eq!(flaw(&[], Some(0)), None, "204, 304, or an answer to HEAD");
        assert_eq!(flaw(&[(CONTENT_LENGTH, "7")], Some(0)), None, "an answer to HEAD");
        for (headers, reason) in [
            (&[][..], "ends with its connection"),
            (&[(TRANSFER_ENCODING, "gzip")], "is not chunked"),
            (&[(TRANSFER_ENCODING, "gzip, chunked")], "is not chunked"),
            (&[(TRANSFER_ENCODING, "chunked"), (CONTENT_LENGTH, "7")], "exclude each other"),
        ] {
            let flaw = flaw(headers, None);
            assert!(flaw.is_some_and(|flaw| flaw.contains(reason)), "{headers:?}: {flaw:?}");
        }
    }

    async fn asked(origin: &Arc<Origin>, connection: Connection, request: Box<Request<Body>>) -> Unanswered {
        let timeouts = Timeouts { first_byte: Some(Duration::from_secs(5)), idle: None };
        exchange(origin, connection, request, timeouts, None).await.err().unwrap()
    }

    #[tokio::test]
    async fn a_request_that_a_closed_connection_did_not_take_is_given_back() {
        let mut request = request();
        for name in ["boot.example", "other.example"] {
            let (origin, (ours, theirs)) = (Origin::named(name), tokio::io::duplex(1024));
            let connection = origin.connector.http(ours).await.unwrap();
            drop(theirs);
            let Unanswered { error, unsent } = asked(&origin, connection, request).await;
            assert!(matches!(error, UpstreamError::Connect { .. }), "{error}");
            request = unsent.unwrap();
            assert_eq!(request.headers()[HOST], name, "the next origin has another name");
        }
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "body");
    }

    #[tokio::test]
    async fn a_request_that_was_sent_is_not_given_back() {
        let (ours, theirs) = tokio::io::duplex(1);
        let origin = Origin::named("boot.example");
        let connection = origin.connector.http(ours).await.unwrap();
        tokio::spawn(async move {
            let mut theirs = theirs;
            let _ = tokio::io::AsyncReadExt::read_u8(&mut theirs).await;
        });
        let Unanswered { error, unsent } = asked(&origin, connection, request()).await;
        assert!(matches!(error, UpstreamError::Broken { .. }) && unsent.is_none(), "{error}");
    }
}
