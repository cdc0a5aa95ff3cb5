//! Tests of the command line: the example settings are valid, and a start that fails names the reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../build/revision.rs"]
mod revision;
mod support;

use leafboot_core::settings::Settings;
use support::agent::{Agent, leafboot, settings, write};
use support::eventually;
use support::switch::Switch;

const ACL_SETTINGS: &str = r#"
leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = []
supernet = "2001:db8:b000::/36"
[acl]
cache = ["2001:db8:ffff::90"]
control_plane = ["2001:db8:cafe::/48"]
ntp = ["2001:db8:ffff::123"]
[ra]
dns = ["2001:db8:ffff::53"]
[relay]
boot_service = { origins = ["http://[2001:db8:ffff::80]:8080"] }
cache = { name = "http://images.metal-stack.io" }
"#;

/// Runs the binary with a settings file; returns its exit code and its output.
fn start(command: &str, file: &std::path::Path) -> (i32, String) {
    let output = leafboot(&[command, "--config", file.to_str().unwrap()]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn the_example_is_a_good_file_and_shows_every_default() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sonic/leafboot.toml");
    let (code, said) = start("check", &example);
    assert_eq!((code, said.ends_with("leafboot.toml: ok\n")), (0, true), "{said}");

    let text = std::fs::read_to_string(&example).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')) {
            Some(setting) => format!("{setting}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let with_defaults = Settings::parse(&text).unwrap();
    assert_eq!(Settings::parse(&uncommented).unwrap(), with_defaults);
    assert_ne!(uncommented, text);
}

#[test]
fn check_reads_the_certificates_that_the_settings_name() {
    let switch = Switch::start();
    let file = settings(&switch);
    let text = std::fs::read_to_string(&file).unwrap();
    let key = switch.path("none.key");
    let tls = format!("[relay.tls]\ncertificate = \"/none.crt\"\nkey = \"{}\"\n", key.display());
    write(&file, &(text.clone() + &tls));
    let (code, said) = start("check", &file);
    assert!(code == 1 && said.contains("/none.crt: "), "{said}");
    let boot_service = "origins = [\"https://boot.example\"]\ntls = { ca = \"/none.pem\" }";
    write(&file, &text.replace("origins = [\"http://[2001:db8:ffff::80]:8080\"]", boot_service));
    let (code, said) = start("check", &file);
    assert!(code == 1 && said.contains("/none.pem: "), "{said}");
}

#[test]
fn check_warns_of_settings_with_which_no_machine_boots() {
    let switch = Switch::start();
    let file = settings(&switch);
    let (code, said) = start("check", &file);
    assert!(said.ends_with("leafboot.toml: can be used, with 2 warnings\n"), "{said}");
    let lines: Vec<&str> =
        said.lines().map(|line| line.split_once(": warning: ").map_or("", |(_, warning)| warning)).collect();
    let to =
        "machines may fail to boot: relay.cache.mode redirects machines to http://images.metal-stack.io, and";
    let acl = format!("{to} neither acl.cache nor acl.control_plane permits it");
    let dns = format!("{to} ra.dns names no server that resolves it");
    assert_eq!((code, lines), (0, vec![acl.as_str(), &dns, ""]), "{said}");
}

/// With `--strict`, warnings are errors. A computer that is not the leaf knows no ports; that is no warning.
#[test]
fn a_strict_check_fails_over_a_warning() {
    let switch = Switch::start();
    let file = settings(&switch);
    let strict = |file: &std::path::Path| {
        let output = leafboot(&["check", "--strict", "--config", file.to_str().unwrap()]);
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = strict(&file);
    assert!(code == 1 && said.contains(": warning: machines may fail to boot: "), "{said}");
    assert!(said.contains("2 warnings") && !said.contains(": ok"), "{said}");
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sonic/leafboot.toml");
    let (code, said) = strict(&example);
    assert!(code == 0 && said.contains(": note: boot.protected was not compared"), "{said}");
}

#[test]
fn wrong_usage_does_not_exit_like_a_plan_with_steps() {
    assert_eq!(leafboot(&["plan"]).status.code(), Some(1));
    assert_eq!(leafboot(&["--help"]).status.code(), Some(0));
}

#[test]
fn check_names_key_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    write(&file, "leaf = \"leaf01\"\n\n[boot]\nprefix = \"2001:db8::1/57\"\n");
    let (code, said) = start("check", &file);
    assert_eq!(code, 1);
    assert!(said.contains("bad.toml: line 4: boot.prefix: 2001:db8::1/57 has bits set"), "{said}");

    write(&file, "leaf = \"leaf01\"\nport = 1\n");
    let (code, said) = start("check", &file);
    assert_eq!(code, 1);
    assert!(said.contains("line 2") && said.contains("unknown field `port`"), "{said}");

    let (code, said) = start("check", &directory.path().join("none.toml"));
    assert_eq!((code, said.contains("none.toml: No such file")), (1, true), "{said}");
}

#[test]
fn run_refuses_a_bad_file_before_it_does_anything() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(&directory.path().join("bad.toml"), "leaf = \"\"\n");
    let (code, said) = start("run", &file);
    assert_eq!(code, 1);
    assert!(said.contains("line 1: leaf: "), "{said}");
}

/// A misspelt name protects nothing.
#[test]
fn check_names_protected_names_that_no_port_of_the_leaf_has() {
    let mut switch = Switch::start();
    let file = settings(&switch);
    let (code, said) = start("check", &file);
    assert!(code == 0 && !said.contains("boot.protected"), "{said}");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("[\"Ethernet120\"]", "[\"Eth1/31\", \"Ethernet12O\"]");
    write(&file, &text);
    let (code, said) = start("check", &file);
    assert_eq!(code, 0, "{said}");
    let unknown =
        "boot.protected protects nothing: \"Ethernet12O\" is not a port of this leaf (it has 3 ports";
    assert!(said.contains(unknown) && !said.contains("Eth1/31"), "{said}");
    switch.stop_redis();
    let (code, said) = start("check", &file);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains(
            "note: boot.protected was not compared with this leaf's ports: cannot connect to CONFIG_DB"
        ),
        "{said}"
    );
    write(&file, &text.replace("protected = ", "#"));
    let (code, said) = start("check", &file);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("boot.protected is missing: protected = [\"Ethernet120\"]"), "{said}");
}

