//! Pure: what tells one version of an object from another: its validators (RFC 9110 8.8) and its length.
//!
//! Must never: call two versions the same where their bytes may differ.

use std::time::Duration;

/// A date says something of the bytes when it was this old as it was sent: before, a second change within its second
/// could have the same (RFC 9110 8.8.2.2).
const SETTLED: Duration = Duration::from_secs(1);

/// A version of an object, as its headers have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// `ETag`, with its quotes.
    pub etag: Option<String>,
    /// `Last-Modified`, as it was sent.
    pub last_modified: Option<String>,
    /// Bytes; none: not known before the end.
    pub length: Option<u64>,
    /// Whether `last_modified` was `SETTLED` when it was sent.
    pub is_settled: bool,
}

/// Whether a `Last-Modified` was old enough at its answer's `Date` to stand for the very bytes.
pub fn is_settled(last_modified: Option<&str>, date: Option<&str>) -> bool {
    let time = |text: Option<&str>| httpdate::parse_http_date(text?).ok();
    let (changed, sent) = (time(last_modified), time(date));
    changed
        .zip(sent)
        .is_some_and(|(changed, sent)| sent.duration_since(changed).is_ok_and(|age| age >= SETTLED))
}

/// A header that asks whether a version is still the current one (RFC 9110 13.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// `If-None-Match`.
    NoneMatch(String),
    /// `If-Modified-Since`.
    ModifiedSince(String),
}

impl Version {
    /// How to ask whether this is still the current version; nothing, where the version has no validator.
    pub fn question(&self) -> Option<Question> {
        let etag = self.etag.clone().map(Question::NoneMatch);
        etag.or_else(|| self.last_modified.clone().map(Question::ModifiedSince))
    }

    /// The validator, if it stands for the very bytes (RFC 9110 8.8.1, 8.8.2.2): only then parts of two answers are of
    /// one object. The entity tag; where there is none, as from Go's `http.FileServer`, a date that is settled.
    pub fn strong(&self) -> Option<&str> {
        match &self.etag {
            Some(etag) => Some(etag.as_str()).filter(|etag| is_strong(etag)),
            None => self.last_modified.as_deref().filter(|_| self.is_settled),
        }
    }

    /// Whether `other` is surely the same bytes.
    pub fn is(&self, other: &Self) -> bool {
        self.strong().is_some() && self.strong() == other.strong() && self.length == other.length
    }

    /// Whether `If-None-Match` names this version, by weak comparison (RFC 9110 13.1.2).
    pub fn matches(&self, list: &str) -> bool {
        let Some(own) = self.etag.as_deref().map(opaque) else {
            return false;
        };
        list.trim() == "*" || list.split(',').any(|tag| opaque(tag.trim()) == own)
    }

    /// Whether `If-Modified-Since` names this version. Only the very date: images are renamed and copied, so a later
    /// date says nothing about the bytes.
    pub fn is_of(&self, date: &str) -> bool {
        self.last_modified.as_deref() == Some(date.trim())
    }

    /// Whether `If-Range` names this version, by strong comparison (RFC 9110 13.1.5).
    pub fn is_for_range(&self, validator: &str) -> bool {
        let validator = validator.trim();
        self.strong() == Some(validator) || (self.is_settled && self.is_of(validator))
    }
}

fn is_strong(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: &str) -> Version {
        Version {
            etag: Some(etag.to_owned()),
            last_modified: Some("Sat, 01 Jan 2000 00:00:00 GMT".to_owned()),
            length: Some(7),
            is_settled: true,
        }
    }

    #[test]
    fn only_a_strong_tag_and_the_length_make_two_versions_one() {
        let strong = version("\"a\"");
        assert!(strong.is(&version("\"a\"")));
        assert!(!strong.is(&version("\"b\"")));
        assert!(!strong.is(&Version { length: Some(8), ..version("\"a\"") }));
        assert!(!version("W/\"a\"").is(&version("W/\"a\"")));
        let dated = Version { etag: None, ..version("") };
        assert!(dated.is(&dated));
        assert!(!dated.is(&Version { length: Some(8), ..dated.clone() }));
        let fresh = Version { is_settled: false, ..dated };
        assert!(!fresh.is(&fresh), "two changes within one second have one date");
        for damaged in ["\"", "a", ""] {
            assert_eq!(version(damaged).strong(), None, "{damaged:?}");
        }
    }

    #[test]
    fn conditions_compare_as_the_rfc_says() {
        let weak = version("W/\"a\"");
        assert!(
            weak.matches("\"x\", \"a\"")
                && weak.matches("W/\"a\"")
                && weak.matches("*")
                && !weak.matches("\"x\"")
        );
        assert!(!weak.is_for_range("W/\"a\"") && !weak.is_for_range("\"a\""));
        let strong = version("\"a\"");
        assert!(
            strong.is_for_range("\"a\"") && !strong.is_for_range("\"b\"") && !strong.is_for_range("W/\"a\"")
        );
        assert!(strong.is_for_range("Sat, 01 Jan 2000 00:00:00 GMT"));
        let fresh = Version { is_settled: false, ..version("\"a\"") };
        assert!(!fresh.is_for_range("Sat, 01 Jan 2000 00:00:00 GMT"));
        assert!(!strong.is_of("Sun, 02 Jan 2000 00:00:00 GMT"));
        assert!(!Version::default().matches("*") && !Version::default().is_of(""));
    }

    #[test]
    fn a_date_is_settled_a_second_later() {
        let date = |second: u8| Some(format!("Sat, 01 Jan 2000 00:00:{second:02} GMT"));
        let settled = |changed, sent: Option<String>| is_settled(date(changed).as_deref(), sent.as_deref());
        assert!(settled(7, date(8)) && !settled(7, date(7)) && !settled(8, date(7)));
        assert!(!settled(7, None) && !settled(7, Some("soon".to_owned())));
        assert!(!is_settled(None, date(8).as_deref()));
    }

    #[test]
    fn a_version_asks_by_its_best_validator() {
        assert_eq!(version("\"a\"").question(), Some(Question::NoneMatch("\"a\"".to_owned())));
        let dated = Version { etag: None, ..version("") };
        assert!(matches!(dated.question(), Some(Question::ModifiedSince(_))));
        assert_eq!(Version::default().question(), None);
    }
}
