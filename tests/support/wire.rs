//! A machine that speaks HTTP in raw bytes, so that it can send what no HTTP client would, and that reads answers to the
//! letter (RFC 9112), so that it sees what an HTTP client would forgive.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest that a machine waits for bytes, unless a check says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// Where an answer's head ends.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// How an answer's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where its Content-Length or its last chunk says.
    Whole,
    /// Without a length, with the connection.
    Close,
    /// Before where it should: the connection was closed or reset.
    Cut,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its first line, without the line's end.
    pub line: String,
    /// Its status.
    pub status: u16,
    /// Its headers in order: lower-case names, values without the space around them.
    pub headers: Vec<(String, String)>,
    /// Its body, without the chunks' framing.
    pub body: Vec<u8>,
    /// How the body ended.
    pub end: End,
}

impl Answer {
    /// A header's values.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A header that is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// The connection was closed, or reset, before an answer's head was there.
    Closed,
    /// Nothing came in time.
    Late,
    /// What came is no HTTP answer.
    Nonsense(String),
}

/// One connection of the machine.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    patience: Duration,
}

impl Wire {
    /// Connects, from the network namespace of the calling thread.
    pub fn connect(to: SocketAddr) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect_timeout(&to, PATIENCE) {
                Ok(stream) => return Self { stream, buffer: Vec::new(), patience: PATIENCE },
                Err(error) => assert!(Instant::now() < deadline, "cannot connect to {to}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits as long as this from now on.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends bytes; a connection that is closed already is for the answer to tell.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends byte after byte, each a segment of its own.
    pub fn trickle(&mut self, bytes: &[u8], pause: Duration) {
        let _ = self.stream.set_nodelay(true);
        for byte in bytes {
            self.send(&[*byte]);
            std::thread::sleep(pause);
        }
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Breaks the connection off as a machine that is switched off does: with a reset.
    pub fn reset(self) {
        reset(self.stream);
    }

    /// Reads an answer to a GET, 1xx included.
    pub fn answer(&mut self) -> Result<Answer, Silence> {
        self.read(false)
    }

    /// Reads an answer to a HEAD: it has no body, whatever its headers say (RFC 9112 6.3).
    pub fn answer_to_head(&mut self) -> Result<Answer, Silence> {
        self.read(true)
    }

    fn read(&mut self, head_only: bool) -> Result<Answer, Silence> {
        let deadline = Instant::now() + self.patience;
        let head = loop {
            if let Some(at) = find(&self.buffer, BLANK_LINE) {
                break self.buffer.drain(..at + BLANK_LINE.len()).collect::<Vec<u8>>();
            }
            match self.more(deadline) {
                Ok(true) => {}
                Ok(false) if self.buffer.is_empty() => return Err(Silence::Closed),
                Ok(false) => return Err(Silence::Nonsense(text(&self.buffer))),
                Err(()) => return Err(Silence::Late),
            }
        };
        let (line, status, headers) = parse(&head).ok_or_else(|| Silence::Nonsense(text(&head)))?;
        let mut answer = Answer { line, status, headers, body: Vec::new(), end: End::Whole };
        if head_only || matches!(status, 100..=199 | 204 | 304) {
            return Ok(answer);
        }
        let chunked = answer.all("transfer-encoding");
        answer.end = match (chunked.as_slice(), answer.all("content-length").as_slice()) {
            ([], []) => self.until_close(&mut answer.body, deadline),
            ([], [length]) => {
                let length = length.parse().map_err(|_| Silence::Nonsense(text(&head)))?;
                self.sized(length, &mut answer.body, deadline)
            }
            (["chunked"], []) => self.chunks(&mut answer.body, deadline),
            _ => return Err(Silence::Nonsense(text(&head))),
        };
        Ok(answer)
    }

    fn sized(&mut self, length: usize, body: &mut Vec<u8>, deadline: Instant) -> End {
        while self.buffer.len() < length {
            if !matches!(self.more(deadline), Ok(true)) {
                body.append(&mut self.buffer);
                return End::Cut;
            }
        }
        body.extend(self.buffer.drain(..length));
        End::Whole
    }

    fn until_close(&mut self, body: &mut Vec<u8>, deadline: Instant) -> End {
        let mut end = End::Close;
        loop {
            match self.read_some(deadline) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => {
                    end = End::Cut;
                    break;
                }
            }
        }
        body.append(&mut self.buffer);
        end
    }

    fn chunks(&mut self, body: &mut Vec<u8>, deadline: Instant) -> End {
        loop {
            let Some(line) = self.line(deadline) else { return End::Cut };
            // No machine here understands chunk extensions: iPXE takes them for an error.
            let Ok(size) = usize::from_str_radix(&line, 16) else { return End::Cut };
            if size == 0 {
                loop {
                    match self.line(deadline) {
                        Some(trailer) if trailer.is_empty() => return End::Whole,
                        Some(_) => {}
                        None => return End::Cut,
                    }
                }
            }
            if self.sized(size, body, deadline) != End::Whole || self.line(deadline).as_deref() != Some("") {
                return End::Cut;
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Some(text(&line[..at]));
            }
            if !matches!(self.more(deadline), Ok(true)) {
                return None;
            }
        }
    }

    /// Whether the peer ends the connection within the machine's patience; what still comes is kept.
    pub fn ends(&mut self) -> bool {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.more(deadline) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(()) => return false,
            }
        }
    }

    /// What came after the last answer.
    pub fn rest(&self) -> String {
        text(&self.buffer)
    }

    /// Reads more: false when the connection has ended, an error when time is over.
    fn more(&mut self, deadline: Instant) -> Result<bool, ()> {
        match self.read_some(deadline) {
            Ok(0) => Ok(false),
            Ok(_) => Ok(true),
            Err(ErrorKind::TimedOut) => Err(()),
            Err(_) => Ok(false),
        }
    }

    fn read_some(&mut self, deadline: Instant) -> Result<usize, ErrorKind> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut);
        }
        self.stream.set_read_timeout(Some(left)).map_err(|error| error.kind())?;
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(length) => {
                self.buffer.extend_from_slice(&piece[..length]);
                Ok(length)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut),
            Err(error) => Err(error.kind()),
        }
    }
}

/// Ends a connection with a reset.
pub fn reset(stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// Where a pattern first is.
pub fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// Bytes as text, every byte kept visible.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

type Head = (String, u16, Vec<(String, String)>);

/// An answer's head by RFC 9112 4 and 5: a status line with its second space, lines that end in CRLF, names that are
/// tokens right before the colon, values without control characters.
fn parse(head: &[u8]) -> Option<Head> {
    let head = text(head.strip_suffix(BLANK_LINE)?);
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    let (status, _reason) = status.split_once(' ')?;
    let status = (status.len() == 3).then(|| status.parse().ok())??;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let plain = !name.is_empty() && name.bytes().all(is_token);
        let visible = value.chars().all(|letter| letter == '\t' || !letter.is_ascii_control());
        if !plain || !visible {
            return None;
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some((line, status, headers))
}

/// RFC 9110 5.6.2: tchar.
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
