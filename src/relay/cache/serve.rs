//! A machine's request for an image and the response: from a shared entry, or from an unshared transfer.
//!
//! Must never: give a machine a part of another version than its conditions name.

use std::sync::Arc;

use hyper::body::Body as _;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use hyper::{Method, Response, StatusCode};

use super::body::ImageBody;
use super::client::UnsharedBody;
use super::entry::Entry;
use super::fetch::Fetch;
use super::headers::{self, copied};
use super::outcome::FetchOutcome;
use super::reader::Reader;
use super::store::Lookup;
use super::{ImageError, ImageRequest, PortImages, UNKNOWN_LENGTH_MAX, now};
use crate::metrics::OneMore;
use crate::relay::body::{self, Body};
use crate::relay::monitored;
use leafboot_core::relay::ranges::{self, Conditions, Part};

/// A part that begins this many bytes behind what was received is waited for; one further on is requested unshared.
const NEAR: u64 = 4 * 1024 * 1024;

impl PortImages {
    /// The response to a machine's request.
    pub async fn respond(&self, mut request: ImageRequest) -> Result<Response<Body>, ImageError> {
        if request.method == Method::HEAD {
            // Only a GET has ranges (RFC 9110 14.2).
            request.headers.remove(RANGE);
        }
        let conditions = headers::conditions(&request.headers);
        let starts_late = ranges::starts_late(&conditions);
        if request.method == Method::HEAD || starts_late {
            let fresh = self.store.fresh(&request.path, now());
            let suits = |entry: &Arc<Entry>| {
                entry.version.length.is_some() && (!starts_late || is_near(entry, &conditions))
            };
            return match fresh.filter(suits) {
                Some(entry) => self.shared(&entry, &conditions, &request).await,
                None => self.unshared(request).await,
            };
        }
        match self.outcome(&request.path).await {
            FetchOutcome::Shared(entry) => self.shared(&entry, &conditions, &request).await,
            FetchOutcome::TooLarge | FetchOutcome::NoMemory => self.unshared(request).await,
            FetchOutcome::NoImage(response) => Ok(no_image(response.0, &response.1)),
            FetchOutcome::Failed(reason) => Err(ImageError::Transfer(reason.to_string())),
            FetchOutcome::Unusable(reason) => Err(ImageError::Unusable(reason.to_string())),
        }
    }

    /// The current outcome of the path. Requests it, or waits for a request that is under way.
    async fn outcome(&self, path: &str) -> FetchOutcome {
        if self.store.limit() == 0 {
            return FetchOutcome::TooLarge;
        }
        let permit = Arc::clone(&self.fetch_permit).try_acquire_owned().ok();
        let mut outcome = match self.store.lookup(path, &self.port, permit.is_some(), now()) {
            Lookup::Wait(outcome) => outcome,
            Lookup::Fetch(result, known) => {
                let outcome = result.subscribe();
                let fetch = Fetch {
                    client: self.client.clone(),
                    store: Arc::clone(&self.store),
                    path: path.to_owned(),
                    log: self.log.clone(),
                };
                tokio::spawn(fetch.run(known, result, permit));
                outcome
            }
            Lookup::Bypass => return FetchOutcome::NoMemory,
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => FetchOutcome::Failed("the request was aborted".into()),
        }
    }

