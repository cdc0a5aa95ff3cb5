//! The API on the real binary and a real redis-server: what is taken, what is rejected alone, what is refused whole, and
//! that a refusal changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Value, json};
use support::agent::Agent;
use support::eventually;
use support::switch::{CONFIG_DB, Switch};

const BOOT: &str = r#"{"ports": {"Ethernet0": {"state": "boot", "prefix": "2001:db8:b007::/64"}}}"#;

fn text<'a>(answer: &'a Value, pointer: &str) -> &'a str {
    answer.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {answer}"))
}

#[test]
fn a_push_is_taken_answered_and_written_as_far_as_the_facts_go() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let (code, answer) = agent.put("/v1/ports?wait=200ms", BOOT);
    assert_eq!(code, 202, "nothing can settle without SONiC: {answer}");
    assert_eq!(answer["settled"], json!(false));
    assert_eq!(text(&answer, "/ports/Ethernet0/state"), "boot");
    assert_eq!(text(&answer, "/ports/Ethernet0/gateway"), "2001:db8:b007::1");
    assert_eq!(
        text(&answer, "/ports/Ethernet0/waiting/message"),
        "orchagent does not have the ACL table LEAFBOOT (STATE_DB ACL_TABLE_TABLE is not Active)"
    );
    assert_eq!(text(&answer, "/ports/Ethernet0/waiting/reason"), "AclTableActive");
    // VRF and ACL may be written at once; the port's rows wait for facts that nobody publishes here.
    eventually("the VRF's row", || switch.dump(CONFIG_DB).contains("VRF|Vrfboot: NULL NULL"));
    assert!(!switch.dump(CONFIG_DB).contains("INTERFACE"));
    let (code, one) = agent.get("/v1/ports/Eth1/1");
    assert_eq!((code, one["state"].clone()), (200, json!("boot")), "an alias means its port");
}

