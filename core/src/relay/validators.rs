//! The version of an image: its validators (RFC 9110 8.8) and its length.
//!
//! Must never: report two versions as the same if their bytes may differ.

use std::time::Duration;

/// A modification date is a strong validator if it is this much older than the response that has it. Otherwise the
/// image could change a second time within the same second (RFC 9110 8.8.2.2).
const DATE_AGE_MIN: Duration = Duration::from_secs(1);

/// A version of an image, by the headers of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// `ETag`, with its quotes.
    pub etag: Option<String>,
    /// `Last-Modified`, as it was sent.
    pub last_modified: Option<String>,
    /// Length in bytes; none: unknown until the end of the transfer.
    pub length: Option<u64>,
    /// Whether `last_modified` is a strong validator (`is_date_strong`).
    pub is_date_strong: bool,
}

/// Whether a `Last-Modified` is a strong validator in a response with this `Date`.
pub fn is_date_strong(last_modified: Option<&str>, date: Option<&str>) -> bool {
    let time = |text: Option<&str>| httpdate::parse_http_date(text?).ok();
    let (changed, sent) = (time(last_modified), time(date));
    changed
        .zip(sent)
        .is_some_and(|(changed, sent)| sent.duration_since(changed).is_ok_and(|age| age >= DATE_AGE_MIN))
}

/// A precondition of a request (RFC 9110 13.1): the server sends the image only if it has another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// `If-None-Match`, with this entity tag.
    NoneMatch(String),
    /// `If-Modified-Since`, with this date.
    ModifiedSince(String),
}

impl Version {
    /// The precondition of a request for any version but this one; none without a validator.
    pub fn precondition(&self) -> Option<Precondition> {
        let etag = self.etag.clone().map(Precondition::NoneMatch);
        etag.or_else(|| self.last_modified.clone().map(Precondition::ModifiedSince))
    }

    /// The strong validator (RFC 9110 8.8.1, 8.8.2.2): parts of two responses that have it are parts of the same bytes. It is
    /// the entity tag; without one, as from Go's `http.FileServer`, the date.
    pub fn strong_validator(&self) -> Option<&str> {
        match &self.etag {
            Some(etag) => Some(etag.as_str()).filter(|etag| is_strong(etag)),
            None => self.last_modified.as_deref().filter(|_| self.is_date_strong),
        }
    }

    /// Whether `other` certainly has the same bytes.
    pub fn has_same_bytes(&self, other: &Self) -> bool {
        let validator = self.strong_validator();
        validator.is_some() && validator == other.strong_validator() && self.length == other.length
    }

    /// Whether a list of `If-None-Match` names this version, by weak comparison (RFC 9110 13.1.2).
    pub fn is_in_tags(&self, list: &str) -> bool {
        let Some(own) = self.etag.as_deref().map(opaque) else {
            return false;
        };
        list.trim() == "*" || list.split(',').any(|tag| opaque(tag.trim()) == own)
    }

    /// Whether a date of `If-Modified-Since` is exactly this version's. Images are renamed and copied, so a later date says
    /// nothing about the bytes.
    pub fn has_date(&self, date: &str) -> bool {
        self.last_modified.as_deref() == Some(date.trim())
    }

    /// Whether a validator of `If-Range` is this version's, by strong comparison (RFC 9110 13.1.5).
    pub fn matches_if_range(&self, validator: &str) -> bool {
        let validator = validator.trim();
        self.strong_validator() == Some(validator) || (self.is_date_strong && self.has_date(validator))
    }
}

fn is_strong(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

/// An entity tag without the `W/` of a weak one.
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
            is_date_strong: true,
        }
    }

    #[test]
    fn only_a_strong_validator_and_the_length_prove_the_same_bytes() {
        let strong = version("\"a\"");
        assert!(strong.has_same_bytes(&version("\"a\"")));
        assert!(!strong.has_same_bytes(&version("\"b\"")));
        assert!(!strong.has_same_bytes(&Version { length: Some(8), ..version("\"a\"") }));
        assert!(!version("W/\"a\"").has_same_bytes(&version("W/\"a\"")));
        let dated = Version { etag: None, ..version("") };
        assert!(dated.has_same_bytes(&dated));
        assert!(!dated.has_same_bytes(&Version { length: Some(8), ..dated.clone() }));
        let fresh = Version { is_date_strong: false, ..dated };
        assert!(!fresh.has_same_bytes(&fresh), "two changes within one second have the same date");
        for damaged in ["\"", "a", ""] {
            assert_eq!(version(damaged).strong_validator(), None, "{damaged:?}");
        }
    }

    #[test]
    fn conditions_compare_by_rfc_9110() {
        let weak = version("W/\"a\"");
        assert!(
            weak.is_in_tags("\"x\", \"a\"")
                && weak.is_in_tags("W/\"a\"")
                && weak.is_in_tags("*")
                && !weak.is_in_tags("\"x\"")
        );
        assert!(!weak.matches_if_range("W/\"a\"") && !weak.matches_if_range("\"a\""));
        let strong = version("\"a\"");
        assert!(
            strong.matches_if_range("\"a\"")
                && !strong.matches_if_range("\"b\"")
                && !strong.matches_if_range("W/\"a\"")
        );
        assert!(strong.matches_if_range("Sat, 01 Jan 2000 00:00:00 GMT"));
        let fresh = Version { is_date_strong: false, ..version("\"a\"") };
        assert!(!fresh.matches_if_range("Sat, 01 Jan 2000 00:00:00 GMT"));
        assert!(!strong.has_date("Sun, 02 Jan 2000 00:00:00 GMT"));
        assert!(!Version::default().is_in_tags("*") && !Version::default().has_date(""));
    }

    #[test]
    fn a_date_is_strong_a_second_later() {
        let date = |second: u8| Some(format!("Sat, 01 Jan 2000 00:00:{second:02} GMT"));
        let is_strong =
            |changed, sent: Option<String>| is_date_strong(date(changed).as_deref(), sent.as_deref());
        assert!(is_strong(7, date(8)) && !is_strong(7, date(7)) && !is_strong(8, date(7)));
        assert!(!is_strong(7, None) && !is_strong(7, Some("soon".to_owned())));
        assert!(!is_date_strong(None, date(8).as_deref()));
    }

    #[test]
    fn a_condition_has_the_best_validator() {
        assert_eq!(version("\"a\"").precondition(), Some(Precondition::NoneMatch("\"a\"".to_owned())));
        let dated = Version { etag: None, ..version("") };
        assert!(matches!(dated.precondition(), Some(Precondition::ModifiedSince(_))));
        assert_eq!(Version::default().precondition(), None);
    }
}
