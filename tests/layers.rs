//! Keeps the layers of `docs/architecture.md`. The compiler keeps `core` pure: its `Cargo.toml` and `clippy.toml` say how.
//! The tests check the rest: edges import no tasks, modules do not import each other in a circle, each library has one home,
//! and every file says what it owns and what it must never do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "layers/imports.rs"]
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use imports::{Imports, Module};

/// Modules that join pure logic with edges. Edges must not know them.
const TASKS: &[&str] = &[
    "attempts::task",
    "check",
    "console",
    "console::push",
    "console::status",
    "console::timeline",
    "diagnosis",
    "evidence",
    "port_services",
    "preview",
    "ra::port",
    "ra::thread",
    "reconcile",
    "relay::task",
    "reload",
    "retire",
    "trace_export",
];

/// Modules that wire everything. No other module imports them.
const ROOT: &[&str] = &["", "main", "command", "cli", "pages"];

/// What `core` may depend on: nothing that does I/O, logs, waits or draws random numbers.
const CORE_DEPENDENCIES: &[&str] = &[
    "httpdate",
    "humantime",
    "ipnet",
    "litemap",
    "pnet_packet",
    "serde",
    "serde_json",
    "strum",
    "thiserror",
    "toml",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The folders with the source of both packages.
fn sources() -> [PathBuf; 2] {
    [root().join("src"), root().join("core/src")]
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

fn all_files() -> Vec<PathBuf> {
    sources().iter().flat_map(|folder| files(folder)).collect()
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    let manifest = fs::read_to_string(root().join("core/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let dependencies: Vec<&str> =
        manifest["dependencies"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(dependencies, CORE_DEPENDENCIES);
}

#[test]
fn edges_import_no_tasks_and_no_module_imports_the_root() {
    let imports = Imports::of(&root().join("src"));
    for name in TASKS.iter().chain(ROOT) {
        assert!(imports.has(name), "there is no module {name:?}: mend the list");
    }
    let is = |list: &[&str], module: &Module| list.contains(&module.to_string().as_str());
    for (user, used) in imports.all() {
        let is_root = is(ROOT, user);
        assert!(is_root || !is(ROOT, used), "{user} imports {used}, which only wires");
        let is_task = is_root || is(TASKS, user);
        assert!(is_task || !is(TASKS, used), "{user} is an edge and imports the task {used}");
    }
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for folder in sources() {
        let circles = Imports::of(&folder).circles();
        assert!(circles.is_empty(), "{}: these import each other: {circles:?}", folder.display());
    }
}

#[test]
fn each_edges_library_has_one_home() {
    let homes = [
        ("redis::", "db.rs database.rs events.rs endpoint.rs"),
        ("netlink_sys::", "netlink.rs"),
        ("netlink_packet", "netlink.rs links.rs neighbours.rs routes.rs"),
        (
            "prometheus_client::",
            "mod.rs advertisements.rs agent.rs boots.rs certificates.rs images.rs ports.rs probes.rs process.rs relay.rs upstream.rs",
        ),
        ("rustls::", "tls.rs server_name.rs service_state.rs connection.rs"),
        ("sd_notify::", "systemd.rs"),
        (
            "std::fs",
            "state_file.rs memory.rs api.rs command.rs endpoint.rs preview.rs tls.rs certificate.rs process.rs tests.rs",
        ),
        ("rustix::", "console.rs"),
        ("use nix::", "socket.rs poller.rs process_limits.rs netlink.rs peer.rs routes.rs clock.rs"),
    ];
    for path in all_files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        for (library, home) in homes {
            let uses = code(&path).iter().any(|line| line.contains(library));
            assert!(!uses || home.split(' ').any(|home| home == name), "{} uses {library}", path.display());
        }
    }
}

#[test]
fn sonics_table_names_stand_in_rows_only() {
    for path in all_files() {
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
    for path in all_files() {
        let text = fs::read_to_string(&path).unwrap();
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(!head.is_empty(), "{} does not open with //!", path.display());
        // All other files have a line `Must never:`.
        let is_table_of_contents = ["tests.rs", "lib.rs", "mod.rs"].iter().any(|name| path.ends_with(name));
        let says = head.iter().any(|line| line.starts_with("//! Must never: "));
        assert!(says || is_table_of_contents, "{} does not say what it must never do", path.display());
    }
}
