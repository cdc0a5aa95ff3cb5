//! The memory that images may take: who keeps something holds room for it, and the room is free again when its holder is
//! dropped.
//!
//! Must never: give out more than there is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is given out in pages of this many bytes.
pub const PAGE: usize = 4096;

/// All the room that there is.
#[derive(Debug)]
pub struct Store {
    free: Arc<Semaphore>,
    pages: usize,
}

impl Store {
    /// Room for `bytes` bytes, in whole pages.
    pub fn new(bytes: u64) -> Self {
        // Room is asked for with a `u32`.
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let pages = usize::try_from(bytes / PAGE as u64).unwrap_or(most).min(most);
        Self { free: Arc::new(Semaphore::new(pages)), pages }
    }

    /// How many bytes there is room for, used or not.
    pub fn bytes(&self) -> usize {
        self.pages * PAGE
    }

    /// How many bytes more there is room for now.
    pub fn free(&self) -> usize {
        self.free.available_permits() * PAGE
    }

    /// Room for `bytes` bytes, if there is as much.
    pub fn take(&self, bytes: usize) -> Option<Room> {
        let pages = u32::try_from(bytes.div_ceil(PAGE)).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(pages).ok().map(Room)
    }
}

/// Room for some bytes.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

impl Room {
    /// For how many bytes.
    pub fn bytes(&self) -> usize {
        self.0.num_permits() * PAGE
    }

    /// Takes room for `bytes` bytes out of it; what there is, where that is less.
    pub fn split(&mut self, bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE).min(self.0.num_permits());
        self.0.split(pages).map(Self)
    }

    /// Keeps room for `bytes` bytes, and gives the rest back.
    pub fn shrink(&mut self, bytes: usize) {
        let unused = self.bytes().saturating_sub(bytes.next_multiple_of(PAGE));
        drop(self.split(unused));
    }

    /// Adds more.
    pub fn grow(&mut self, more: Self) {
        self.0.merge(more.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_or_not_needed_is_free_again() {
        let store = Store::new(10 * PAGE as u64 + 1);
        assert_eq!((store.bytes(), store.free()), (10 * PAGE, 10 * PAGE));
        let mut room = store.take(3 * PAGE + 1).unwrap();
        assert_eq!((room.bytes(), store.free()), (4 * PAGE, 6 * PAGE), "whole pages");
        assert!(store.take(7 * PAGE).is_none());
        let part = room.split(1).unwrap();
        assert_eq!((part.bytes(), room.bytes(), store.free()), (PAGE, 3 * PAGE, 6 * PAGE));
        room.grow(part);
        room.shrink(PAGE + 1);
        assert_eq!((room.bytes(), store.free()), (2 * PAGE, 8 * PAGE));
        room.shrink(9 * PAGE);
        assert_eq!(room.bytes(), 2 * PAGE, "there is no more");
        drop(room);
        assert_eq!(store.free(), 10 * PAGE);
    }
}
