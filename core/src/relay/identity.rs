//! Pure: what leafboot says of a request to the servers behind: *it came in through that port of this leaf*; and which
//! of the machine's own headers go on.
//!
//! Must never: let a header of a machine pass that a server could take for leafboot's word.

use std::fmt;
use std::net::Ipv6Addr;

use super::kinds::Kind;
use crate::names::{BootPrefix, PortName};
use crate::session::SessionId;

/// Header with the leaf's name.
pub const LEAF: &str = "leafboot-leaf";
/// Header with the port's SONiC name.
pub const PORT: &str = "leafboot-port";
/// Header with the port's /64.
pub const PREFIX: &str = "leafboot-prefix";
/// Header with the boot session.
pub const SESSION: &str = "leafboot-session";
/// Header with the Ethernet address that the machine answers neighbour discovery with: the machine's own word.
pub const MAC: &str = "leafboot-mac";
/// Header with the request's id, the one in leafboot's log; the answer to the machine has it too.
pub const REQUEST: &str = "leafboot-request";
/// W3C Trace Context 3.2.
pub const TRACEPARENT: &str = "traceparent";
/// W3C Trace Context 3.3.
pub const TRACESTATE: &str = "tracestate";
/// W3C Trace Context 3.3.1.5: what must be passed on at least.
const TRACESTATE_MAX: usize = 512;

/// Where requests come in. It is made from the listener that took them, never from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The leaf's name.
    pub leaf: String,
    /// The port.
    pub port: PortName,
    /// The port's /64.
    pub prefix: BootPrefix,
    /// The boot session.
    pub session: SessionId,
}

/// A header's name, in lower case, and its value: printable ASCII.
pub type Header = (&'static str, String);

/// A machine at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Where its connection comes from, as the kernel says.
    pub address: Ipv6Addr,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Claim {
    /// The headers that say where requests come in.
    pub fn headers(&self) -> Vec<Header> {
        vec![
            (LEAF, self.leaf.clone()),
            (PORT, self.port.to_string()),
            (PREFIX, self.prefix.to_string()),
            (SESSION, self.session.to_string()),
        ]
    }
}

impl Machine {
    /// The headers that say who asks (`Forwarded`: RFC 7239).
    pub fn headers(&self) -> Vec<Header> {
        let (address, scheme) = (self.address, if self.tls { "https" } else { "http" });
        vec![
            ("forwarded", format!("for=\"[{address}]\";proto={scheme}")),
            ("x-forwarded-for", address.to_string()),
            ("x-forwarded-proto", scheme.to_owned()),
        ]
    }
}

/// A request's id: 16 hex digits, not all zero. A trace that starts here has it for its span (W3C Trace Context 3.2.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// An id of random bits, all but the last, which is set.
    pub fn new(random: u64) -> Self {
        Self(hex(random | 1))
    }

    /// Its digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// A number's digits. Each request needs some, and the standard library's formatting costs several times as much.
fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|place| b"0123456789abcdef"[(number >> (60 - 4 * place)) as usize & 15])
}

/// Whether a machine's header goes on. `connection` is the machine's `Connection` field. Only what is known to mean nothing
/// but the request itself does: a server could take any other name for the word of a proxy (`X-Client-IP`, `Remote-User`).
pub fn passes(kind: Kind, header: &str, connection: &str) -> bool {
    let known = kind.policy().headers.contains(&header);
    known && !is_named(connection, header)
}

/// Whether a `Connection` field names a header: then that is for this hop only (RFC 9110 7.6.1).
pub fn is_named(connection: &str, header: &str) -> bool {
    connection.split(',').any(|option| option.trim().eq_ignore_ascii_case(header))
}

/// Whether a header is for one connection only (RFC 9110 7.6.1; `keep-alive` and `proxy-connection`: RFC 9112 C.2.2).
pub fn is_hop_by_hop(header: &str) -> bool {
    matches!(
        header,
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "http2-settings"
    ) || header.starts_with("proxy-")
}

