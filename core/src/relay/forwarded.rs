//! The headers of a machine's request that upstreams get, and the headers that say which machine sent it (RFC 7239).
//!
//! Must never: pass on a machine's header that a server could take for one of leafboot or of a proxy.

use std::net::Ipv6Addr;

use super::identity::Header;
use super::kinds::Kind;

/// A machine at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The source of its connection, from the kernel.
    pub address: Ipv6Addr,
    /// Whether the connection has TLS.
    pub tls: bool,
}

impl Machine {
    /// The headers that say which machine sent the request (`Forwarded`: RFC 7239).
    pub fn headers(&self) -> Vec<Header> {
        let (address, scheme) = (self.address, if self.tls { "https" } else { "http" });
        vec![
            ("forwarded", format!("for=\"[{address}]\";proto={scheme}")),
            ("x-forwarded-for", address.to_string()),
            ("x-forwarded-proto", scheme.to_owned()),
        ]
    }
}

/// Whether upstreams get a machine's header. `connection` is the machine's `Connection` field. Only the headers of the kind's
/// policy pass: a server could take any other for a header of a proxy (`X-Client-IP`, `Remote-User`).
pub fn passes(kind: Kind, header: &str, connection: &str) -> bool {
    let known = kind.policy().headers.contains(&header);
    known && !is_named(connection, header)
}

/// Whether a `Connection` field names a header. Such a header is for this hop only (RFC 9110 7.6.1).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::identity::{LEAF, MAC, PORT, PREFIX, SESSION};
    use crate::relay::trace::REQUEST;

    const KINDS: [Kind; 4] = [Kind::Script, Kind::Token, Kind::Image, Kind::Api];

    fn machine() -> Machine {
        Machine { address: "2001:db8:b007::7".parse().unwrap(), tls: false }
    }

    #[test]
    fn no_header_of_a_machine_can_be_taken_for_leafboots() {
        for kind in KINDS {
            let own = [LEAF, PORT, PREFIX, SESSION].into_iter();
            for name in own.chain(machine().headers().into_iter().map(|(name, _)| name)) {
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
    fn the_headers_name_the_machine() {
        let expected = [
            ("forwarded", "for=\"[2001:db8:b007::7]\";proto=http"),
            ("x-forwarded-for", "2001:db8:b007::7"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(machine().headers(), expected.map(|(name, value)| (name, value.to_owned())));
    }
}
