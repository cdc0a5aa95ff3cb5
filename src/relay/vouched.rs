//! What leafboot vouches for when a machine asks, as headers that are ready to be sent: a machine that boots asks for
//! several things in a row, and they are not made for each.
//!
//! Must never: be said of another machine, or in another session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use leafboot_core::names::Mac;
use leafboot_core::relay::identity::{self, Claim, Header, Machine};

/// What the kernel said of a machine is believed so long.
const AGE: Duration = Duration::from_secs(1);
/// What is another with each request has its place already: or the map, copied with no room to spare, would grow for each.
const PLACES: [&str; 3] = [identity::REQUEST, identity::TRACEPARENT, "host"];

/// The headers that say where a machine's requests come in, and who asks.
#[derive(Debug)]
pub struct Vouched {
    /// The headers; those of each request are empty, and the request's to fill.
    pub headers: HeaderMap,
    claim: Arc<Claim>,
    machine: Machine,
    made: Instant,
}

impl Vouched {
    /// `mac`: the machine's Ethernet address, where the kernel knows it.
    pub fn new(claim: &Arc<Claim>, machine: Machine, mac: Option<Mac>, now: Instant) -> Self {
        let mac = mac.map(|mac| (identity::MAC, mac.to_string()));
        let all = claim.headers().into_iter().chain(machine.headers()).chain(mac);
        let places = PLACES.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("")));
        Self {
            headers: all.filter_map(ready).chain(places).collect(),
            claim: Arc::clone(claim),
            machine,
            made: now,
        }
    }

    /// Whether it is what is to be said of this machine in this session, now.
    pub fn holds(&self, claim: &Arc<Claim>, machine: Machine, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.made);
        Arc::ptr_eq(&self.claim, claim) && self.machine == machine && age < AGE
    }
}

/// A header that can be sent; none where its value cannot stand in one, which the words of a claim, checked types of
/// printable ASCII, always can.
fn ready((name, value): Header) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::session::Session;

    #[test]
    fn it_is_said_of_one_machine_in_one_session_for_a_while() {
        let claim = |session| {
            Arc::new(Claim {
                leaf: "leaf01".to_owned(),
                port: "Ethernet0".parse().unwrap(),
                prefix: "2001:db8:b007::/64".parse().unwrap(),
                session: Session::begin(1, session).id(),
            })
        };
        let machine = |address: &str| Machine { address: address.parse().unwrap(), tls: false };
        let (first, one, now) = (claim(1), machine("2001:db8:b007::7"), Instant::now());
        let vouched = Vouched::new(&first, one, Some(Mac([0x52, 0x54, 0, 0xb0, 7, 0])), now);
        assert_eq!(vouched.headers[identity::PORT], "Ethernet0");
        assert_eq!(vouched.headers["x-forwarded-for"], "2001:db8:b007::7");
        assert_eq!(vouched.headers[identity::MAC], "52:54:00:b0:07:00");
        assert!(vouched.holds(&first, one, now));
        assert!(!vouched.holds(&first, one, now + AGE), "the kernel is asked again");
        assert!(!vouched.holds(&first, machine("2001:db8:b007::8"), now), "another machine");
        assert!(!vouched.holds(&first, Machine { tls: true, ..one }, now), "another scheme");
        assert!(!vouched.holds(&claim(2), one, now), "another session");
    }
}
