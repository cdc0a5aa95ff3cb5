//! The commands that query a running agent, on the real binary and a real redis-server, and the API that they use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::agent::{Agent, LEAFBOOT, settings};
use support::eventually;
use support::switch::{CONFIG_DB, Switch};

const BOOT: &str = r#"{"ports": {"Ethernet0": {"state": "boot", "prefix": "2001:db8:b007::/64"}}}"#;

/// Runs a command with the switch's settings; returns its exit code, and what it has printed.
fn run(switch: &Switch, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(LEAFBOOT)
        .args(arguments)
        .args(["--config", switch.path("leafboot.toml").to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn status_shows_the_leaf_and_its_ports() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let (code, text) = run(&switch, &["status"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("leaf01  leafboot ") && text.ends_with("\nNo port boots.\n"), "{text}");
    assert!(text.contains("\nmetal-core  no push yet    SONiC  loaded, ACL bound\n"), "{text}");
    assert!(text.contains("\nboot service [2001:db8:ffff::80]:8080  up, not asked yet"), "{text}");
    agent.put("/v1/ports", BOOT);
    eventually("it waits for the ACL", || agent.get("/v1/leaf").1["acl_bound"] == false);
    let (code, text) = run(&switch, &["status"]);
    assert_eq!(code, 0, "to wait is no fault: {text}");
    assert!(
        text.contains("  pushed ") && text.contains(" ago, generation 1    SONiC  loaded, ACL not bound")
    );
    assert!(text.contains("\nEthernet0  boot   "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80) && !text.contains('\u{1b}'), "{text}");
    agent
        .put("/v1/ports", r#"{"ports": {"Ethernet0": {"state": "boot"}, "Ethernet120": {"state": "boot"}}}"#);
    let is_rejected = || agent.get("/v1/ports/Ethernet120").1["verdict"]["reason"] == "Rejected";
    eventually("the rejected port has its verdict", is_rejected);
    let (code, text) = run(&switch, &["status", "Ethernet120", "Eth1/1"]);
    assert_eq!(code, 2, "a rejected port is a fault: {text}");
    let at = |name: &str| text.find(name).unwrap();
    assert!(at("\nEthernet0 ") < at("\nEthernet120 ") && text.contains("boot.protected names it"), "{text}");
    let (code, text) = run(&switch, &["status", "Ethernet4"]);
    assert!(code == 0 && text.contains("\nEthernet4  released  "), "{text}");
    let (code, text) = run(&switch, &["status", "Ethernet9"]);
    assert_eq!(code, 1);
    assert!(text.starts_with("leafboot: Ethernet9: \"Ethernet9\" is not a port of this leaf"), "{text}");
}

#[test]
fn json_output_is_the_apis_answer() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    agent.put("/v1/ports", BOOT);
    // The answer to a push may come before the pass that the port is first in.
    eventually("the port boots", || agent.get("/v1/ports").1["ports"]["Ethernet0"]["state"] == "boot");
    for ports in [&["status", "--json"][..], &["status", "--json", "Eth1/1"]] {
        let (code, text) = run(&switch, ports);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!((code, text.lines().count()), (0, 1), "{text}");
        assert_eq!(value["ports"]["Ethernet0"]["state"], "boot");
        assert_eq!(value["leaf"]["leaf"], "leaf01");
    }
}

#[test]
fn an_error_names_the_socket_of_an_agent_that_does_not_run() {
    let switch = Switch::start();
    settings(&switch);
    for command in
        [&["status"][..], &["timeline", "Ethernet0"], &["boot", "Ethernet0"], &["release", "Ethernet0"]]
    {
        let (code, text) = run(&switch, command);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("/leafboot.sock: No such file") && text.contains("is leafboot running?"),
            "{text}"
        );
    }
    let output = Command::new(LEAFBOOT).args(["status", "--config", "/none.toml"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), text.starts_with("leafboot: /none.toml: No such file")),
        (Some(1), true)
    );
}

#[test]
fn ports_are_booted_and_released_and_the_others_stay() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    agent
        .put("/v1/ports", r#"{"ports": {"Ethernet0": {"state": "boot", "prefix": "2001:db8:b007:5::/64"}}}"#);
    let (code, text) = run(&switch, &["boot", "Eth1/2"]);
    assert_eq!(code, 2, "nothing settles without SONiC: {text}");
    assert!(text.starts_with("Ethernet4: boot, waits: "), "{text}");
    assert!(text.ends_with("\nmetal-core's next push overrules this.\n"), "{text}");
    let ports = agent.get("/v1/ports").1["ports"].clone();
    assert_eq!(
        (&ports["Ethernet0"]["state"], &ports["Ethernet4"]["state"]),
        (&json!("boot"), &json!("boot"))
    );
    assert_eq!(ports["Ethernet0"]["prefix"], "2001:db8:b007:5::/64", "it is not derived from the index");
    let (code, text) = run(&switch, &["boot", "Ethernet120"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("Ethernet120: rejected: boot.protected names it"), "{text}");
    let (code, text) = run(&switch, &["release", "Ethernet0", "Ethernet120"]);
    assert!(code == 0 || code == 2, "{text}");
    let ports = agent.get("/v1/ports").1["ports"].clone();
    assert_eq!(ports["Ethernet4"]["state"], "boot");
    assert_ne!(ports["Ethernet0"]["state"], "boot");
    let before = agent.get("/v1/ports").1["generation"].clone();
    let (code, text) = run(&switch, &["boot", "Ethernet0", "Ethernet9"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("Ethernet9: \"Ethernet9\" is not a port"), "{text}");
    assert_eq!(agent.get("/v1/ports").1["generation"], before, "a mistake pushes nothing");
}

#[test]
fn a_timeline_of_a_port_without_attempts_says_so() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let (code, answer) = agent.get("/v1/ports/Eth1%2F1/attempts");
    assert_eq!((code, answer), (200, json!({"port": "Ethernet0", "total": 0, "attempts": []})));
    let (code, text) = run(&switch, &["timeline", "Eth1/1"]);
    assert_eq!((code, text.as_str()), (1, "leafboot: Ethernet0: no machine has tried to boot here yet\n"));
    let (code, answer) = agent.get("/v1/ports/Ethernet9/attempts");
    assert_eq!((code, &answer["error"]["reason"]), (404, &json!("UnknownPort")), "{answer}");
}

#[test]
fn a_reason_is_explained_without_an_agent() {
    let output = Command::new(LEAFBOOT).args(["explain", "aclbound"]).output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"AclBound\n\nThe ASIC has not bound"));
    let output = Command::new(LEAFBOOT).args(["explain", "Nothing"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("leafboot: no reason is called \"Nothing\". There are:\n"), "{text}");
}

#[test]
fn completions_and_manual_pages_are_in_the_binary() {
    let switch = Switch::start();
    let bash = Command::new(LEAFBOOT).args(["completions", "bash"]).output().unwrap().stdout;
    std::fs::write(switch.path("completions"), &bash).unwrap();
    support::run("bash", &["-n", switch.path("completions").to_str().unwrap()]);
    let directory = switch.path("man");
    std::fs::create_dir(&directory).unwrap();
    assert!(Command::new(LEAFBOOT).arg("man").arg(&directory).status().unwrap().success());
    for page in ["leafboot.1", "leafboot-status.1", "leafboot-timeline.1"] {
        let text = std::fs::read_to_string(directory.join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}: {text}");
    }
    let output = Command::new(LEAFBOOT).args(["man", "/none"]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("/none/leafboot"));
}

/// If the output is no terminal, redraws follow each other.
#[test]
fn a_watcher_outlives_a_restart_of_the_agent() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let config = switch.path("leafboot.toml");
    let mut watcher = Command::new(LEAFBOOT)
        .args(["status", "--watch", "--config", config.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "No port boots."));
    agent.kill();
    let agent = Agent::start_ready(&switch);
    agent.put("/v1/ports", BOOT);
    assert!(lines.any(|line| line.starts_with("Ethernet0  boot")));
    drop(lines);
    eventually("without a reader it ends", || watcher.try_wait().unwrap().is_some());
    assert!(watcher.wait().unwrap().success());
}

