//! Pure: whether a machine's request may be looked at at all: what HTTP/1.1 forbids and the HTTP library lets through.
//!
//! Must never: accept a request whose end or host two readers could see differently.

use super::kinds::Kind;

/// A request's head, as far as it is checked here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// Whether it is HTTP/1.1; otherwise HTTP/1.0.
    pub is_1_1: bool,
    /// The values of its first two `Host` fields.
    pub hosts: [Option<&'a [u8]>; 2],
    /// How often its `Transfer-Encoding`s say `chunked`.
    pub chunked: usize,
    /// Whether they say something else.
    pub coded: bool,
    /// Whether there was a `Content-Length` beside them on its connection: the HTTP library does not give both.
    pub has_both: bool,
    /// Its first two `Content-Length`s.
    pub lengths: [Option<&'a [u8]>; 2],
    /// Whether it has an `Expect`.
    pub expect: bool,
    /// How long its `Connection` fields are together.
    pub connection: usize,
}

impl<'a> Head<'a> {
    /// Takes one of its fields: its name in lower case, and its value.
    pub fn take(&mut self, name: &str, value: &'a [u8]) {
        match name {
            "host" => put(&mut self.hosts, value),
            "content-length" => put(&mut self.lengths, value),
            "transfer-encoding" => {
                let codings = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                let chunked = codings().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
                self.chunked += chunked;
                self.coded |= chunked < codings().count();
            }
            "expect" => self.expect = true,
            "connection" => self.connection += value.len(),
            _ => {}
        }
    }
}

/// Where there is still a place for it.
fn put<'a>(places: &mut [Option<&'a [u8]>; 2], value: &'a [u8]) {
    if let Some(place) = places.iter_mut().find(|place| place.is_none()) {
        *place = Some(value);
    }
}

/// A `Connection` field names a few headers, and each header is looked for in it.
const CONNECTION_MAX: usize = 256;

/// Why a request is refused: its status, and what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub u16, pub &'static str);

/// Checks a head. The connection ends after a fault: where the next request would begin is not known.
pub fn check(head: &Head) -> Result<(), Fault> {
    // RFC 9112 3.2: none, more than one, and one that is not a host, are all 400.
    match head.hosts {
        [None, _] if head.is_1_1 => return Err(Fault(400, "there is no Host (RFC 9112 3.2)")),
        [None, _] => {}
        [_, Some(_)] => return Err(Fault(400, "there is more than one Host (RFC 9112 3.2)")),
        [Some(host), None] if is_host(host) => {}
        [Some(_), None] => return Err(Fault(400, "Host is not a host (RFC 9112 3.2)")),
    }
    let [length, another] = head.lengths;
    let is_coded = head.coded || head.chunked > 0;
    if head.has_both || (is_coded && length.is_some()) {
        return Err(Fault(400, "Content-Length and Transfer-Encoding exclude each other (RFC 9112 6.3)"));
    }
    if head.coded {
        return Err(Fault(501, "no Transfer-Encoding is understood here but chunked (RFC 9112 6.1)"));
    }
    if head.chunked > 1 {
        return Err(Fault(400, "chunked is said more than once (RFC 9112 6.1)"));
    }
    if another.is_some() || length.is_some_and(|length| length_of(length).is_none()) {
        return Err(Fault(400, "Content-Length is not one number (RFC 9112 6.3)"));
    }
    if head.connection > CONNECTION_MAX {
        return Err(Fault(431, "Connection is too long (RFC 6585 5)"));
    }
    // iPXE hangs on an answer 1xx; RFC 9110 10.1.1 lets a server say 417 to an expectation.
    if head.expect { Err(Fault(417, "no expectation is met here (RFC 9110 10.1.1)")) } else { Ok(()) }
}

/// Checks a request's body against its kind's row. Nobody knows yet how long a chunked body is: that is counted when it comes.
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

/// What stands between the brackets of an IPv6 literal, by its characters: nobody here goes to that address.
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

/// What stands before the first `mark`, and the rest with it; without one it is all before.
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
        coded: false,
        has_both: false,
        lengths: [None; 2],
        expect: false,
        connection: 0,
    };

    #[test]
    fn of_a_head_what_matters_is_taken() {
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
            head.take(name, value.as_bytes());
        }
        let expected = Head {
            is_1_1: true,
            hosts: [Some(b"a"), Some(b"b")],
            chunked: 1,
            coded: false,
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
    fn what_two_readers_could_see_differently_is_refused() {
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
            codings.iter().for_each(|coding| head.take("transfer-encoding", coding.as_bytes()));
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
