//! The order and the pace in which the addresses of a name are tried for a connection (RFC 8305).
//!
//! Must never: leave out an address for ever.

use std::net::IpAddr;
use std::time::Duration;

/// The longest time from the start of one attempt to the start of the next (RFC 8305 5). It is shorter if there are many
/// addresses.
const STAGGER: Duration = Duration::from_millis(250);
/// The most addresses that are tried for one connection. A name has a few. The next connection tries further ones.
const TRIED_MAX: usize = 32;

/// A name's addresses.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// In the resolver's order (RFC 6724).
    all: Vec<IpAddr>,
    /// The address of the last connection that succeeded.
    worked: Option<IpAddr>,
    /// The address that was tried last.
    tried: Option<IpAddr>,
}

impl Addresses {
    /// Replaces all addresses by those that the resolver has found.
    pub fn found(&mut self, found: impl IntoIterator<Item = IpAddr>) {
        self.all.clear();
        for address in found {
            if !self.all.contains(&address) {
                self.all.push(address);
            }
        }
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The addresses to try next, in this order: the address of the last connection, then the addresses after the one that was
    /// tried last. Only addresses that `fits` accepts.
    pub fn to_try(&self, fits: impl Fn(&IpAddr) -> bool) -> Vec<IpAddr> {
        let after = self.tried.and_then(|tried| self.all.iter().position(|address| *address == tried));
        let (before, after) = self.all.split_at(after.map_or(0, |last| last + 1));
        let worked = self.worked.filter(|worked| self.all.contains(worked));
        let others = after.iter().chain(before).copied().filter(|address| worked != Some(*address));
        worked.into_iter().chain(others).filter(fits).take(TRIED_MAX).collect()
    }

    /// Records that an address is being tried.
    pub fn tries(&mut self, address: IpAddr) {
        self.tried = Some(address);
    }

    /// Records the address of a connection that succeeded; none if no address did.
    pub fn connected(&mut self, address: Option<IpAddr>) {
        self.worked = address;
    }
}

/// The time between the attempts at `count` addresses if there is `time` for all. At least half of `time` is left to the last
/// address.
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
    fn the_last_good_address_is_first_and_the_others_take_turns() {
        let mut six = addresses(6);
        assert_eq!(six.to_try(|_| true), (0..6).map(address).collect::<Vec<_>>());
        (0..5).for_each(|number| six.tries(address(number)));
        six.connected(Some(address(4)));
        assert_eq!(six.to_try(|_| true), [4, 5, 0, 1, 2, 3].map(address));
        assert_eq!(six.to_try(|fits| *fits != address(4)), [5, 0, 1, 2, 3].map(address));
        six.found([1, 5].map(address));
        assert_eq!(six.to_try(|_| true), [1, 5].map(address), "neither is there any more");
    }

    #[test]
    fn all_of_many_dead_addresses_are_tried_within_a_few_connections() {
        let mut many = addresses(100);
        let mut tried = BTreeSet::new();
        for _ in 0..4 {
            for address in many.to_try(|_| true) {
                many.tries(address);
                tried.insert(address);
            }
            many.connected(None);
        }
        assert_eq!(tried.len(), 100);
    }

    #[test]
    fn all_addresses_of_a_connection_are_tried_in_time() {
        for (count, expected) in [(1, 250), (2, 250), (6, 83), (TRIED_MAX, 15)] {
            assert_eq!(stagger(Duration::from_secs(1), count).as_millis(), expected);
        }
        assert_eq!(stagger(Duration::ZERO, 0), Duration::ZERO);
    }
}
