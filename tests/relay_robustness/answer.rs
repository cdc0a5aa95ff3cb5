//! Where an upstream's answer ends, and which of its headers a machine gets: RFC 9112 6 and 7, RFC 9110 7.6.1.

use crate::room::{Case, GET, Room, SCRIPT, Verdict, case, get, require, script, some};
use crate::support::wire::{Answer, End, Silence};
use crate::upstream::{fails, fails_with};

/// Cases about the framing of a script's answer.
pub const CASES: &[Case] = &[
    case!("9112 6.3", "a cut body is never a whole answer", |room| {
        fails_with(room, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n#!ipxe\n")
    }),
    case!("9112 8", "a body that is reset is never a whole answer", |room| {
        fails(room, |conversation| {
            conversation.request();
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n#!ipxe\n");
            conversation.reset();
        })
    }),
    case!("9112 8", "a body that stalls is never a whole answer", |room| {
        fails(room, |conversation| {
            conversation.request();
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n#!ipxe\n");
            std::thread::sleep(crate::room::LONG);
        })
    }),
    case!("9112 8", "chunks without the last one are never a whole answer", |room| cut(
        room,
        "7\r\n#!ipxe\n\r\n"
    )),
    case!("9112 8", "chunks that end within a size are never a whole answer", |room| cut(
        room,
        "7\r\n#!ipxe\n\r\n1"
    )),
    case!("9112 8", "chunks that end within one are never a whole answer", |room| cut(
        room,
        "70\r\n#!ipxe\n"
    )),
    case!("9112 8", "chunks that end within the last one are never a whole answer", |room| {
        cut(room, "7\r\n#!ipxe\n\r\n0\r\n")
    }),
    case!("9112 7.1", "a chunk size that is no number is an error", |room| cut(
        room,
        "zz\r\n#!ipxe\n\r\n0\r\n\r\n"
    )),
    case!("9112 7.1", "a chunk size beyond 64 bits is an error", |room| {
        cut(room, "10000000000000007\r\n#!ipxe\n\r\n0\r\n\r\n")
    }),
    case!("9112 7.1", "a chunk that is longer than its size is an error", |room| {
        cut(room, "3\r\n#!ipxe\n\r\n0\r\n\r\n")
    }),
    case!("iPXE", "chunks become a length", |room| sized(room, &chunks("7\r\n#!ipxe\n\r\n0\r\n\r\n"))),
    case!("iPXE", "chunk extensions are not passed on", |room| {
        let answer = whole(room, &chunks("7;a=b\r\n#!ipxe\n\r\n0;c\r\n\r\n"))?;
        require(script(&answer).is_ok(), answer.line)
    }),
    case!("9110 6.5", "trailers do no harm", |room| {
        let answer = whole(room, &chunks("7\r\n#!ipxe\n\r\n0\r\nX-Mine: 1\r\nContent-Length: 3\r\n\r\n"))?;
        require(script(&answer).is_ok() && answer.all("x-mine").is_empty(), answer.line)
    }),
    case!("9112 8", "a body that ends with the connection is never a whole answer", |room| {
        fails_with(room, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n#!ipxe\n")
    }),
    case!("9112 8", "an HTTP/1.0 body that ends with the connection is never a whole answer", |room| {
        fails_with(room, b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n#!ipxe\n")
    }),
    case!("9110 15.6.3", "a token that ends with the connection is a 502 that says so", |room| {
        useless(room, "/certs", b"HTTP/1.1 200 OK\r\n\r\n{\"token\"", "ends with its connection")
    }),
    case!("9110 15.6.3", "a token with Content-Length and Transfer-Encoding is a 502 that says so", |room| {
        let both =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        useless(room, "/certs", both, "exclude each other")
    }),
    case!("9110 15.6.3", "a token whose length is no number is a 502", |room| {
        useless(room, "/certs", b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}", "cannot be used")
    }),
    case!("9112 8", "a body without length that is reset is never a whole answer", |room| {
        fails(room, |conversation| {
            conversation.request();
            conversation.send(b"HTTP/1.1 200 OK\r\n\r\n#!ipxe\n");
            std::thread::sleep(std::time::Duration::from_millis(200));
            conversation.reset();
        })
    }),
    case!("9112 6.3", "two different lengths are an error", |room| {
        fails_with(room, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n#!ipxe\n")
    }),
    case!("9112 6.3", "a list of different lengths is an error", |room| {
        fails_with(room, b"HTTP/1.1 200 OK\r\nContent-Length: 7, 8\r\n\r\n#!ipxe\n")
    }),
    case!("9112 6.3", "the same length twice is passed on once or is an error", |room| {
        clear(room, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n#!ipxe\n")
    }),
    case!("9112 6.3", "Transfer-Encoding and Content-Length are never both passed on", |room| {
        clear(room, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n#!ipxe\n\r\n0\r\n\r\n")
    }),
    case!("9112 6.3", "a length that is no number is an error", |room| {
        fails_with(room, b"HTTP/1.1 200 OK\r\nContent-Length: seven\r\n\r\n#!ipxe\n")
    }),
    case!("9110 8.6", "a negative length is an error", |room| {
        fails_with(room, b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n#!ipxe\n")
    }),
    case!("9110 8.6", "a length with a plus is an error", |room| {
        fails_with(room, b"HTTP/1.1 200 OK\r\nContent-Length: +7\r\n\r\n#!ipxe\n")
    }),
    case!("9112 6.1", "an encoding that is not chunked is never a whole answer", |room| {
        fails_with(room, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 7\r\n\r\n#!ipxe\n")
    }),
    case!("9112 6.1", "chunks in an HTTP/1.0 answer do no harm", |room| {
        clear(room, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n#!ipxe\n\r\n0\r\n\r\n")
    }),
    case!("9110 8.4", "an encoded body keeps its Content-Encoding, or is an error", |room| {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\n#!ipxe\n";
        let answer = some(ask(room, bytes))?;
        require(answer.status >= 500 || answer.header("content-encoding") == Some("gzip"), answer.line)
    }),
    case!("leafboot", "a script of 300 kB is an error", |room| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n";
        fails_with(room, &[head.as_bytes(), &[b'x'; 300_000]].concat())
    }),
    case!("leafboot", "a script of 16 MB in chunks is an error", |room| {
        fails(room, |conversation| {
            conversation.request();
            conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
            let _ = (0..256).all(|_| conversation.send(&chunk));
            conversation.send(b"0\r\n\r\n");
        })
    }),
    case!("iPXE", "Retry-After: 0 becomes a second or more", |room| {
        let answer = some(ask(room, b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"))?;
        let seconds: Option<u32> = answer.header("retry-after").and_then(|value| value.parse().ok());
        require(seconds.is_some_and(|seconds| seconds >= 1), format!("{} {seconds:?}", answer.line))
    }),
    case!("iPXE", "a 503 without Retry-After gets one", |room| {
        let answer = some(ask(room, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"))?;
        require(answer.status == 503 && answer.header("retry-after").is_some(), answer.line)
    }),
    case!("iPXE", "the answer has Retry-After while the upstream is away", |room| {
        let answer = some(ask(room, b""))?;
        require(answer.status == 503 && answer.header("retry-after").is_some(), answer.line)
    }),
    case!("9110 7.6.1", "hop-by-hop headers are not passed on", |room| {
        let answer = some(ask(room, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\n\
            Keep-Alive: timeout=77\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTrailer: x\r\n\r\n#!ipxe\n"))?;
        script(&answer)?;
        let left = ["x-mine", "proxy-authenticate", "upgrade"].map(|name| answer.all(name).len());
        let kept = answer.all("keep-alive").contains(&"timeout=77");
        require(left == [0; 3] && !kept, format!("{:?}", answer.headers))
    }),
    case!("leafboot", "a cookie is not passed on", |room| {
        let answer =
            some(ask(room, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nSet-Cookie: a=b\r\n\r\n#!ipxe\n"))?;
        script(&answer)?;
        require(answer.all("set-cookie").is_empty(), "it is")
    }),
    case!("leafboot", "a redirect is not followed", |room| {
        let origin =
            room.says_once(b"HTTP/1.1 302 Found\r\nLocation: /certs\r\nContent-Length: 0\r\n\r\n".as_slice());
        let mut machine = room.machine();
        machine.send(GET);
        let answer = some(machine.answer())?;
        require((300..=599).contains(&answer.status), answer.line)?;
        let heard = origin.requests();
        require(!heard.iter().any(|request| request.contains("/certs")), format!("{heard:?}"))
    }),
    case!("9110 15", "a 404 stays one, or is an error", |room| {
        let answer = some(ask(room, b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n"))?;
        require(answer.status >= 400 && answer.end == End::Whole, answer.line)
    }),
    case!("9110 15", "a 500 is an error with a known end", |room| {
        let answer = some(ask(room, b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nno\n"))?;
        require(answer.status >= 500 && answer.end == End::Whole, answer.line)
    }),
    case!("9110 6.4", "204 comes without a body", |room| {
        let _origin = room.says(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".as_slice());
        let mut machine = room.machine();
        machine.send(&[GET, GET].concat());
        for _ in 0..2 {
            let answer = some(machine.answer())?;
            require(answer.status == 204 || answer.status >= 500, answer.line)?;
        }
        Ok(())
    }),
    case!("9112 2.2", "bare LF in the answer's head does no harm", |room| {
        clear(room, b"HTTP/1.1 200 OK\nContent-Length: 7\n\n#!ipxe\n")
    }),
    case!("GRUB", "header names come in title case", |room| {
        let _origin = room.well();
        let mut machine = room.machine();
        machine.send(&get("/boot.ipxe", "Connection: close\r\n"));
        require(machine.ends(), "it goes on")?;
        let rest = machine.rest();
        require(rest.contains("\r\nContent-Length: 7\r\n") && rest.contains("\r\nContent-Type: "), rest)
    }),
    case!("9110 8.3", "the type of the answer is kept", |room| {
        let answer = whole(room, SCRIPT)?;
        require(answer.header("content-type") == Some("text/plain"), format!("{:?}", answer.headers))
    }),
];

fn chunks(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

/// The machine must get 502 with this reason.
pub fn useless(room: &Room, path: &str, bytes: &[u8], reason: &str) -> Verdict {
    let _origin = room.says_once(bytes);
    let mut machine = room.machine();
    machine.send(&get(path, ""));
    let answer = some(machine.answer())?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    require(answer.status == 502 && text.contains(reason), format!("it got {} {text}", answer.line))
}

fn cut(room: &Room, body: &str) -> Verdict {
    fails_with(room, &chunks(body))
}

fn ask(room: &Room, bytes: &[u8]) -> Result<Answer, Silence> {
    let _origin = room.says_once(bytes);
    let mut machine = room.machine();
    machine.send(GET);
    machine.answer()
}

fn whole(room: &Room, bytes: &[u8]) -> Result<Answer, String> {
    let answer = some(ask(room, bytes))?;
    script(&answer).map(|()| answer)
}

/// iPXE is slow without a length, and slower with chunks: the answer must have a length.
fn sized(room: &Room, bytes: &[u8]) -> Verdict {
    let answer = whole(room, bytes)?;
    require(answer.header("content-length") == Some("7"), format!("{:?}", answer.headers))
}

/// The answer is the script or an error, and its end is given in one way only.
fn clear(room: &Room, bytes: &[u8]) -> Verdict {
    let answer = some(ask(room, bytes))?;
    require(answer.status >= 500 || script(&answer).is_ok(), format!("{} {:?}", answer.line, answer.body))
}
