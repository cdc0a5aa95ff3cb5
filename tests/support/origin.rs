//! A partition cache for tests: it generates its images, counts the bytes that it sends, and fails on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// An image's bytes repeat after this prime number of bytes: no shifted or swapped block looks right.
const PERIOD: usize = 1_048_583;
const PIECE: usize = 128 * 1024;

/// How an answer names its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validator {
    /// By `ETag`, as nginx does.
    Tag,
    /// By `Last-Modified`, and nothing else, as Go's `http.FileServer` does.
    Date,
    /// Not at all.
    None,
}

/// How a body's end is marked (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By `Content-Length`.
    Length,
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// The content of a path.
#[derive(Debug, Clone)]
pub struct Image {
    /// The version, which decides the bytes.
    pub version: u64,
    /// The number of bytes.
    pub length: u64,
    /// How an answer names the version.
    pub validator: Validator,
    /// How the end of the bytes is marked.
    pub framing: Framing,
    /// Whether parts are given out.
    pub ranges: bool,
    /// Another answer than the image: the status line's rest, headers and body.
    pub instead: Option<String>,
}

impl Image {
    /// An image as a good server has it.
    pub fn new(version: u64, length: u64) -> Self {
        Self {
            version,
            length,
            validator: Validator::Tag,
            framing: Framing::Length,
            ranges: true,
            instead: None,
        }
    }

    /// Another answer in the image's place; `head` is the status line's rest, and headers.
    pub fn instead(head: &str, body: &str) -> Self {
        let instead = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Self { instead: Some(instead), ..Self::new(1, 1) }
    }

    /// Its `ETag`.
    pub fn tag(version: u64) -> String {
        format!("\"v{version}\"")
    }

    /// Its `Last-Modified`: versions follow one another from second to second, up to the 59th.
    pub fn date(version: u64) -> String {
        format!("Sat, 01 Jan 2000 00:00:{version:02} GMT")
    }

    fn headers(&self) -> String {
        match self.validator {
            Validator::Tag => format!("ETag: {}\r\n", Self::tag(self.version)),
            Validator::Date => {
                let date = Self::date(self.version);
                format!("Last-Modified: {date}\r\nDate: Sat, 01 Jan 2000 00:01:00 GMT\r\n")
            }
            Validator::None => String::new(),
        }
    }

    /// Whether `If-None-Match` or `If-Modified-Since` names this version or, as a date, a later one.
    fn is_known(&self, tag: Option<&str>, date: Option<&str>) -> bool {
        match self.validator {
            Validator::Tag => tag == Some(&Self::tag(self.version)),
            Validator::Date => date.is_some_and(|date| *date >= *Self::date(self.version)),
            Validator::None => false,
        }
    }
}

/// Some of the bytes of a version from `at` on.
pub fn bytes(version: u64, at: u64) -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let mut state = 88_172_645_463_325_252u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..PERIOD).map(|_| next()).collect()
    });
    &noise[((at + version * 99_991) % PERIOD as u64) as usize..]
}

/// The server. Its threads end with the process.
#[derive(Debug)]
pub struct Origin {
    images: RwLock<BTreeMap<String, Image>>,
    /// Bytes of bodies that were sent.
    pub sent: AtomicU64,
    /// Answers with a body.
    pub answers: AtomicU64,
    /// Bytes per second and connection; 0: as fast as it goes.
    pub rate: AtomicU64,
    /// The connection breaks once, after this many bytes of the next body; 0: never.
    pub breaks: AtomicU64,
    /// After the next body that breaks, this many requests get no answer: their connection ends.
    pub deaf: AtomicU64,
}

impl Origin {
    /// Starts one on a TCP port of the calling thread's namespace.
    pub fn start(port: u16) -> Arc<Self> {
        Self::start_with(port, None)
    }

