//! Images that are passed through: complete or without a clean end. No machine can block the upstream or the relay.

use std::sync::LazyLock;
use std::time::Duration;

use crate::answer::useless;
use crate::room::{Case, LONG, Room, SCRIPT, Verdict, case, get, require, script, some};
use crate::support::scripted::Conversation;
use crate::support::wire::{Answer, End, Silence, find};
use crate::upstream::unusable;

/// An image that is longer than every buffer on its way.
const LENGTH: usize = 8 << 20;
const IMAGE: &str = "/metal-os/stable/debian/12/img.tar.lz4";

/// Cases about images.
pub const CASES: &[Case] = &[
    case!("9112 6.3", "an image comes whole, with its length", |room| {
        let answer = ask(room, |conversation| conversation.answer_all(&image("")))?;
        require(
            answer.header("content-length") == Some(&LENGTH.to_string()),
            format!("{:?}", answer.headers),
        )?;
        whole(&answer)
    }),
    case!("9112 6.3", "an image comes whole to a machine that reads late", |room| {
        let _origin = room.says(image(""));
        let mut machine = room.machine().patient(LONG);
        machine.send(&get(IMAGE, ""));
        std::thread::sleep(Duration::from_secs(2));
        whole(&some(machine.answer())?)
    }),
    case!("9112 8", "a cut image has no clean end", |room| torn(room, |conversation| {
        conversation.send(&image("")[..LENGTH / 2]);
    })),
    case!("9112 8", "an image that is reset has no clean end", |room| torn(room, |conversation| {
        conversation.send(&image("")[..LENGTH / 2]);
        conversation.reset();
    })),
    case!("9112 8", "an image that stalls has no clean end", |room| torn(room, |conversation| {
        conversation.send(&image("")[..LENGTH / 2]);
        std::thread::sleep(LONG);
    })),
    case!("9112 8", "an image in chunks that is cut has no clean end", |room| torn(room, |conversation| {
        let bytes = chunked_image();
        conversation.send(&bytes[..bytes.len() / 2]);
    })),
    case!("9112 8", "an image in chunks without the last one has no clean end", |room| torn(
        room,
        |conversation| {
            let bytes = chunked_image();
            conversation.send(&bytes[..bytes.len() - 5]);
        }
    )),
    case!("9112 8", "an image without length that is reset has no clean end", |room| torn(
        room,
        |conversation| {
            conversation.send(b"HTTP/1.1 200 OK\r\n\r\n");
            conversation.send(&CONTENT[..LENGTH / 2]);
            std::thread::sleep(Duration::from_millis(500));
            conversation.reset();
        }
    )),
    case!("iPXE", "an image in chunks is never passed on in chunks", |room| {
        let answer = ask(room, |conversation| conversation.answer_all(&chunked_image()))?;
        require(answer.all("transfer-encoding").is_empty(), format!("{:?}", answer.headers))?;
        require(answer.status >= 500 || whole(&answer).is_ok(), answer.line)
    }),
    case!("iPXE", "103 before an image is not passed on", |room| {
        let answer = ask(room, |conversation| {
            conversation.answer_all(&[b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), image("")].concat());
        })?;
        whole(&answer)
    }),
    case!("9112 6.3", "an image of two lengths is an error", |room| torn(room, |conversation| {
        conversation.send(&image("Content-Length: 7\r\n"));
    })),
    case!("9110 15.6.3", "an image that ends with the connection is a 502 that says so", |room| {
        useless(
            room,
            IMAGE,
            b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\n\r\nhalf an image",
            "ends with its connection",
        )
    }),
    case!(
        "9110 15.6.3",
        "an image with Content-Length and Transfer-Encoding is a 502 that says so",
        |room| {
            let both =
                b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                     7\r\n1234567\r\n0\r\n\r\n";
            useless(room, IMAGE, both, "exclude each other")
        }
    ),
    case!("9112 9.2", "bytes after an image are never an answer", |room| {
        let _origin = room.origin(|conversation| {
            while conversation.request().is_some() {
                conversation.send(
                    &[image(""), b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison".to_vec()].concat(),
                );
            }
        });
        for _ in 0..3 {
            let mut machine = room.machine();
            machine.send(&get(IMAGE, ""));
            whole(&some(machine.answer())?)?;
        }
        Ok(())
    }),
    case!("9110 9.3.2", "HEAD of an image gets its length and no body", |room| {
        let _origin = room.origin(|conversation| {
            while let Some(request) = conversation.request() {
                let length = if request.starts_with("HEAD") {
                    find(&image(""), b"\r\n\r\n").unwrap() + 4
                } else {
                    usize::MAX
                };
                let bytes = image("");
                conversation.send(&bytes[..length.min(bytes.len())]);
            }
        });
        let mut machine = room.machine().patient(LONG);
        machine.send(
            &[format!("HEAD {IMAGE} HTTP/1.1\r\nHost: leaf\r\n\r\n").into_bytes(), get(IMAGE, "")].concat(),
        );
        let head = some(machine.answer_to_head())?;
        require(head.status == 200 && head.header("content-length") == Some(&LENGTH.to_string()), head.line)?;
        whole(&some(machine.answer())?)
    }),
    case!("9110 9.3.2", "a body that the upstream sends after HEAD is never an answer", |room| {
        let _origin = room.says(image(""));
        let mut machine = room.machine().patient(LONG);
        machine.send(format!("HEAD {IMAGE} HTTP/1.1\r\nHost: leaf\r\n\r\n").as_bytes());
        some(machine.answer_to_head())?;
        for _ in 0..2 {
            let mut machine = room.machine().patient(LONG);
            machine.send(&get(IMAGE, ""));
            whole(&some(machine.answer())?)?;
        }
        Ok(())
    }),
    case!("9110 14.2", "a range is given exactly, or the whole image is", |room| {
        let _origin = room.origin(|conversation| {
            while let Some(request) = conversation.request() {
                let part = request.to_ascii_lowercase().contains("range: bytes=7-20");
                conversation.send(&if part { part_of_image(7, 20) } else { image("") });
            }
        });
        let mut machine = room.machine().patient(LONG);
        machine.send(&get(IMAGE, "Range: bytes=7-20\r\n"));
        let answer = some(machine.answer())?;
        match answer.status {
            206 => {
                let range = format!("bytes 7-20/{LENGTH}");
                require(answer.header("content-range") == Some(&range), format!("{:?}", answer.headers))?;
                require(answer.body == CONTENT[7..=20], "other bytes")
            }
            _ => whole(&answer),
        }
    }),
    case!("9110 15.5.17", "a range beyond the end is refused, or the whole image is given", |room| {
        let _origin = room.origin(|conversation| {
            while let Some(request) = conversation.request() {
                let beyond = format!(
                    "HTTP/1.1 416 No\r\nContent-Range: bytes */{LENGTH}\r\nContent-Length: 0\r\n\r\n"
                );
                let asked = request.to_ascii_lowercase().contains("\nrange: ");
                conversation.send(&if asked { beyond.into_bytes() } else { image("") });
            }
        });
        let mut machine = room.machine().patient(LONG);
        machine.send(&get(IMAGE, "Range: bytes=999999999-\r\n"));
        let answer = some(machine.answer())?;
        require(answer.status == 416 || whole(&answer).is_ok(), answer.line)
    }),
    case!("9110 8.4", "an encoded image keeps its Content-Encoding", |room| {
        let answer = ask(room, |conversation| conversation.answer_all(&image("Content-Encoding: gzip\r\n")))?;
        require(
            answer.status >= 500 || answer.header("content-encoding") == Some("gzip"),
            format!("{:?}", answer.headers),
        )
    }),
    case!("leafboot", "a machine that goes away mid-image spoils no other's", |room| {
        let _origin = room.origin(|conversation| {
            while conversation.request().is_some() {
                let bytes = image("");
                for piece in bytes.chunks(1 << 20) {
                    conversation.send(piece);
                    std::thread::sleep(Duration::from_millis(30));
                }
            }
        });
        let mut leaver = room.machine();
        leaver.send(&get(IMAGE, ""));
        std::thread::sleep(Duration::from_millis(100));
        let mut machine = room.machine().patient(LONG);
        machine.send(&get(IMAGE, ""));
        leaver.reset();
        whole(&some(machine.answer())?)
    }),
    case!("leafboot", "a machine that does not read holds up no other's script", |room| {
        let _origin = room.origin(|conversation| {
            while let Some(request) = conversation.request() {
                conversation.send(&if request.contains("boot.ipxe") { SCRIPT.to_vec() } else { image("") });
            }
        });
        let mut held: Vec<_> = (0..4).map(|_| room.machine()).collect();
        held.iter_mut().for_each(|machine| machine.send(&get(IMAGE, "")));
        std::thread::sleep(Duration::from_millis(300));
        let mut machine = room.machine();
        machine.send(&get("/boot.ipxe", ""));
        script(&some(machine.answer())?)
    }),
    case!("iPXE", "the answer has Retry-After while the cache is away", |room| {
        let answer = ask(room, |_| {})?;
        require(answer.status == 503 && answer.header("retry-after").is_some(), answer.line)
    }),
    case!("leafboot", "a forged identity header does not reach the cache", |room| {
        let origin = room.says(image(""));
        let mut machine = room.machine().patient(LONG);
        machine.send(&get(IMAGE, "Leafboot-Port: Ethernet99\r\nX-Forwarded-For: liar\r\n"));
        whole(&some(machine.answer())?)?;
        let heard = format!("{:?}", origin.requests());
        require(!heard.contains("Ethernet99") && !heard.contains("liar"), heard)
    }),
];