#[test]
fn what_the_anycast_address_waits_for_is_told_and_keeps_no_port_from_settling() {
    let switch = Switch::start();
    switch.cli(CONFIG_DB, &["HSET", "LOOPBACK_INTERFACE|Loopback64", "vrf_name", "Vrfother"]);
    let agent = Agent::start_with(&switch, "anycast = \"2001:db8:ffff:1::1/127\"\n");
    eventually("CONFIG_DB is read", || agent.put("/v1/ports", r#"{"ports": {}}"#).0 != 503);
    agent.put("/v1/ports", BOOT);
    let unmanaged = "Loopback64: its LOOPBACK_INTERFACE row is unmanaged (vrf_name \"Vrfother\")";
    eventually(unmanaged, || {
        let anycast = &agent.get("/v1/ports").1["anycast"];
        anycast["reason"] == "UnmanagedLoopback" && text(anycast, "/message").starts_with(unmanaged)
    });
    eventually("the log says so", || agent.log().contains("boot.anycast: what it waits for has changed"));
}

#[test]
fn a_push_without_a_prefix_derives_it_from_the_ports_index() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let (_, answer) = agent.put("/v1/ports", r#"{"ports": {"Ethernet4": {"state": "boot"}}}"#);
    assert_eq!(text(&answer, "/ports/Ethernet4/prefix"), "2001:db8:b007:2::/64");
}

/// A push in which ports are unknown, protected, overlapping and misspelt: the others are taken and released.
#[test]
fn one_ports_fault_is_that_ports_alone() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    agent
        .put("/v1/ports", r#"{"ports": {"Ethernet0": {"state": "boot", "prefix": "2001:db8:b007:2::/64"}}}"#);
    let push = r#"{"ports": {
        "Ethernet0": {"state": "boot", "prefix": "2001:db8:b007:2:/64"}, "Ethernet4": {"state": "boot"},
        "Eth1/31": {"state": "boot"}, "Ethernet9": {"state": "boot"}, "Eth9/9": {"state": "boot"}}}"#;
    let (code, answer) = agent.put("/v1/ports?wait=100ms", push);
    assert_eq!(
        (code, &answer["settled"], &answer["generation"]),
        (202, &json!(false), &json!(2)),
        "{answer}"
    );
    let ports = answer["ports"].as_object().unwrap();
    assert_eq!(ports.len(), 5, "{answer}");
    for (port, reason, message) in [
        (
            "Ethernet0",
            "InvalidPrefix",
            "\"2001:db8:b007:2:/64\" is not an IPv6 prefix such as 2001:db8:b007::/64",
        ),
        // Ethernet0 keeps what it had, which is what Ethernet4's index comes to.
        (
            "Ethernet4",
            "PrefixOverlap",
            "2001:db8:b007:2::/64 is the prefix of Ethernet0: each port needs a /64 of its own",
        ),
        ("Ethernet120", "Protected", "boot.protected names it: it is never taken"),
        (
            "Ethernet9",
            "UnknownPort",
            "\"Ethernet9\" is not a port of this leaf (it has 3 ports, Ethernet0 to Ethernet120)",
        ),
        (
            "Eth9/9",
            "UnknownPort",
            "\"Eth9/9\" is not a port of this leaf (it has 3 ports, Ethernet0 to Ethernet120)",
        ),
    ] {
        let status = &ports[port];
        assert_eq!((text(status, "/state"), text(status, "/reason")), ("rejected", reason), "{status}");
        assert_eq!((text(status, "/message"), &status["settled"]), (message, &json!(false)), "{status}");
        let (code, one) = agent.get(&format!("/v1/ports/{}", port.replace('/', "%2F")));
        assert_eq!((code, &one["reason"]), (200, &status["reason"]), "{one}");
    }
    assert_eq!(text(&answer, "/ports/Ethernet0/prefix"), "2001:db8:b007:2::/64", "it keeps what it had");
    assert_eq!(agent.log().matches("rejected a port of the document").count(), 5, "{}", agent.log());
    agent.put("/v1/ports", push);
    assert_eq!(agent.log().matches("rejected a port of the document").count(), 5, "it is said once");
    // The release of Ethernet0, for which the others' faults do not matter.
    let (_, answer) = agent.put(
        "/v1/ports",
        r#"{"ports": {"Ethernet4": {"state": "boot"}, "Ethernet120": {"state": "boot"}, "Eth9/9": {}}}"#,
    );
    assert_eq!(text(&answer, "/ports/Ethernet4/state"), "boot", "{answer}");
    assert_eq!(text(&answer, "/ports/Ethernet120/state"), "rejected", "{answer}");
    eventually("Ethernet0 is released", || agent.get("/v1/ports/Ethernet0").1["state"] == "released");
    eventually("Ethernet9, which nobody names any more, is forgotten", || {
        agent.get("/v1/ports").1["ports"].get("Ethernet9").is_none()
    });
    let metrics = agent.get("/metrics").1;
    assert!(metrics.as_str().unwrap().contains("leafboot_ports{state=\"rejected\"} 2\n"), "{metrics}");
}

/// Nobody waits for a rejected port: only another push changes it.
#[test]
fn a_rejected_port_is_not_waited_for() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let start = std::time::Instant::now();
    let (code, answer) = agent.put("/v1/ports?wait=60s", r#"{"ports": {"Ethernet9": {"state": "boot"}}}"#);
    assert_eq!((code, &answer["settled"]), (202, &json!(false)));
    assert!(start.elapsed().as_secs() < 30, "it was waited for");
}

