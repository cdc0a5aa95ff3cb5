//! Path patterns of the settings, and their match with a machine's path.
//!
//! Must never: match a path that an upstream could take for another path.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest path that is relayed, in bytes; metal-stack's longest image path has some 120.
pub const PATH_MAX: usize = 512;
/// A machine's UUID in its text form (RFC 9562 4).
const UUID_LENGTH: usize = 36;

/// Paths of one shape: `/config/{uuid}`, `/*/boot.ipxe`, `/metal-os/**`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exactly(String),
    /// `*`: one segment.
    Any,
    /// `{uuid}`: a UUID.
    Uuid,
    /// `**`, at the end only: one segment or more.
    Rest,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a path pattern such as /config/{{uuid}}, /*/boot.ipxe or /metal-os/**: {reason}")]
pub struct PatternError {
    text: String,
    reason: &'static str,
}

impl Pattern {
    /// Whether a path without empty segments is of this shape.
    pub fn matches(&self, path: &str) -> bool {
        let rest = self.0.iter().try_fold(path, |path, segment| segment.strip(path.strip_prefix('/')?));
        rest == Some("")
    }
}

impl Segment {
    /// The rest of `path` after this segment; none if `path` begins with another segment.
    fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self {
            // Compare the length first: most segments have another one.
            Self::Exactly(text) if path.as_bytes().get(text.len()).is_some_and(|byte| !is_slash(byte)) => {
                None
            }
            Self::Exactly(text) => path.strip_prefix(text.as_str()),
            Self::Any => Some(path.bytes().position(|byte| is_slash(&byte)).map_or("", |end| &path[end..])),
            Self::Uuid => {
                path.split_at_checked(UUID_LENGTH).and_then(|(id, rest)| is_uuid(id).then_some(rest))
            }
            Self::Rest => Some(""),
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = |reason| PatternError { text: text.to_owned(), reason };
        let path = text.strip_prefix('/').ok_or(wrong("it must start with /"))?;
        let segment = |segment: &str| match segment {
            "*" => Ok(Segment::Any),
            "**" => Ok(Segment::Rest),
            "{uuid}" => Ok(Segment::Uuid),
            "" | "." | ".." => Err(wrong("no path that is relayed has empty or dot segments")),
            plain if is_segment(plain.as_bytes()) => Ok(Segment::Exactly(plain.to_owned())),
            _ => Err(wrong("a segment is *, ** or {uuid}, or letters, digits and . - _ ~ + :")),
        };
        let segments = path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        let before_last = segments.split_last().map_or(&[][..], |(_, before)| before);
        if before_last.contains(&Segment::Rest) {
            return Err(wrong("** stands for the rest, so nothing can follow it"));
        }
        Ok(Self(segments))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Exactly(text) => write!(f, "/{text}"),
            Segment::Any => f.write_str("/*"),
            Segment::Uuid => f.write_str("/{uuid}"),
            Segment::Rest => f.write_str("/**"),
        })
    }
}

/// Whether a path may be relayed at all: not too long, and each of its segments means the same to every server.
pub fn is_relayed(path: &str) -> bool {
    let segments = path.strip_prefix('/').filter(|_| path.len() <= PATH_MAX);
    segments.is_some_and(|segments| segments.as_bytes().split(is_slash).all(is_segment))
}

/// Whether a segment means the same to every server. An empty one and dots could mean another path.
fn is_segment(segment: &[u8]) -> bool {
    !matches!(segment, b"" | b"." | b"..") && segment.iter().all(|byte| is_plain(*byte))
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// The characters of RFC 3986's segments that metal-stack's paths consist of. Percent-encoding is not among them, so no
/// character can mean something else after decoding.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'+' | b':')
}

/// Whether these are the characters of a UUID, which has `UUID_LENGTH` of them.
fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_written_as_they_were_read_and_bad_ones_say_why() {
        for text in ["/config/{uuid}", "/*/boot.ipxe", "/metal-os/**", "/a.B/c+d:e~f_g-h"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
        for (text, reason) in [
            ("boot.ipxe", "must start with /"),
            ("/", "empty or dot"),
            ("/a//b", "empty or dot"),
            ("/a/..", "empty or dot"),
            ("/**/boot.ipxe", "nothing can follow"),
            ("/a%20b", "letters, digits"),
            ("/a?b", "letters, digits"),
            ("/{mac}", "letters, digits"),
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
