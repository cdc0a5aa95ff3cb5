//! Pure: which paths are relayed, and as what: patterns out of the settings, and their match with a machine's path.
//!
//! Must never: match a path that could mean another one to the server behind.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest path that is relayed, in bytes; metal-stack's longest image path has some 120.
const PATH_MAX: usize = 512;
/// A machine's UUID in its text form (RFC 9562 4).
const UUID_LENGTH: usize = 36;

/// What a machine asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The boot script that iPXE chain-loads.
    Script,
    /// metal-hammer's configuration with its token.
    Token,
    /// A kernel, an initrd or an OS image.
    Image,
    /// metal-apiserver.
    Api,
}

impl Kind {
    /// The kind in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Token => "token",
            Self::Image => "image",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What machines may ask for. A path that several kinds match is the first one's, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// Boot scripts.
    pub script: Vec<Pattern>,
    /// Configurations with tokens.
    pub token: Vec<Pattern>,
    /// Images.
    pub image: Vec<Pattern>,
    /// metal-apiserver's methods.
    pub api: Vec<Pattern>,
}

impl Routes {
    /// What a path is relayed as; none: it is not.
    pub fn kind(&self, path: &str) -> Option<Kind> {
        if path.len() > PATH_MAX || !path.as_bytes().strip_prefix(b"/")?.split(is_slash).all(is_segment) {
            return None;
        }
        let mut kinds = self.kinds().into_iter();
        kinds.find_map(|(kind, patterns)| patterns.iter().any(|p| p.matches(path)).then_some(kind))
    }

    fn kinds(&self) -> [(Kind, &[Pattern]); 4] {
        [
            (Kind::Script, &self.script),
            (Kind::Token, &self.token),
            (Kind::Image, &self.image),
            (Kind::Api, &self.api),
        ]
    }
}

/// The patterns, for a human who asked for something else.
impl fmt::Display for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.kinds().into_iter().flat_map(|(_, patterns)| patterns);
        f.write_str(&all.map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

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
    fn matches(&self, path: &str) -> bool {
        let rest = self.0.iter().try_fold(path, |path, segment| segment.strip(path.strip_prefix('/')?));
        rest == Some("")
    }
}

impl Segment {
    /// What follows the segment at the beginning of `path`; none: `path` begins with another one.
    fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self {
            // Most segments have another length, which is seen sooner than other letters.
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

/// Whether a path's segment means the same to every server: an empty one and dots could mean another path.
fn is_segment(segment: &[u8]) -> bool {
    !matches!(segment, b"" | b"." | b"..") && segment.iter().all(|byte| PLAIN[usize::from(*byte)])
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// The characters of RFC 3986's segments that metal-stack's paths consist of; no percent-encoding, so nothing can
/// mean something else after decoding. By their code: each byte of each request is looked up.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut code = 0;
    while code < 128 {
        let byte = code as u8;
        plain[code] = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'+' | b':');
        code += 1;
    }
    plain
};

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
    use proptest::prelude::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn routes() -> Routes {
        Routes {
            script: patterns(&["/boot.ipxe", "/*/boot.ipxe"]),
            token: patterns(&["/certs", "/config/{uuid}"]),
            image: patterns(&["/metal-stack/kernel/**", "/metal-os/**"]),
            api: patterns(&["/metalstack.infra.v2.BootService/*"]),
        }
    }

    #[test]
    fn every_kind_has_its_paths() {
        for (path, kind) in [
            ("/boot.ipxe", Kind::Script),
            ("/fra-equ01/boot.ipxe", Kind::Script),
            ("/certs", Kind::Token),
            ("/config/00000000-0000-0000-0000-525400fea501", Kind::Token),
            ("/metal-stack/kernel/releases/download/6.18.38-172/metal-kernel", Kind::Image),
            ("/metal-os/stable/debian/12/img.tar.lz4", Kind::Image),
            ("/metalstack.infra.v2.BootService/Wait", Kind::Api),
        ] {
            assert_eq!(routes().kind(path), Some(kind), "{path}");
        }
    }

    #[test]
    fn everything_else_has_none() {
        for path in [
            "",
            "/",
            "/index.html",
            "boot.ipxe",
            "//boot.ipxe",
            "/a/b/boot.ipxe",
            "/../boot.ipxe",
            "/boot.ipxe/",
            "/config/",
            "/config/x",
            "/config/00000000-0000-0000-0000-525400fea5011",
            "/config/00000000-0000-0000-0000-525400fea501/x",
            "/certsx",
            "/certs/x",
            "/metal-osx/y",
            "/config/../certs",
            "/metal-os",
            "/metal-os/",
            "/metal-os/../certs",
            "/metal-os/%2e%2e/certs",
            "/metal-os/a\\b",
            "/metal-os/a b",
            "/metal-os/a\u{e9}",
            "/metal-stack/other/x",
            "/metalstack.infra.v2.BootService/Wait/x",
        ] {
            assert_eq!(routes().kind(path), None, "{path}");
        }
        assert_eq!(routes().kind(&format!("/metal-os/{}", "x".repeat(600))), None);
    }

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

    proptest! {
        #[test]
        fn a_path_is_matched_if_and_only_if_its_segments_are_plain(
            path in "(/(\\.{1,3}|[a-z*]{0,3}|\\.?[a-z]\\.{0,2}|metal-os|certs)){0,5}|\\PC{0,80}"
        ) {
            let any = Routes { image: patterns(&["/**"]), ..Routes::default() };
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~+:".contains(&byte);
            let legal = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
            let is_legal = path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(legal));
            prop_assert_eq!(any.kind(&path).is_some(), is_legal && path.len() <= PATH_MAX, "{}", path);
        }
    }
}
