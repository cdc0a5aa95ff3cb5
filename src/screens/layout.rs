//! Measures, pads, wraps and colours text for a terminal of 80 columns.
//!
//! Must never: colour text that does not go to a terminal: files and pipes get plain text.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns of a screen.
pub const WIDTH: usize = 80;
/// What stands between two things in one line.
const GAP: &str = "    ";
/// How far the lines that go on are indented.
const INDENT: usize = 2;

/// How a text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As any text.
    Plain,
    /// A heading.
    Heading,
    /// All is well.
    Good,
    /// Something is under way.
    Waiting,
    /// An operator has to act.
    Bad,
}

/// Whether a screen has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    is_coloured: bool,
}

impl Style {
    /// Without colours.
    #[cfg(test)]
    pub const PLAIN: Self = Self { is_coloured: false };

    /// Colours on a terminal, unless `NO_COLOR` is set to something (no-color.org), or the terminal is `dumb`.
    pub fn of(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let is_wanted = no_color.is_none_or(str::is_empty) && term != Some("dumb");
        Self { is_coloured: is_terminal && is_wanted }
    }

    /// The text with its colour.
    pub fn paint<'a>(self, tone: Tone, text: &'a str) -> Cow<'a, str> {
        // SGR parameters (ECMA-48 8.3.117).
        let code = match tone {
            Tone::Plain => return text.into(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Waiting => "33",
            Tone::Bad => "31",
        };
        if self.is_coloured && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m").into()
        } else {
            text.into()
        }
    }
}

/// The columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text with spaces behind it, up to `columns`.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// The text, cut to `columns`.
pub fn shortened(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        if width(&short) + character.width().unwrap_or_default() >= columns {
            break;
        }
        short.push(character);
    }
    short + "…"
}

/// The text in lines of at most `columns`, broken between words. A word that is longer than a line is broken in itself.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut gap) = (String::new(), String::new());
    for word in text.split(' ') {
        if word.is_empty() {
            gap.push(' ');
            continue;
        }
        if !line.is_empty() && width(&line) + gap.len() + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line += &gap;
        }
        " ".clone_into(&mut gap);
        for character in word.chars() {
            if width(&line) + character.width().unwrap_or_default() > columns && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            line.push(character);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// `first` and then `text`, whose further lines begin in the column where it began. Where `first` leaves too little room, the
/// text stands in lines of its own, indented.
pub fn hanging(first: &str, text: &str, tone: Tone, style: Style) -> String {
    const LEAST: usize = 30;
    let begin = width(first);
    let columns = WIDTH.saturating_sub(begin);
    let mut lines = String::new();
    if columns >= LEAST || width(text) <= columns {
        let mut indent = first.to_owned();
        for line in wrapped(text, columns) {
            lines += &format!("{indent}{}\n", style.paint(tone, &line));
            indent = " ".repeat(begin);
        }
    }
    if lines.is_empty() {
        lines = format!("{}\n", first.trim_end());
        let indent = " ".repeat(2 * INDENT);
        for line in wrapped(text, WIDTH - 2 * INDENT) {
            lines += &format!("{indent}{}\n", style.paint(tone, &line));
        }
    }
    lines
}

/// Things beside each other, as many as fit in a line. One that is longer than a line goes on in indented lines.
pub fn beside(things: &[(Tone, String)], style: Style) -> String {
    let mut text = String::new();
    let mut column = 0;
    for (tone, thing) in things {
        let columns = width(thing);
        if column > 0 && column + GAP.len() + columns <= WIDTH {
            text += GAP;
            column += GAP.len() + columns;
            text += &style.paint(*tone, thing);
            continue;
        }
        if column > 0 {
            text.push('\n');
        }
        let mut lines = wrapped_after(thing, INDENT).into_iter();
        let first = lines.next().unwrap_or_default();
        column = width(&first);
        text += &style.paint(*tone, &first);
        for line in lines {
            text += &format!("\n{}{}", " ".repeat(INDENT), style.paint(*tone, &line));
            // Nothing stands beside the end of a wrapped text.
            column = WIDTH;
        }
    }
    if column > 0 {
        text.push('\n');
    }
    text
}

/// The text whole if it fits in a line; else wrapped so that each line has room for the indent.
fn wrapped_after(text: &str, indent: usize) -> Vec<String> {
    if width(text) <= WIDTH { vec![text.to_owned()] } else { wrapped(text, WIDTH - indent) }
}

/// Cuts a screen to `rows` lines, for a terminal that is to show it from the top. The last line says how many are missing.
pub fn cut(screen: &str, rows: usize) -> String {
    let count = screen.lines().count();
    if count <= rows || rows == 0 {
        return screen.to_owned();
    }
    let shown: String = screen.lines().take(rows - 1).map(|line| format!("{line}\n")).collect();
    format!("{shown}… {} more lines\n", count + 1 - rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_are_for_terminals_and_for_those_who_want_them() {
        let bad = |style: Style| style.paint(Tone::Bad, "x").into_owned();
        assert_eq!(bad(Style::of(true, None, Some("xterm"))), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(bad(Style::of(true, Some(""), None)), "\u{1b}[31mx\u{1b}[0m");
        for style in [
            Style::of(false, None, Some("xterm")),
            Style::of(true, Some("1"), None),
            Style::of(true, None, Some("dumb")),
        ] {
            assert_eq!(bad(style), "x");
        }
    }

    #[test]
    fn a_text_hangs_where_it_began_or_stands_in_lines_of_its_own() {
        let text = "boot service down: connection refused";
        let beside = hanging(&padded("a", 50), text, Tone::Plain, Style::PLAIN);
        assert_eq!(beside, format!("a{0}boot service down: connection\n {0}refused\n", " ".repeat(49)));
        let below = hanging(&padded("a", 60), text, Tone::Plain, Style::PLAIN);
        assert_eq!(below, format!("a\n    {text}\n"));
        assert_eq!(hanging("a  ", "", Tone::Plain, Style::PLAIN), "a\n");
    }

    #[test]
    fn a_screen_is_cut_to_the_terminal() {
        assert_eq!(cut("a\nb\nc\n", 2), "a\n… 2 more lines\n");
        assert_eq!(cut("a\nb\n", 2), "a\nb\n");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(wrapped("日本語日本語 a", 8), ["日本語日", "本語 a"]);
        assert_eq!(padded("日", 3), "日 ");
        assert_eq!((shortened("日本語", 5).as_str(), shortened("日本語", 6).as_str()), ("日本…", "日本語"));
    }

    proptest! {
        #[test]
        fn no_line_is_longer_than_the_screen(first in "[a-z]{0,70}", texts in prop::collection::vec("[a-z日é ]{0,200}", 0..6)) {
            for text in &texts {
                for line in hanging(&first, text, Tone::Bad, Style::PLAIN).lines() {
                    prop_assert!(width(line) <= WIDTH, "{line}");
                }
            }
            let things: Vec<(Tone, String)> = texts.iter().map(|text| (Tone::Plain, text.clone())).collect();
            for line in beside(&things, Style::PLAIN).lines() {
                prop_assert!(width(line) <= WIDTH, "{line}");
            }
        }
    }
}
