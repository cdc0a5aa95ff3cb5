//! `leafboot explain`: what the documentation says about a reason.
//!
//! Must never: say anything that is not in the documentation.

use super::layout::{WIDTH, wrapped};

/// Has a heading `### <Reason>` for each verdict, and a table of what to do about what a port waits for.
const OPERATIONS: &str = include_str!("../../docs/operations.md");
/// Has a table of what each reason means.
const API: &str = include_str!("../../docs/api.md");

/// What is to be known about a reason, in any case. Err: the reasons that can be explained.
pub fn explained(reason: &str) -> Result<String, String> {
    let is_it = |name: &str| name.eq_ignore_ascii_case(reason);
    if let Some((name, section)) = sections(OPERATIONS).find(|(name, _)| is_it(name)) {
        return Ok(format!("{name}\n\n{}", plain(section)));
    }
    let meaning = rows(API).find(|(names, _)| names.iter().any(|name| is_it(name)));
    let cure = rows(OPERATIONS).find(|(names, _)| names.iter().any(|name| is_it(name)));
    let (Some((names, meaning)), cure) = (meaning, cure) else {
        return Err(format!("no reason is called \"{}\". There are:\n{}", shown(reason), all_reasons()));
    };
    let name = names.into_iter().find(|name| is_it(name)).unwrap_or_default();
    let mut text = format!("{name}\n\n{}", plain(meaning));
    if let Some((_, cure)) = cure {
        text += &format!("\n{}", plain(cure));
    }
    Ok(text)
}

fn shown(reason: &str) -> String {
    leafboot_core::printable::Printable(reason).to_string()
}

/// Every reason that can be explained.
fn all_reasons() -> String {
    let mut names: Vec<&str> = sections(OPERATIONS).map(|(name, _)| name).collect();
    names.extend(rows(API).flat_map(|(names, _)| names));
    names.sort_unstable();
    names.dedup();
    let lines = wrapped(&names.join(" "), WIDTH - 2);
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// The sections under a heading of one word.
fn sections(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.split("\n### ").skip(1).filter_map(|section| {
        let (name, text) = section.split_once('\n')?;
        let end = text.find("\n## ").unwrap_or(text.len());
        is_reason(name).then(|| (name, text[..end].trim()))
    })
}

/// The rows of the tables whose first cell has nothing but reasons: the reasons, and the last cell.
fn rows(page: &str) -> impl Iterator<Item = (Vec<&str>, &str)> {
    page.lines().filter_map(|line| {
        let (names, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let names: Vec<&str> = names.split("`, `").collect();
        // A cell may have an escaped bar.
        let cells = rest.strip_suffix(" |")?;
        let last = cells.rsplit_once(" | ").map_or(cells, |(_, last)| last);
        names.iter().all(|name| is_reason(name)).then_some((names, last))
    })
}

fn is_reason(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Markdown as text of at most 80 columns: paragraphs and items are wrapped, blocks of code stay as they are.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut paragraph = String::new();
    let mut is_code = false;
    let end = |text: &mut String, paragraph: &mut String| {
        let indent = if paragraph.starts_with("- ") { 2 } else { 0 };
        for (at, line) in wrapped(&unlinked(paragraph), WIDTH - indent).iter().enumerate() {
            let indent = if at == 0 { 0 } else { indent };
            *text += &format!("{}{line}\n", " ".repeat(indent));
        }
        paragraph.clear();
    };
    for line in markdown.lines() {
        if line.starts_with("```") {
            end(&mut text, &mut paragraph);
            is_code = !is_code;
        } else if is_code {
            text += &format!("  {line}\n");
        } else if line.is_empty() {
            end(&mut text, &mut paragraph);
            text.push('\n');
        } else {
            if line.starts_with("- ") {
                end(&mut text, &mut paragraph);
            }
            paragraph += line.trim();
            paragraph.push(' ');
        }
    }
    end(&mut text, &mut paragraph);
    text
}

/// The text without backticks, escapes and the targets of links.
fn unlinked(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once("](") {
        match (before.rfind('['), after.split_once(')')) {
            (Some(open), Some((_, behind))) => {
                text += &before[..open];
                text += &before[open + 1..];
                rest = behind;
            }
            _ => {
                text += before;
                text += "](";
                rest = after;
            }
        }
    }
    text += rest;
    text.replace("\\|", "|").replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screens::layout::width;

    #[test]
    fn a_reason_is_explained_by_what_the_pages_say() {
        let text = explained("aclbound").unwrap();
        let meaning = "AclBound\n\nThe ASIC has not bound the boot ACL to the port yet.\n\nshow acl table.";
        assert!(text.starts_with(meaning), "{text}");
        let text = explained("InvalidField").unwrap();
        assert_eq!(text, "InvalidField\n\nhas a field that entries do not have\n");
    }

    #[test]
    fn an_unknown_reason_is_answered_with_those_that_there_are() {
        let error = explained("No\u{1b}thing").unwrap_err();
        assert!(error.starts_with("no reason is called \"No\\u{1b}thing\". There are:\n"), "{error}");
        assert!(error.contains(" InterfaceBound "), "{error}");
        assert!(error.lines().all(|line| width(line) <= WIDTH), "{error}");
    }

    #[test]
    fn every_explanation_fits_the_screen() {
        for name in all_reasons().split_whitespace() {
            let text = explained(name).unwrap();
            assert!(text.lines().count() > 2, "{name}");
            for line in text.lines().filter(|line| !line.starts_with("  ")) {
                assert!(width(line) <= WIDTH, "{line}");
            }
        }
    }

    #[test]
    fn markdown_is_read_as_text() {
        let markdown = "See [the `page`](x.md#y), or\nthis:\n\n```sh\na  b\n```\n- one\n  more\n- two";
        assert_eq!(plain(markdown), "See the page, or this:\n\n  a  b\n- one more\n- two\n");
    }
}
