//! The relay's own responses: redirects, refusals, and the reason why a request cannot be served now.
//!
//! Must never: respond without Content-Length, with 1xx, or with a `Retry-After` of 0, which iPXE takes for "at once".

use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Response, StatusCode};
use leafboot_core::relay::kinds::{Refusal, Routes};
use leafboot_core::relay::validate::Fault;

use super::body::Body;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Seconds after which a machine that boots should ask again at the latest, whatever a server says.
const RETRY_MAX: u64 = 60;

/// A plain text.
pub fn text(status: StatusCode, text: impl Into<Vec<u8>>) -> Response<Body> {
    let mut response = Response::new(Body::full(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

/// A redirect (RFC 9110 15.4.8). `location` must be plain ASCII, or the response has none.
pub fn redirect(location: String) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The response to a request that no route relays.
pub fn refused(routes: &Routes, refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Path => text(StatusCode::NOT_FOUND, format!("leafboot relays {routes}\n")),
        Refusal::Method(allowed) => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allowed}\n"));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
    }
}

/// The response to a request that is not valid HTTP. It closes the connection: where the next request begins is
/// unknown.
pub fn invalid(Fault(status, reason): Fault) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    closing(text(status, format!("{reason}\n")))
}

/// The request cannot be served now (RFC 9110 15.6.4). iPXE asks again after `wait` seconds, any number of times.
pub fn unavailable(reason: &str, wait: u64) -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}; try again in {wait} s\n"));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.clamp(1, RETRY_MAX)));
    response
}

/// `response`, after which the connection is closed.
pub fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A server's `Retry-After` as a machine gets it: seconds, at least one. A date means little before NTP.
pub fn retry_after(value: &HeaderValue) -> Option<HeaderValue> {
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(HeaderValue::from(seconds.clamp(1, RETRY_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_says_where_to_and_nothing_else() {
        let response = redirect("http://cache/x".to_owned());
        assert_eq!(response.status(), 307);
        let headers: Vec<_> = response.headers().iter().collect();
        assert_eq!(headers, [(&LOCATION, &HeaderValue::from_static("http://cache/x"))]);
    }

    #[test]
    fn a_pause_is_at_least_a_second_and_never_long() {
        let pause = |text| retry_after(&HeaderValue::from_static(text));
        assert_eq!(pause("0").unwrap(), "1");
        assert_eq!(pause("7").unwrap(), "7");
        assert_eq!(pause("86400").unwrap(), "60");
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(unavailable("x", 0).headers()[RETRY_AFTER], "1");
    }
}
