//! leafboot in SONiC's own places: `show leafboot` and the program that `show techsupport` runs, by SONiC's calling
//! conventions and on a running agent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::agent::{self, Agent, LEAFBOOT};
use support::eventually;
use support::switch::Switch;

const BOOT: &str = r#"{"ports": {"Ethernet0": {"state": "boot", "prefix": "2001:db8:b007::/64"}}}"#;

/// The path of a file of this repository.
fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

/// Python with click, from the environment that `tests/contract/setup` makes.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let found = target.ancestors().map(|directory| directory.join("contract/bin/python"));
    found.into_iter().find(|program| program.exists()).expect("install click with tests/contract/setup")
}

/// A directory with a program `leafboot` in it, which uses the switch's settings, as the installed one uses those of
/// `/etc/leafboot`.
fn installed(switch: &Switch) -> String {
    let settings = switch.path("leafboot.toml");
    let text = format!(
        "#!/bin/sh\ncase $1 in --*|explain) exec {LEAFBOOT} \"$@\";; esac\ncommand=$1; shift\n\
         exec {LEAFBOOT} \"$command\" --config {} \"$@\"\n",
        settings.display()
    );
    std::fs::create_dir(switch.path("bin")).unwrap();
    let program = agent::write(&switch.path("bin/leafboot"), &text);
    std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{}", switch.path("bin").display(), std::env::var("PATH").unwrap())
}

fn booting(switch: &Switch) -> Agent {
    let agent = Agent::start_ready(switch);
    agent.put("/v1/ports", BOOT);
    eventually("the port has a verdict", || {
        agent.get("/v1/ports/Ethernet0").1["verdict"]["reason"].is_string()
    });
    agent
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn show_leafboot_shows_the_agents_screens() {
    let switch = Switch::start();
    let _agent = booting(&switch);
    let variable = installed(&switch);
    let plugins = switch.path("show/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    for package in ["show", "show/plugins"] {
        agent::write(&switch.path(package).join("__init__.py"), "");
    }
    std::fs::copy(path("sonic/show/leafboot.py"), plugins.join("leafboot.py")).unwrap();
    let show = |arguments: &[&str]| {
        let mut command = Command::new(python());
        command
            .arg(path("tests/sonic_cli/show.py"))
            .arg(switch.directory.path())
            .arg("leafboot")
            .args(arguments);
        command.env("PATH", &variable).output().unwrap()
    };
    let status = show(&["status"]);
    assert!(text(&status).contains("\nEthernet0  boot "), "{}", text(&status));
    let json = show(&["status", "--json", "Ethernet0"]);
    assert!(text(&json).contains("\"Ethernet0\""), "{}", text(&json));
    let timeline = show(&["timeline", "Ethernet0"]);
    assert!(text(&timeline).contains("Ethernet0"), "{}", text(&timeline));
    let explain = show(&["explain", "NoCarrier"]);
    assert!(explain.status.success() && text(&explain).contains("carrier"), "{}", text(&explain));
    // The exit code is leafboot's.
    assert_eq!(show(&["timeline", "Ethernet9"]).status.code(), Some(1));
}

#[test]
fn techsupport_gets_all_that_leafboot_knows_and_always_ends() {
    let switch = Switch::start();
    let agent = booting(&switch);
    let variable = installed(&switch);
    let dump = || {
        let output = Command::new(path("sonic/debug-dump/leafboot")).env("PATH", &variable).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let all = dump();
    for section in ["--version", "status", "status --json", "timeline Ethernet0", "plan", "check"] {
        assert!(all.contains(&format!("===== leafboot {section}")), "no {section} in {all}");
    }
    assert!(all.contains("\nEthernet0  boot "), "{all}");
    drop(agent);
    assert!(dump().contains("leafboot: "), "it says that no agent runs");
}