    /// Like [`Self::start`], with this congestion control instead of the computer's own.
    pub fn start_with(port: u16, congestion: Option<&str>) -> Arc<Self> {
        // With room for a bench's 512 connections at once.
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into()).unwrap();
        if let Some(congestion) = congestion {
            socket.set_tcp_congestion(congestion.as_bytes()).unwrap();
        }
        socket.listen(1024).unwrap();
        let listener = TcpListener::from(socket);
        let origin = Arc::new(Self {
            images: RwLock::default(),
            sent: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            breaks: AtomicU64::new(0),
            deaf: AtomicU64::new(0),
        });
        let served = Arc::clone(&origin);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, origin) = (stream.unwrap(), Arc::clone(&served));
                std::thread::spawn(move || origin.serve(&stream));
            }
        });
        origin
    }

    /// Puts an image there, or another one in its place.
    pub fn put(&self, path: &str, image: Image) {
        self.images.write().unwrap().insert(path.to_owned(), image);
    }

    /// Bytes that were sent since the last call.
    pub fn sent(&self) -> u64 {
        self.sent.swap(0, Ordering::Relaxed)
    }

    fn serve(&self, stream: &TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            self.answer(stream, &head)?;
        }
    }

    /// Answers one request; nothing, when the connection is to end.
    fn answer(&self, mut stream: &TcpStream, head: &[String]) -> Option<()> {
        let is_deaf = |left: u64| left.checked_sub(1).filter(|_| self.breaks.load(Ordering::Relaxed) == 0);
        if self.deaf.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_deaf).is_ok() {
            return None;
        }
        let mut words = head.first()?.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let header = |name: &str| {
            let mut lines = head.iter().filter_map(|line| line.split_once(": "));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let image = self.images.read().unwrap().get(path).cloned();
        let Some(image) = image else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok();
        };
        if let Some(instead) = image.instead {
            return stream.write_all(format!("HTTP/1.1 {instead}").as_bytes()).ok();
        }
        let about = image.headers();
        let (tag, date) = (header("if-none-match"), header("if-modified-since"));
        if image.is_known(tag.as_deref(), date.as_deref()) {
            return stream.write_all(format!("HTTP/1.1 304 Not Modified\r\n{about}\r\n").as_bytes()).ok();
        }
        let own = [Image::tag(image.version), Image::date(image.version)];
        let (first, end) = match header("range").filter(|_| image.ranges) {
            Some(range) if header("if-range").is_none_or(|asked| own.contains(&asked)) => {
                part(&range, image.length)?
            }
            _ => (0, image.length),
        };
        let status = match (first, end) {
            (0, end) if end == image.length => "200 OK\r\n".to_owned(),
            _ => format!(
                "206 Partial Content\r\nContent-Range: bytes {first}-{}/{}\r\n",
                end - 1,
                image.length
            ),
        };
        let length = match image.framing {
            Framing::Length => format!("Content-Length: {}\r\n", end - first),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::Close => String::new(),
        };
        stream.write_all(format!("HTTP/1.1 {status}{about}{length}\r\n").as_bytes()).ok()?;
        if method == "GET" { self.body(stream, &image, first, end) } else { Some(()) }
    }

    fn body(&self, mut stream: &TcpStream, image: &Image, first: u64, end: u64) -> Option<()> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        let breaks = self.breaks.swap(0, Ordering::Relaxed);
        let (begun, mut at) = (Instant::now(), first);
        while at < end {
            if breaks > 0 && at - first >= breaks {
                return None;
            }
            let bytes = bytes(image.version, at);
            let piece = bytes.len().min(PIECE).min(usize::try_from(end - at).unwrap());
            if image.framing != Framing::Chunked {
                stream.write_all(&bytes[..piece]).ok()?;
            } else {
                stream.write_all(format!("{piece:x}\r\n").as_bytes()).ok()?;
                stream.write_all(&bytes[..piece]).ok()?;
                stream.write_all(b"\r\n").ok()?;
            }
            at += piece as u64;
            self.sent.fetch_add(piece as u64, Ordering::Relaxed);
            let rate = self.rate.load(Ordering::Relaxed);
            if rate > 0 {
                let due = Duration::from_secs_f64((at - first) as f64 / rate as f64);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        }
        match image.framing {
            Framing::Length => Some(()),
            Framing::Chunked => stream.write_all(b"0\r\n\r\n").ok(),
            Framing::Close => None,
        }
    }
}

fn part(range: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last = last.parse::<u64>().map_or(length, |last| length.min(last + 1));
    Some((first.parse().ok()?, last))
}
