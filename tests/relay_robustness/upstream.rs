//! An upstream that is away, slow, early, late or no HTTP server: the machine gets a whole answer or an error, in time, and
//! no answer of one request becomes another's.

use std::time::Duration;

use crate::room::{Case, GET, LONG, Room, SCRIPT, Verdict, case, get, require, script, some};
use crate::support::scripted::Conversation;
use crate::support::wire::{Answer, End, Silence};

/// An answer without a request.
const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// Cases about the connection to the upstream and the heads of its answers.
pub const CASES: &[Case] = &[
    case!("9110 15.6", "an upstream that closes at once is an error", |room| fails(room, |_| {})),
    case!("9110 15.6", "an upstream that closes after the request is an error", |room| {
        fails(room, |conversation| drop(conversation.request()))
    }),
    case!("9110 15.6", "an upstream that resets after the request is an error", |room| {
        fails(room, |conversation| {
            conversation.request();
            conversation.reset();
        })
    }),
    case!("9110 15.6.5", "a silent upstream is an error in time", |room| {
        fails(room, |conversation| {
            conversation.request();
            std::thread::sleep(LONG);
        })
    }),
    case!("9110 15.6.5", "a head that never ends is an error in time", |room| {
        fails(room, |conversation| {
            conversation.request();
            conversation.send(b"HTTP/1.1 200 OK\r\n");
            while conversation.send(b"a: b\r\n") {
                std::thread::sleep(Duration::from_millis(100));
            }
        })
    }),
    case!("metal-hammer", "a silent upstream is an error before metal-hammer gives up", |room| {
        fails_in_time(room, |conversation| {
            conversation.request();
            std::thread::sleep(LONG);
        })
    }),
    case!("metal-hammer", "an answer that trickles is an error before metal-hammer gives up", |room| {
        fails_in_time(room, |conversation| {
            conversation.request();
            conversation.trickle(SCRIPT, Duration::from_millis(300));
        })
    }),
    case!("metal-hammer", "a token that takes 3.5 s is waited for", |room| {
        let _origin = room.origin(|conversation| {
            conversation.request();
            std::thread::sleep(Duration::from_millis(3500));
            conversation.send(SCRIPT);
        });
        let mut machine = room.machine();
        machine.send(&get("/certs", ""));
        script(&some(machine.answer())?)
    }),
    case!("leafboot", "iPXE gets a script while the upstream is away", |room| runnable(room, b"")),
    case!("leafboot", "iPXE gets a script instead of a 404", |room| {
        runnable(room, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    }),
    case!("leafboot", "iPXE gets a script instead of a 500", |room| {
        runnable(room, b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    }),
    case!("leafboot", "iPXE gets a script instead of a cut one", |room| {
        runnable(room, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n#!ipxe\n")
    }),
    case!("leafboot", "iPXE gets a script instead of one that ends with its connection", |room| {
        runnable(room, b"HTTP/1.1 200 OK\r\n\r\n#!ipxe\nkernel x\n")
    }),
    case!("leafboot", "iPXE gets a script instead of an empty one", |room| {
        runnable(room, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }),
    case!("leafboot", "iPXE gets a script instead of garbage", |room| runnable(room, b"\0\x01\r\n\r\n")),
    case!("iPXE", "an answer in 4 s is waited for", |room| {
        gets_script(room, |conversation| {
            conversation.request();
            std::thread::sleep(Duration::from_secs(4));
            conversation.send(SCRIPT);
        })
    }),
    case!("iPXE", "an answer that comes byte by byte is taken", |room| {
        gets_script(room, |conversation| {
            conversation.request();
            conversation.trickle(SCRIPT, Duration::from_millis(20));
        })
    }),
    case!("9112 9.3.1", "a kept connection that the upstream closed costs no request", |room| {
        let _origin = room.origin(|conversation| {
            conversation.request();
            conversation.send(SCRIPT);
        });
        repeatedly(room, Duration::from_millis(300))
    }),
    case!("9112 9.3.1", "a kept connection that closes on the next request costs no request", |room| {
        let _origin = room.origin(|conversation| {
            conversation.request();
            conversation.send(SCRIPT);
            // It takes the next request's first bytes and goes.
            if conversation.number.is_multiple_of(2) {
                conversation.request();
            }
        });
        repeatedly(room, Duration::from_millis(50))
    }),
    case!("9112 9.3.1", "a kept connection that is reset costs no request", |room| {
        let _origin = room.origin(|conversation| {
            conversation.request();
            conversation.send(SCRIPT);
            if conversation.number.is_multiple_of(2) {
                conversation.request();
                conversation.reset();
            }
        });
        repeatedly(room, Duration::from_millis(50))
    }),
    case!("9112 9.2", "bytes after an answer are never another answer", |room| unpoisoned(
        room,
        |conversation| {
            conversation.send(&[SCRIPT, POISON].concat());
        }
    )),
    case!("9112 9.2", "an answer without a request is dropped", |room| unpoisoned(room, |conversation| {
        conversation.send(SCRIPT);
        std::thread::sleep(Duration::from_millis(100));
        conversation.send(POISON);
    })),
    case!("9112 6.3", "a body after 204 is never an answer", |room| unpoisoned(room, |conversation| {
        conversation.send(&[b"HTTP/1.1 204 No Content\r\n\r\n", POISON].concat());
    })),
    case!("9112 6.3", "a body after 304 is never an answer", |room| unpoisoned(room, |conversation| {
        conversation.send(&[b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", POISON].concat());
    })),
    case!("iPXE", "100 before the answer is not passed on", |room| interim(room, "100 Continue", 1)),
    case!("iPXE", "102 before the answer is not passed on", |room| interim(room, "102 Processing", 2)),
    case!("iPXE", "103 before the answer is not passed on", |room| {
        interim(room, "103 Early Hints\r\nLink: </x>; rel=preload", 1)
    }),
    case!("9110 15.2.2", "101 without a request for it is an error", |room| {
        fails(room, |conversation| {
            conversation.request();
            conversation
                .send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello");
        })
    }),
    case!("9110 15.2", "1xx without end is an error in time", |room| {
        fails(room, |conversation| {
            conversation.request();
            while conversation.send(b"HTTP/1.1 100 Continue\r\n\r\n") {
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    }),
    case!("9112 4", "garbage is an error", |room| fails_with(room, b"\x00\x01\x02\xff\r\n\r\nrubbish")),
    case!("9112 C.1", "HTTP/0.9 is an error", |room| fails_with(room, b"#!ipxe\necho hello\n")),
    case!("9112 2.3", "HTTP/2.0 is an error", |room| fails_with(room, &status_line("HTTP/2.0 200 OK"))),
    case!("9112 2.3", "http/1.1 in lower case is an error", |room| fails_with(
        room,
        &status_line("http/1.1 200 OK")
    )),
    case!("9112 4", "a status of two digits is an error", |room| fails_with(
        room,
        &status_line("HTTP/1.1 20 OK")
    )),
    case!("9112 4", "a status of four digits is an error", |room| fails_with(
        room,
        &status_line("HTTP/1.1 2000 OK")
    )),
    case!("9112 4", "a status that is no number is an error", |room| fails_with(
        room,
        &status_line("HTTP/1.1 abc OK")
    )),
    case!("iPXE", "a status without reason keeps its space", |room| well_formed(
        room,
        &status_line("HTTP/1.1 200 ")
    )),
    case!("iPXE", "a status without space gets one, or is an error", |room| {
        well_formed(room, &status_line("HTTP/1.1 200"))
    }),
    case!("iPXE", "HTTP/1.0 is answered on as HTTP/1.1", |room| well_formed(
        room,
        &status_line("HTTP/1.0 200 OK")
    )),
    case!("9110 5.4", "a header of 1 MB is an error", |room| {
        fails_with(room, &with_header(&format!("X-Long: {}", "x".repeat(1_000_000))))
    }),
    case!("9110 5.4", "100,000 headers are an error", |room| {
        fails_with(room, &with_header(&["a: b"; 100_000].join("\r\n")))
    }),
    case!("9110 5.5", "a NUL in a header is not passed on", |room| well_formed(
        room,
        &with_header("X-Mine: a\0b")
    )),
    case!("9112 2.2", "a bare CR in a header is not passed on", |room| {
        well_formed(room, &with_header("X-Mine: a\rX-Other: b"))
    }),
    case!("9112 5.2", "a folded header is not passed on folded", |room| {
        well_formed(room, &with_header("X-Mine: a\r\n b"))
    }),
    case!("9112 5.1", "a space before a colon is not passed on", |room| well_formed(
        room,
        &with_header("X-Mine : a")
    )),
    case!("9110 5.1", "an empty header name is not passed on", |room| well_formed(room, &with_header(": a"))),
    case!("9112 5", "a line without colon is not passed on", |room| well_formed(
        room,
        &with_header("nothing")
    )),
];

fn status_line(line: &str) -> Vec<u8> {
    format!("{line}\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n#!ipxe\n").into_bytes()
}

fn with_header(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 7\r\n\r\n#!ipxe\n").into_bytes()
}

/// What the machine gets is an error, or is cut off; and in time.
pub fn fails(room: &Room, script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Verdict {
    let _origin = room.origin(script);
    let mut machine = room.machine().patient(LONG);
    machine.send(GET);
    match machine.answer() {
        Ok(answer) => unusable(&answer),
        Err(Silence::Closed) => Ok(()),
        Err(other) => Err(format!("{other:?}")),
    }
}

/// A token request has an error, or no answer, before metal-hammer gives up, which is after 5 s; the rest is for a busy
/// computer.
fn fails_in_time(room: &Room, script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Verdict {
    let _origin = room.origin(script);
    let mut machine = room.machine().patient(Duration::from_secs(8));
    machine.send(&get("/certs", ""));
    match machine.answer() {
        Ok(answer) => unusable(&answer),
        Err(Silence::Closed) => Ok(()),
        Err(other) => Err(format!("{other:?}")),
    }
}

/// What iPXE gets is a script that it can run, whatever the upstream says: one that says what is wrong and asks again.
fn runnable(room: &Room, bytes: &[u8]) -> Verdict {
    let _origin = room.says_once(bytes);
    let mut machine = room.machine();
    machine.send(&get("/boot.ipxe", "User-Agent: iPXE/2.0.0\r\n"));
    let answer = some(machine.answer())?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let right = answer.status == 200 && answer.end == End::Whole && text.starts_with("#!ipxe\n");
    require(right && text.contains("leafboot on leaf01 Ethernet0"), format!("it got {} {text}", answer.line))
}

/// No machine takes this for what it asked for.
pub fn unusable(answer: &Answer) -> Verdict {
    let bad = answer.status >= 500 || answer.end == End::Cut;
    require(bad, format!("it got {} with {} bytes, {:?}", answer.line, answer.body.len(), answer.end))
}

/// Like [`fails`], for an upstream that sends these bytes and closes.
pub fn fails_with(room: &Room, bytes: &[u8]) -> Verdict {
    let bytes = bytes.to_vec();
    fails(room, move |conversation| {
        conversation.request();
        conversation.send(&bytes);
    })
}

/// What the machine gets is well-formed: the script, or an error.
fn well_formed(room: &Room, bytes: &[u8]) -> Verdict {
    let _origin = room.says_once(bytes);
    let mut machine = room.machine();
    machine.send(GET);
    let answer = some(machine.answer())?;
    require(answer.line.starts_with("HTTP/1.1 "), answer.line.clone())?;
    require(answer.status >= 500 || script(&answer).is_ok(), format!("it got {}", answer.line))
}

fn gets_script(room: &Room, says: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Verdict {
    let _origin = room.origin(says);
    let mut machine = room.machine();
    machine.send(GET);
    script(&some(machine.answer())?)
}

/// Six requests one after another, on one connection of the machine.
fn repeatedly(room: &Room, pause: Duration) -> Verdict {
    let mut machine = room.machine();
    for number in 0..6 {
        machine.send(GET);
        let answer = some(machine.answer()).map_err(|error| format!("request {number}: {error}"))?;
        script(&answer).map_err(|error| format!("request {number}: {error}"))?;
        std::thread::sleep(pause);
    }
    Ok(())
}

/// The first connection's first answer is what `says` says; every other is the script. No machine hears the poison.
fn unpoisoned(room: &Room, says: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Verdict {
    let _origin = room.origin(move |conversation| {
        if conversation.number == 0 && conversation.request().is_some() {
            says(conversation);
        }
        conversation.answer_all(SCRIPT);
    });
    for number in 0..4 {
        let mut machine = room.machine();
        machine.send(GET);
        let answer = some(machine.answer())?;
        let poisoned = answer.body.windows(6).any(|window| window == b"poison");
        require(!poisoned, format!("request {number} got the poison"))?;
        require(number == 0 || script(&answer).is_ok(), format!("request {number} got {}", answer.line))?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// An interim answer goes no further than the relay.
fn interim(room: &Room, status: &str, times: usize) -> Verdict {
    let _origin = room.says([format!("HTTP/1.1 {status}\r\n\r\n").repeat(times).as_bytes(), SCRIPT].concat());
    let mut machine = room.machine();
    machine.send(&get("/boot.ipxe", ""));
    script(&some(machine.answer())?)
}
