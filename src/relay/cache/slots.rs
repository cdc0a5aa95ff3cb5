//! All slots of the store, and which of them go first when memory is needed.
//!
//! Must never: remove a slot whose outcome is waited for, or evict what several ports read.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::slot::Slot;
use leafboot_core::names::PortName;

/// Images that no machine asked for in this time are dropped: the memory is the switch's.
pub const UNUSED_MAX: Duration = Duration::from_secs(600);
/// A leaf serves a handful of images; more paths than this are not images. (An entry's memory is counted; this many
/// slots without one use some 200 KB.)
pub const SLOTS_MAX: usize = 256;

/// The slots, by path.
#[derive(Debug, Default)]
pub struct Slots(pub BTreeMap<String, Slot>);

impl Slots {
    /// Bytes of memory that removals and evictions could free.
    pub fn reclaimable(&self) -> usize {
        let can_go = |slot: &&Slot| slot.is_idle() || slot.evictable().is_some();
        self.0.values().filter(can_go).filter_map(Slot::entry).map(|entry| entry.reserved()).sum()
    }

    /// Frees the memory of one image: the least recently used one that has no reader; else one that a single port
    /// reads. Returns whether there was one.
    pub fn reclaim(&mut self) -> bool {
        self.remove_least_recently_used(Slot::is_idle) || self.evict()
    }

    /// Makes room for a slot for `path`. A slot that is waited for or read stays: its image would be fetched twice.
    /// Returns whether there is room.
    pub fn make_room_for(&mut self, path: &str) -> bool {
        // Slots without an entry are removed first.
        self.0.contains_key(path)
            || self.0.len() < SLOTS_MAX
            || self.remove_least_recently_used(|slot| slot.is_idle() && slot.entry().is_none())
            || self.remove_least_recently_used(Slot::is_idle)
    }

    /// Removes slots that no machine asked for in `UNUSED_MAX`. Returns when to call this again.
    pub fn expire(&mut self, now: Instant) -> Instant {
        let expires = |slot: &Slot| slot.last_asked + UNUSED_MAX;
        // A transfer under way ends itself when it has no readers.
        self.0.retain(|_, slot| !slot.is_done() || expires(slot) > now);
        let next = self.0.values().filter(|slot| slot.is_done()).map(expires).min();
        // A slot that ends or is asked for before then stays longer.
        next.unwrap_or(now + UNUSED_MAX)
    }

    /// Evicts an entry that only one port reads: of the port that has most memory in such entries, the least recently
    /// used one. Returns whether there was one.
    fn evict(&mut self) -> bool {
        let mut used: BTreeMap<&PortName, usize> = BTreeMap::new();
        for (port, entry) in self.0.values().filter_map(Slot::evictable) {
            *used.entry(port).or_default() += entry.reserved();
        }
        let candidates = self.0.iter().filter_map(|(path, slot)| {
            let (port, entry) = slot.evictable()?;
            Some(((Reverse(used.get(port)), slot.last_asked), path.clone(), entry))
        });
        let Some((_, path, entry)) = candidates.min_by_key(|(rank, ..)| *rank) else {
            return false;
        };
        self.0.remove(&path);
        entry.evict();
        true
    }

    fn remove_least_recently_used(&mut self, may_go: impl Fn(&Slot) -> bool) -> bool {
        let candidates = self.0.iter().filter(|(_, slot)| may_go(slot));
        let oldest = candidates.min_by_key(|(_, slot)| slot.last_asked).map(|(path, _)| path.clone());
        oldest.is_some_and(|path| self.0.remove(&path).is_some())
    }
}
