//! Keeps the layers of `src/lib.rs`: pure files do no I/O, each edge's library has one home, every file says what it
//! owns and what it must never do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

const PURE: &[&str] = &[
    "acl.rs",
    "config/acl.rs",
    "plan/acl.rs",
    "plan/acl_rules.rs",
    "plan/anycast.rs",
    "net/anycast.rs",
    "plan/enter.rs",
    "plan/leave.rs",
    "plan/retire.rs",
    "plan/waiting.rs",
    "config.rs",
    "config/ra.rs",
    "config/relay.rs",
    "config/relay/upstream.rs",
    "net/kind.rs",
    "net/origin.rs",
    "db/index.rs",
    "db/walk.rs",
    "desired.rs",
    "desired/document.rs",
    "doubts.rs",
    "desired/judge.rs",
    "desired/kept.rs",
    "net.rs",
    "observed.rs",
    "plan.rs",
    "printable.rs",
    "refusals.rs",
    "rows.rs",
    "rows/tables.rs",
    "serving.rs",
    "status.rs",
    "uplinks.rs",
    "cli.rs",
    "ra/engine.rs",
    "ra/frame.rs",
    "ra/options.rs",
    "ra/packet.rs",
    "ra/told.rs",
    "session.rs",
    "allowance.rs",
    "relay/account.rs",
    "relay/budget.rs",
    "relay/patience.rs",
    "relay/image/key.rs",
    "relay/image/range.rs",
    "relay/claim.rs",
    "relay/decide.rs",
    "relay/intake.rs",
    "relay/heads.rs",
    "relay/route.rs",
    "relay/script.rs",
    "relay/upstream/addresses.rs",
    "relay/upstream/health.rs",
];

const IMPURE: [&str; 12] = [
    "tokio",
    "redis::",
    "netlink_",
    "hyper",
    "tracing",
    "socket2",
    "nix::",
    "Instant::now",
    "SystemTime",
    "std::env",
    "std::fs",
    "fastrand",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A file's lines without its comments.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn pure_files_do_no_io_and_know_no_clock() {
    for name in PURE {
        for line in code(&source().join(name)) {
            let word = IMPURE.iter().find(|word| line.contains(**word));
            assert!(word.is_none(), "{name} uses {word:?}: {line}");
        }
    }
}

#[test]
fn pure_files_use_pure_files_only() {
    for name in PURE {
        let lines = code(&source().join(name));
        for used in lines.iter().filter_map(|line| line.trim().strip_prefix("use crate::")) {
            let modules: Vec<&str> = used.split("::").map(|word| word.trim_end_matches(';')).collect();
            let is_pure = (1..=modules.len())
                .any(|count| PURE.contains(&format!("{}.rs", modules[..count].join("/")).as_str()));
            assert!(is_pure, "{name} uses crate::{used}");
        }
    }
}

#[test]
fn each_edges_library_has_one_home() {
    let homes = [
        ("redis::", "db.rs database.rs events.rs place.rs"),
        ("netlink_sys::", "netlink.rs"),
        ("netlink_packet", "netlink.rs links.rs neighbours.rs routes.rs"),
        ("prometheus_client::", "metrics.rs"),
        ("rustls::", "tls.rs server_name.rs server.rs connection.rs origin.rs"),
        ("sd_notify::", "systemd.rs"),
        ("std::fs", "store.rs memory.rs api.rs main.rs place.rs preview.rs tls.rs"),
        ("use nix::", "socket.rs ears.rs netlink.rs line.rs routes.rs"),
        ("pnet_datalink", "socket.rs"),
    ];
    for path in files(&source()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        for (library, home) in homes {
            let uses = code(&path).iter().any(|line| line.contains(library));
            assert!(!uses || home.split(' ').any(|home| home == name), "{} uses {library}", path.display());
        }
    }
}

#[test]
fn sonics_table_names_stand_in_rows_only() {
    for path in files(&source()) {
        let is_home = ["tests.rs", "rows.rs", "rows/tables.rs"].iter().any(|name| path.ends_with(name));
        for line in code(&path) {
            let key = [
                "\"LOOPBACK_INTERFACE|",
                "\"INTERFACE|",
                "\"VRF|",
                "\"PORT|",
                "\"vrf_name\"",
                "\"VRF_TABLE",
                "\"ASIC_STATE",
            ];
            let named = key.iter().any(|key| line.contains(key));
            assert!(is_home || !named, "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_file_opens_with_what_it_owns() {
    for path in files(&source()) {
        let text = fs::read_to_string(&path).unwrap();
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(!head.is_empty(), "{} does not open with //!", path.display());
        // Others than these say what they must never do.
        let is_table_of_contents = ["tests.rs", "lib.rs", "mod.rs"].iter().any(|name| path.ends_with(name));
        let says = head.iter().any(|line| line.starts_with("//! Must never: "));
        assert!(says || is_table_of_contents, "{} does not say what it must never do", path.display());
    }
}