/// metal-core names ports by what its switch's naming schema says, which may be the alias (metal-core #208), and has to
/// find them in the answer.
#[test]
fn metal_core_finds_its_ports_by_name_or_alias() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let nics = ["Eth1/1", "Ethernet4"];
    let document: serde_json::Map<_, _> =
        nics.iter().map(|nic| ((*nic).to_owned(), json!({"state": "boot"}))).collect();
    for (_, answer) in
        [agent.put("/v1/ports?wait=100ms", &json!({ "ports": document }).to_string()), agent.get("/v1/ports")]
    {
        let ports = answer["ports"].as_object().unwrap();
        for nic in nics {
            let is_it = |port: &&Value| port["name"] == nic || port["alias"] == nic;
            let port = ports.values().find(is_it).unwrap_or_else(|| panic!("no {nic} in {answer}"));
            assert_eq!(port["state"], "boot");
            assert_eq!(ports[port["name"].as_str().unwrap()], *port, "the key is SONiC's name");
        }
    }
    for name in ["Ethernet120", "Eth1%2F31", "Eth1%2f31", "Eth1/31", "%45th1%2f31"] {
        let (_, one) = agent.get(&format!("/v1/ports/{name}"));
        assert_eq!((text(&one, "/name"), text(&one, "/alias")), ("Ethernet120", "Eth1/31"), "{one}");
    }
}

#[test]
fn what_cannot_be_understood_is_refused_whole_and_changes_nothing() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    agent.put("/v1/ports", BOOT);
    eventually("the VRF's row", || switch.dump(CONFIG_DB).contains("VRF|Vrfboot"));
    let (rows, ports) = (switch.dump(CONFIG_DB), agent.get("/v1/ports"));
    for body in [
        "",
        "{",
        "[]",
        r#"{"ports": {}, "more": 1}"#,
        r#"{"ports": {"Ethernet0": []}}"#,
        r#"{"ports": {"Ethernet0": {"state": 1}}}"#,
        r#"{"ports": {"Ethernet0": {"state": "tenant", "state": "boot"}}}"#,
    ] {
        let (code, answer) = agent.put("/v1/ports", body);
        assert_eq!(code, 400, "{body}");
        assert_eq!(text(&answer, "/error/reason"), "InvalidDocument");
        assert!(text(&answer, "/error/message").starts_with("not a port document: "), "{answer}");
    }
    let (code, _) = agent.put("/v1/ports", &" ".repeat(100_000));
    assert_eq!(code, 400);
    let many: serde_json::Map<_, _> =
        (0..1025).map(|port| (format!("Ethernet{port}"), json!({"state": "boot"}))).collect();
    let (code, answer) = agent.put("/v1/ports", &json!({ "ports": many }).to_string());
    assert_eq!((code, text(&answer, "/error/reason")), (413, "TooManyPorts"), "{answer}");
    assert_eq!(switch.dump(CONFIG_DB), rows);
    assert_eq!(agent.get("/v1/ports"), ports);
}

#[test]
fn an_oversized_document_is_refused_unread() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let file = support::agent::write(&switch.path("big"), &" ".repeat(2 * 1024 * 1024));
    let (code, answer) = agent.put("/v1/ports", &format!("@{}", file.display()));
    assert_eq!((code, text(&answer, "/error/reason")), (413, "DocumentTooLarge"));
    assert_eq!(text(&answer, "/error/message"), "the document is longer than 1048576 bytes");
}

#[test]
fn requests_that_the_api_does_not_know_say_what_it_knows() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    for (reason, path, error) in [
        (
            "UnknownPort",
            "/v1/ports/Ethernet9",
            r#""Ethernet9" is not a port of this leaf (it has 3 ports, Ethernet0 to Ethernet120)"#,
        ),
        ("UnknownPath", "/", "no / here: there are /v1/ports"),
        ("UnknownPath", "/v1/portsx", "no /v1/portsx here"),
    ] {
        let (code, answer) = agent.get(path);
        assert_eq!((code, text(&answer, "/error/reason")), (404, reason), "{path}");
        assert!(text(&answer, "/error/message").starts_with(error), "{answer}");
    }
    for (path, error) in [
        ("/v1/ports?wait=x", "wait: \"x\": "),
        ("/v1/ports?wait=2h", "wait: 2h is longer than 60s"),
        ("/v1/ports?timeout=1s", "unknown query"),
    ] {
        let (code, answer) = agent.put(path, r#"{"ports": {}}"#);
        assert_eq!((code, text(&answer, "/error/reason")), (400, "InvalidQuery"), "{path}");
        assert!(text(&answer, "/error/message").starts_with(error), "{answer}");
    }
    let (code, answer) = agent.curl(&["-X", "DELETE", "http://leafboot/v1/ports"]);
    assert_eq!((code, text(&answer, "/error/reason")), (405, "MethodNotAllowed"));
    assert_eq!(agent.put("/v1/ports/Ethernet0", "{}").0, 405);
}

