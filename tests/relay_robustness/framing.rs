//! Where a machine's request ends (RFC 9112 6 and 7, 9.3.2): no byte of one request may become another one.

use std::time::Duration;

use crate::room::{
    Case, GET, LONG, Room, SCRIPT, Verdict, answered, case, get, harmless, only, refused, require, script,
    some, values,
};
use crate::support::wire::Silence;

/// A request that is hidden in another one's body.
const HIDDEN: &str = "GET /smuggled/boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n";

/// Cases about the framing of requests.
pub const CASES: &[Case] = &[
    case!("9112 6.3", "Content-Length with Transfer-Encoding hides no request", |room| {
        hides_nothing(
            room,
            &format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", HIDDEN.len() + 5),
            &format!("0\r\n\r\n{HIDDEN}"),
        )
    }),
    case!("9112 6.3", "Transfer-Encoding with Content-Length hides no request", |room| {
        let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
        hides_nothing(room, "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &chunk)
    }),
    case!("9112 6.3", "a body that looks like a request is none", |room| {
        hides_nothing(room, &format!("Content-Length: {}\r\n", HIDDEN.len()), HIDDEN)
    }),
    case!("9112 7.1", "a chunk that looks like a request is none", |room| {
        let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
        hides_nothing(room, "Transfer-Encoding: chunked\r\n", &chunk)
    }),
    case!("9112 6.3", "an encoding that does not end in chunked is refused", |room| {
        refused(room, &get("/boot.ipxe", "Transfer-Encoding: chunked, identity\r\n"))
    }),
    case!("9112 6.1", "an unknown encoding is refused", |room| {
        refused(room, &get("/boot.ipxe", "Transfer-Encoding: xchunked\r\n"))
    }),
    case!("9112 6.1", "chunked twice hides no request", |room| {
        hides_nothing(room, "Transfer-Encoding: chunked, chunked\r\n", &format!("0\r\n\r\n{HIDDEN}"))
    }),
    case!("9112 6.1", "an encoding in HTTP/1.0 hides no request", |room| {
        let request = format!(
            "GET /boot.ipxe HTTP/1.0\r\nHost: leaf\r\nConnection: keep-alive\r\n\
                               Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
        );
        seen_once(room, request.as_bytes())
    }),
    case!("9112 6.1", "a folded encoding hides no request", |room| {
        hides_nothing(
            room,
            "Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n",
            &format!("0\r\n\r\n{HIDDEN}"),
        )
    }),
    case!("9112 6.3", "two different lengths are refused", |room| {
        refused(room, &get("/boot.ipxe", "Content-Length: 0\r\nContent-Length: 5\r\n"))
    }),
    case!("9112 6.3", "a list of different lengths is refused", |room| {
        refused(room, &get("/boot.ipxe", "Content-Length: 0, 5\r\n"))
    }),
    case!("9112 6.3", "the same length twice does no harm", |room| {
        harmless(
            room,
            &[get("/boot.ipxe", "Content-Length: 5\r\nContent-Length: 5\r\n"), b"hello".to_vec()].concat(),
        )
    }),
    case!("9110 8.6", "a negative length is refused", |room| refused(
        room,
        &get("/boot.ipxe", "Content-Length: -1\r\n")
    )),
    case!("9110 8.6", "a length with a plus is refused", |room| {
        refused(room, &[get("/boot.ipxe", "Content-Length: +5\r\n"), b"hello".to_vec()].concat())
    }),
    case!("9110 8.6", "a hexadecimal length is refused", |room| {
        refused(room, &get("/boot.ipxe", "Content-Length: 0x0\r\n"))
    }),
    case!("9110 8.6", "an empty length is refused or ignored", |room| {
        harmless(room, &get("/boot.ipxe", "Content-Length:\r\n"))
    }),
    case!("9110 8.6", "a length beyond 64 bits is refused", |room| {
        refused(room, &get("/boot.ipxe", "Content-Length: 18446744073709551616\r\n"))
    }),
    case!("9112 7.1.1", "a chunk extension never reaches the upstream", |room| {
        chunked(room, "5;name=\"v\"\r\nhello\r\n0\r\n\r\n", &["name="])
    }),
    case!("9112 7.1.2", "a forged identity header in a trailer never reaches the upstream", |room| {
        chunked(
            room,
            "5\r\nhello\r\n0\r\nLeafboot-Port: Ethernet99\r\nX-Mine: 1\r\n\r\n",
            &["Ethernet99", "X-Mine"],
        )
    }),
    case!("9112 7.1", "a chunk size that is no number hides no request", |room| bad_chunk(
        room,
        "zz\r\nhello\r\n"
    )),
    case!("9112 7.1", "a chunk size with 0x hides no request", |room| bad_chunk(room, "0x5\r\nhello\r\n")),
    case!("9112 7.1", "a chunk size beyond 64 bits hides no request", |room| {
        bad_chunk(room, "10000000000000005\r\nhello\r\n")
    }),
    case!("9112 7.1", "a negative chunk size hides no request", |room| bad_chunk(room, "-5\r\nhello\r\n")),
    case!("9112 7.1", "a chunk that is longer than its size hides no request", |room| {
        bad_chunk(room, "5\r\nhello, world\r\n")
    }),
    case!("9112 7.1", "a chunk that ends in LF hides no request", |room| bad_chunk(room, "5\nhello\n")),
    case!("9110 10.1.1", "Expect: 100-continue is answered without waiting for the body", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(&get("/boot.ipxe", "Content-Length: 5\r\nExpect: 100-continue\r\n"));
        let mut answer = some(machine.answer())?;
        if answer.status == 100 {
            machine.send(b"hello");
            answer = some(machine.answer())?;
        }
        require(answer.status >= 200, answer.line)
    }),
    case!("9110 10.1.1", "an unknown expectation is refused or ignored", |room| {
        harmless(room, &get("/boot.ipxe", "Expect: 200-maybe\r\n"))
    }),
    case!("iPXE", "no 1xx is sent to a machine that did not ask for it", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(&get("/boot.ipxe", "Content-Length: 5\r\n"));
        std::thread::sleep(Duration::from_millis(200));
        machine.send(b"hello");
        let answer = some(machine.answer())?;
        require(answer.status >= 200, answer.line)
    }),
    case!("9112 9.3.2", "three requests in one segment get three answers in order", |room| {
        let origin = room.origin(|conversation| {
            while let Some(request) = conversation.request() {
                let body = script_at(request.split(' ').nth(1).unwrap_or_default());
                conversation.send(
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
                );
            }
        });
        let mut machine = room.machine();
        let paths = ["/a/boot.ipxe", "/b/boot.ipxe", "/c/boot.ipxe"];
        machine.send(&paths.map(|path| get(path, "")).concat());
        for path in paths {
            let answer = some(machine.answer())?;
            require(answer.body == script_at(path).as_bytes(), format!("{path} got {:?}", answer.body))?;
        }
        require(origin.requests().len() == 3, "not three requests")
    }),
    case!("9112 9.3.2", "a bad request after a good one ends the connection", |room| {
        let origin = room.well();
        let mut machine = room.machine();
        machine.send(&[GET, b"GET /boot.ipxe HTTP/1.1\r\nHost : leaf\r\n\r\n", GET].concat());
        script(&some(machine.answer())?)?;
        if let Ok(bad) = machine.answer() {
            require(bad.status >= 400, bad.line)?;
        }
        require(machine.ends() && !machine.rest().contains(" 200 "), "it goes on")?;
        only(&origin).map(drop)
    }),
    case!("9112 9.3", "a connection is kept for the next request", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        for _ in 0..3 {
            machine.send(GET);
            let answer = some(machine.answer())?;
            script(&answer)?;
            require(answer.header("connection") != Some("close"), "it says close")?;
        }
        Ok(())
    }),
    case!("9112 9.6", "Connection: close ends it after the answer", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(&[get("/boot.ipxe", "Connection: close\r\n"), GET.to_vec()].concat());
        script(&some(machine.answer())?)?;
        require(machine.ends() && machine.rest().is_empty(), "it goes on")
    }),
    case!("9112 9.6", "a half-closed machine gets a whole answer or none", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(GET);
        machine.half_close();
        machine.answer().map_or(Ok(()), |answer| script(&answer))
    }),
    case!("leafboot", "a machine that goes away mid-head does no harm", |room| {
        for _ in 0..20 {
            let mut machine = room.machine();
            machine.send(b"GET /boot.ipxe HT");
            machine.reset();
        }
        answered(room, GET).map(drop)
    }),
    case!("leafboot", "a machine that goes away while the upstream thinks does no harm", |room| {
        let _origin = room.origin(|conversation| {
            while conversation.request().is_some() {
                std::thread::sleep(Duration::from_millis(500));
                conversation.send(SCRIPT);
            }
        });
        for _ in 0..20 {
            let mut machine = room.machine();
            machine.send(GET);
            machine.reset();
        }
        let mut machine = room.machine();
        machine.send(GET);
        script(&some(machine.answer())?)
    }),
    case!("leafboot", "a body that never comes is given up", |room| {
        let _origin = room.well();
        let mut machine = room.machine().patient(LONG);
        machine.send(&get("/boot.ipxe", "Content-Length: 60000\r\n"));
        require(machine.ends(), "the connection is still there")
    }),
];

