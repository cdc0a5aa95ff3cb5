//! Answers of the relay's own: redirects, refusals, and what a machine is told while something is wrong.
//!
//! Must never: answer without Content-Length, with 1xx, or with a `Retry-After` of 0, which iPXE takes for «at once».

use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::body::Body;
use leafboot_core::relay::kinds::Refusal;
use leafboot_core::relay::kinds::Routes;
use leafboot_core::relay::validate::Fault;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// A server may ask for any pause; a machine that boots is to look again after this, in seconds.
const RETRY_MAX: u64 = 60;

/// A text.
pub fn text(status: StatusCode, text: impl Into<Vec<u8>>) -> Response<Body> {
    let mut response = Response::new(Body::whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

/// Sends a machine elsewhere (RFC 9110 15.4.8). `location` is plain ASCII, or nothing is said of it. `room`: a map whose
/// headers are not needed any more, for the answer's; it costs less than another.
pub fn redirect(location: String, mut room: HeaderMap) -> Response<Body> {
    room.clear();
    if let Ok(location) = HeaderValue::try_from(location) {
        room.insert(LOCATION, location);
    }
    let mut response = Response::new(Body::empty());
    (*response.status_mut(), *response.headers_mut()) = (StatusCode::TEMPORARY_REDIRECT, room);
    response
}

/// A request that no route takes.
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

/// A request that is not HTTP as it should be: where the next one begins is not known, so there is none.
pub fn faulty(Fault(status, reason): Fault) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    closing(text(status, format!("{reason}\n")))
}

/// Something is wrong for now: RFC 9110 15.6.4. iPXE waits so long and asks again, without end.
pub fn unavailable(reason: &str, wait: u64) -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}; try again in {wait} s\n"));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.clamp(1, RETRY_MAX)));
    response
}

/// The connection ends with this answer.
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
    fn a_redirect_says_where_to_and_nothing_of_what_was_asked() {
        let asked = [(CONNECTION, "x"), (CONTENT_TYPE, "y"), (LOCATION, "z")];
        let asked = asked.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let response = redirect("http://cache/x".to_owned(), asked.into_iter().collect());
        assert_eq!(response.status(), 307);
        let headers: Vec<_> = response.headers().iter().collect();
        assert_eq!(headers, [(&LOCATION, &HeaderValue::from_static("http://cache/x"))]);
    }

    #[test]
    fn a_pause_is_never_nothing_and_never_long() {
        let pause = |text| retry_after(&HeaderValue::from_static(text));
        assert_eq!(pause("0").unwrap(), "1");
        assert_eq!(pause("7").unwrap(), "7");
        assert_eq!(pause("86400").unwrap(), "60");
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(unavailable("x", 0).headers()[RETRY_AFTER], "1");
    }
}