/// The bound is a debug build's on a busy computer; a release takes a fraction of it.
#[test]
fn a_full_leaf_is_shown_at_once() {
    let switch = Switch::start();
    let ports = "for i = 0, 511 do redis.call('HSET', 'PORT|Ethernet' .. i * 4, 'index', i + 1) end";
    switch.cli(CONFIG_DB, &["EVAL", ports, "0"]);
    let agent = Agent::start_with(&switch, "supernet = \"2001:db8:b000::/36\"\n");
    let entry = |port: u32| {
        let prefix = format!("2001:db8:b007:{port:x}::/64");
        (format!("Ethernet{}", port * 4), json!({"state": "boot", "prefix": prefix}))
    };
    let document: serde_json::Map<String, Value> = (0..512).map(entry).collect();
    let document = json!({ "ports": document }).to_string();
    let file = support::agent::write(&switch.path("push.json"), &document);
    let push = || agent.put("/v1/ports", &format!("@{}", file.display())).0;
    eventually("the ports are taken", || push() == 202);
    eventually("a pass has seen them", || agent.get("/v1/leaf").1["ports"]["all"] == 512);
    eventually("status shows a fault", || run(&switch, &["status"]).0 == 2);
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            let (code, text) = run(&switch, &["status"]);
            // 2: the ports' devices are down.
            assert_eq!((code, text.matches("\nEthernet").count()), (2, 512));
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("leafboot status with 512 ports: median {:?}, least {:?}", times[10], times[0]);
    assert!(times[0] < Duration::from_millis(250), "{times:?}");
}

/// A connection to the events, whose head was read.
fn follow(agent: &Agent) -> UnixStream {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: leafboot\r\n\r\n").unwrap();
    stream
}

#[test]
fn eight_readers_follow_the_events_and_no_more() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let read = |stream: &mut UnixStream| {
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let mut readers: Vec<UnixStream> = (0..8).map(|_| follow(&agent)).collect();
    for reader in &mut readers {
        let head = read(reader);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/event-stream"), "{head}");
    }
    let (code, answer) = agent.get("/v1/events");
    assert_eq!((code, &answer["error"]["reason"]), (503, &json!("TooManyReaders")), "{answer}");
    drop(readers);
    eventually("there is room again", || read(&mut follow(&agent)).starts_with("HTTP/1.1 200 "));
    let begun = Instant::now();
    let mut reader = follow(&agent);
    let mut text = String::new();
    while text.matches(": still here").count() < 2 {
        text += &read(&mut reader);
    }
    assert!(begun.elapsed() > Duration::from_secs(10), "a comment line comes each 15 s");
}
