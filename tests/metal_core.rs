//! Tests `docs/metal-core.md` on the real binary and a real redis-server: the pushes of a metal-core that follows the
//! page, from the lists of its `buildSwitcherConfig`, and the push of one that does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Map, Value, json};
use support::agent::Agent;
use support::eventually;
use support::switch::{CONFIG_DB, Switch};

const PAGE: &str = include_str!("../docs/metal-core.md");

/// A port of the switch as metal-core's API has it: `metal-go models.V1SwitchNic`. All ports are registered, and an uplink has no VRF.
struct Nic {
    name: &'static str,
    vrf: &'static str,
}

const UPLINK: &str = "Ethernet120";

/// `metal-core core/reconfigure-switch.go: buildSwitcherConfig`, which makes `cfg.Ports.Unprovisioned`.
fn unprovisioned(nics: &[Nic]) -> Vec<&'static str> {
    nics.iter().filter(|nic| nic.name != UPLINK && nic.vrf.is_empty()).map(|nic| nic.name).collect()
}

/// Whether leafboot already has a port, as the page defines that.
fn already_has(answer: &Value, name: &str) -> bool {
    let port = &answer["ports"][name];
    match port["state"].as_str() {
        Some("boot" | "orphaned") => true,
        Some("rejected") => port["prefix"].is_string(),
        _ => false,
    }
}

fn push(agent: &Agent, ports: &[&str]) -> (u16, Value) {
    let ports: Map<String, Value> =
        ports.iter().map(|port| ((*port).to_owned(), json!({"state": "boot"}))).collect();
    agent.put("/v1/ports", &json!({"ports": ports}).to_string())
}

/// Makes the first push of a cycle; returns the pushed ports and the answer.
fn first_push(agent: &Agent, nics: &[Nic]) -> (Vec<&'static str>, Value) {
    let (_, had) = agent.get("/v1/ports");
    let ports: Vec<&str> = unprovisioned(nics).into_iter().filter(|port| already_has(&had, port)).collect();
    let (code, answer) = push(agent, &ports);
    assert!(code == 200 || code == 202, "{answer}");
    (ports, answer)
}

fn nics(vrf: &'static str) -> [Nic; 3] {
    [Nic { name: "Ethernet0", vrf: "" }, Nic { name: "Ethernet4", vrf }, Nic { name: UPLINK, vrf: "" }]
}

fn state(answer: &Value, port: &str) -> Value {
    answer["ports"][port]["state"].clone()
}

#[test]
fn a_port_goes_from_a_tenant_to_booting_and_back_in_the_pages_order() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);

    // Nothing boots yet, and Ethernet4 is a tenant's: before Apply nothing is pushed, after it what boots.
    let (first, _) = first_push(&agent, &nics("vrf104"));
    assert_eq!(first, [""; 0]);
    let (_, answer) = push(&agent, &unprovisioned(&nics("vrf104")));
    assert_eq!((state(&answer, "Ethernet0"), state(&answer, UPLINK)), (json!("boot"), Value::Null));
    assert_eq!(state(&answer, "Ethernet4"), Value::Null, "free for the tenant");

    // The tenant is gone, and Apply fails in each cycle: its port is not taken, and what boots stays.
    for _ in 0..2 {
        let (first, answer) = first_push(&agent, &nics(""));
        assert_eq!(first, ["Ethernet0"]);
        assert_eq!((state(&answer, "Ethernet0"), state(&answer, "Ethernet4")), (json!("boot"), Value::Null));
    }
    // Apply succeeds.
    let (_, answer) = push(&agent, &unprovisioned(&nics("")));
    assert_eq!(state(&answer, "Ethernet4"), "boot");
    assert_eq!(
        first_push(&agent, &nics("")).0,
        ["Ethernet0", "Ethernet4"],
        "and from now on both pushes are one"
    );

    // A tenant again: the first push lets go of it, and it is free when nothing of it is left.
    let (first, _) = first_push(&agent, &nics("vrf105"));
    assert_eq!(first, ["Ethernet0"]);
    eventually("it is free", || {
        let (_, answer) = agent.get("/v1/ports");
        matches!(state(&answer, "Ethernet4").as_str(), None | Some("released"))
    });
}

#[test]
fn a_push_of_every_port_with_an_empty_vrf_is_wrong() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let nics = nics("");
    let empty: Vec<&str> = nics.iter().filter(|nic| nic.vrf.is_empty()).map(|nic| nic.name).collect();
    assert!(empty.contains(&UPLINK) && !unprovisioned(&nics).contains(&UPLINK));

    // By mistake: the uplink alone is rejected, and nothing of it is touched.
    let (_, answer) = push(&agent, &empty);
    assert_eq!((state(&answer, "Ethernet0"), state(&answer, "Ethernet4")), (json!("boot"), json!("boot")));
    assert_eq!(answer["ports"][UPLINK]["reason"], "Protected");
    eventually("the ACL is written", || switch.dump(CONFIG_DB).contains("ACL_TABLE|LEAFBOOT"));
    assert!(!switch.dump(CONFIG_DB).contains(&format!("GATEWAY_{}", UPLINK.to_uppercase())));

    assert!(PAGE.contains("calls its `cfg.Ports.Unprovisioned` **U**"));
    assert!(PAGE.contains("**U is not «every port whose `nic.Vrf` is empty».**"));
}
