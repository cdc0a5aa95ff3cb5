//! One version of an image, while it is received and while it is kept. One `Writer` appends its bytes; any number of
//! `Reader`s read them as soon as they are published.
//!
//! Must never: show an incomplete image as complete, or keep more bytes than were reserved for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderMap;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::buffer::{Buffer, TransferState};
use super::memory::Reservation;
use leafboot_core::relay::validators::Version;

/// What an entry uses beside its bytes and texts, in bytes: itself, its slot in the store, its channels, its list of
/// blocks, and what the allocator adds to each.
const OVERHEAD: usize = 2 * 1024;

/// One version of an image.
#[derive(Debug)]
pub struct Entry {
    /// Which version.
    pub version: Version,
    /// The other headers of a response: `Content-Type`, `Content-Encoding`.
    pub headers: HeaderMap,
    buffer: watch::Sender<Buffer>,
    /// Offset behind the last byte that any reader was given.
    high_water_mark: watch::Sender<u64>,
    evicted: Notify,
    /// For the entry itself: it lives as long as anything refers to it, also when its bytes are gone.
    _overhead: Reservation,
}

/// How many bytes an entry uses beside its bytes. `path`: the path of its requests.
pub fn overhead(path: &str, version: &Version, headers: &HeaderMap) -> usize {
    let validators = [&version.etag, &version.last_modified].into_iter().flatten().map(String::len);
    let headers = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    // The store and the transfer have a copy of the path each.
    OVERHEAD + 2 * path.len() + validators.chain(headers).sum::<usize>()
}

impl Entry {
    /// A new entry. `Writer::new` says what the arguments are.
    pub(super) fn new(
        version: Version,
        headers: HeaderMap,
        overhead: Reservation,
        bytes: Reservation,
    ) -> Arc<Self> {
        Arc::new(Self {
            version,
            headers,
            buffer: watch::Sender::new(Buffer::new(bytes)),
            high_water_mark: watch::Sender::new(0),
            evicted: Notify::new(),
            _overhead: overhead,
        })
    }

    /// Whether a new reader gets the image from its first byte on.
    pub fn is_joinable(&self) -> bool {
        let buffer = self.buffer.borrow();
        buffer.start() == 0 && matches!(buffer.state(), TransferState::Fetching | TransferState::Complete)
    }

    /// Bytes of memory that are reserved for the image's bytes.
    pub fn reserved(&self) -> usize {
        self.buffer.borrow().reserved()
    }

    /// Whether more bytes will come.
    pub fn is_fetching(&self) -> bool {
        *self.buffer.borrow().state() == TransferState::Fetching
    }

    /// Whether the bytes from offset `first` on are kept, or are at most `ahead` bytes away.
    pub fn covers(&self, first: u64, ahead: u64) -> bool {
        let buffer = self.buffer.borrow();
        let is_near = match buffer.state() {
            TransferState::Fetching => first <= buffer.end().saturating_add(ahead),
            TransferState::Complete => true,
            TransferState::Failed(_) | TransferState::Evicted => false,
        };
        is_near && buffer.start() <= first
    }

    /// The image's length. Where the partition cache did not give it, waits for the end of the transfer.
    pub async fn length(&self) -> io::Result<u64> {
        if let Some(length) = self.version.length {
            return Ok(length);
        }
        let mut buffer = self.buffer.subscribe();
        let ended = buffer.wait_for(|buffer| *buffer.state() != TransferState::Fetching).await;
        let buffer = ended.map_err(|_| io::ErrorKind::BrokenPipe)?;
        match buffer.state() {
            TransferState::Failed(reason) => Err(io::Error::other(reason.to_string())),
            TransferState::Fetching | TransferState::Complete | TransferState::Evicted => Ok(buffer.end()),
        }
    }

    /// Whether its readers could request the rest for themselves.
    pub fn is_evictable(&self) -> bool {
        self.version.length.is_some() && self.version.strong_validator().is_some()
    }

    /// Frees the memory of its bytes. Its readers request the rest for themselves.
    pub fn evict(&self) {
        if self.buffer.send_if_modified(Buffer::evict) {
            self.evicted.notify_one();
        }
    }

    /// Waits until it is evicted. Only its transfer may wait: one waiter is woken.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Waits until it has no reader, and had none `time` ago.
    pub async fn unread_for(&self, time: Duration) {
        loop {
            self.buffer.closed().await;
            sleep(time).await;
            if self.buffer.receiver_count() == 0 {
                return;
            }
        }
    }

    /// A reader has been given the bytes before `at`.
    pub(super) fn raise_high_water_mark(&self, at: u64) {
        self.high_water_mark.send_if_modified(|mark| {
            let is_raised = *mark < at;
            *mark = at.max(*mark);
            is_raised
        });
    }

    /// Its bytes, for its writer and its readers.
    pub(super) fn buffer(&self) -> &watch::Sender<Buffer> {
        &self.buffer
    }

    /// Offset behind the last byte that any reader was given, for its writer.
    pub(super) fn high_water_mark(&self) -> watch::Receiver<u64> {
        self.high_water_mark.subscribe()
    }
}

#[cfg(test)]
mod tests;