/// A request with these framing headers and this body, which holds another request: that one is never asked.
fn hides_nothing(room: &Room, headers: &str, body: &str) -> Verdict {
    seen_once(room, &[get("/boot.ipxe", headers), body.as_bytes().to_vec()].concat())
}

/// Whatever a machine sends, the upstream hears of one request at most, the first; a hidden one that stands after the
/// end of the first may be a request of its own.
fn seen_once(room: &Room, request: &[u8]) -> Verdict {
    let origin = room.well();
    let mut machine = room.machine();
    machine.send(request);
    let first = machine.answer();
    machine = machine.patient(Duration::from_millis(500));
    while machine.answer().is_ok() {}
    let heard = origin.requests();
    let both = |request: &String| {
        !values(request, "content-length").is_empty() && !values(request, "transfer-encoding").is_empty()
    };
    require(!heard.iter().any(both), format!("both lengths reached the upstream: {heard:?}"))?;
    require(
        !heard.iter().any(|request| request.starts_with("GET /smuggled")),
        format!("{first:?}, then {heard:?}"),
    )
}

/// A body of chunks is taken or refused, and none of these words reach the upstream.
fn chunked(room: &Room, body: &str, secrets: &[&str]) -> Verdict {
    let origin = room.well();
    let mut machine = room.machine();
    machine.send(&[get("/boot.ipxe", "Transfer-Encoding: chunked\r\n"), body.as_bytes().to_vec()].concat());
    match machine.answer() {
        Ok(answer) => require(answer.status != 200 || script(&answer).is_ok(), answer.line)?,
        Err(Silence::Closed) => {}
        Err(other) => return Err(format!("{other:?}")),
    }
    let heard = format!("{:?}", origin.requests());
    require(!secrets.iter().any(|secret| heard.contains(secret)), heard)
}

/// After a chunk that is wrong nothing more is taken from the connection.
fn bad_chunk(room: &Room, chunk: &str) -> Verdict {
    hides_nothing(room, "Transfer-Encoding: chunked\r\n", &format!("{chunk}0\r\n\r\n{HIDDEN}"))
}

/// A script that differs from another path's.
fn script_at(path: &str) -> String {
    format!("#!ipxe\n# {path}\n")
}
