//! Images by path, stored or being transferred. The first machine that asks for a path starts a request to the
//! partition cache; later ones wait for its outcome.
//!
//! Must never: give out an entry that is not fresh, keep more bytes than its limit, or let one port keep memory that
//! another port needs with images that no other port wants.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::entry::Entry;
use super::memory::{Memory, Reservation};
use super::outcome::{FetchOutcome, ResultReceiver, ResultSender};
use super::slot::{Demand, Slot};
use super::slots::Slots;
use crate::guarded::Guarded;
use crate::metrics::CacheState;
use leafboot_core::names::PortName;

/// What a machine's request for a path leads to.
#[derive(Debug)]
pub enum Lookup {
    /// The path was requested already: wait for the outcome.
    Wait(ResultReceiver),
    /// The caller must request the path and send the outcome. If an older entry is given, the caller may revalidate it.
    Fetch(ResultSender, Option<Arc<Entry>>),
    /// Neither: the caller may not fetch, or all slots are in use. The machine gets an unshared transfer.
    Bypass,
}

/// The store of one leaf.
#[derive(Debug)]
pub struct Store {
    slots: Guarded<Slots>,
    memory: Memory,
}

impl Store {
    /// An empty store whose images may use `bytes` bytes of memory.
    pub fn new(bytes: u64) -> Self {
        Self { slots: Guarded::default(), memory: Memory::new(bytes) }
    }

    /// How many bytes its images may use.
    pub fn limit(&self) -> usize {
        self.memory.limit()
    }

    /// What it uses at the moment.
    pub fn state(&self) -> CacheState {
        let limit = self.memory.limit();
        CacheState {
            used: limit.saturating_sub(self.memory.free()) as u64,
            limit: limit as u64,
            transfers: self.slots.with(|slots| slots.0.values().filter(|slot| slot.is_fetching()).count()),
        }
    }

    /// Looks `path` up for a machine on `port`. Without `may_fetch` the caller may only revalidate an entry.
    pub fn lookup(&self, path: &str, port: &PortName, may_fetch: bool, now: Instant) -> Lookup {
        self.slots.with(|slots| {
            let mut demand = Demand::Port(port.clone());
            let mut previous = None;
            if let Some(slot) = slots.0.get_mut(path) {
                slot.last_asked = now;
                slot.demand.add(port);
                demand = slot.demand.clone();
                if slot.is_fresh(now) {
                    return Lookup::Wait(slot.outcome.clone());
                }
                previous = slot.entry().filter(|entry| entry.is_joinable());
            }
            if (previous.is_none() && !may_fetch) || !slots.make_room_for(path) {
                return Lookup::Bypass;
            }
            let (result, outcome) = watch::channel(None);
            let slot = Slot { outcome, requested: Some(now), last_asked: now, demand };
            slots.0.insert(path.to_owned(), slot);
            Lookup::Fetch(result, previous)
        })
    }

    /// Ends a request that brought no entry. The entry from before (`previous`) is put back and will be revalidated.
    /// Does nothing if another request has replaced the one that `result` belongs to.
    pub fn restore(&self, path: &str, result: &ResultSender, previous: Option<Arc<Entry>>) {
        self.slots.with(|slots| {
            let receiver = result.subscribe();
            let Some(slot) = slots.0.get_mut(path).filter(|slot| slot.outcome.same_channel(&receiver)) else {
                return;
            };
            match previous.filter(|previous| previous.is_joinable()) {
                Some(previous) => {
                    slot.outcome = watch::channel(Some(FetchOutcome::Shared(previous))).1;
                    slot.requested = None;
                }
                None => drop(slots.0.remove(path)),
            }
        });
    }

    /// The entry of `path`, if it is fresh. Requests nothing.
    pub fn fresh(&self, path: &str, now: Instant) -> Option<Arc<Entry>> {
        self.slots.with(|slots| {
            let slot = slots.0.get_mut(path)?;
            slot.last_asked = now;
            if slot.is_fresh(now) { slot.entry() } else { None }
        })
    }

    /// Removes `entry`, if it still is the one of `path`. Its readers go on.
    pub fn remove(&self, path: &str, entry: &Arc<Entry>) {
        self.slots.with(|slots| {
            let is_same = |slot: &Slot| slot.entry().is_some_and(|kept| Arc::ptr_eq(&kept, entry));
            if slots.0.get(path).is_some_and(is_same) {
                slots.0.remove(path);
            }
        });
    }

    /// Removes images that no machine has asked for in ten minutes. Their readers go on. Returns when to look again.
    pub fn expire(&self, now: Instant) -> Instant {
        self.slots.with(|slots| slots.expire(now))
    }

    /// Reserves `bytes` bytes of memory. If there is too little, it evicts entries without a reader, the least recently
    /// used first; then entries that only one port reads, of the port that uses most. None, and nothing is evicted, if
    /// that would not be enough.
    pub fn reserve(&self, bytes: usize) -> Option<Reservation> {
        loop {
            if let Some(reservation) = self.memory.reserve(bytes) {
                return Some(reservation);
            }
            let is_reclaimed =
                self.slots.with(|slots| self.memory.free() + slots.reclaimable() >= bytes && slots.reclaim());
            if !is_reclaimed {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
