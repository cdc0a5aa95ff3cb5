//! Appends the received bytes of an image to its entry.
//!
//! Must never: complete an entry that has more or fewer bytes than its Content-Length.

use std::io;
use std::sync::Arc;

use hyper::header::HeaderMap;
use leafboot_core::relay::validators::Version;

use super::buffer::Buffer;
use super::entry::Entry;
use super::memory::Reservation;

/// The one that appends. Dropping it before `complete` fails the entry for all its readers.
#[derive(Debug)]
pub struct Writer {
    entry: Arc<Entry>,
}

impl Writer {
    /// A new entry's writer. `overhead` is the reservation for `entry::overhead()`. `bytes` limits how many of the image's
    /// bytes are kept: of a longer image (`bytes` is whole blocks then) the last ones are. `headers` must not share a
    /// network buffer.
    pub fn new(version: Version, headers: HeaderMap, overhead: Reservation, bytes: Reservation) -> Self {
        Self { entry: Entry::new(version, headers, overhead, bytes) }
    }

    /// The entry.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// How many bytes were appended.
    pub fn written(&self) -> u64 {
        self.entry.buffer().borrow().end()
    }

    /// Appends received bytes. Readers see whole blocks at once and the rest after `publish`; waiting readers are woken
    /// for a batch, or by `publish`. Returns whether they were woken. An error: more bytes than the image has.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let written = self.written() + bytes.len() as u64;
        if self.entry.version.length.is_some_and(|length| written > length) {
            return Err(io::Error::other("the response is longer than its Content-Length"));
        }
        Ok(self.entry.buffer().send_if_modified(|buffer| buffer.append(bytes)))
    }

    /// Publishes all appended bytes and wakes waiting readers. Returns whether there was something new for them.
    pub fn publish(&self) -> bool {
        self.entry.buffer().send_if_modified(Buffer::publish)
    }

    /// Adds memory to an entry of unknown length.
    pub fn grow(&mut self, more: Reservation) {
        self.entry.buffer().send_modify(|buffer| buffer.grow(more));
    }

    /// Ends the transfer: all bytes are there. An error if they are not.
    pub fn complete(self) -> io::Result<()> {
        if self.entry.version.length.is_some_and(|length| length != self.written()) {
            return Err(io::Error::other("the response is shorter than its Content-Length"));
        }
        self.entry.buffer().send_modify(Buffer::complete);
        Ok(())
    }

    /// Fails the entry: the connections of its readers break.
    pub fn fail(self, reason: &str) {
        self.entry.buffer().send_if_modified(|buffer| buffer.fail(reason));
    }

    /// Waits until some reader was given the bytes before `at`. Publishes everything first, so that it can be.
    pub async fn wait_for_reader(&self, at: u64) {
        let mut mark = self.entry.high_water_mark();
        if *mark.borrow() < at {
            self.publish();
            // The sender lives as long as the entry.
            let _ = mark.wait_for(|mark| *mark >= at).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.entry.buffer().send_if_modified(|buffer| buffer.fail("the transfer was aborted"));
    }
}
