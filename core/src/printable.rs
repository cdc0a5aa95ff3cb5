//! Makes text from other programs safe for answers, errors and the log: of limited length, and in one line.
//!
//! Must never: let a character through that ends a line, moves a terminal's cursor or changes the direction of the text.

use std::fmt::{self, Write};

/// The longest text that is not cut, in characters. Sensible texts are shorter: the longest are paths and URIs.
const TEXT_MAX: usize = 200;
/// The longest line of the log in bytes: one sentence with a few texts from other programs in it.
const LINE_MAX: usize = 4096;

/// A text from another program. It is displayed with each control character escaped (`\n`, `\u{1b}`), and cut after 200
/// characters.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, character) in self.0.chars().enumerate() {
            if count == TEXT_MAX {
                return write!(f, "… ({} bytes)", self.0.len());
            }
            write_escaped(f, character)?;
        }
        Ok(())
    }
}

/// A line of the log without its line break: escaped like a [`Printable`] text, and cut after about 4 KiB. A cut line ends with
/// the length of the text.
pub fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LINE_MAX));
    for character in text.chars() {
        if line.len() >= LINE_MAX {
            // Writing to a string cannot fail.
            let _ = write!(line, "… ({} bytes)", text.len());
            break;
        }
        let _ = write_escaped(&mut line, character);
    }
    line
}

fn write_escaped(out: &mut impl Write, character: char) -> fmt::Result {
    // U+2028 and U+2029 end lines. The others change the direction of the text after them (Unicode UAX #9), or are invisible.
    let is_unsafe = character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if is_unsafe { write!(out, "{}", character.escape_default()) } else { out.write_char(character) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_split_a_line_is_escaped() {
        let text = "a\nb\r\x1b[31m\u{7f}\u{85}\u{2028}\u{202e}c";
        let printed = "a\\nb\\r\\u{1b}[31m\\u{7f}\\u{85}\\u{2028}\\u{202e}c";
        assert_eq!(Printable(text).to_string(), printed);
        assert_eq!(line(text), printed);
        assert_eq!(Printable("Eth1/1 é").to_string(), "Eth1/1 é");
    }

    #[test]
    fn a_long_text_is_cut_and_says_how_long_it_was() {
        assert_eq!(Printable(&"é".repeat(200)).to_string(), "é".repeat(200));
        assert_eq!(Printable(&"é".repeat(201)).to_string(), "é".repeat(200) + "… (402 bytes)");
        let cut = line(&"\n".repeat(1 << 20));
        assert!(cut.len() < LINE_MAX + 30 && cut.ends_with("\\n… (1048576 bytes)"), "{}", cut.len());
    }
}