#[test]
fn a_socket_that_another_agent_serves_is_not_taken() {
    let switch = Switch::start();
    let first = Agent::start_ready(&switch);
    let (code, said) = start("run", &settings(&switch));
    assert_eq!(code, 1);
    assert!(said.contains("leafboot.sock: another leafboot serves this socket"), "{said}");
    assert_eq!(first.get("/v1/ports").0, 200, "the first one goes on");
}

#[test]
fn a_dead_agents_socket_is_taken_over_and_a_file_is_not() {
    let switch = Switch::start();
    Agent::start_ready(&switch).kill();
    assert!(switch.path("leafboot.sock").exists());
    Agent::start_ready(&switch).kill();

    std::fs::remove_file(switch.path("leafboot.sock")).unwrap();
    write(&switch.path("leafboot.sock"), "a file");
    let (code, said) = start("run", &settings(&switch));
    assert_eq!(code, 1);
    assert!(said.contains("leafboot.sock: exists and is not a socket"), "{said}");
    assert_eq!(std::fs::read_to_string(switch.path("leafboot.sock")).unwrap(), "a file");
}

/// The state directory keeps the options that `[ra]` advertised. A file that cannot be read is logged, and leafboot
/// works on.
#[test]
fn a_restart_withdraws_what_earlier_settings_advertised() {
    let switch = Switch::start();
    let dns = |server: &str| format!("[ra]\ndns = [\"{server}\"]\n");
    let first = Agent::start_with(&switch, &dns("2001:db8:ffff::53"));
    let kept = switch.path("state/advertised.json");
    eventually("what is advertised is remembered", || kept.exists());
    assert!(!first.log().contains("withdraw what"), "{}", first.log());
    first.kill();
    for _ in 0..2 {
        let restarted = Agent::start_with(&switch, &dns("2001:db8:ffff::54"));
        let said = "withdraw what earlier settings advertised items=\"ra.dns 2001:db8:ffff::53\"";
        eventually("the old resolver is withdrawn", || restarted.log().contains(said));
        restarted.kill();
    }
    write(&kept, "{\"version\": 1, \"advert");
    let last = Agent::start_with(&switch, "");
    eventually("the damage is named", || last.log().contains("cannot read the options that were advertised"));
    eventually("and mended", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.ends_with("\"version\":1}"))
    });
    assert_eq!(last.get("/v1/ports").0, 200);
}

