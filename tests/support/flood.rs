//! Machines that flood a relay: each kind of request that costs a machine little and that the relay refuses.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What a machine does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks for a path that the relay does not serve.
    NotFound,
    /// Asks by a method that the path does not take.
    NotAllowed,
    /// Asks for a token while no boot service is there.
    Unavailable,
    /// Asks for an image: it is sent elsewhere, or there is no cache.
    Image,
    /// Sends no HTTP, over a new connection each time.
    Malformed,
    /// Sends hundreds of requests at once.
    Pipelined,
    /// Asks over a new connection each time.
    Fresh,
    /// Begins a TLS handshake and hangs up.
    Handshake,
    /// Sends a request's head that never ends, byte by byte.
    Trickle,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NotFound,
        Self::NotAllowed,
        Self::Unavailable,
        Self::Image,
        Self::Malformed,
        Self::Pipelined,
        Self::Fresh,
        Self::Handshake,
        Self::Trickle,
    ];

    fn message(self) -> Vec<u8> {
        let not_found = "GET / HTTP/1.1\r\nHost: leaf\r\n\r\n";
        match self {
            Self::NotFound | Self::Fresh => not_found.into(),
            Self::NotAllowed => "DELETE /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n".into(),
            Self::Unavailable => "GET /certs HTTP/1.1\r\nHost: leaf\r\n\r\n".into(),
            Self::Image => "GET /metal-os/x HTTP/1.1\r\nHost: leaf\r\n\r\n".into(),
            Self::Malformed => "G\u{1}T / HTTP/1.1\r\n\r\n".into(),
            Self::Pipelined => not_found.repeat(500).into(),
            Self::Handshake => hello(),
            Self::Trickle => "GET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\nX: ".into(),
        }
    }

    /// Whether one connection serves again and again.
    fn keeps(self) -> bool {
        !matches!(self, Self::Malformed | Self::Fresh | Self::Handshake)
    }
}

/// A `ClientHello` that a server has to answer.
fn hello() -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), "leaf.example".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// One connection's part of a flood, in the calling thread's namespace, until `ends`: how many answers it got.
pub fn flood(kind: Kind, to: SocketAddr, ends: Instant) -> u64 {
    let (message, mut answers) = (kind.message(), 0);
    while Instant::now() < ends {
        // A refused connection is tried again.
        let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_millis(500)) else { continue };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        if kind == Kind::Trickle {
            trickle(&mut stream, &message, ends);
        } else {
            answers += converse(&mut stream, kind, &message, ends);
        }
    }
    answers
}

/// Sends the message, and again with each answer if the connection may be kept; how many answers came.
fn converse(stream: &mut TcpStream, kind: Kind, message: &[u8], ends: Instant) -> u64 {
    let (mut answers, mut buffer) = (0, [0; 16 * 1024]);
    if stream.write_all(message).is_err() {
        return 0;
    }
    let (mut asked, mut line) = (if kind == Kind::Pipelined { 500 } else { 1 }, Vec::new());
    while Instant::now() < ends {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => line.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        }
        if kind == Kind::Handshake {
            answers += 1;
            break;
        }
        // An answer's status line may come in two pieces: its beginning is kept.
        while let Some(at) = line.windows(9).position(|nine| nine == b"HTTP/1.1 ") {
            line.drain(..at + 9);
            answers += 1;
        }
        line.drain(..line.len().saturating_sub(8));
        if !kind.keeps() {
            break;
        }
        if answers >= asked {
            asked += if kind == Kind::Pipelined { 500 } else { 1 };
            if stream.write_all(message).is_err() {
                break;
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    answers
}

fn trickle(stream: &mut TcpStream, message: &[u8], ends: Instant) {
    let mut sent = stream.write_all(message);
    while sent.is_ok() && Instant::now() < ends {
        // Each byte is a segment of its own.
        sent = stream.write_all(b"x");
        std::thread::yield_now();
    }
}
