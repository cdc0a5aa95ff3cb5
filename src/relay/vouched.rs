//! What leafboot vouches for, with its headers ready to be sent: made once for a session or a connection, and not for
//! each request.
//!
//! Must never: be changed: another session is another value.

use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};

use super::claim::Header;

/// Something with the headers that say it.
#[derive(Debug, Clone)]
pub struct Vouched<T> {
    /// What is said.
    pub of: T,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl<T> Vouched<T> {
    /// `headers`: how to say it, as [`super::claim`] does. They share one piece of memory: they are sent together.
    pub fn new(of: T, headers: impl FnOnce(&T) -> Vec<Header>) -> Self {
        let headers = headers(&of);
        let all: Bytes = headers.iter().flat_map(|(_, value)| value.bytes()).collect();
        let mut begin = 0;
        let own = |(name, value): Header| {
            let end = begin + value.len();
            let value = HeaderValue::from_maybe_shared(all.slice(begin..end));
            begin = end;
            Some((HeaderName::from_static(name), value.ok()?))
        };
        Self { headers: headers.into_iter().filter_map(own).collect(), of }
    }

    /// The headers that say it.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.headers.iter().cloned()
    }
}

/// A header that can be sent; none where its value cannot stand in one, which the words of a claim, checked types of
/// printable ASCII, always can.
pub fn ready((name, value): Header) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
}
