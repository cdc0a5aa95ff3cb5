//! A machine's download: over its own socket, with every byte checked against the content of the test's origin.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::origin::{Image, bytes};

/// What a machine got.
#[derive(Debug, Clone)]
pub struct Download {
    /// The status line's code.
    pub status: u16,
    /// The headers, as they came.
    pub head: String,
    /// Bytes of the body that came.
    pub length: u64,
    /// Whether as many came as the answer promised.
    pub whole: bool,
    /// The version that all bytes belong to; none if they do not belong to one version.
    pub version: Option<u64>,
    /// When the first byte of the body came.
    pub first: Duration,
    /// How long it took.
    pub took: Duration,
}

impl Download {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// How a machine reads.
#[derive(Debug, Clone, Copy)]
pub struct Habit {
    /// Bytes per second; 0: as fast as it goes.
    pub rate: u64,
    /// It goes away after so many bytes.
    pub leaves: u64,
}

/// Reads everything as fast as it goes.
pub const EAGER: Habit = Habit { rate: 0, leaves: u64::MAX };

/// GET over a connection of its own. `headers` end in CRLF each.
pub fn get(to: &str, path: &str, headers: &str, habit: Habit) -> Download {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    if habit.rate > 0 {
        // Otherwise the kernel would read ahead.
        socket2::SockRef::from(&stream).set_recv_buffer_size(64 * 1024).unwrap();
    }
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
    let mut reader = BufReader::with_capacity(128 * 1024, stream);
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap_or(0) > 2 {}
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut download = Download {
        status,
        head,
        length: 0,
        whole: false,
        version: None,
        first: Duration::ZERO,
        took: Duration::ZERO,
    };
    let promised: u64 = download.header("content-length").map_or(0, |length| length.parse().unwrap());
    let start: u64 = download
        .header("content-range")
        .and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok())
        .unwrap_or(0);
    // The body is to be of the version that the headers name, of the first where they name none.
    let tag = download.header("etag").map(str::to_owned);
    let date = download.header("last-modified").map(str::to_owned);
    let is_named = |version: &u64| {
        tag.as_deref() == Some(&Image::tag(*version)) || date.as_deref() == Some(&Image::date(*version))
    };
    let mut version = (0..100).find(is_named).or(Some(1));
    let mut buffer = vec![0; 128 * 1024];
    while download.length < promised.min(habit.leaves) {
        let most = usize::try_from(promised - download.length).unwrap().min(buffer.len());
        let read = match reader.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("a download stands still"),
            Err(_) => break,
        };
        if download.length == 0 {
            download.first = begun.elapsed();
        }
        let mut at = 0;
        while at < read {
            let expected = version.map(|version| bytes(version, start + download.length + at as u64));
            let count = expected.map_or(read, |expected| expected.len()).min(read - at);
            if expected.is_some_and(|expected| expected[..count] != buffer[at..at + count]) {
                version = None;
            }
            at += count;
        }
        download.length += read as u64;
        if habit.rate > 0 {
            let due = Duration::from_secs_f64(download.length as f64 / habit.rate as f64);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    download.whole = download.length == promised;
    download.version = version;
    download.took = begun.elapsed();
    download
}
