//! Requests an image from the partition cache and receives it into an entry, in a task of its own: it does not end with
//! the machine that asked first, and no machine can slow it down.
//!
//! Must never: share an entry that has no memory reserved.

use std::sync::Arc;

use hyper::Response;
use hyper::body::Body as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::buffer::BLOCK;
use super::client::Client;
use super::entry::{Entry, overhead};
use super::headers;
use super::memory::Reservation;
use super::outcome::{FetchOutcome, ResultSender};
use super::revalidate::revalidate;
use super::store::Store;
use super::transfer::Transfer;
use super::writer::Writer;
use crate::relay::body::Body;
use crate::relay::port_log::PortLog;
use leafboot_core::relay::validators::Version;

/// The least window, in bytes: most readers would fall behind a smaller one at once.
const WINDOW_MIN: usize = 16 * BLOCK;

/// One request for an image, and the transfer that follows.
pub struct Fetch {
    /// The partition cache.
    pub client: Client,
    /// Where the entry is kept.
    pub store: Arc<Store>,
    /// The image's path.
    pub path: String,
    /// The log of the port whose machine asked.
    pub log: PortLog,
}

impl Fetch {
    /// Requests the image, sends the outcome to `result`, and receives the image if there is a new version. `known`:
    /// the path's last entry. `permit`: the port's fetch permit, released when the transfer ends; without one the known
    /// entry is revalidated only.
    pub async fn run(
        self,
        known: Option<Arc<Entry>>,
        result: ResultSender,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let response = match revalidate(&self.client, &self.path, known.clone()).await {
            Ok(response) => response,
            Err(outcome) => return self.end(outcome, known, &result),
        };
        let Some(permit) = permit else {
            // The next machine whose port has a permit fetches the image.
            self.store.restore(&self.path, &result, None);
            result.send_replace(Some(FetchOutcome::NoMemory));
            return;
        };
        // The new entry may need the memory of the known one.
        drop(known);
        let (version, headers, body) = split_response(response);
        let reserved = match reserve(&self.store, &version, overhead(&self.path, &version, &headers)) {
            Ok(reserved) => reserved,
            Err(outcome) => {
                result.send_replace(Some(outcome));
                return;
            }
        };
        let writer = Writer::new(version, headers, reserved.overhead, reserved.bytes);
        result.send_replace(Some(FetchOutcome::Shared(Arc::clone(writer.entry()))));
        // `result` also holds the entry.
        drop(result);
        let Self { client, store, path, log } = self;
        Transfer { client, store, path, log, is_whole: reserved.is_whole }.run(writer, body, permit).await;
    }

    /// Ends a request without a new version.
    fn end(&self, outcome: FetchOutcome, known: Option<Arc<Entry>>, result: &ResultSender) {
        if let FetchOutcome::Failed(reason) | FetchOutcome::Unusable(reason) = &outcome
            && self.log.has_room()
        {
            warn!(port = %self.log.port(), path = self.path, %reason, "image request to the partition cache failed");
        }
        if matches!(outcome, FetchOutcome::NoImage(_) | FetchOutcome::Failed(_) | FetchOutcome::Unusable(_)) {
            self.store.restore(&self.path, result, known);
        }
        result.send_replace(Some(outcome));
    }
}

/// The version, the headers and the body of a response. Nothing else of its head is kept: that would keep its network
/// buffer for as long as the transfer takes.
fn split_response(response: Response<Body>) -> (Version, HeaderMap, Body) {
    let (head, body) = response.into_parts();
    let version = headers::version(&head.headers, body.size_hint().exact());
    (version, headers::copied(&head.headers, &[CONTENT_TYPE, CONTENT_ENCODING]), body)
}

/// Memory for an entry.
struct Reserved {
    /// For the entry itself.
    overhead: Reservation,
    /// For its bytes.
    bytes: Reservation,
    /// Whether `bytes` is enough for the whole image.
    is_whole: bool,
}

/// Reserves memory for an image and the `overhead` of its entry. An image up to half of the store's limit is kept
/// whole. A larger one gets a window of a quarter, which moves with its fastest reader: readers that fall behind it
/// request the rest unshared, which takes a strong validator. The memory of an image of unknown length grows as it is
/// received.
fn reserve(store: &Store, version: &Version, overhead: usize) -> Result<Reserved, FetchOutcome> {
    let reserve = |bytes: usize, is_whole| {
        let mut all = store.reserve(overhead.saturating_add(bytes)).ok_or(FetchOutcome::NoMemory)?;
        let overhead = all.split(overhead).ok_or(FetchOutcome::NoMemory)?;
        Ok(Reserved { overhead, bytes: all, is_whole })
    };
    let Some(length) = version.length else {
        return reserve(BLOCK, true);
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let is_small = length <= store.limit() / 2;
    if is_small && let Ok(reserved) = reserve(length, true) {
        return Ok(reserved);
    }
    let window = store.limit() / 4 / BLOCK * BLOCK;
    if length <= window {
        return Err(FetchOutcome::NoMemory);
    }
    if window < WINDOW_MIN || version.strong_validator().is_none() {
        return Err(if is_small { FetchOutcome::NoMemory } else { FetchOutcome::TooLarge });
    }
    reserve(window, false)
}