#[test]
fn acl_prints_the_rules_for_review() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sonic/leafboot.toml");
    let (code, said) = start("acl", &example);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("DENY_MACHINES              drop     to 2001:db8:b000::/36\n"), "{said}");
    assert!(said.ends_with("       1  DEFAULT_RULE               drop     everything else\n"), "{said}");
}

#[test]
fn on_sighup_the_settings_are_checked_and_the_agent_goes_on() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let file = switch.path("leafboot.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    agent.signal("HUP");
    eventually("the same settings are logged as in use", || agent.log().contains("has the settings in use"));
    write(&file, &text.replace("leaf01", "leaf02").replace("[\"Ethernet120\"]", "[\"Ethernet4\"]"));
    agent.signal("HUP");
    eventually("the keys are named", || agent.log().contains("keys=\"leaf, boot.protected\""));
    write(&file, &text.replace("[boot]", "[boots]"));
    agent.signal("HUP");
    eventually("the fault is named", || {
        agent.log().contains("a restart would fail") && agent.log().contains("boots")
    });
    assert_eq!(agent.get("/v1/ports/Ethernet0").0, 200, "it goes on");
}

/// `leafboot acl --help` names the number of rules of each boot port.
#[test]
fn the_help_counts_the_rules_that_a_port_takes() {
    let help = String::from_utf8(leafboot(&["acl", "--help"]).stdout).unwrap();
    let said = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let count = |more: &str| {
        let settings = Settings::parse(&format!("{ACL_SETTINGS}{more}")).unwrap();
        let (port, prefix) = ("Ethernet0".parse().unwrap(), "2001:db8:b007::/64".parse().unwrap());
        ["no", "one", "two", "three", "four"]
            [leafboot_core::acl::gateway_rules(&settings, &port, prefix).len()]
    };
    let tls = "[relay.tls]\ncertificate = \"/crt\"\nkey = \"/key\"\n";
    let expected = format!("Each boot port has {} more, or {} with relay.tls", count(""), count(tls));
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn the_version_names_the_build() {
    let said = leafboot(&["--version"]);
    let version = concat!("leafboot ", env!("CARGO_PKG_VERSION"));
    let given = option_env!("LEAFBOOT_REVISION").map(str::to_owned);
    let what = given.or_else(|| match cfg!(debug_assertions) {
        true => Some("debug build".to_owned()),
        false => revision::of(std::path::Path::new(env!("CARGO_MANIFEST_DIR"))),
    });
    let version = what.map_or(version.to_owned(), |what| format!("{version} ({what})"));
    assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{version}\n"));
    assert_eq!(said.status.code(), Some(0));
}

#[test]
fn a_release_is_named_by_its_own_repository_only() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
        let path = root.to_str().unwrap();
        support::run("git", &[["-C", path].as_slice(), &who, arguments].concat())
    };
    assert_eq!((revision::of(root), revision::files(root)), (None, vec![]), "a tarball has no git");
    git(&["init", "--quiet"]);
    write(&root.join("file"), "one");
    git(&["add", "file"]);
    git(&["commit", "--quiet", "--message=One"]);
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    assert_eq!(revision::of(root).as_deref(), Some(commit.trim()));
    git(&["tag", "v1"]);
    assert_eq!(revision::of(root).as_deref(), Some(commit.trim()), "a tag is no revision");
    write(&root.join("file"), "two");
    assert_eq!(revision::of(root), Some(format!("{}-dirty", commit.trim())));

    let before: Vec<String> = read_all(&revision::files(root));
    git(&["commit", "--quiet", "--all", "--message=Two"]);
    assert_ne!(read_all(&revision::files(root)), before, "the build sees another commit");
    assert_ne!(revision::of(root).as_deref(), Some(commit.trim()));

    let unpacked = root.join("leafboot-0.1.0");
    std::fs::create_dir(&unpacked).unwrap();
    assert_eq!(revision::of(&unpacked), None, "a repository around it is another project's");
}

fn read_all(paths: &[std::path::PathBuf]) -> Vec<String> {
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}
