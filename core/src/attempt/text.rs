//! A short text from a machine or a server, as an attempt keeps it.
//!
//! Must never: be longer than its bound.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most characters of a text.
pub const TEXT_MAX: usize = 96;

/// A printable text of at most [`TEXT_MAX`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(Box<str>);

impl Text {
    /// The beginning of `text`, without control characters.
    pub fn new(text: &str) -> Self {
        let printable = |character: char| if character.is_control() { ' ' } else { character };
        let mut short: String = text.chars().take(TEXT_MAX).map(printable).collect();
        if short.len() < text.len() && text.chars().nth(TEXT_MAX).is_some() {
            short.pop();
            short.push('…');
        }
        Self(short.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_short_and_in_one_line() {
        assert_eq!(Text::new("a\nb").as_str(), "a b");
        let long = Text::new(&"é".repeat(1000));
        assert_eq!(long.as_str().chars().count(), TEXT_MAX);
        assert!(long.as_str().ends_with('…'));
    }
}
