//! Calls of an API, which stream in both directions: where they end, which headers are passed on, and how long a
//! machine may take.

use std::time::Duration;

use crate::answer::useless;
use crate::room::{Case, LONG, Room, Verdict, case, get, only, require, script, some, unheard, values};
use crate::support::wire::{Answer, Wire};

const CALL: &str = "/api/Wait";
/// An image that is as short as a script.
const IMAGE: &str = "/metal-os/short";

/// Cases about calls, and about machines that have shut down their side.
pub const CASES: &[Case] = &[
    case!("9110 9.3.3", "a call goes on with its body", |room| {
        let sent = called(room, "Content-Length: 5\r\n", "hello")?;
        require(sent.starts_with("POST /api/Wait ") && sent.ends_with("\r\n\r\nhello"), sent)
    }),
    case!("9112 7.1", "a call in chunks goes on whole", |room| {
        let sent = called(room, "Transfer-Encoding: chunked\r\n", "3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")?;
        let body = sent.split_once("\r\n\r\n").unwrap_or_default().1;
        require(body.replace("\r\n", "").replace(['0', '2', '3', '5'], "") == "hello", sent)
    }),
    case!(
        "9112 6.3",
        "a call with Content-Length before Transfer-Encoding is refused, and the last",
        |room| { doubtful(room, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") }
    ),
    case!(
        "9112 6.3",
        "a call with Content-Length after Transfer-Encoding is refused, and the last",
        |room| { doubtful(room, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") }
    ),
    case!("9112 6.3", "both on a connection that was good so far are refused", |room| {
        let origin = room.well();
        let mut machine = room.machine();
        machine.send(&post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"));
        script(&some(machine.answer())?)?;
        machine.send(&post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"));
        let answer = some(machine.answer())?;
        require(answer.status == 400 && machine.ends(), answer.line)?;
        only(&origin).map(drop)
    }),
    case!("9112 6.1", "a coding beside chunked is 501", |room| {
        let coded = post("Transfer-Encoding: gzip, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n");
        refused_with(room, &coded, 501).map(drop)
    }),
    case!("9112 6.1", "a coding in a line of its own is 501", |room| {
        let coded = post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n");
        refused_with(room, &coded, 501).map(drop)
    }),
    case!("9112 7.1", "a chunk that is none is the machine's fault", |room| {
        malformed(room, "Transfer-Encoding: chunked\r\n", "2\r\n{}\r\nzz\r\n{}\r\n0\r\n\r\n")
    }),
    case!("9112 7.1", "a chunk that is longer than its size is the machine's fault", |room| {
        malformed(room, "Transfer-Encoding: chunked\r\n", "2\r\n{}}\r\n0\r\n\r\n")
    }),
    case!("9112 8", "a call that is cut is the machine's fault", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(&post("Content-Length: 10\r\n", "half"));
        machine.half_close();
        let answer = some(machine.answer())?;
        require(answer.status == 400, answer.line)
    }),
    case!("9110 15.5.14", "a call of 5 MB is 413", |room| {
        refused_with(room, &post("Content-Length: 5242880\r\n", ""), 413).map(drop)
    }),
    case!("9110 15.5.14", "a call of 5 MB in chunks is 413", |room| {
        let _origin = room.origin(|conversation| drop(conversation.request()));
        let mut machine = room.machine().patient(LONG);
        machine.send(&post("Transfer-Encoding: chunked\r\n", ""));
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        (0..80).for_each(|_| machine.send(&chunk));
        let answer = some(machine.answer())?;
        require(answer.status == 413, answer.line)
    }),
    case!("9110 15.5.9", "a call of two bytes a second is given up, here and behind", |room| {
        given_up(room, &post("Content-Length: 1000\r\n", ""))
    }),
    case!("9110 15.5.9", "a call in chunks of two bytes a second is given up, here and behind", |room| {
        given_up(room, &post("Transfer-Encoding: chunked\r\n", "3e8\r\n"))
    }),
    case!("9110 15.5.9", "a call whose body never comes is given up, here and behind", |room| {
        let origin = room.origin(|conversation| drop(conversation.request()));
        let mut machine = room.machine().patient(LONG);
        machine.send(&post("Content-Length: 1000\r\n", ""));
        require(machine.ends(), "the connection is still there")?;
        dropped_behind(|| origin.requests().len())
    }),
    case!("leafboot", "a proxy's headers are not passed on from a machine", |room| {
        let names = [
            "X-Client-IP",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Client-Cert",
            "X-Forwarded-Client-Cert",
            "X-SSL-Client-Verify",
            "Remote-User",
            "X-Remote-User",
            "X-Auth-Request-User",
            "True-Client-IP",
            "CF-Connecting-IP",
            "X-HTTP-Method-Override",
            "X_Client_IP",
            "Cookie",
        ];
        let forged: String = names.iter().map(|name| format!("{name}: liar\r\n")).collect();
        let sent = called(room, &format!("{forged}Content-Length: 2\r\n"), "{}")?;
        require(!sent.contains("liar"), sent)
    }),
    case!("leafboot", "a call's own headers are passed on", |room| {
        let own = "Authorization: Bearer x\r\nContent-Type: application/json\r\nConnect-Protocol-Version: 1\r\n\
                   Connect-Timeout-Ms: 1000\r\nAccept-Encoding: gzip\r\nX-Grpc-Web: 1\r\n";
        let sent = called(room, &format!("{own}Content-Length: 2\r\n"), "{}")?;
        let gone = [
            "authorization",
            "content-type",
            "connect-protocol-version",
            "connect-timeout-ms",
            "accept-encoding",
            "x-grpc-web",
        ]
        .map(|name| values(&sent, name).len());
        require(gone == [1; 6], sent)
    }),
    case!("9110 15.6.3", "a call's answer that ends with the connection is a 502 that says so", |room| {
        useless(room, CALL, b"HTTP/1.1 200 OK\r\n\r\nhalf", "ends with its connection")
    }),
    case!("9110 15.6.3", "a call's answer with both lengths is a 502 that says so", |room| {
        let both =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        useless(room, CALL, both, "exclude each other")
    }),
    case!("9112 9.6", "a machine that has shut down its side gets its script", |room| half_closed(
        room,
        &get("/boot.ipxe", "")
    )),
    case!("9112 9.6", "a machine that has shut down its side gets its token", |room| half_closed(
        room,
        &get("/certs", "")
    )),
    case!("9112 9.6", "a machine that has shut down its side gets its image", |room| half_closed(
        room,
        &get(IMAGE, "")
    )),
    case!("9112 9.6", "a machine that has shut down its side gets its call's answer", |room| {
        half_closed(room, &post("Content-Length: 2\r\n", "{}"))
    }),
];

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST {CALL} HTTP/1.1\r\nHost: leaf\r\n{headers}\r\n{body}").into_bytes()
}

/// The call must be answered, and the upstream must have heard it once; it is returned.
fn called(room: &Room, headers: &str, body: &str) -> Result<String, String> {
    let origin = room.well();
    let mut machine = room.machine();
    machine.send(&post(headers, body));
    script(&some(machine.answer())?)?;
    only(&origin)
}

/// The request must be refused with this status, and the upstream must not hear of it.
fn refused_with(room: &Room, request: &[u8], status: u16) -> Result<Wire, String> {
    let origin = room.well();
    let mut machine = room.machine();
    machine.send(request);
    let answer = some(machine.answer())?;
    require(answer.status == status, format!("it got {}", answer.line))?;
    unheard(&origin).map(|()| machine)
}

/// A call whose end two readers see differently is refused, and so is what follows on its connection.
fn doubtful(room: &Room, framing: &str) -> Verdict {
    let mut machine = refused_with(room, &post(framing, "0\r\n\r\n"), 400)?;
    require(machine.ends() && machine.rest().is_empty(), "the connection goes on")
}

/// A call that is not framed as its head says is answered with 400, and its connection ends.
fn malformed(room: &Room, headers: &str, body: &str) -> Verdict {
    let _origin = room.well();
    let mut machine = room.machine();
    machine.send(&post(headers, body));
    let answer = some(machine.answer())?;
    require(answer.status == 400, answer.line)?;
    require(machine.ends(), "the connection goes on")
}

/// A call that arrives too slowly is given up, and so is its connection to the upstream.
fn given_up(room: &Room, beginning: &[u8]) -> Verdict {
    let origin = room.origin(|conversation| drop(conversation.request()));
    let mut machine = room.machine().patient(Duration::from_millis(500));
    machine.send(beginning);
    let begun = std::time::Instant::now();
    while begun.elapsed() < LONG {
        machine.send(b"x");
        if let Ok(Answer { status, line, .. }) = machine.answer() {
            require(status == 408, line)?;
            return dropped_behind(|| origin.requests().len());
        }
    }
    Err("it is still listened to".to_owned())
}

/// The upstream records an incomplete request when its connection has ended.
fn dropped_behind(count: impl Fn() -> usize) -> Verdict {
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        if count() == 1 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("the upstream's connection is still there".to_owned())
}

/// A machine that shuts down its side after its request still gets its answer, also a late one.
fn half_closed(room: &Room, request: &[u8]) -> Verdict {
    let _origin = room.origin(|conversation| {
        while conversation.request().is_some() {
            std::thread::sleep(Duration::from_millis(700));
            conversation.send(crate::room::SCRIPT);
        }
    });
    let mut machine = room.machine();
    machine.send(request);
    machine.half_close();
    script(&some(machine.answer())?)
}
