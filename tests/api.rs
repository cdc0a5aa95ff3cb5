//! The API on the real binary and a real redis-server: what is taken, what is rejected alone, what is refused whole, and
//! that a refusal changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "api/connections.rs"]
mod connections;
#[path = "api/databases.rs"]
mod databases;
#[path = "api/state_file.rs"]
mod state_file;
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
    assert_eq!(without_verdicts(agent.get("/v1/ports")), without_verdicts(ports));
}

/// An answer without what also depends on the time.
fn without_verdicts((code, mut answer): (u16, Value)) -> (u16, Value) {
    for port in answer["ports"].as_object_mut().unwrap().values_mut() {
        port["verdict"] = Value::Null;
    }
    (code, answer)
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
    assert!(text.contains("leafboot_relay_upstream_up{") && !text.contains("# EOF"), "{text}");
    let other = get("/v1/ports");
    assert!(other.contains("no /v1/ports here"), "the API is on the socket only: {other}");
}
