//! The part of an image that a request gets (RFC 9110 13.2.2, 14.2).
//!
//! Must never: give a part of one version to a machine that has a part of another one.

use super::validators::Version;

/// The headers of a request that choose a part, as they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `Range`.
    pub range: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// `If-None-Match`.
    pub if_none_match: Option<String>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<String>,
}

/// The part of an image that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it (200).
    Whole,
    /// The bytes `first` to `last`, both included (206).
    Slice {
        /// The first byte.
        first: u64,
        /// The last byte, less than the image's length.
        last: u64,
    },
    /// None: the machine has this version already (304).
    NotModified,
    /// None: the image has no such bytes (416).
    Unsatisfiable,
}

/// The part of `version`, `length` bytes long, that a request with `conditions` gets.
pub fn part(conditions: &Conditions, version: &Version, length: u64) -> Part {
    let is_known = match (&conditions.if_none_match, &conditions.if_modified_since) {
        (Some(tags), _) => version.is_in_tags(tags),
        (None, Some(date)) => version.has_date(date),
        (None, None) => false,
    };
    if is_known {
        return Part::NotModified;
    }
    let applies = conditions.if_range.as_deref().is_none_or(|validator| version.matches_if_range(validator));
    match conditions.range.as_deref().filter(|_| applies).and_then(Range::parse) {
        Some(range) => range.of(length),
        None => Part::Whole,
    }
}

/// Whether a request has a range that does not begin with the first byte. Such a request must not wait until all bytes before
/// the range have come.
pub fn starts_late(conditions: &Conditions) -> bool {
    let range = conditions.range.as_deref().and_then(Range::parse);
    range.is_some_and(|range| range != Range::From(0))
}

/// One range of bytes. A request for several ranges gets the whole image, as RFC 9110 14.2 allows. Machines that boot do not
/// send such requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

impl Range {
    /// Parses `bytes=1-2`, `bytes=1-` and `bytes=-2`. None: the header must be ignored.
    fn parse(header: &str) -> Option<Self> {
        let (unit, range) = header.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(Self::Between(first, last)),
            (Some(first), None) if last.is_empty() => Some(Self::From(first)),
            (None, Some(last)) if first.is_empty() => Some(Self::Last(last)),
            _ => None,
        }
    }

    /// The part of an image that is `length` bytes long.
    fn of(self, length: u64) -> Part {
        let Some(end) = length.checked_sub(1) else {
            return Part::Unsatisfiable;
        };
        match self {
            Self::From(first) | Self::Between(first, _) if first > end => Part::Unsatisfiable,
            Self::From(first) => Part::Slice { first, last: end },
            Self::Between(first, last) => Part::Slice { first, last: last.min(end) },
            Self::Last(0) => Part::Unsatisfiable,
            Self::Last(count) => Part::Slice { first: length.saturating_sub(count), last: end },
        }
    }
}

/// A number of digits only, without a sign.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(range: &str, length: u64) -> Part {
        let conditions = Conditions { range: Some(range.to_owned()), ..Conditions::default() };
        part(&conditions, &Version::default(), length)
    }

    #[test]
    fn ranges_of_ten_bytes() {
        for (range, expected) in [
            ("bytes=0-0", Part::Slice { first: 0, last: 0 }),
            ("bytes=2-5", Part::Slice { first: 2, last: 5 }),
            ("Bytes=2-", Part::Slice { first: 2, last: 9 }),
            ("bytes=2-99999999999", Part::Slice { first: 2, last: 9 }),
            ("bytes=-3", Part::Slice { first: 7, last: 9 }),
            ("bytes=-99", Part::Slice { first: 0, last: 9 }),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=10-11", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
        ] {
            assert_eq!(of(range, 10), expected, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), Part::Unsatisfiable);
    }

    #[test]
    fn anything_but_a_single_range_of_bytes_is_ignored() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1-99999999999999999999",
        ] {
            assert_eq!(of(range, 10), Part::Whole, "{range}");
        }
    }

    #[test]
    fn no_part_of_another_version_is_given() {
        let version = Version { etag: Some("\"new\"".to_owned()), ..Version::default() };
        let ask = |if_range: &str| Conditions {
            range: Some("bytes=5-".to_owned()),
            if_range: Some(if_range.to_owned()),
            ..Conditions::default()
        };
        assert_eq!(part(&ask("\"old\""), &version, 10), Part::Whole);
        assert_eq!(part(&ask("\"new\""), &version, 10), Part::Slice { first: 5, last: 9 });
        let known = Conditions { if_none_match: Some("\"new\"".to_owned()), ..ask("\"new\"") };
        assert_eq!(part(&known, &version, 10), Part::NotModified);
        let tagged = Conditions {
            if_none_match: Some("\"x\"".to_owned()),
            if_modified_since: Some("d".to_owned()),
            ..Conditions::default()
        };
        let dated = Version { last_modified: Some("d".to_owned()), ..version };
        assert_eq!(part(&tagged, &dated, 10), Part::Whole, "If-None-Match takes precedence");
    }

    proptest! {
        #[test]
        fn a_slice_lies_in_its_image(range in "(bytes=)?[0-9]{0,20}-?[0-9]{0,20}(,1-2)?", length in any::<u64>()) {
            if let Part::Slice { first, last } = of(&range, length) {
                prop_assert!(first <= last && last < length);
            }
        }

        #[test]
        fn nothing_panics(range in "\\PC{0,40}", length in any::<u64>()) {
            of(&range, length);
        }
    }
}