/// RFC 9110 9.3.2: HEAD is answered wherever GET is.
#[test]
fn head_is_answered_wherever_get_is() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    for (code, path) in
        [(200, "/v1/ports"), (200, "/v1/ports/Eth1%2F1"), (200, "/metrics"), (404, "/v1/ports/Ethernet9")]
    {
        let (got, head) = agent.curl(&["--head", &format!("http://leafboot{path}")]);
        assert!(got == code && head.to_string().contains("content-length"), "{path}: {head}");
    }
}

#[test]
fn a_port_that_is_not_ours_is_released() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let (code, answer) = agent.get("/v1/ports/Ethernet4");
    assert_eq!((code, text(&answer, "/state"), &answer["settled"]), (200, "released", &json!(true)));
    let (code, answer) = agent.put("/v1/ports?wait=5s", r#"{"ports": {}}"#);
    assert_eq!((code, &answer["settled"]), (200, &json!(true)));
}

#[test]
fn without_redis_the_agent_runs_says_so_and_comes_back() {
    let mut switch = Switch::start();
    switch.stop_redis();
    let agent = Agent::start(&switch);
    let (code, answer) = agent.put("/v1/ports", BOOT);
    assert_eq!(code, 503);
    assert_eq!(text(&answer, "/error/reason"), "DatabaseUnreachable");
    let error = text(&answer, "/error/message");
    assert!(error.starts_with("the leaf's ports are not known, so nothing can be checked: "), "{error}");
    eventually("the log names database and socket", || {
        agent.log().contains("cannot connect to CONFIG_DB at") && agent.log().contains("redis.sock")
    });

    switch.start_redis();
    eventually("an unloaded CONFIG_DB is said", || {
        let (_, answer) = agent.put("/v1/ports", BOOT);
        let message = text(&answer, "/error/message");
        message.ends_with("CONFIG_DB is not loaded yet")
            && text(&answer, "/error/reason") == "ConfigDbNotLoaded"
    });
    switch.cli(CONFIG_DB, &["HSET", "PORT|Ethernet0", "index", "1"]);
    switch.cli(CONFIG_DB, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
    eventually("a push is taken", || agent.put("/v1/ports", BOOT).0 == 202);
    assert_eq!(switch.dump("6"), "", "STATE_DB is never written");
}

#[test]
fn a_missing_or_half_written_database_config_is_named() {
    let switch = Switch::start();
    std::fs::remove_file(switch.path("database_config.json")).unwrap();
    let agent = Agent::start(&switch);
    eventually("the missing file is named", || agent.log().contains("database_config.json: No such file"));
    std::fs::write(switch.path("database_config.json"), "{\"INSTANCES\": {").unwrap();
    eventually("the half-written file is named", || agent.log().contains("not SONiC's database_config.json"));
}

#[test]
fn a_restarted_agent_remembers_and_a_repeated_push_changes_no_generation() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let (_, first) = agent.put("/v1/ports", BOOT);
    let (_, again) = agent.put("/v1/ports", BOOT);
    assert_eq!((&first["generation"], &again["generation"]), (&json!(1), &json!(1)));
    agent.kill();

    let agent = Agent::start_ready(&switch);
    let (_, remembered) = agent.get("/v1/ports/Ethernet0");
    assert_eq!(text(&remembered, "/state"), "boot");
    let (_, next) = agent.put("/v1/ports", r#"{"ports": {}}"#);
    assert_eq!(next["generation"], json!(2));
    agent.kill();

    // What the port had is still being withdrawn after another restart and another push.
    let agent = Agent::start_ready(&switch);
    let (_, other) = agent.put("/v1/ports", r#"{"ports": {"Ethernet4": {"state": "boot"}}}"#);
    assert_eq!(other["generation"], json!(3));
    let kept = std::fs::read_to_string(switch.path("state").join("desired.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(text(&kept, "/old/Ethernet0/0/prefix"), "2001:db8:b007::/64");
}

/// A rollback: the file has a later version, and a field that this leafboot does not know.
#[test]
fn a_newer_state_file_is_read_as_far_as_it_is_known() {
    let switch = Switch::start();
    std::fs::create_dir(switch.path("state")).unwrap();
    let kept = switch.path("state").join("desired.json");
    let newer = r#"{"version": 9, "generation": 4, "ports":
        {"Ethernet0": {"prefix": "2001:db8:b007::/64", "more": 1}, "Ethernet4": {"other": 1}}}"#;
    support::agent::write(&kept, newer);
    let agent = Agent::start_ready(&switch);
    assert_eq!(text(&agent.get("/v1/ports/Ethernet0").1, "/state"), "boot");
    assert_eq!(agent.get("/v1/ports").1["generation"], json!(4));
    let said =
        "it has version 9, and this leafboot knows version 1; skipped: ports.Ethernet0.more, ports.Ethernet4";
    assert!(agent.log().contains(said), "{}", agent.log());
    agent.put("/v1/ports", r#"{"ports": {}}"#);
    eventually("it writes its own version", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.ends_with("\"version\":1}"))
    });
}

/// A full or read-only state directory: ports are taken and released, it is said, and tried again until it works.
#[test]
fn a_document_that_cannot_be_kept_is_taken_all_the_same() {
    let switch = Switch::start();
    let in_the_way = support::agent::write(&switch.path("state"), "a file where the directory should be");
    let agent = Agent::start_ready(&switch);
    let counted = |line: &str| agent.get("/metrics").1.as_str().is_some_and(|text| text.contains(line));
    assert!(counted("leafboot_state_saved 1\n"), "nothing is to be kept yet");
    let (code, answer) = agent.put("/v1/ports", BOOT);
    assert_eq!(code, 202, "{answer}");
    assert_eq!(text(&answer, "/state_error/reason"), "StateNotSaved");
    assert!(text(&answer, "/state_error/message").contains("/state/desired.json: "), "{answer}");
    eventually("Ethernet0 is being taken", || switch.dump(CONFIG_DB).contains("VRF|Vrfboot"));
    let (code, answer) = agent.put("/v1/ports?wait=5s", r#"{"ports": {}}"#);
    assert_eq!((code, text(&answer, "/ports/Ethernet0/state")), (200, "released"), "{answer}");
    assert!(counted("leafboot_state_saved 0\n"));
    assert_eq!(
        agent.log().matches("state file: cannot be written; trying again").count(),
        1,
        "{}",
        agent.log()
    );

    std::fs::remove_file(in_the_way).unwrap();
    let kept = switch.path("state").join("desired.json");
    eventually("it is kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"generation\":2"))
    });
    eventually("that is said", || agent.get("/v1/ports").1["state_error"].is_null());
    assert!(counted("leafboot_state_saved 1\n") && agent.log().contains("state file: the document is saved"));
}

