//! Builds the headers that name the port and the machine of a request, and caches them for `AGE_MAX`: a booting machine
//! sends several requests in a row, and only the kernel knows its Ethernet address.
//!
//! Must never: give headers of one machine to another, or of one boot attempt to the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use leafboot_core::names::Mac;
use leafboot_core::relay::forwarded::Machine;
use leafboot_core::relay::identity::{self, Header, IngressIdentity};

/// How long cached headers are used.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The identity headers of the machine that sent the last request.
#[derive(Debug, Default)]
pub struct IdentityHeaders(Option<Cached>);

#[derive(Debug)]
struct Cached {
    headers: HeaderMap,
    identity: Arc<IngressIdentity>,
    machine: Machine,
    at: Instant,
}

impl IdentityHeaders {
    /// The headers for a request of `machine` in this attempt. `mac` gets the machine's Ethernet address from the
    /// kernel.
    pub fn get(
        &mut self,
        identity: &Arc<IngressIdentity>,
        machine: Machine,
        now: Instant,
        mac: impl FnOnce() -> Option<Mac>,
    ) -> HeaderMap {
        if let Some(cached) = self.0.as_ref().filter(|cached| cached.is_for(identity, machine, now)) {
            return cached.headers.clone();
        }
        let mac = mac();
        let header = mac.map(|mac| (identity::MAC, mac.to_string()));
        let all = identity.headers().into_iter().chain(machine.headers()).chain(header);
        let headers: HeaderMap = all.filter_map(parsed).collect();
        // Headers without an Ethernet address are not cached: the kernel may know it at the next request.
        let cached = Cached { headers: headers.clone(), identity: Arc::clone(identity), machine, at: now };
        self.0 = mac.map(|_| cached);
        headers
    }
}

impl Cached {
    fn is_for(&self, identity: &Arc<IngressIdentity>, machine: Machine, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        self.identity == *identity && self.machine == machine && age < AGE_MAX
    }
}

/// A header; none if its value has characters that a header cannot have. Identities have printable ASCII only.
fn parsed((name, value): Header) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
}

#[cfg(test)]
mod tests {
    use leafboot_core::attempt::AttemptId;

    use super::*;

    #[test]
    fn cached_headers_hold_for_one_machine_in_one_attempt_and_expire_soon() {
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
        let mut cache = IdentityHeaders::default();
        assert_eq!(cache.get(&first, one, now, || None).get(identity::MAC), None);
        let headers = cache.get(&first, one, now, mac);
        assert_eq!(headers[identity::PORT], "Ethernet0");
        assert_eq!(headers["x-forwarded-for"], "2001:db8:b007::7");
        assert_eq!(headers[identity::MAC], "52:54:00:b0:07:00", "an unknown machine is asked for again");
        let mut is_asked = |identity: &Arc<IngressIdentity>, machine, now| {
            let mut is_asked = false;
            cache.get(identity, machine, now, || {
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