/// The trace that a request belongs to: the machine's own, where it is well-formed, or one that starts here, which begins
/// with `random` and ends with the request's id: that is its span, too. And the machine's `tracestate`, whose fields mean
/// something only with its trace, and are only then asked for. (W3C Trace Context 3.2.2, 3.3, 4.3)
pub fn trace<'a>(
    parents: &[&str],
    states: impl FnOnce() -> Vec<&'a str>,
    id: &RequestId,
    random: u64,
) -> (String, Option<String>) {
    if let [parent] = parents
        && is_traceparent(parent)
    {
        let state =
            Some(states().join(",")).filter(|state| !state.is_empty() && state.len() <= TRACESTATE_MAX);
        return ((*parent).to_owned(), state);
    }
    let mut parent = *b"00-________________________________-________________-00";
    for (place, digits) in [(3, &hex(random)), (19, &id.0), (36, &id.0)] {
        parent[place..place + 16].copy_from_slice(digits);
    }
    (String::from_utf8(parent.to_vec()).unwrap_or_default(), None)
}

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, in lower case, ids not zero; a later version may have more.
fn is_traceparent(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let hex = |field: &str, length: usize| {
        field.len() == length && field.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_id = |field: &str, length: usize| hex(field, length) && field.bytes().any(|b| b != b'0');
    match fields.as_slice() {
        [version, trace, span, flags, more @ ..] => {
            hex(version, 2)
                && *version != "ff"
                && is_id(trace, 32)
                && is_id(span, 16)
                && hex(flags, 2)
                && (more.is_empty() || *version != "00")
                && text.len() <= 256
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const KINDS: [Kind; 4] = [Kind::Script, Kind::Token, Kind::Image, Kind::Api];

    fn claim() -> Claim {
        Claim {
            leaf: "leaf01".to_owned(),
            port: "Ethernet0".parse().unwrap(),
            prefix: "2001:db8:b007::/64".parse().unwrap(),
            session: crate::session::Session::begin(1, 0xabc).id(),
        }
    }

    fn machine() -> Machine {
        Machine { address: "2001:db8:b007::7".parse().unwrap(), tls: false }
    }

    #[test]
    fn no_header_of_a_machine_can_be_taken_for_the_claim() {
        for kind in KINDS {
            for (name, _) in [claim().headers(), machine().headers()].concat() {
                assert!(!passes(kind, name, ""), "{kind} {name}");
            }
            for name in [
                MAC,
                REQUEST,
                "x-forwarded-host",
                "x-real-ip",
                "leafboot_port",
                "x_forwarded_for",
                "connection",
                "host",
                "via",
                "proxy-authorization",
                "x-client-ip",
                "x-client-cert",
                "x-original-url",
                "x-rewrite-url",
                "x-http-method-override",
                "remote-user",
                "ssl-client-cert",
                "true-client-ip",
                "cookie",
                "te",
                "upgrade",
                "expect",
                "content-length",
                "transfer-encoding",
            ] {
                assert!(!passes(kind, name, ""), "{kind} {name}");
            }
            assert!(passes(kind, "user-agent", ""));
            assert!(!passes(kind, "user-agent", "close, User-Agent"), "{kind}: named in Connection");
        }
        assert!(passes(Kind::Api, "authorization", "") && !passes(Kind::Script, "authorization", ""));
        for name in ["connect-protocol-version", "connect-timeout-ms", "content-type", "x-grpc-web"] {
            assert!(passes(Kind::Api, name, "") && !passes(Kind::Token, name, ""), "{name}");
        }
        assert!(passes(Kind::Image, "range", "") && !passes(Kind::Token, "range", ""));
    }

    #[test]
    fn the_claim_says_all_that_is_known() {
        let headers = [claim().headers(), machine().headers()].concat();
        for (name, value) in [
            (LEAF, "leaf01"),
            (PORT, "Ethernet0"),
            (PREFIX, "2001:db8:b007::/64"),
            (SESSION, "0000000000000abc"),
            ("forwarded", "for=\"[2001:db8:b007::7]\";proto=http"),
            ("x-forwarded-for", "2001:db8:b007::7"),
        ] {
            assert!(headers.contains(&(name, value.to_owned())), "{name}: {value} in {headers:?}");
        }
        assert_eq!(RequestId::new(0xfedc_ba98_7654_3210).to_string(), "fedcba9876543211");
        assert_eq!(RequestId::new(0).to_string(), "0000000000000001", "a span's may not be zero");
    }

    #[test]
    fn a_trace_is_passed_on_or_started() {
        let id = RequestId::new(4);
        let trace = |parents: &[&str], states: &[&str]| trace(parents, || states.to_vec(), &id, 1);
        assert_eq!(trace(&[PARENT], &["a=1", "b=2"]), (PARENT.to_owned(), Some("a=1,b=2".to_owned())));
        for bad in [&[][..], &["a".repeat(TRACESTATE_MAX + 1).as_str()]] {
            assert_eq!(trace(&[PARENT], bad), (PARENT.to_owned(), None));
        }
        let started = "00-00000000000000010000000000000005-0000000000000005-00";
        for bad in [
            &[][..],
            &[PARENT, PARENT],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["x"],
        ] {
            assert_eq!(trace(bad, &["a=1"]), (started.to_owned(), None), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_started_trace_is_well_formed(id: u64, random: u64) {
            prop_assert!(is_traceparent(&trace(&[], Vec::new, &RequestId::new(id), random).0));
        }

        #[test]
        fn a_number_has_its_digits(number: u64) {
            prop_assert_eq!(hex(number).to_vec(), format!("{number:016x}").into_bytes());
        }
    }
}