#[test]
fn a_switch_with_several_namespaces_is_refused_with_their_names() {
    let switch = Switch::start();
    let global = r#"{"INCLUDES": [{"include": "database_config.json"}, {"namespace": "asic0", "include": "x"}], "VERSION": "1.0"}"#;
    support::agent::write(&switch.path("database_global.json"), global);
    let agent = Agent::start(&switch);
    let (code, answer) = agent.put("/v1/ports", BOOT);
    assert_eq!(code, 503);
    eventually("the log names the namespace", || agent.log().contains("several namespaces (asic0)"));
    drop(answer);
    std::fs::remove_file(switch.path("database_global.json")).unwrap();
    eventually("one namespace is served", || agent.put("/v1/ports", BOOT).0 == 202);
}

#[test]
fn redis_is_used_over_tcp_and_with_a_password() {
    let switch = Switch::start_with_password("s3cret");
    let agent = Agent::start_ready(&switch);
    assert_eq!(agent.put("/v1/ports", BOOT).0, 202);
    assert!(!agent.log().contains("s3cret"), "a secret is never logged");
    agent.kill();
    support::agent::write(&switch.path("password"), "wrong\n");
    let (code, answer) = Agent::start(&switch).put("/v1/ports", BOOT);
    assert_eq!(code, 503, "{answer}");
}

