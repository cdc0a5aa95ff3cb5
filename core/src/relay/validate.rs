//! The validation of a request's head: it refuses what HTTP/1.1 forbids and the HTTP library accepts.
//!
//! Must never: accept a request whose end or host two servers could interpret differently.

use super::kinds::Kind;

/// The parts of a request's head that are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// Whether it is HTTP/1.1; otherwise HTTP/1.0.
    pub is_1_1: bool,
    /// The values of its first two `Host` fields.
    pub hosts: [Option<&'a [u8]>; 2],
    /// How often its `Transfer-Encoding` fields name `chunked`.
    pub chunked: usize,
    /// Whether its `Transfer-Encoding` fields name another coding.
    pub has_other_coding: bool,
    /// Whether it had `Content-Length` and `Transfer-Encoding`. The HTTP library removes `Content-Length` then.
    pub has_both: bool,
    /// The values of its first two `Content-Length` fields.
    pub lengths: [Option<&'a [u8]>; 2],
    /// Whether it has an `Expect` field.
    pub expect: bool,
    /// The total length of its `Connection` fields, in bytes.
    pub connection: usize,
}

impl<'a> Head<'a> {
    /// Adds a field. `name` is in lower case.
    pub fn add(&mut self, name: &str, value: &'a [u8]) {
        match name {
            "host" => add_value(&mut self.hosts, value),
            "content-length" => add_value(&mut self.lengths, value),
            "transfer-encoding" => {
                let codings = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                let chunked = codings().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
                self.chunked += chunked;
                self.has_other_coding |= chunked < codings().count();
            }
            "expect" => self.expect = true,
            "connection" => self.connection += value.len(),
            _ => {}
        }
    }
}

/// Adds a value, unless there are two already.
fn add_value<'a>(values: &mut [Option<&'a [u8]>; 2], value: &'a [u8]) {
    if let Some(free) = values.iter_mut().find(|slot| slot.is_none()) {
        *free = Some(value);
    }
}

/// The most bytes of the `Connection` fields. They name a few headers, and each header of the request is compared with them.
const CONNECTION_MAX: usize = 256;

/// Why a request is refused: the status code, and a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub u16, pub &'static str);

/// Checks a head. The connection must end after a fault, because the beginning of the next request is unknown.
pub fn check(head: &Head) -> Result<(), Fault> {
    // RFC 9112 3.2: a missing, a second and an invalid Host are all 400.
    match head.hosts {
        [None, _] if head.is_1_1 => return Err(Fault(400, "Host is missing (RFC 9112 3.2)")),
        [None, _] => {}
        [_, Some(_)] => return Err(Fault(400, "Host is there more than once (RFC 9112 3.2)")),
        [Some(host), None] if is_host(host) => {}
        [Some(_), None] => return Err(Fault(400, "Host is invalid (RFC 9112 3.2)")),
    }
    let [length, another] = head.lengths;
    let is_coded = head.has_other_coding || head.chunked > 0;
    if head.has_both || (is_coded && length.is_some()) {
        return Err(Fault(400, "Content-Length and Transfer-Encoding exclude each other (RFC 9112 6.3)"));
    }
    if head.has_other_coding {
        return Err(Fault(501, "the only supported Transfer-Encoding is chunked (RFC 9112 6.1)"));
    }
    if head.chunked > 1 {
        return Err(Fault(400, "Transfer-Encoding has chunked more than once (RFC 9112 6.1)"));
    }
    if another.is_some() || length.is_some_and(|length| length_of(length).is_none()) {
        return Err(Fault(400, "Content-Length is not one number (RFC 9112 6.3)"));
    }
    if head.connection > CONNECTION_MAX {
        return Err(Fault(431, "Connection is too long (RFC 6585 5)"));
    }
    // iPXE hangs after a 1xx answer. RFC 9110 10.1.1 allows 417 for an expectation.
    if head.expect { Err(Fault(417, "Expect is not supported (RFC 9110 10.1.1)")) } else { Ok(()) }
}

/// Checks a request's body against its kind's policy. The length of a chunked body is not known yet: it is checked while the
/// body comes.
pub fn check_body(kind: Kind, head: &Head) -> Result<(), Fault> {
    let most = kind.policy().body_max;
    let length = head.lengths[0].and_then(length_of).unwrap_or(0);
    match most {
        0 if head.chunked > 0 || length > 0 => Err(Fault(400, "this path takes no body")),
        0 => Ok(()),
        _ if length > most => Err(Fault(413, "the body is too long")),
        _ => Ok(()),
    }
}

