//! The memory limit of shared images. Kept bytes have a `Reservation`; dropping it frees the memory.
//!
//! Must never: reserve more than the limit.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is reserved in pages of this many bytes.
pub const PAGE: usize = 4096;

/// A limit on memory, and how much of it is reserved.
#[derive(Debug)]
pub struct Memory {
    free: Arc<Semaphore>,
    pages: usize,
}

impl Memory {
    /// A limit of `bytes` bytes, rounded down to whole pages.
    pub fn new(bytes: u64) -> Self {
        // Permits are requested as a `u32`.
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let pages = usize::try_from(bytes / PAGE as u64).unwrap_or(most).min(most);
        Self { free: Arc::new(Semaphore::new(pages)), pages }
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.pages * PAGE
    }

    /// How many bytes are not reserved.
    pub fn free(&self) -> usize {
        self.free.available_permits() * PAGE
    }

    /// Reserves `bytes` bytes, rounded up to whole pages; none if less is free.
    pub fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let pages = u32::try_from(bytes.div_ceil(PAGE)).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(pages).ok().map(Reservation)
    }
}

/// Reserved memory. Dropping it frees the memory.
#[derive(Debug)]
pub struct Reservation(OwnedSemaphorePermit);

impl Reservation {
    /// Its size in bytes, a multiple of `PAGE`.
    pub fn bytes(&self) -> usize {
        self.0.num_permits() * PAGE
    }

    /// Takes `bytes` bytes out of it, at most all of it.
    pub fn split(&mut self, bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE).min(self.0.num_permits());
        self.0.split(pages).map(Self)
    }

    /// Frees all but `bytes` bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let unused = self.bytes().saturating_sub(bytes.next_multiple_of(PAGE));
        drop(self.split(unused));
    }

    /// Adds another reservation of the same memory.
    pub fn grow(&mut self, more: Self) {
        self.0.merge(more.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_and_unneeded_memory_is_free_again() {
        let memory = Memory::new(10 * PAGE as u64 + 1);
        assert_eq!((memory.limit(), memory.free()), (10 * PAGE, 10 * PAGE));
        let mut reservation = memory.reserve(3 * PAGE + 1).unwrap();
        assert_eq!((reservation.bytes(), memory.free()), (4 * PAGE, 6 * PAGE), "whole pages");
        assert!(memory.reserve(7 * PAGE).is_none());
        let part = reservation.split(1).unwrap();
        assert_eq!((part.bytes(), reservation.bytes(), memory.free()), (PAGE, 3 * PAGE, 6 * PAGE));
        reservation.grow(part);
        reservation.shrink(PAGE + 1);
        assert_eq!((reservation.bytes(), memory.free()), (2 * PAGE, 8 * PAGE));
        reservation.shrink(9 * PAGE);
        assert_eq!(reservation.bytes(), 2 * PAGE, "it does not grow");
        drop(reservation);
        assert_eq!(memory.free(), 10 * PAGE);
    }
}
