//! Clients that use as little CPU as possible: they count the bytes of an answer and do not look at them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};

/// What one client got.
#[derive(Debug, Clone, Copy, Default)]
pub struct Got {
    /// Bytes of the body.
    pub bytes: u64,
    /// Whether the body was complete.
    pub whole: bool,
    /// Seconds until the body's first byte.
    pub first: f64,
    /// Seconds until the body's last byte; infinite if there was no answer or the connection broke.
    pub took: f64,
}

/// An open connection.
pub struct Client {
    stream: TcpStream,
    head: Vec<u8>,
}

impl Client {
    /// Connects; the kernel reads at most `buffer` bytes ahead, if not 0.
    pub fn connect(to: &str, buffer: usize) -> Self {
        let stream = TcpStream::connect(to).unwrap_or_else(|e| panic!("{to}: {e}"));
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        if buffer > 0 {
            socket2::SockRef::from(&stream).set_recv_buffer_size(buffer).unwrap();
        }
        Self { stream, head: Vec::new() }
    }

    /// Sends a GET, in one piece as every client does.
    pub fn ask(&mut self, path: &str) -> Option<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: [::1]\r\n\r\n");
        self.stream.write_all(request.as_bytes()).ok()
    }

    /// Reads the answer's head: its status, the body's length, and how much of it has come.
    fn head(&mut self) -> Option<(u16, u64, u64)> {
        self.head.clear();
        let mut buffer = [0; 4096];
        let end = loop {
            let read = self.stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
            self.head.extend_from_slice(&buffer[..read]);
            if let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.head[..end]).to_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
        Some((status, length, (self.head.len() - end) as u64))
    }

    /// Sends a small request, reads the whole answer and returns its status.
    pub fn small(&mut self, path: &str) -> Option<u16> {
        self.ask(path)?;
        self.answer()
    }

    /// Reads a small answer and returns its status.
    pub fn answer(&mut self) -> Option<u16> {
        let (status, length, mut came) = self.head()?;
        let mut buffer = [0; 4096];
        while came < length {
            came += self.stream.read(&mut buffer).ok().filter(|read| *read > 0)? as u64;
        }
        Some(status)
    }

    /// Downloads until the body is complete, `stop` is set, or the connection breaks. `rate`: bytes per second, 0:
    /// unlimited. Adds the bytes to `total`. The caller makes `buffer`: its allocation must not add to the time until
    /// the first byte.
    pub fn download(
        &mut self,
        path: &str,
        rate: u64,
        buffer: &mut [u8],
        (stop, total): (&AtomicBool, &AtomicU64),
    ) -> Got {
        let begun = Instant::now();
        let Some((200, length, mut came)) = self.ask(path).and_then(|()| self.head()) else {
            return Got { took: f64::INFINITY, ..Got::default() };
        };
        total.fetch_add(came, Ordering::Relaxed);
        let first = begun.elapsed().as_secs_f64();
        while came < length && !stop.load(Ordering::Relaxed) {
            // The kernel drops the bytes without a copy (tcp(7)).
            let read = match recv(self.stream.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
                Ok(0) | Err(nix::Error::EAGAIN | nix::Error::ECONNRESET) => {
                    return Got { bytes: came, whole: false, first, took: f64::INFINITY };
                }
                Ok(read) => read as u64,
                Err(error) => panic!("a download: {error}"),
            };
            came += read;
            total.fetch_add(read, Ordering::Relaxed);
            if rate > 0 {
                let due = Duration::from_secs_f64(came as f64 / rate as f64);
                sleep(due.saturating_sub(begun.elapsed()));
            }
        }
        Got { bytes: came, whole: came == length, first, took: begun.elapsed().as_secs_f64() }
    }
}