/// A `Content-Length`: digits only (RFC 9110 8.6).
fn length_of(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// `Host`: a name or an IPv4 address, or an IPv6 literal with or without a zone, and maybe a port. iPXE sends the zone
/// as its URL has it, `[fe80::1%25net0]` (RFC 6874), and other clients `[fe80::1%net0]`.
fn is_host(value: &[u8]) -> bool {
    let (is_host, port) = match value.strip_prefix(b"[").map(|literal| before(literal, b']')) {
        Some((inside, [b']', port @ ..])) => (is_literal(inside), port),
        Some(_) => return false,
        None => {
            let (name, port) = before(value, b':');
            (is_name(name), port)
        }
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_host && is_port
}

/// Whether the text between the brackets of an IPv6 literal has valid characters. leafboot does not connect to the address.
fn is_literal(inside: &[u8]) -> bool {
    let (address, zone) = before(inside, b'%');
    let is_zone = match zone {
        [] => true,
        [_, zone @ ..] => (1..=32).contains(&zone.len()) && is_name(zone),
    };
    let is_of_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let colons = address.iter().filter(|byte| **byte == b':').count();
    is_zone && colons >= 2 && address.iter().all(is_of_address)
}

/// Whether a text has no other characters than names have.
fn is_name(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// Splits a text before the first `mark`; without one, the second part is empty.
fn before(text: &[u8], mark: u8) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| *byte == mark).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: Head<'static> = Head {
        is_1_1: true,
        hosts: [Some(b"leaf"), None],
        chunked: 0,
        has_other_coding: false,
        has_both: false,
        lengths: [None; 2],
        expect: false,
        connection: 0,
    };

    #[test]
    fn a_head_has_the_fields_that_are_checked() {
        let mut head = Head { is_1_1: true, ..Head::default() };
        for (name, value) in [
            ("host", "a"),
            ("accept", "x"),
            ("host", "b"),
            ("host", "c"),
            ("connection", "close"),
            ("content-length", "0"),
            ("connection", "te"),
            ("transfer-encoding", "chunked"),
            ("expect", ""),
        ] {
            head.add(name, value.as_bytes());
        }
        let expected = Head {
            is_1_1: true,
            hosts: [Some(b"a"), Some(b"b")],
            chunked: 1,
            has_other_coding: false,
            has_both: false,
            lengths: [Some(b"0"), None],
            expect: true,
            connection: 7,
        };
        assert_eq!(head, expected);
    }

    fn with_host(host: &str) -> bool {
        check(&Head { hosts: [Some(host.as_bytes()), None], ..GOOD }).is_ok()
    }

    #[test]
    fn hosts_are_names_addresses_and_literals_with_or_without_zone() {
        for host in [
            "leaf",
            "boot.example:80",
            "192.0.2.1",
            "[2001:db8::1]",
            "[2001:db8::1]:80",
            "[::ffff:192.0.2.1]",
            "[fe80::1%25net0]",
            "[fe80::1%net0]:8080",
            "[fe80::1%25eth0.4]",
            "",
        ] {
            assert!(with_host(host), "{host}");
        }
        for host in [
            "a b",
            "a/b",
            "user@a",
            "a:x",
            "a:80:80",
            "[::1",
            "::1",
            "[x]",
            "[]",
            "[1]",
            "[::g]",
            "[:]",
            "[192.0.2.1]",
            "[::1%]",
            "[::1]x",
            "[::1%25a/b]",
            "a\u{e9}",
            "a,b",
            "a:123456",
        ] {
            assert!(!with_host(host), "{host}");
        }
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        assert_eq!(check(&GOOD), Ok(()));
        assert_eq!(check(&Head { hosts: [None; 2], ..GOOD }).unwrap_err().0, 400);
        assert_eq!(check(&Head { hosts: [None; 2], is_1_1: false, ..GOOD }), Ok(()));
        assert_eq!(check(&Head { hosts: [Some(b"a"); 2], ..GOOD }).unwrap_err().0, 400);
        assert_eq!(check(&Head { chunked: 1, lengths: [Some(b"0"), None], ..GOOD }).unwrap_err().0, 400);
        assert_eq!(check(&Head { chunked: 1, has_both: true, ..GOOD }).unwrap_err().0, 400);
        for (codings, fault) in [
            (&["chunked"][..], None),
            (&["Chunked"], None),
            (&["gzip, chunked"], Some(501)),
            (&["gzip", "chunked"], Some(501)),
            (&["chunked;q=1"], Some(501)),
            (&[""], Some(501)),
            (&["chunked, chunked"], Some(400)),
            (&["chunked", " chunked"], Some(400)),
        ] {
            let mut head = GOOD;
            codings.iter().for_each(|coding| head.add("transfer-encoding", coding.as_bytes()));
            assert_eq!(check(&head).err().map(|fault| fault.0), fault, "{codings:?}");
        }
        assert_eq!(check(&Head { lengths: [Some(b"1"); 2], ..GOOD }).unwrap_err().0, 400);
        for length in ["+1", "", "1, 1", "99999999999999999999"] {
            let lengths = [Some(length.as_bytes()), None];
            assert_eq!(check(&Head { lengths, ..GOOD }).unwrap_err().0, 400, "{length:?}");
        }
        assert_eq!(check(&Head { expect: true, ..GOOD }).unwrap_err().0, 417);
        assert_eq!(check(&Head { connection: CONNECTION_MAX, ..GOOD }), Ok(()));
        assert_eq!(check(&Head { connection: CONNECTION_MAX + 1, ..GOOD }).unwrap_err().0, 431);
    }

    #[test]
    fn only_the_api_takes_a_body() {
        let five = Head { lengths: [Some(b"5"), None], ..GOOD };
        let chunked = Head { chunked: 1, ..GOOD };
        for kind in [Kind::Script, Kind::Token, Kind::Image] {
            assert!(check_body(kind, &five).is_err() && check_body(kind, &chunked).is_err(), "{kind}");
            assert_eq!(check_body(kind, &Head { lengths: [Some(b"0"), None], ..GOOD }), Ok(()));
        }
        assert!(check_body(Kind::Api, &five).is_ok() && check_body(Kind::Api, &chunked).is_ok());
        let long = Head { lengths: [Some(b"4194305"), None], ..GOOD };
        assert_eq!(check_body(Kind::Api, &long).unwrap_err().0, 413);
    }

    proptest! {
        #[test]
        fn no_head_panics(hosts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..3),
                          length in prop::collection::vec(any::<u8>(), 0..6)) {
            let hosts = [hosts.first(), hosts.get(1)].map(|host| host.map(Vec::as_slice));
            let _ = check(&Head { hosts, lengths: [Some(&length), None], ..GOOD });
        }
    }
}