    /// A response from a shared entry.
    async fn shared(
        &self,
        entry: &Arc<Entry>,
        conditions: &Conditions,
        request: &ImageRequest,
    ) -> Result<Response<Body>, ImageError> {
        // Until the length is known, this reader keeps the transfer alive: a transfer without readers ends.
        let reader = Reader::new(entry, 0, u64::MAX);
        let length = entry.length().await.map_err(|error| ImageError::Transfer(error.to_string()))?;
        drop(reader);
        let part = ranges::part(conditions, &entry.version, length);
        let (status, first, end) = match part {
            Part::Whole => (StatusCode::OK, 0, length),
            Part::Slice { first, last } => (StatusCode::PARTIAL_CONTENT, first, last + 1),
            Part::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Part::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
        let body = if request.method == Method::HEAD || first >= end {
            Body::empty()
        } else {
            let body =
                ImageBody::shared(Reader::new(entry, first, end), end - first, &self.client, &request.path);
            monitored::with_alive(Body::stream(body), OneMore::of(&self.shared_readers))
        };
        let mut headers = headers::of_version(&entry.version);
        if matches!(part, Part::Whole | Part::Slice { .. }) {
            headers.extend(entry.headers.clone());
            headers.insert(CONTENT_LENGTH, (end - first).into());
        }
        headers.extend(content_range(part, length).map(|range| (CONTENT_RANGE, range)));
        Ok(response(status, headers, body))
    }

    /// A response from an unshared transfer.
    async fn unshared(&self, request: ImageRequest) -> Result<Response<Body>, ImageError> {
        let conditions = copied(&request.headers, &[RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE]);
        let is_head = request.method == Method::HEAD;
        let answer = self.client.request_unshared(request.method, &request.path, conditions).await?;
        let (head, body) = answer.into_parts();
        let has_image = matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
        if !has_image && !matches!(head.status, StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE)
        {
            if headers::is_temporary(head.status) {
                return Err(ImageError::Transfer(format!("it answered {}", head.status)));
            }
            return Ok(no_image(head.status, &copied(&head.headers, &[LOCATION])));
        }
        let mut names = vec![ETAG, LAST_MODIFIED, ACCEPT_RANGES, CONTENT_RANGE];
        if has_image {
            names.extend([CONTENT_TYPE, CONTENT_ENCODING]);
        }
        if is_head {
            names.push(CONTENT_LENGTH);
        }
        let body = if has_image && !is_head {
            self.unshared_body(body, &request.path).await?
        } else {
            Body::empty()
        };
        Ok(response(head.status, copied(&head.headers, &names), body))
    }

    /// The body of a response from an unshared transfer. It has a length, which iPXE needs: a body of unknown length is
    /// buffered.
    async fn unshared_body(&self, mut from: UnsharedBody, path: &str) -> Result<Body, ImageError> {
        match from.body.size_hint().exact() {
            Some(0) => Ok(Body::empty()),
            Some(length) => {
                let body = ImageBody::unshared(from, length, &self.client, path);
                Ok(monitored::with_alive(Body::stream(body), OneMore::of(&self.unshared_readers)))
            }
            None => {
                let gathered = body::gather(&mut from.body, UNKNOWN_LENGTH_MAX).await;
                let whole = gathered.map_err(|error| ImageError::Transfer(error.to_string()))?;
                Ok(Body::full(whole.ok_or(ImageError::NoLength)?))
            }
        }
    }
}

/// Whether an entry has the part that a request is for, or will soon.
fn is_near(entry: &Entry, conditions: &Conditions) -> bool {
    let length = entry.version.length.unwrap_or_default();
    match ranges::part(conditions, &entry.version, length) {
        Part::Slice { first, .. } => entry.covers(first, NEAR),
        Part::Whole => entry.covers(0, 0),
        Part::NotModified | Part::Unsatisfiable => true,
    }
}

/// The `Content-Range` of a part of an image that is `length` bytes long.
fn content_range(part: Part, length: u64) -> Option<HeaderValue> {
    let range = match part {
        Part::Slice { first, last } => format!("bytes {first}-{last}/{length}"),
        Part::Unsatisfiable => format!("bytes */{length}"),
        Part::Whole | Part::NotModified => return None,
    };
    HeaderValue::from_str(&range).ok()
}

/// Passes a response that is no image to the machine: a redirect as it is, an error with leafboot's own text.
fn no_image(status: StatusCode, headers: &HeaderMap) -> Response<Body> {
    let body = match status.is_redirection() {
        true => Body::empty(),
        false => Body::full(format!("the partition cache answered {status}\n")),
    };
    response(status, headers.clone(), body)
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
