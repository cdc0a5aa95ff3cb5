//! Requests a path from the partition cache: conditionally, if the store has an entry of it.
//!
//! Must never: call an entry current that the partition cache did not confirm.

use std::sync::Arc;

use hyper::body::Body as _;
use hyper::header::{HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION};
use hyper::{Method, Response, StatusCode};

use super::client::Client;
use super::entry::Entry;
use super::headers;
use super::outcome::FetchOutcome;
use crate::relay::body::Body;
use leafboot_core::relay::validators::Precondition;

/// Requests `path`. `known`: its entry. Returns the response if it has another version, or else the outcome.
pub async fn revalidate(
    client: &Client,
    path: &str,
    known: Option<Arc<Entry>>,
) -> Result<Response<Body>, FetchOutcome> {
    let condition = known.as_ref().map(|known| condition(known)).unwrap_or_default();
    let mut response = get(client, path, condition).await?;
    // The entry may have failed, or its window moved on, in the meantime.
    let mut known = known.filter(|known| known.is_joinable());
    if response.status() == StatusCode::NOT_MODIFIED {
        match known.take_if(|known| is_confirmed(known, response.headers())) {
            Some(known) => return Err(FetchOutcome::Shared(known)),
            None => response = get(client, path, HeaderMap::new()).await?,
        }
    }
    match response.status() {
        StatusCode::OK => {
            let version = headers::version(response.headers(), response.body().size_hint().exact());
            match known.filter(|known| known.version.has_same_bytes(&version)) {
                Some(known) => Err(FetchOutcome::Shared(known)),
                None => Ok(response),
            }
        }
        StatusCode::NOT_MODIFIED => {
            Err(FetchOutcome::Unusable("it answered 304 to an unconditional GET".into()))
        }
        status if status.is_redirection() || (status.is_client_error() && !headers::is_temporary(status)) => {
            Err(FetchOutcome::NoImage(Arc::new((status, headers::copied(response.headers(), &[LOCATION])))))
        }
        status => Err(FetchOutcome::Failed(format!("it answered {status}").into())),
    }
}

async fn get(client: &Client, path: &str, condition: HeaderMap) -> Result<Response<Body>, FetchOutcome> {
    let response = client.request(&client.shared, Method::GET, path, condition).await;
    response.map_err(|error| FetchOutcome::failed(&error))
}

/// The condition under which the partition cache sends another version only; none without a validator.
fn condition(known: &Entry) -> HeaderMap {
    match known.version.precondition() {
        Some(Precondition::NoneMatch(etag)) => headers::from_pairs([(IF_NONE_MATCH, etag)]),
        Some(Precondition::ModifiedSince(date)) => headers::from_pairs([(IF_MODIFIED_SINCE, date)]),
        None => HeaderMap::new(),
    }
}

/// Whether a 304 with these headers is about the known version. A server may also answer 304 to
/// `If-Modified-Since` when its image is older.
fn is_confirmed(known: &Entry, headers: &HeaderMap) -> bool {
    known.version.etag.is_some()
        || headers::text(headers, &LAST_MODIFIED).is_none_or(|date| known.version.has_date(&date))
}
