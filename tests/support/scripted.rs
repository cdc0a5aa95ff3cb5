//! An upstream server that sends the bytes of a script and records the bytes that it gets.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::wire::{find, text};

/// The longest that it waits for a request; after that it closes the connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it was asked so far.
pub struct Scripted {
    requests: Receiver<String>,
    seen: RefCell<Vec<String>>,
}

impl Scripted {
    /// Serves every connection of `listener` by a script, for the rest of the process.
    pub fn play(listener: &TcpListener, script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Self {
        let (listener, script) = (listener.try_clone().unwrap(), Arc::new(script));
        let (log, requests) = channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (script, log) = (Arc::clone(&script), log.clone());
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || {
                    script(&mut Conversation { stream, number, buffer: Vec::new(), log });
                });
            }
        });
        Self { requests, seen: RefCell::default() }
    }

    /// Every request so far: its head as it came, and its body.
    pub fn requests(&self) -> Vec<String> {
        self.seen.borrow_mut().extend(self.requests.try_iter());
        self.seen.borrow().clone()
    }
}

/// One connection to it.
pub struct Conversation {
    stream: TcpStream,
    /// How many connections there were before.
    pub number: usize,
    buffer: Vec<u8>,
    log: Sender<String>,
}

impl Conversation {
    /// Takes a whole request; none when the connection has ended. What is no whole request is written down too.
    pub fn request(&mut self) -> Option<String> {
        loop {
            if let Some(length) = whole(&self.buffer) {
                let request = text(&self.buffer.drain(..length).collect::<Vec<u8>>());
                let _ = self.log.send(request.clone());
                return Some(request);
            }
            let mut piece = [0; 16384];
            match self.stream.read(&mut piece) {
                Ok(length @ 1..) => self.buffer.extend_from_slice(&piece[..length]),
                Ok(0) | Err(_) => {
                    if !self.buffer.is_empty() {
                        let _ = self.log.send(text(&self.buffer));
                    }
                    return None;
                }
            }
        }
    }

    /// Sends bytes; returns whether the connection has taken them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends bytes one after another.
    pub fn trickle(&mut self, bytes: &[u8], pause: Duration) {
        for byte in bytes {
            self.send(&[*byte]);
            std::thread::sleep(pause);
        }
    }

    /// Gives every request the same answer.
    pub fn answer_all(&mut self, bytes: &[u8]) {
        while self.request().is_some() {
            self.send(bytes);
        }
    }

    /// Breaks the connection off with a reset.
    pub fn reset(&mut self) {
        super::wire::reset(self.stream.try_clone().unwrap());
    }
}

/// The length of the first request in a buffer, if it is wholly there: RFC 9112 6.3, without validation.
fn whole(buffer: &[u8]) -> Option<usize> {
    let head = find(buffer, b"\r\n\r\n")? + 4;
    let lines = text(&buffer[..head]).to_ascii_lowercase();
    let header = |name: &str| {
        lines.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let body = &buffer[head..];
    let length = if header("transfer-encoding:").is_some() {
        let last = if body.starts_with(b"0\r\n") { 0 } else { find(body, b"\n0\r\n")? + 1 };
        last + 1 + find(&body[last + 1..], b"\r\n\r\n")? + 4
    } else {
        header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0)
    };
    (body.len() >= length).then_some(head + length)
}