/// Bytes that tell where they are.
static CONTENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..LENGTH / 8).flat_map(|word| u64::try_from(word).unwrap().to_be_bytes()).collect());

/// The image as a cache answers it.
fn image(headers: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nAccept-Ranges: bytes\r\n{headers}Content-Length: {LENGTH}\r\n\r\n"
    );
    [head.into_bytes(), CONTENT.clone()].concat()
}

fn part_of_image(first: usize, last: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\nContent-Range: bytes {first}-{last}/{LENGTH}\r\n\
         Content-Length: {}\r\n\r\n",
        last + 1 - first
    );
    [head.into_bytes(), CONTENT[first..=last].to_vec()].concat()
}

fn chunked_image() -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in CONTENT.chunks(1 << 16) {
        bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

fn whole(answer: &Answer) -> Verdict {
    let right = answer.status == 200 && answer.end != End::Cut && answer.body == *CONTENT;
    require(right, format!("it got {} with {} bytes, {:?}", answer.line, answer.body.len(), answer.end))
}

fn ask(room: &Room, says: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Result<Answer, String> {
    let _origin = room.origin(says);
    let mut machine = room.machine().patient(LONG);
    machine.send(&get(IMAGE, ""));
    some(machine.answer())
}

/// The machine must see that it does not have all of the image.
fn torn(room: &Room, says: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Verdict {
    let _origin = room.origin(move |conversation| {
        if conversation.request().is_some() {
            says(conversation);
        }
    });
    let mut machine = room.machine().patient(LONG);
    machine.send(&get(IMAGE, ""));
    match machine.answer() {
        Ok(answer) => unusable(&answer),
        Err(Silence::Closed) => Ok(()),
        Err(other) => Err(format!("{other:?}")),
    }
}
