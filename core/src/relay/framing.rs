//! Pure: what the HTTP library does not tell of the requests on a connection: whether one came with `Content-Length` beside
//! `Transfer-Encoding`. It takes the former away.
//!
//! Must never: keep more than the beginning of a line, or say where a request ends: the library does.

/// As much of a line as is looked at: the longest name, a colon, and the longest number with some space.
const LINE_MAX: usize = 64;
const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

/// Follows the heads of a connection's requests through its bytes.
#[derive(Debug, Default)]
pub struct Heads {
    at: At,
    /// The beginning of the line, without its end.
    line: Vec<u8>,
    /// Of the head so far.
    length: Option<u64>,
    has_length: bool,
    has_coding: bool,
    has_begun: bool,
}

/// Where in a request the next byte is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    /// So many bytes of a body are still to come.
    Body(u64),
    /// A chunk's size.
    Size,
    /// So many bytes of a chunk are still to come, with its line's end.
    Chunk(u64),
    /// The lines after the last chunk.
    Trailers,
    /// Nobody knows: the HTTP library will not, either.
    Lost,
}

impl Heads {
    /// Takes the next bytes of the connection. Whether a head that ended in them had both fields.
    pub fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_both = false;
        while !bytes.is_empty() {
            match self.at {
                At::Lost => break,
                At::Body(left) | At::Chunk(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    self.at = match (self.at, left - skipped as u64) {
                        (At::Chunk(_), 0) => At::Size,
                        (At::Chunk(_), left) => At::Chunk(left),
                        (_, 0) => At::Head,
                        (_, left) => At::Body(left),
                    };
                }
                At::Head | At::Size | At::Trailers => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    let room = LINE_MAX - self.line.len();
                    self.line.extend_from_slice(&piece[..piece.len().min(room)]);
                    bytes = rest;
                    if end.is_some() {
                        let line = std::mem::take(&mut self.line);
                        has_both |= self.line(line.trim_ascii_end());
                        // Its room is used again.
                        self.line = line;
                        self.line.clear();
                    }
                }
            }
        }
        has_both
    }

    /// Whether a head with both fields ends with this line.
    fn line(&mut self, line: &[u8]) -> bool {
        match self.at {
            At::Size => self.at = after_size(line),
            At::Trailers if line.is_empty() => self.at = At::Head,
            At::Head if line.is_empty() => return self.has_begun && self.end(),
            At::Head if self.has_begun => self.field(line),
            At::Head => self.has_begun = true,
            At::Trailers | At::Body(_) | At::Chunk(_) | At::Lost => {}
        }
        false
    }

    fn field(&mut self, line: &[u8]) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if name.eq_ignore_ascii_case(CODING) {
            self.has_coding = true;
        } else if name.eq_ignore_ascii_case(LENGTH) {
            self.has_length = true;
            self.length = std::str::from_utf8(value.trim_ascii()).ok().and_then(|text| text.parse().ok());
        }
    }

    /// Whether the head that ends had both.
    fn end(&mut self) -> bool {
        let has_both = self.has_coding && self.has_length;
        self.at = match (self.has_coding, self.has_length, self.length) {
            // The last coding is chunked, or the library refuses it.
            (true, ..) => At::Size,
            (_, true, None) => At::Lost,
            (_, _, None | Some(0)) => At::Head,
            (_, _, Some(length)) => At::Body(length),
        };
        (self.length, self.has_length, self.has_coding, self.has_begun) = (None, false, false, false);
        has_both
    }
}

/// What comes after the line of a chunk's size (RFC 9112 7.1).
fn after_size(line: &[u8]) -> At {
    let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
    let size = std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    match size {
        Some(0) => At::Trailers,
        Some(size) => size.checked_add(2).map_or(At::Lost, At::Chunk),
        None => At::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: &str =
        "POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    const OTHER_ORDER: &str = "POST /api HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:0\r\n\r\n";
    const CHUNKED: &str = "POST /api HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                           1c; x=y\r\nContent-Length: 5\r\nX: 1234\r\n\r\n0\r\nContent-Length: 5\r\n\r\n";
    const SIZED: &str = "POST /api HTTP/1.1\r\nContent-Length: 30\r\n\r\nTransfer-Encoding: chunked\r\n\r\n";
    const PLAIN: &str = "\r\nGET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n";

    /// Whether both are seen in these bytes, which come in pieces of this size.
    fn sees(text: &str, piece: usize) -> bool {
        let mut heads = Heads::default();
        text.as_bytes().chunks(piece).fold(false, |seen, piece| heads.take(piece) | seen)
    }

    #[test]
    fn both_are_seen_in_a_head_and_nowhere_else() {
        assert_eq!(CHUNKED.split("\r\n").nth(4), Some("Content-Length: 5"), "in a chunk of 28 bytes");
        for before in [&[][..], &[PLAIN], &[CHUNKED, SIZED], &[SIZED, PLAIN, CHUNKED]] {
            let before = before.concat();
            for piece in [1, 2, 7, 1000] {
                assert!(!sees(&before, piece), "{before}");
                assert!(sees(&[&before, BOTH].concat(), piece), "{before}");
                assert!(sees(&[&before, OTHER_ORDER, "0\r\n\r\n", PLAIN].concat(), piece), "{before}");
            }
        }
        assert!(!sees(&BOTH.replace("Content-Length", "X-Content-Length"), 3));
        assert!(!sees(&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "content-length: 1\n".repeat(9)), 3));
    }

    #[test]
    fn what_it_cannot_follow_it_leaves_alone() {
        for lost in ["zz\r\n", "ffffffffffffffff\r\n"] {
            let text = ["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", lost, BOTH].concat();
            assert!(!sees(&text, 5), "{lost}");
        }
        assert!(!sees(&format!("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n{BOTH}"), 5));
    }

    proptest! {
        #[test]
        fn however_it_comes_little_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..600), piece in 1usize..50) {
            let mut heads = Heads::default();
            for piece in bytes.chunks(piece) {
                heads.take(piece);
                prop_assert!(heads.line.len() <= LINE_MAX);
            }
        }
    }
}
