//! `docs/settings.md` against `sonic/leafboot.toml` and against the settings themselves: every key of one is in the others, and
//! each default is the one that leafboot uses.
//!
//! Must never: let a key be documented in one place only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use leafboot_core::settings::Settings;

const PAGE: &str = include_str!("../docs/settings.md");
const EXAMPLE: &str = include_str!("../sonic/leafboot.toml");
/// The keys without a default, and the keys that some other keys need.
const BASE: [(&str, &str); 5] = [
    ("leaf", "\"leaf01\""),
    ("boot.prefix", "\"2001:db8:b007::/57\""),
    ("boot.protected", "[]"),
    ("relay.boot_service.origins", "[\"http://[2001:db8:ffff::80]:8080\"]"),
    ("relay.cache.name", "\"http://images.metal-stack.io\""),
];
const TLS: [(&str, &str); 2] =
    [("relay.tls.certificate", "\"/relay.crt\""), ("relay.tls.key", "\"/relay.key\"")];
const API: [(&str, &str); 2] =
    [("relay.api.origins", "[\"https://api.example\"]"), ("relay.routes.api", "[\"/x/*\"]")];

/// How the example has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    /// `#key = value`: the default.
    Default(String),
    /// `key = value`, or `# key = value`: a value of this site.
    Value,
}

/// The rows of the page's tables of this many columns.
fn rows(columns: usize) -> Vec<Vec<&'static str>> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    rows.filter(|row| row.len() == columns && row[0].starts_with('`')).collect()
}

/// Every documented key with its default's cell.
fn documented() -> BTreeMap<String, &'static str> {
    let rows = rows(4).into_iter().map(|row| (row[0].trim_matches('`').to_owned(), row[3]));
    let mut keys = BTreeMap::new();
    for (key, default) in rows {
        assert!(keys.insert(key.clone(), default).is_none(), "{key} is documented twice");
    }
    keys
}

/// A key and its value, if a line has one.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(" = ")?;
    let is_key = key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_key.then_some((key, value))
}

/// Every key of the example.
fn example() -> BTreeMap<String, Shown> {
    let mut section = String::new();
    let mut keys = BTreeMap::new();
    for line in EXAMPLE.lines() {
        let text = line.trim_start_matches("# ").trim_start_matches('#');
        if let Some(name) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            section = format!("{name}.");
            continue;
        }
        let Some((key, value)) = assignment(text) else { continue };
        let shown = match line.starts_with('#') && !line.starts_with("# ") {
            true => Shown::Default(value.to_owned()),
            false => Shown::Value,
        };
        match value.strip_prefix("{ ").and_then(|value| value.strip_suffix(" }")) {
            Some(table) => {
                for (inner, _) in table.split(", ").filter_map(assignment) {
                    keys.insert(format!("{section}{key}.{inner}"), Shown::Value);
                }
            }
            None => {
                keys.insert(format!("{section}{key}"), shown);
            }
        }
    }
    keys
}

/// The settings of a file that has these keys.
fn settings(keys: &BTreeMap<String, String>) -> Result<Settings, String> {
    let text: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    Settings::parse(&text).map_err(|error| error.to_string())
}

/// The smallest file in which a key can be written.
fn base(key: &str) -> BTreeMap<String, String> {
    let tls = TLS.iter().filter(|_| key.starts_with("relay.tls"));
    let api = API.iter().filter(|_| key.starts_with("relay.api"));
    let all = BASE.iter().chain(tls).chain(api);
    all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_page_and_the_example_have_the_same_keys() {
    let example = example();
    let mut expected: BTreeSet<String> = example.keys().cloned().collect();
    // The example says that these tables have the keys of the boot service's.
    for key in example.keys().filter_map(|key| key.strip_prefix("relay.boot_service.")) {
        expected.extend(["cache", "api"].map(|table| format!("relay.{table}.{key}")));
    }
    let documented: BTreeSet<String> = documented().into_keys().collect();
    let of_page: Vec<_> = documented.difference(&expected).collect();
    let of_example: Vec<_> = expected.difference(&documented).collect();
    assert!(of_page.is_empty(), "only docs/settings.md has {of_page:?}");
    assert!(of_example.is_empty(), "only sonic/leafboot.toml has {of_example:?}");
    assert!(documented.len() > 80, "{} keys", documented.len());
}

#[test]
fn the_page_and_the_example_have_the_same_defaults() {
    let documented = documented();
    for (key, shown) in example() {
        if let Shown::Default(value) = shown {
            let cell = documented[&key];
            assert!(cell.starts_with(&format!("`{value}`")), "{key}: {cell} is not {value}");
        }
    }
}

#[test]
fn each_default_is_the_one_that_is_used() {
    for (key, cell) in documented() {
        let without = base(&key);
        let Some((written, _)) = cell.strip_prefix('`').and_then(|cell| cell.split_once('`')) else {
            let is_needed = cell == "must be set";
            assert!(is_needed || cell.starts_with("none"), "{key}: {cell}");
            let mut less = without;
            assert_eq!(less.remove(&key).is_some() && is_needed, is_needed, "{key}");
            assert_eq!(settings(&less).is_err(), is_needed || less.len() < base(&key).len(), "{key}: {cell}");
            continue;
        };
        // A default may be another key's value; where that is one value, a list has it alone.
        let value = match without.get(written) {
            Some(value) if key.ends_with(".origins") => format!("[{value}]"),
            Some(value) => value.clone(),
            None => written.to_owned(),
        };
        let mut with = without.clone();
        with.insert(key.clone(), value);
        let (with, without) = (settings(&with), settings(&without));
        assert!(with.is_ok() && without.is_ok(), "{key}: {with:?} {without:?}");
        assert_eq!(with, without, "{key} has another default than {cell}");
    }
}

/// leafboot's error for an unknown key names all keys that it knows.
#[test]
fn every_key_that_leafboot_knows_is_documented() {
    let documented = documented();
    let former: BTreeSet<&str> = rows(2).into_iter().map(|row| row[0].trim_matches('`')).collect();
    let parents =
        documented.keys().filter_map(|key| key.rsplit_once('.').map(|(table, _)| format!("{table}.")));
    let tables: BTreeSet<String> = parents.chain([String::new()]).collect();
    let mut count = 0;
    for table in &tables {
        let mut keys = base(table);
        keys.insert(format!("{table}no_such_key"), "1".to_owned());
        let error = settings(&keys).unwrap_err();
        let (_, known) = error.rsplit_once("expected ").unwrap_or_else(|| panic!("{table}: {error}"));
        for name in known.split('`').skip(1).step_by(2) {
            let key = format!("{table}{name}");
            let is_table = tables.iter().any(|table| table.starts_with(&format!("{key}.")));
            let is_known = documented.contains_key(&key) || is_table || former.contains(key.as_str());
            assert!(is_known, "docs/settings.md does not have {key}");
            count += 1;
        }
    }
    assert!(count > documented.len(), "{count} keys are known");
}
