//! Pure: which of a name's addresses are tried for a connection, in which order, and how soon one after the other.
//!
//! Must never: leave an address out for good.

use std::net::IpAddr;
use std::time::Duration;

/// The next address is tried beside the last one after this (RFC 8305 5), or sooner where there are many.
const STAGGER: Duration = Duration::from_millis(250);
/// So many are tried for one connection. A name has a few; of more the others have their turn next time.
const TURN: usize = 32;

/// A name's addresses.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// As the resolver orders them (RFC 6724).
    all: Vec<IpAddr>,
    /// Took the last connection.
    worked: Option<IpAddr>,
    /// Was tried last.
    tried: Option<IpAddr>,
}

impl Addresses {
    /// Those that the resolver found now.
    pub fn found(&mut self, found: impl IntoIterator<Item = IpAddr>) {
        self.all.clear();
        for address in found {
            if !self.all.contains(&address) {
                self.all.push(address);
            }
        }
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those that are tried next, of those that fit: first the one that took the last connection, then those after the one
    /// that was tried last.
    pub fn turn(&self, fits: impl Fn(&IpAddr) -> bool) -> Vec<IpAddr> {
        let after = self.tried.and_then(|tried| self.all.iter().position(|address| *address == tried));
        let (before, after) = self.all.split_at(after.map_or(0, |last| last + 1));
        let worked = self.worked.filter(|worked| self.all.contains(worked));
        let others = after.iter().chain(before).copied().filter(|address| worked != Some(*address));
        worked.into_iter().chain(others).filter(fits).take(TURN).collect()
    }

    /// One is tried.
    pub fn tries(&mut self, address: IpAddr) {
        self.tried = Some(address);
    }

    /// One took a connection that works, or none did.
    pub fn took(&mut self, worked: Option<IpAddr>) {
        self.worked = worked;
    }
}

/// How long an address is tried alone, of `count` that are to be tried within `time`: the last one has half of it.
pub fn stagger(time: Duration, count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    STAGGER.min(time / 2 / count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn address(number: usize) -> IpAddr {
        format!("2001:db8::{number:x}").parse().unwrap()
    }

    fn addresses(count: usize) -> Addresses {
        let mut addresses = Addresses::default();
        addresses.found((0..count).chain(0..count).map(address));
        addresses
    }

    #[test]
    fn each_has_its_turn_and_what_worked_is_first() {
        let mut six = addresses(6);
        assert_eq!(six.turn(|_| true), (0..6).map(address).collect::<Vec<_>>());
        (0..5).for_each(|number| six.tries(address(number)));
        six.took(Some(address(4)));
        assert_eq!(six.turn(|_| true), [4, 5, 0, 1, 2, 3].map(address));
        assert_eq!(six.turn(|fits| *fits != address(4)), [5, 0, 1, 2, 3].map(address));
        six.found([1, 5].map(address));
        assert_eq!(six.turn(|_| true), [1, 5].map(address), "neither is there any more");
    }

    #[test]
    fn of_many_dead_ones_each_is_tried_in_a_few_turns() {
        let mut many = addresses(100);
        let mut tried = BTreeSet::new();
        for _ in 0..4 {
            for address in many.turn(|_| true) {
                many.tries(address);
                tried.insert(address);
            }
            many.took(None);
        }
        assert_eq!(tried.len(), 100);
    }

    #[test]
    fn all_of_a_turn_are_tried_in_time() {
        for (count, expected) in [(1, 250), (2, 250), (6, 83), (TURN, 15)] {
            assert_eq!(stagger(Duration::from_secs(1), count).as_millis(), expected);
        }
        assert_eq!(stagger(Duration::ZERO, 0), Duration::ZERO);
    }
}
