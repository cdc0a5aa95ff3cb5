//! Reads and builds the headers of images and of the requests for them.
//!
//! Must never: keep a header value that shares the network buffer that it was received in.

use hyper::StatusCode;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};

use leafboot_core::relay::ranges::Conditions;
use leafboot_core::relay::validators::{self, Version};

/// Whether a status means that the same request may succeed a little later.
pub fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// A header's value as text; none if there is no such header, or its value is not ASCII.
pub fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Headers with these values. A value that a header cannot have is left out, but all values were checked before.
pub fn from_pairs<const N: usize>(pairs: [(HeaderName, String); N]) -> HeaderMap {
    pairs.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))).collect()
}

/// Copies of the headers with these names. The received ones are parts of a network buffer, and would keep all of it.
pub fn copied(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let copy = |name: &HeaderName| HeaderValue::from_bytes(headers.get(name)?.as_bytes()).ok();
    names.iter().filter_map(|name| Some((name.clone(), copy(name)?))).collect()
}

/// The version that a response has. `length`: of its body, if known.
pub fn version(headers: &HeaderMap, length: Option<u64>) -> Version {
    let declared = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let last_modified = text(headers, &LAST_MODIFIED);
    let is_date_strong =
        validators::is_date_strong(last_modified.as_deref(), text(headers, &DATE).as_deref());
    Version { etag: text(headers, &ETAG), last_modified, length: length.or(declared), is_date_strong }
}

/// The headers of a response with this version: its validators, and that ranges are served.
pub fn of_version(version: &Version) -> HeaderMap {
    let validators = [(ETAG, &version.etag), (LAST_MODIFIED, &version.last_modified)];
    let validators = validators
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::from_str(value.as_ref()?).ok()?)));
    validators.chain([(ACCEPT_RANGES, HeaderValue::from_static("bytes"))]).collect()
}

/// The conditions and the range of a machine's request.
pub fn conditions(headers: &HeaderMap) -> Conditions {
    Conditions {
        range: text(headers, &RANGE),
        if_range: text(headers, &IF_RANGE),
        if_none_match: text(headers, &IF_NONE_MATCH),
        if_modified_since: text(headers, &IF_MODIFIED_SINCE),
    }
}
