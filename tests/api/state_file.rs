//! The document in `state.directory`: what a restarted leafboot reads of it, and what happens if it cannot be written.
//!
//! Must never: need a model of SONiC.

use serde_json::{Value, json};

use super::support::agent::Agent;
use super::support::switch::{CONFIG_DB, Switch};
use super::support::{self, eventually};
use super::{BOOT, text};

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
