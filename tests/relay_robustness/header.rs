//! A machine's request line and headers (RFC 9112 2 to 5, RFC 9110 7.6.1), and its false identity headers.

use std::time::Duration;

use leafboot_core::relay::identity;

use crate::room::{
    Case, GET, LONG, Room, Verdict, answered, case, get, harmless, only, refused, require, script, some,
    values,
};
use crate::support::wire::{End, Silence};

/// Cases about the head of a request.
pub const CASES: &[Case] = &[
    case!("9112 3", "a plain request is answered", |room| answered(room, GET).map(drop)),
    case!("9112 3.2", "no Host is refused", |room| refused(room, b"GET /boot.ipxe HTTP/1.1\r\n\r\n")),
    case!("9112 3.2", "two Hosts are refused", |room| refused(room, &get("/boot.ipxe", "Host: other\r\n"))),
    case!("9112 3.2", "the same Host twice is refused", |room| refused(
        room,
        &get("/boot.ipxe", "Host: leaf\r\n")
    )),
    case!("9112 3.2", "a Host with a space is refused", |room| refused(room, &host("le af"))),
    case!("9112 3.2", "a Host with a path is refused", |room| refused(room, &host("leaf/boot.ipxe"))),
    case!("9112 3.2", "a Host with a user is refused", |room| refused(room, &host("root@leaf"))),
    case!("9112 3.2", "a Host with a port that is none is refused", |room| refused(room, &host("leaf:http"))),
    case!("9110 7.2", "a Host with a port is taken", |room| answered(room, &host("leaf:80")).map(drop)),
    case!("3986 3.2.2", "a Host that is an IPv6 literal is taken", |room| {
        answered(room, &host("[2001:db8:b007::1]")).map(drop)
    }),
    case!("iPXE", "a Host with a zone is taken", |room| answered(room, &host("[fe80::1%25net0]")).map(drop)),
    case!("9112 3.2", "an empty Host is refused or answered", |room| harmless(room, &host(""))),
    case!("9112 2.2", "an empty line before the request is skipped", |room| {
        answered(room, b"\r\nGET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n").map(drop)
    }),
    case!("9112 2.2", "bare LF as line end never reaches the upstream", |room| {
        harmless(room, b"GET /boot.ipxe HTTP/1.1\nHost: leaf\n\n")
    }),
    case!("9112 2.2", "a bare CR in a value is refused or replaced", |room| {
        harmless(room, &get("/boot.ipxe", "User-Agent: a\rb\r\n"))
    }),
    case!("9110 5.5", "NUL in a value is refused or replaced", |room| {
        harmless(room, &get("/boot.ipxe", "User-Agent: a\0b\r\n"))
    }),
    case!("leafboot", "a control character in a value is refused or dropped", |room| {
        harmless(room, &get("/boot.ipxe", "User-Agent: a\x08b\r\n"))
    }),
    case!("9110 5.1", "NUL in a name is refused", |room| refused(room, &get("/boot.ipxe", "X\0Y: 1\r\n"))),
    case!("9112 5.1", "a space before the colon is refused", |room| {
        refused(room, &get("/boot.ipxe", "Content-Length : 0\r\n"))
    }),
    case!("9112 2.2", "a space before the first header is refused or skipped", |room| {
        harmless(room, b"GET /boot.ipxe HTTP/1.1\r\n Host: other\r\nHost: leaf\r\n\r\n")
    }),
    case!("9112 5.2", "a folded header is refused or joined", |room| {
        harmless(room, &get("/boot.ipxe", "User-Agent: a\r\n b\r\n"))
    }),
    case!("9110 5.1", "an empty name is refused", |room| refused(room, &get("/boot.ipxe", ": 1\r\n"))),
    case!("9112 5", "a line without colon is refused", |room| refused(
        room,
        &get("/boot.ipxe", "nothing\r\n")
    )),
    case!("9110 5.6.2", "a name that is no token is refused", |room| {
        refused(room, &get("/boot.ipxe", "a(b): 1\r\n"))
    }),
    case!("9110 5.5", "bytes above 127 in a value do no harm", |room| {
        harmless(room, b"GET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\nUser-Agent: \xff\xfe\r\n\r\n")
    }),
    case!("9112 3", "a request line of 100 kB is refused", |room| {
        refused(room, &get(&format!("/{}/boot.ipxe", "x".repeat(100_000)), ""))
    }),
    case!("9110 5.4", "a header of 100 kB is refused", |room| {
        refused(room, &get("/boot.ipxe", &format!("User-Agent: {}\r\n", "x".repeat(100_000))))
    }),
    case!("9110 5.4", "20,000 headers are refused", |room| {
        refused(room, &get("/boot.ipxe", &"a: b\r\n".repeat(20_000)))
    }),
    case!("9112 C.1", "HTTP/0.9 is refused", |room| refused(room, b"GET /boot.ipxe\r\n\r\n")),
    case!("9112 9.3", "HTTP/1.0 is answered with a length or an end", |room| {
        let origin = room.well();
        let mut machine = room.machine();
        machine.send(b"GET /boot.ipxe HTTP/1.0\r\n\r\n");
        let answer = some(machine.answer())?;
        script(&answer)?;
        require(answer.all("transfer-encoding").is_empty(), "it is chunked")?;
        only(&origin)?;
        require(answer.end == End::Close || machine.ends(), "the connection stays open")
    }),
    case!("9112 9.3", "HTTP/1.0 with keep-alive is answered with a length", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(b"GET /boot.ipxe HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = some(machine.answer())?;
        script(&answer)?;
        require(answer.end == End::Whole, "its end is not known")
    }),
    case!("9110 15.6.6", "HTTP/9.9 is refused", |room| refused(
        room,
        b"GET /boot.ipxe HTTP/9.9\r\nHost: leaf\r\n\r\n"
    )),
    case!("9113 3.4", "HTTP/2's preface is refused", |room| refused(
        room,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    )),
    case!("9112 2.3", "http/1.1 in lower case is refused", |room| {
        refused(room, b"GET /boot.ipxe http/1.1\r\nHost: leaf\r\n\r\n")
    }),
    case!("9110 9.1", "a method in lower case is refused", |room| {
        refused(room, b"get /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n")
    }),
    case!("9110 9.1", "an unknown method is refused", |room| {
        refused(room, b"BOOT /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n")
    }),
    case!("9110 9.3.8", "TRACE is refused", |room| refused(
        room,
        b"TRACE /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n"
    )),
    case!("9110 15.5.6", "405 names what is allowed", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(b"DELETE /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n");
        let answer = some(machine.answer())?;
        require(
            answer.status == 405 && answer.header("allow").is_some(),
            format!("{} without Allow", answer.line),
        )
    }),
    case!("9110 7.8", "an upgrade is not made", |room| {
        let sent = answered(room, &get("/boot.ipxe", "Connection: upgrade\r\nUpgrade: IRC/6.9\r\n"))?;
        require(values(&sent, "upgrade").is_empty(), sent)
    }),
    case!("7540 3.2", "HTTP/2 in clear text is not upgraded to", |room| {
        let headers =
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
        let sent = answered(room, &get("/boot.ipxe", headers))?;
        require(values(&sent, "upgrade").is_empty() && values(&sent, "http2-settings").is_empty(), sent)
    }),
    case!("9110 7.6.1", "a header that Connection names is dropped", |room| {
        let sent = answered(room, &get("/boot.ipxe", "Connection: x-mine\r\nX-Mine: 1\r\n"))?;
        require(values(&sent, "x-mine").is_empty(), sent)
    }),
    case!("9110 7.6.1", "Keep-Alive, TE and Proxy-Connection are dropped", |room| {
        let sent = answered(
            room,
            &get("/boot.ipxe", "Keep-Alive: timeout=9\r\nTE: trailers\r\nProxy-Connection: close\r\n"),
        )?;
        let left = ["keep-alive", "te", "proxy-connection"].map(|name| values(&sent, name).len());
        require(left == [0; 3], sent)
    }),
    case!("9110 11.7.2", "Proxy-Authorization is dropped", |room| {
        let sent = answered(room, &get("/boot.ipxe", "Proxy-Authorization: Basic eDp5\r\n"))?;
        require(values(&sent, "proxy-authorization").is_empty(), sent)
    }),
    case!("leafboot", "Cookie and Authorization are dropped", |room| {
        let sent = answered(room, &get("/boot.ipxe", "Cookie: a=b\r\nAuthorization: Bearer x\r\n"))?;
        require(values(&sent, "cookie").is_empty() && values(&sent, "authorization").is_empty(), sent)
    }),
    case!("leafboot", "a forged identity header is replaced", |room| claimed(room, &forged(str::to_owned))),
    case!("leafboot", "a forged identity header in capitals is replaced", |room| claimed(
        room,
        &forged(str::to_uppercase)
    )),
    case!("leafboot", "a forged identity header with underscores is dropped", |room| {
        claimed(room, &forged(|name| name.replace('-', "_")))
    }),
    case!("leafboot", "Connection cannot remove the identity headers", |room| {
        let names = [identity::LEAF, identity::PORT, identity::PREFIX].join(", ");
        claimed(room, &format!("Connection: close, {names}\r\n"))
    }),
    case!("7239 8.1", "forged forwarding headers are dropped or replaced", |room| {
        let forged = "X-Forwarded-For: 2001:db8::666\r\nForwarded: for=liar\r\nVia: 1.1 liar\r\n\
                      X-Real-IP: 2001:db8::666\r\nX-Forwarded-Host: liar\r\nX-Forwarded-Proto: liar\r\n";
        let sent = answered(room, &get("/boot.ipxe", forged))?;
        require(!sent.contains("liar") && !sent.contains("2001:db8::666"), sent)
    }),
    case!("iPXE", "a machine's Accept-Encoding is not passed on", |room| {
        let sent = answered(room, &get("/boot.ipxe", "Accept-Encoding: gzip\r\n"))?;
        require(values(&sent, "accept-encoding").is_empty(), sent)
    }),
    case!("iPXE", "a head that comes byte by byte is taken", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.trickle(GET, Duration::from_millis(40));
        script(&some(machine.answer())?)
    }),
    case!("9112 9.5", "a head that never ends is given up", |room| given_up(
        room,
        b"GET /boot.ipxe HTTP/1.1\r\nHost: le"
    )),
    case!("9112 9.5", "a connection without a request is given up", |room| given_up(room, b"")),
    case!("9112 9.5", "a head that trickles for ever is given up", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(b"GET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\nUser-Agent: ");
        let start = std::time::Instant::now();
        while start.elapsed() < LONG {
            machine.send(b"x");
            machine = machine.patient(Duration::from_millis(200));
            match machine.answer() {
                Err(Silence::Late) => {}
                Ok(answer) if answer.status == 200 => return Err("it was answered".to_owned()),
                _ => return Ok(()),
            }
        }
        Err("it is still listened to".to_owned())
    }),
];

