//! Reads a part of an entry, while or after it is received.
//!
//! Must never: return bytes of another offset than the next one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use tokio::sync::watch;

use super::buffer::{Buffer, TransferState};
use super::entry::Entry;

type Changed = Pin<Box<dyn Future<Output = watch::Receiver<Buffer>> + Send>>;

/// One reader of an entry.
pub struct Reader {
    entry: Arc<Entry>,
    at: u64,
    end: u64,
    /// None while `changed` has it.
    buffer: Option<watch::Receiver<Buffer>>,
    /// Waits for more bytes.
    changed: Option<Changed>,
}

/// What a reader gets next.
#[derive(Debug)]
pub enum Next {
    /// Some bytes.
    Bytes(Bytes),
    /// The bytes from here on are not kept any more: a window has moved on, or the entry was evicted.
    Gone {
        /// Offset of the next byte that the reader needs.
        at: u64,
    },
    /// The reader has everything.
    End,
}

impl Reader {
    /// A reader of the bytes `first..end` of an entry.
    pub fn new(entry: &Arc<Entry>, first: u64, end: u64) -> Self {
        let buffer = Some(entry.buffer().subscribe());
        // A window must move on to its first byte.
        entry.raise_high_water_mark(first);
        Self { entry: Arc::clone(entry), at: first, end, buffer, changed: None }
    }

    /// The entry.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The next bytes, at most `most`, as soon as some are published; an error if the transfer failed.
    pub fn poll_next(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<Next>> {
        loop {
            if let Some(changed) = &mut self.changed {
                self.buffer = Some(ready!(changed.as_mut().poll(context)));
                self.changed = None;
            }
            if self.at >= self.end {
                return Poll::Ready(Ok(Next::End));
            }
            let Some(mut buffer) = self.buffer.take() else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let next = next(&buffer.borrow_and_update(), self.at);
            match next {
                Some(next) => {
                    self.buffer = Some(buffer);
                    return Poll::Ready(next.map(|next| self.advance(next, most)));
                }
                None => {
                    self.changed = Some(Box::pin(async move {
                        // The sender lives as long as the entry, which this reader holds.
                        let _ = buffer.changed().await;
                        buffer
                    }));
                }
            }
        }
    }

    fn advance(&mut self, next: Next, most: usize) -> Next {
        let Next::Bytes(mut bytes) = next else {
            return next;
        };
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        bytes.truncate(most.min(left));
        self.at += bytes.len() as u64;
        self.entry.raise_high_water_mark(self.at);
        Next::Bytes(bytes)
    }
}

/// What a buffer has for offset `at`; none: it is still to come.
fn next(buffer: &Buffer, at: u64) -> Option<io::Result<Next>> {
    if let TransferState::Failed(reason) = buffer.state() {
        return Some(Err(io::Error::other(reason.to_string())));
    }
    if at < buffer.start() || *buffer.state() == TransferState::Evicted {
        return Some(Ok(Next::Gone { at }));
    }
    match buffer.read(at) {
        Some(bytes) => Some(Ok(Next::Bytes(bytes))),
        // The image's length was unknown, and is less than the reader's `end`.
        None => {
            (*buffer.state() == TransferState::Complete).then(|| Err(io::ErrorKind::UnexpectedEof.into()))
        }
    }
}
