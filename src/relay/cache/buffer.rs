//! The bytes of one entry: whole blocks, and the pieces of the block that is being filled. An entry that is larger than
//! its memory keeps a window of its last blocks.
//!
//! Must never: use more memory than its reservation.

use std::collections::VecDeque;
use std::sync::Arc;

use hyper::body::Bytes;

use super::memory::Reservation;

/// Bytes are copied into blocks of this size, whatever the sizes of the received pieces: memory that is reserved equals
/// memory that is used. A received piece is a part of a network buffer, and would keep all of that.
pub const BLOCK: usize = 256 * 1024;
/// Waiting readers are woken per batch of this many bytes, not per packet: waking 48 of them costs more than one
/// packet's bytes. While they wait, their machines acknowledge nothing: where a policer drops packets,
/// acknowledgements compete with the packets of the transfer itself.
pub const WAKE_BATCH: u64 = 4 << 20;

/// The bytes that an entry has.
#[derive(Debug)]
pub struct Buffer {
    /// Offset in the image of the first byte that is kept: more than 0 once a window has moved on.
    start: u64,
    blocks: VecDeque<Bytes>,
    /// The published pieces of the block that is being filled: readers see them.
    published: Vec<Bytes>,
    /// The unpublished rest, with capacity for the remainder of the block.
    unpublished: Vec<u8>,
    /// The bytes in `published` and `unpublished` together.
    open_length: usize,
    /// Up to which offset waiting readers were woken.
    woken_at: u64,
    state: TransferState,
    reservation: Reservation,
}

/// How far an entry's transfer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferState {
    /// More bytes will come.
    Fetching,
    /// All bytes are there.
    Complete,
    /// The transfer failed, and why.
    Failed(Arc<str>),
    /// Others needed the memory: readers request the rest for themselves.
    Evicted,
}

impl Buffer {
    /// An empty buffer. It keeps as many bytes as `reservation` has.
    pub fn new(reservation: Reservation) -> Self {
        Self {
            start: 0,
            blocks: VecDeque::new(),
            published: Vec::new(),
            unpublished: Vec::new(),
            open_length: 0,
            woken_at: 0,
            state: TransferState::Fetching,
            reservation,
        }
    }

    /// Offset in the image of the first byte that is kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Offset in the image behind the last byte that was received.
    pub fn end(&self) -> u64 {
        self.start + (self.blocks.len() * BLOCK + self.open_length) as u64
    }

    /// How far the transfer is.
    pub fn state(&self) -> &TransferState {
        &self.state
    }

    /// Bytes of memory that are reserved.
    pub fn reserved(&self) -> usize {
        self.reservation.bytes()
    }

    /// Reserves more memory.
    pub fn grow(&mut self, more: Reservation) {
        self.reservation.grow(more);
    }

    /// Some bytes from offset `at` on; none if it is not kept or not published.
    pub fn read(&self, at: u64) -> Option<Bytes> {
        let mut offset = usize::try_from(at.checked_sub(self.start)?).ok()?;
        if let Some(block) = self.blocks.get(offset / BLOCK) {
            return Some(block.slice(offset % BLOCK..));
        }
        offset -= self.blocks.len() * BLOCK;
        for piece in &self.published {
            if offset < piece.len() {
                return Some(piece.slice(offset..));
            }
            offset -= piece.len();
        }
        None
    }

    /// Appends received bytes. Returns whether there is a batch to wake waiting readers for.
    pub fn append(&mut self, mut bytes: &[u8]) -> bool {
        if self.state != TransferState::Fetching {
            return false;
        }
        while !bytes.is_empty() {
            if self.open_length == 0 {
                self.unpublished = Vec::with_capacity(self.next_block_capacity());
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(BLOCK - self.open_length));
            self.unpublished.extend_from_slice(piece);
            self.open_length += piece.len();
            bytes = rest;
            if self.open_length == BLOCK {
                self.close_block();
            }
        }
        let whole_blocks = self.end() - self.open_length as u64;
        let is_batch = whole_blocks >= self.woken_at + WAKE_BATCH;
        if is_batch {
            self.woken_at = whole_blocks;
        }
        is_batch
    }

    /// How long the next block may get. Drops the first blocks until there is memory for it.
    fn next_block_capacity(&mut self) -> usize {
        loop {
            let free = self.reservation.bytes().saturating_sub(self.blocks.len() * BLOCK);
            if free > 0 || self.blocks.pop_front().is_none() {
                return free.min(BLOCK);
            }
            self.start += BLOCK as u64;
        }
    }

    /// Makes one block of the pieces of the one that was being filled.
    fn close_block(&mut self) {
        let last = Bytes::from(std::mem::take(&mut self.unpublished));
        let block = if self.published.is_empty() {
            last
        } else {
            self.published.push(last);
            Bytes::from(self.published.concat())
        };
        self.blocks.push_back(block);
        self.published.clear();
        self.open_length = 0;
    }

    /// Publishes everything that was received. Returns whether waiting readers have not seen some of it.
    pub fn publish(&mut self) -> bool {
        if !self.unpublished.is_empty() {
            let rest = self.unpublished.capacity() - self.unpublished.len();
            // One piece, because each costs every reader a write; and without the capacity for the rest of the block.
            let piece = std::mem::replace(&mut self.unpublished, Vec::with_capacity(rest));
            self.published.push(Bytes::from(piece.into_boxed_slice()));
        }
        let is_news = self.woken_at < self.end();
        self.woken_at = self.end();
        is_news
    }

    /// Ends a successful transfer: publishes the last bytes as one piece, and frees memory that is not needed.
    pub fn complete(&mut self) {
        if self.state != TransferState::Fetching {
            return;
        }
        self.publish();
        self.unpublished = Vec::new();
        if self.published.len() > 1 {
            self.published = vec![Bytes::from(self.published.concat())];
        }
        self.reservation.shrink(self.blocks.len() * BLOCK + self.open_length);
        self.state = TransferState::Complete;
    }

    /// Ends a failed transfer. Returns whether it was under way.
    pub fn fail(&mut self, reason: &str) -> bool {
        let was_fetching = self.state == TransferState::Fetching;
        if was_fetching {
            self.state = TransferState::Failed(reason.into());
        }
        was_fetching
    }

    /// Frees all memory. Returns whether there were bytes, or some to come.
    pub fn evict(&mut self) -> bool {
        let was_there = matches!(self.state, TransferState::Fetching | TransferState::Complete);
        if was_there {
            self.start = self.end();
            self.blocks.clear();
            self.published.clear();
            self.unpublished = Vec::new();
            self.open_length = 0;
            self.reservation.shrink(0);
            self.state = TransferState::Evicted;
        }
        was_there
    }
}

#[cfg(test)]
impl Buffer {
    /// How many whole blocks are kept.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// How much memory the bytes use.
    pub fn used(&self) -> usize {
        let pieces = self.blocks.iter().chain(&self.published);
        pieces.map(Bytes::len).sum::<usize>() + self.unpublished.capacity()
    }
}
