//! Checks the documentation: every link leads somewhere, every file that a page names exists, every function of SONiC that a
//! comment cites is in the table of citations, and every metric and verdict is explained.
//!
//! Must never: ask the network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use leafboot_core::verdict::VerdictReason;
use strum::VariantNames;

/// Folders that a page may name files of.
const FOLDERS: [&str; 9] = ["benches", "core", "docs", "fuzz", "sonic", "src", "systemd", "tests", ".github"];
/// The most lines of README.md.
const README_MAX: usize = 150;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder, without build output.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with("target") => {}
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The pages: those at the root and those in `docs`.
fn pages() -> Vec<PathBuf> {
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let at_root = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    at_root.chain(files(&root().join("docs"))).filter(is_page).collect()
}

/// A page's text without its blocks of code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    let is_prose = |(number, _): &(usize, &str)| number % 2 == 0;
    text.split("```").enumerate().filter(is_prose).map(|(_, piece)| piece).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &Path) -> BTreeSet<String> {
    let heading = |line: &str| line.trim_start_matches('#').trim().to_lowercase();
    let anchor = |heading: String| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(page).lines().filter(|line| line.starts_with('#')).map(|line| anchor(heading(line))).collect()
}

/// The targets of a page's links.
fn links(page: &Path) -> Vec<String> {
    let text = prose(page);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The words between backticks.
fn code(page: &Path) -> Vec<String> {
    let text = prose(page);
    let pieces = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    pieces.map(str::to_owned).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        for link in links(&page).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            let is_there = anchor.is_empty() || anchors(&target).contains(anchor);
            assert!(is_there, "{}: {link}: no such heading", page.display());
        }
    }
}

#[test]
fn every_file_that_a_page_names_exists() {
    let all: Vec<PathBuf> =
        FOLDERS.iter().map(|folder| root().join(folder)).filter(|path| path.exists()).collect();
    let all: Vec<PathBuf> = all.iter().flat_map(|folder| files(folder)).collect();
    for page in pages().iter().filter(|page| !page.ends_with("CHANGELOG.md")) {
        for name in code(page) {
            let is_path = |name: &str| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
            };
            let folder = name.split_once('/').map(|(folder, _)| folder);
            // SONiC's and other projects' files have folders of their own.
            let is_named = match folder {
                Some(folder) => FOLDERS.contains(&folder) && is_path(&name),
                None => name.ends_with(".rs") && is_path(&name),
            };
            let exists = match folder {
                Some(_) => root().join(&name).exists(),
                None => all.iter().any(|path| path.ends_with(&name)),
            };
            assert!(!is_named || exists, "{}: {name}", page.display());
        }
    }
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_MAX, "README.md has {lines} lines, more than {README_MAX}");
}

/// The citations in a text, such as `cfgmgr/vrfmgr.cpp: VrfMgr::doTask`: file and function.
fn citations(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for mark in [".cpp: ", "caclmgrd: "] {
        for (at, _) in text.match_indices(mark) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | ':' | '.');
            let before = &text[..at + mark.len() - 2];
            let file = before.rsplit(|c| !is_name(c)).next().unwrap_or_default();
            let after = &text[at + mark.len()..];
            let function = after.split(|c| !is_name(c)).next().unwrap_or_default();
            found.push((file.to_owned(), function.trim_end_matches([':', '.']).to_owned()));
        }
    }
    found
}

#[test]
fn every_function_of_sonic_that_is_cited_is_in_the_table() {
    let table = fs::read_to_string(root().join("docs/sonic.md")).unwrap();
    let table = table.split("## Citations").nth(1).unwrap();
    let mut count = 0;
    for path in ["src", "core/src", "sonic"].iter().flat_map(|folder| files(&root().join(folder))) {
        let text = fs::read_to_string(&path).unwrap();
        // A citation may go on in the next line of a comment.
        let marks = ["///", "//!", "//", "#"];
        let lines = text.lines().map(|line| {
            let line = line.trim_start();
            marks.iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line).trim()
        });
        let text = lines.collect::<Vec<_>>().join(" ");
        for (file, function) in citations(&text) {
            count += 1;
            let is_named =
                table.contains(&format!("`{function}`")) || table.contains(&format!("::{function}`"));
            let is_there = table.contains(&format!("`{file}`")) && is_named;
            assert!(is_there, "{}: {file}: {function} is not in docs/sonic.md", path.display());
        }
    }
    assert!(count > 20, "{count} citations");
}

#[test]
fn citations_are_found() {
    let text = "x (`a/b.cpp: B::c`), scripts/caclmgrd: run. And `b.cpp: d`";
    let found = citations(text);
    let expected = [("a/b.cpp", "B::c"), ("b.cpp", "d"), ("scripts/caclmgrd", "run")];
    assert_eq!(found, expected.map(|(file, function)| (file.to_owned(), function.to_owned())));
}

/// The metrics that one file registers, as a scraper sees them but for the suffix of counters. `prefix`: its registry's.
fn registered(prefix: &str, text: &str) -> Vec<String> {
    let calls = text.split("registry.register").skip(1);
    let name = |call: &str| {
        let call = call.split_once(");").map_or(call, |(call, _)| call);
        let name = call.split('"').nth(1).unwrap();
        let unit = call.split_once("Unit::").map_or("", |(_, unit)| unit);
        let unit: String = unit.chars().take_while(char::is_ascii_alphabetic).collect();
        match unit.to_lowercase() {
            unit if unit.is_empty() => format!("{prefix}_{name}"),
            unit => format!("{prefix}_{name}_{unit}"),
        }
    };
    calls.map(name).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let sources = files(&root().join("src/metrics"));
    let counted = sources.iter().flat_map(|path| {
        let prefix = if path.ends_with("process.rs") { "process" } else { "leafboot" };
        registered(prefix, &fs::read_to_string(path).unwrap())
    });
    let words = code(&root().join("docs/operations.md"));
    let documented = words
        .iter()
        .filter(|word| word.starts_with("leafboot_") || word.starts_with("process_"))
        .map(|word| {
            let name = word.split_once('{').map_or(word.as_str(), |(name, _)| name);
            name.strip_suffix("_total").unwrap_or(name).to_owned()
        });
    let (documented, counted): (BTreeSet<String>, BTreeSet<String>) =
        (documented.collect(), counted.collect());
    assert!(counted.len() > 40, "{counted:?}");
    assert_eq!(documented, counted);
}

#[test]
fn every_verdict_has_its_paragraph() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("Verdicts\n")).unwrap();
    let paragraphs: Vec<(&str, &str)> =
        section.split("\n### ").skip(1).map(|paragraph| paragraph.split_once('\n').unwrap()).collect();
    let named: BTreeSet<&str> = paragraphs.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = VerdictReason::VARIANTS.iter().copied().collect();
    assert_eq!(named, all);
    assert_eq!(paragraphs.len(), all.len(), "a verdict has two paragraphs");
    for (name, paragraph) in paragraphs {
        assert!(paragraph.trim().len() > 60, "{name}: {paragraph}");
        assert!(section.contains(&format!("| `{name}` |")), "{name} is not in the table");
    }
}