fn host(value: &str) -> Vec<u8> {
    format!("GET /boot.ipxe HTTP/1.1\r\nHost: {value}\r\n\r\n").into_bytes()
}

/// False identity headers (leaf, port and prefix), under names that resemble the real ones.
fn forged(name: impl Fn(&str) -> String) -> String {
    let lies =
        [(identity::LEAF, "leaf99"), (identity::PORT, "Ethernet99"), (identity::PREFIX, "2001:db8:99::/64")];
    lies.map(|(known, lie)| format!("{}: {lie}\r\n", name(known))).concat()
}

/// The upstream gets each identity header once, with its true value.
fn claimed(room: &Room, headers: &str) -> Verdict {
    let sent = answered(room, &get("/boot.ipxe", headers))?;
    let truth =
        [(identity::LEAF, "leaf01"), (identity::PORT, "Ethernet0"), (identity::PREFIX, "2001:db8:b007::/64")];
    for (name, value) in truth {
        require(values(&sent, name) == [value], format!("{name} is not {value} in {sent:?}"))?;
    }
    let lies = ["leaf99", "Ethernet99", "2001:db8:99"];
    require(!lies.iter().any(|lie| sent.contains(lie)), format!("a lie went through: {sent:?}"))
}

/// The relay ends the connection within [`LONG`], with an error or without an answer.
fn given_up(room: &Room, beginning: &[u8]) -> Verdict {
    let origin = room.well();
    let mut machine = room.machine().patient(LONG);
    machine.send(beginning);
    require(machine.ends(), "the connection is still there")?;
    require(!machine.rest().contains(" 200 "), machine.rest())?;
    crate::room::unheard(&origin)
}