#[test]
fn what_is_counted_is_on_the_socket_and_where_the_settings_say() {
    support::namespace::enter_leaf();
    let switch = Switch::start();
    let agent = Agent::start_with(&switch, "[metrics]\nlisten = \"[2001:db8:1::1]:9110\"\n");
    let counted = |line: &str| {
        eventually(line, || agent.get("/metrics").1.as_str().is_some_and(|text| text.contains(line)));
    };
    counted("leafboot_settled 0\n");
    eventually("nothing is left to do", || agent.put("/v1/ports?wait=5s", r#"{"ports": {}}"#).0 == 200);
    counted("leafboot_settled 1\n");
    agent.put("/v1/ports", BOOT);
    counted("leafboot_settled 0\n");
    counted("leafboot_ports{state=\"boot\"} 1\n");
    counted("leafboot_ports{state=\"orphaned\"} 0\n");
    counted("leafboot_ports_advertising 0\n");
    let (code, answer) = agent.put("/metrics", "");
    assert!(code == 405 && answer.to_string().contains("/metrics takes GET, HEAD"), "{answer}");
    // The management interface comes up after its daemons.
    support::namespace::batch("address add 2001:db8:1::1/128 dev lo\n");
    let get =
        |path: &str| support::run("curl", &["-sS", "-g", &format!("http://[2001:db8:1::1]:9110{path}")]);
    let text = get("/metrics");
    assert!(text.contains("leafboot_relay_upstream_up{") && text.ends_with("# EOF\n"), "{text}");
    let other = get("/v1/ports");
    assert!(other.contains("no /v1/ports here"), "the API is on the socket only: {other}");
}

/// 500 connections, each with a document under way: most are refused at once, and memory stays bounded.
#[test]
fn connections_and_documents_under_way_are_bounded() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let before = agent.resident();
    let head = b"PUT /v1/ports HTTP/1.1\r\nHost: leafboot\r\nContent-Length: 1000000\r\n\r\n";
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..500 {
        let mut stream = UnixStream::connect(agent.socket()).unwrap();
        stream.set_nonblocking(true).unwrap();
        // Whoever is refused cannot write any more.
        let _ = stream.write(&[&head[..], &vec![b' '; 200_000]].concat());
        kept.push(stream);
    }
    eventually("those beyond the bound are refused", || {
        for stream in &mut kept {
            let mut answer = [0; 64];
            let length = stream.read(&mut answer).unwrap_or_default();
            refused += usize::from(answer[..length].starts_with(b"HTTP/1.1 503 "));
        }
        refused >= 400
    });
    let grown = agent.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    drop(kept);
    eventually("others are served again", || agent.get("/v1/ports").0 == 200);
}

/// metal-core pushes each 10 s over a connection that it keeps.
#[test]
fn a_kept_connection_outlives_metal_cores_tick() {
    use std::io::{Read, Write};
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let mut stream = std::os::unix::net::UnixStream::connect(agent.socket()).unwrap();
    let mut ask = || {
        stream.write_all(b"HEAD /v1/ports HTTP/1.1\r\nHost: leafboot\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{length}");
    };
    ask();
    std::thread::sleep(std::time::Duration::from_secs(12));
    ask();
}
