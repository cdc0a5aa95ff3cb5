//! Request targets: the forms of a target (RFC 9112 3.2), and paths that could mean another path (RFC 3986 6).

use crate::room::{
    Case, Room, Verdict, answered, case, get, harmless, only, refused, require, script, some, unheard, values,
};
use crate::support::wire::Silence;

/// Cases about a request's target.
pub const CASES: &[Case] = &[
    case!("9112 3.2.2", "the absolute form is taken, and asks no other host", |room| {
        let sent = answered(room, b"GET http://leaf/boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n")?;
        require(sent.starts_with("GET /boot.ipxe "), sent)
    }),
    case!("9112 3.2.2", "the absolute form's authority does not choose the upstream", |room| {
        let sent = answered(room, b"GET http://192.0.2.1:9/boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n")?;
        require(!sent.contains("192.0.2.1"), sent)
    }),
    case!("leafboot", "Host does not choose the upstream", |room| {
        let sent = answered(room, b"GET /boot.ipxe HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")?;
        require(!sent.contains("elsewhere"), sent)
    }),
    case!("9112 3.2.3", "CONNECT is refused", |room| {
        refused(room, b"CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n")
    }),
    case!("9112 3.2.3", "GET of an authority is refused", |room| {
        refused(room, b"GET 192.0.2.1:80 HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n")
    }),
    case!("9112 3.2.4", "OPTIONS * is not passed on", |room| {
        let origin = room.well();
        let mut machine = room.machine();
        machine.send(b"OPTIONS * HTTP/1.1\r\nHost: leaf\r\n\r\n");
        some(machine.answer())?;
        unheard(&origin)
    }),
    case!("9112 3.2.4", "GET * is refused", |room| refused(room, b"GET * HTTP/1.1\r\nHost: leaf\r\n\r\n")),
    case!("leafboot", "a path that is not relayed is refused", |room| refused(room, &get("/metrics", ""))),
    case!("9112 3.2", "a path without slash is refused", |room| refused(room, &get("boot.ipxe", ""))),
    case!("9112 3", "a path with a space is refused", |room| refused(room, &get("/boot.ipxe x", ""))),
    case!("9112 3", "a tab between the words is refused or replaced", |room| {
        harmless(room, b"GET\t/boot.ipxe\tHTTP/1.1\r\nHost: leaf\r\n\r\n")
    }),
    case!("9112 3.2", "a fragment is refused or dropped", |room| {
        let origin = room.well();
        let mut machine = room.machine();
        machine.send(&get("/boot.ipxe#x", ""));
        match some(machine.answer())?.status {
            200 => require(!only(&origin)?.contains('#'), "the fragment went through"),
            _ => unheard(&origin),
        }
    }),
    case!("3986 2", "bytes above 127 in a path are refused", |room| {
        refused(room, b"GET /metal-os/\xff HTTP/1.1\r\nHost: leaf\r\n\r\n")
    }),
    case!("3986 6.2.2.3", "dot segments never reach the upstream", |room| unclimbed(
        room,
        "/metal-os/../certs"
    )),
    case!("3986 6.2.2.3", "encoded dot segments never reach the upstream", |room| {
        unclimbed(room, "/metal-os/%2e%2e/certs")
    }),
    case!("3986 6.2.2.3", "half encoded dot segments never reach the upstream", |room| {
        unclimbed(room, "/metal-os/.%2E/certs")
    }),
    case!("3986 6.2.2.3", "twice encoded dot segments never reach the upstream", |room| {
        unclimbed(room, "/metal-os/%252e%252e/certs")
    }),
    case!("leafboot", "an encoded slash never reaches the upstream", |room| unclimbed(
        room,
        "/metal-os/..%2fcerts"
    )),
    case!("leafboot", "a backslash never reaches the upstream", |room| unclimbed(
        room,
        "/metal-os/..\\certs"
    )),
    case!("leafboot", "an encoded NUL never reaches the upstream", |room| unclimbed(room, "/metal-os/x%00y")),
    case!("leafboot", "an empty segment never reaches the upstream", |room| unclimbed(room, "/metal-os//x")),
    case!("leafboot", "a path that names a host is refused", |room| refused(
        room,
        &get("//192.0.2.1/boot.ipxe", "")
    )),
    case!("9110 17.5", "encoded line ends stay encoded", |room| {
        let sent = answered(room, &get("/boot.ipxe?x=%0d%0aX-Mine:%201", ""))?;
        require(values(&sent, "x-mine").is_empty(), sent)
    }),
    case!("9110 7.1", "a query goes through as it is", |room| {
        let sent = answered(room, &get("/boot.ipxe?mac=52-54-00&uuid=%7b1%7d", ""))?;
        require(sent.starts_with("GET /boot.ipxe?mac=52-54-00&uuid=%7b1%7d HTTP/1.1\r\n"), sent)
    }),
    case!("9110 9.3.2", "HEAD gets no body", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(
            b"HEAD /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\nGET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n",
        );
        let answer = some(machine.answer_to_head())?;
        require([200, 405].contains(&answer.status), answer.line)?;
        match machine.answer() {
            Ok(next) => script(&next),
            Err(Silence::Closed) => Ok(()),
            Err(other) => Err(format!("after HEAD came {other:?}")),
        }
    }),
];

/// A path whose meaning another server could see differently is refused, or reaches the upstream as what it is not.
fn unclimbed(room: &Room, path: &str) -> Verdict {
    let origin = room.well();
    let mut machine = room.machine();
    machine.send(&get(path, ""));
    some(machine.answer())?;
    let heard = origin.requests();
    let doubtful = |request: &String| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        ["..", "%", "\\", "//"].iter().any(|word| target.contains(word))
    };
    require(!heard.iter().any(doubtful), format!("the upstream got {heard:?}"))
}
