//! The headers that say where a machine's requests come in, and from whom. They are kept for a moment: a machine that
//! boots asks for several things in a row, and its Ethernet address takes a question to the kernel.
//!
//! Must never: give headers of one machine to another, or of one boot attempt to the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use leafboot_core::names::Mac;
use leafboot_core::relay::forwarded::Machine;
use leafboot_core::relay::identity::{self, Header, IngressIdentity};

/// For how long the kernel's word about a machine is believed.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The identity headers of the machine that has asked last.
#[derive(Debug, Default)]
pub struct IdentityHeaders(Option<Made>);

#[derive(Debug)]
struct Made {
    headers: HeaderMap,
    identity: Arc<IngressIdentity>,
    machine: Machine,
    at: Instant,
}

impl IdentityHeaders {
    /// The headers for a request of `machine` in this attempt. `mac` asks the kernel for the machine's Ethernet address.
    pub fn get(
        &mut self,
        identity: &Arc<IngressIdentity>,
        machine: Machine,
        now: Instant,
        mac: impl FnOnce() -> Option<Mac>,
    ) -> HeaderMap {
        if let Some(made) = self.0.as_ref().filter(|made| made.holds(identity, machine, now)) {
            return made.headers.clone();
        }
        let mac = mac();
        let header = mac.map(|mac| (identity::MAC, mac.to_string()));
        let all = identity.headers().into_iter().chain(machine.headers()).chain(header);
        let headers: HeaderMap = all.filter_map(parsed).collect();
        // A machine that the kernel does not know yet may be known when the next request comes.
        let made = Made { headers: headers.clone(), identity: Arc::clone(identity), machine, at: now };
        self.0 = mac.map(|_| made);
        headers
    }
}

impl Made {
    fn holds(&self, identity: &Arc<IngressIdentity>, machine: Machine, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        self.identity == *identity && self.machine == machine && age < AGE_MAX
    }
}

/// None: the value cannot stand in a header. The values of an identity are checked types of printable ASCII.
fn parsed((name, value): Header) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
}

#[cfg(test)]
mod tests {
    use leafboot_core::attempt::AttemptId;

    use super::*;

    #[test]
    fn headers_are_kept_for_one_machine_in_one_attempt_for_a_moment() {
        let identity = |random| {
            Arc::new(IngressIdentity {
                leaf: "leaf01".to_owned(),
                port: "Ethernet0".parse().unwrap(),
                prefix: "2001:db8:b007::/64".parse().unwrap(),
                attempt: AttemptId::new(random),
            })
        };
        let machine = |address: &str| Machine { address: address.parse().unwrap(), tls: false };
        let (first, one, now) = (identity(1), machine("2001:db8:b007::7"), Instant::now());
        let mac = || Some(Mac([0x52, 0x54, 0, 0xb0, 7, 0]));
        let mut kept = IdentityHeaders::default();
        assert_eq!(kept.get(&first, one, now, || None).get(identity::MAC), None);
        let headers = kept.get(&first, one, now, mac);
        assert_eq!(headers[identity::PORT], "Ethernet0");
        assert_eq!(headers["x-forwarded-for"], "2001:db8:b007::7");
        assert_eq!(headers[identity::MAC], "52:54:00:b0:07:00", "an unknown machine is asked for again");
        let mut is_asked = |identity: &Arc<IngressIdentity>, machine, now| {
            let mut is_asked = false;
            kept.get(identity, machine, now, || {
                is_asked = true;
                mac()
            });
            is_asked
        };
        assert!(!is_asked(&first, one, now));
        assert!(is_asked(&first, one, now + AGE_MAX), "the kernel is asked again");
        assert!(is_asked(&first, machine("2001:db8:b007::8"), now), "another machine");
        assert!(is_asked(&first, one, now));
        assert!(is_asked(&first, Machine { tls: true, ..one }, now), "another scheme");
        assert!(is_asked(&identity(2), one, now), "another attempt");
    }
}
