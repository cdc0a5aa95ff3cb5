//! The screens of the files in `tests/screens`: answers of the API, and what is shown of them. `UPDATE_GOLDEN=1` rewrites.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::answers::{Attempts, Leaf, Ports};
use super::layout::{Style, WIDTH, width};
use super::timeline::Follower;
use super::{status, timeline};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens").join(name)
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let text = fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares a screen with the file, and looks whether it fits.
fn golden(name: &str, screen: &str) {
    let path = path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, screen).unwrap();
    }
    assert_eq!(screen, fs::read_to_string(&path).unwrap(), "{name}");
    for line in screen.lines() {
        assert!(width(line) <= WIDTH && line.trim_end() == line, "{name}: {line:?}");
    }
}

fn status_of(name: &str) -> String {
    let now = humantime::parse_rfc3339("2026-11-22T14:00:12Z").unwrap();
    let (leaf, ports): (Leaf, Ports) =
        (read(&format!("{name}.leaf.json")), read(&format!("{name}.ports.json")));
    let all = ports.ports.len();
    let shown: Vec<_> = ports.ports.into_iter().filter(|port| &*port.state != "released").collect();
    status::screen(&leaf, &shown, all - shown.len(), now, Style::PLAIN)
}

#[test]
fn a_leaf_with_ports_in_every_state() {
    golden("busy.status.txt", &status_of("busy"));
}

#[test]
fn a_leaf_that_knows_nothing_yet() {
    golden("early.status.txt", &status_of("early"));
}

#[test]
fn an_attempt_that_loops_and_one_that_is_over() {
    let attempts: Attempts = read("loop.attempts.json");
    let screen =
        |number| timeline::screen(&attempts, timeline::chosen(&attempts, number).unwrap(), Style::PLAIN);
    golden("loop.timeline.txt", &screen(None));
    golden("over.timeline.txt", &screen(Some(17)));
    let error = timeline::chosen(&attempts, Some(2)).unwrap_err();
    assert_eq!(error, "Ethernet0: attempt 2 is not kept: there are 17 to 19");
}

#[test]
fn who_follows_sees_what_is_new() {
    let attempts = |total: u64, stages: &str| -> Attempts {
        let text = format!(
            r#"{{"port": "Ethernet0", "total": {total}, "attempts": [{{"attempt": "1", "number": {total}, "began":
            "2026-11-22T14:00:00.000Z", "ended": null, "end": null, "machine": null, "verdict": null, "stages": [{stages}]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let stage = |name: &str, count: u64, last: f64| {
        format!(
            r#"{{"stage": "{name}", "offset_ms": 0.0, "last_offset_ms": {last}, "count": {count}, "message": "ok",
            "request": null, "path": null}}"#
        )
    };
    let mut follower = Follower::default();
    let mut news = |attempts: Attempts| follower.news(&attempts, Style::PLAIN);
    let head = "attempt 1 of 1 on Ethernet0\nbegan 2026-11-22T14:00:00.000Z\n";
    assert_eq!(news(attempts(1, &stage("link", 1, 0.0))), format!("{head}  +0.0 s  link       ok\n"));
    assert_eq!(news(attempts(1, &stage("link", 1, 0.0))), "");
    assert_eq!(news(attempts(1, &stage("link", 3, 2000.0))), "  +2.0 s  link       ok\n");
    assert!(news(attempts(2, "")).starts_with("attempt 2 of 2 on Ethernet0\n"));
}
