//! Finds requests that have both `Content-Length` and `Transfer-Encoding` in the bytes of a connection. The HTTP library removes
//! `Content-Length` from such a request, so no later check could find it.
//!
//! Must never: keep more than the beginning of a line, or decide where a request ends. The HTTP library decides that.

/// How many bytes of a line are examined: the longest name, a colon, and the longest number with some space.
const LINE_MAX: usize = 64;
const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

/// Follows the request heads in a connection's bytes.
#[derive(Debug, Default)]
pub struct Heads {
    position: Position,
    /// The beginning of the line, without its end.
    line: Vec<u8>,
    /// The `Content-Length` of the present head, so far. The flags below are of the same head.
    length: Option<u64>,
    has_length: bool,
    has_coding: bool,
    has_begun: bool,
}

/// The part of a request that the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Position {
    #[default]
    Head,
    /// A body, with so many bytes left.
    Body(u64),
    /// The line with a chunk's size.
    Size,
    /// A chunk, with so many bytes left, the line end after it included.
    Chunk(u64),
    /// The lines after the last chunk.
    Trailers,
    /// Unknown. The HTTP library refuses such a request.
    Lost,
}

impl Heads {
    /// Reads the next bytes of the connection. Returns whether a head that ended in them had both fields.
    pub fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_both = false;
        while !bytes.is_empty() {
            match self.position {
                Position::Lost => break,
                Position::Body(left) | Position::Chunk(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    self.position = match (self.position, left - skipped as u64) {
                        (Position::Chunk(_), 0) => Position::Size,
                        (Position::Chunk(_), left) => Position::Chunk(left),
                        (_, 0) => Position::Head,
                        (_, left) => Position::Body(left),
                    };
                }
                Position::Head | Position::Size | Position::Trailers => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    let room = LINE_MAX - self.line.len();
                    self.line.extend_from_slice(&piece[..piece.len().min(room)]);
                    bytes = rest;
                    if end.is_some() {
                        let line = std::mem::take(&mut self.line);
                        has_both |= self.line(line.trim_ascii_end());
                        // Keep the allocation.
                        self.line = line;
                        self.line.clear();
                    }
                }
            }
        }
        has_both
    }

    /// Reads a line. Returns whether a head with both fields ends with it.
    fn line(&mut self, line: &[u8]) -> bool {
        match self.position {
            Position::Size => self.position = after_size(line),
            Position::Trailers if line.is_empty() => self.position = Position::Head,
            Position::Head if line.is_empty() => return self.has_begun && self.end(),
            Position::Head if self.has_begun => self.field(line),
            Position::Head => self.has_begun = true,
            Position::Trailers | Position::Body(_) | Position::Chunk(_) | Position::Lost => {}
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

    /// Ends a head. Returns whether it had both fields.
    fn end(&mut self) -> bool {
        let has_both = self.has_coding && self.has_length;
        self.position = match (self.has_coding, self.has_length, self.length) {
            // If the last coding is not chunked, the HTTP library refuses the request.
            (true, ..) => Position::Size,
            (_, true, None) => Position::Lost,
            (_, _, None | Some(0)) => Position::Head,
            (_, _, Some(length)) => Position::Body(length),
        };
        (self.length, self.has_length, self.has_coding, self.has_begun) = (None, false, false, false);
        has_both
    }
}

/// The position after the line with a chunk's size (RFC 9112 7.1).
fn after_size(line: &[u8]) -> Position {
    let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
    let size = std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    match size {
        Some(0) => Position::Trailers,
        Some(size) => size.checked_add(2).map_or(Position::Lost, Position::Chunk),
        None => Position::Lost,
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

    /// Whether both fields are found in these bytes, which come in pieces of this size.
    fn sees(text: &str, piece: usize) -> bool {
        let mut heads = Heads::default();
        text.as_bytes().chunks(piece).fold(false, |seen, piece| heads.read(piece) | seen)
    }

    #[test]
    fn both_fields_are_found_in_a_head_only() {
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
    fn after_an_invalid_length_nothing_is_found() {
        for lost in ["zz\r\n", "ffffffffffffffff\r\n"] {
            let text = ["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", lost, BOTH].concat();
            assert!(!sees(&text, 5), "{lost}");
        }
        assert!(!sees(&format!("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n{BOTH}"), 5));
    }

    proptest! {
        #[test]
        fn only_the_beginning_of_a_line_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..600), piece in 1usize..50) {
            let mut heads = Heads::default();
            for piece in bytes.chunks(piece) {
                heads.read(piece);
                prop_assert!(heads.line.len() <= LINE_MAX);
            }
        }
    }
}
