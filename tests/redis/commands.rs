//! The commands `leafboot plan` and `leafboot retire` beside the model of SONiC.
//!
//! Must never: call what the commands call; it starts the binary.

use super::bench::{A, Bench, desired};
use super::support;
use super::support::switch::CONFIG_DB;

#[test]
fn the_vrf_is_retired_only_when_it_is_empty_and_sonic_lets_go_of_it() {
    let mut bench = Bench::start();
    let config = support::agent::settings(&bench.switch);
    let retire = || {
        let output =
            support::agent::leafboot(&["retire", "--config", config.to_str().unwrap(), "--wait", "20s"]);
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    bench.settle(&desired(&[("Ethernet0", A)]));
    let rows = bench.switch.dump(CONFIG_DB);
    let (done, said) = retire();
    assert!(
        !done && said.contains("Vrfboot or its ACL still has Ethernet0: push a document without"),
        "{said}"
    );
    assert_eq!(bench.switch.dump(CONFIG_DB), rows);

    bench.settle(&desired(&[]));
    let (done, said) = retire();
    assert!(done && said == "Vrfboot is gone, and leafboot's ACL and loopback with it\n", "{said}");
    assert!(!bench.switch.dump(CONFIG_DB).contains("Vrfboot"));
    assert!(!bench.switch.dump("6").contains("Vrfboot"));
    assert!(
        !bench.switch.dump(CONFIG_DB).contains("LEAFBOOT") && !bench.switch.dump("6").contains("LEAFBOOT")
    );
    assert!(retire().0, "what is gone may be retired again");
}

#[test]
fn the_plan_command_prints_steps_waits_and_unmanaged_rows_and_changes_nothing() {
    let bench = Bench::start();
    let config = support::agent::settings(&bench.switch);
    let document = support::agent::write(
        &bench.switch.path("push.json"),
        r#"{"ports": {"Eth1/1": {"state": "boot", "prefix": "2001:db8:b007:1::/64"}}}"#,
    );
    let plan = |more: &[&str]| {
        let mut arguments = vec!["plan", "--config", config.to_str().unwrap()];
        arguments.extend(more);
        let output = support::agent::leafboot(&arguments);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let rows = bench.switch.dump(CONFIG_DB);
    let (code, said) = plan(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no document was ever accepted here; give one with --desired"), "{said}");

    let desired = document.to_str().unwrap();
    let (code, said) = plan(&["--desired", desired]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("set VRF|Vrfboot\n") && said.contains("set ACL_TABLE|LEAFBOOT "), "{said}");
    assert!(said.contains("Ethernet0 waits: the rows of the ACL LEAFBOOT are being written\n"), "{said}");
    assert!(said.contains("unmanaged: VRF|VrfTenant\n"), "{said}");
    let (code, json) = plan(&["--desired", desired, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let unmanaged = serde_json::json!(["LOOPBACK_INTERFACE|Loopback0", "VRF|VrfTenant"]);
    assert_eq!((code, &json["unmanaged"]), (Some(2), &unmanaged));
    assert!(json["steps"].as_array().unwrap().iter().any(|step| step["set"] == "VRF|Vrfboot"), "{json}");

    support::agent::write(&document, r#"{"ports": {}}"#);
    let (code, said) = plan(&["--desired", desired]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("nothing to write now\n"), "{said}");
    support::agent::write(&document, r#"{"ports": {"Ethernet9": {"state": "boot"}}}"#);
    let (code, said) = plan(&["--desired", desired]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("Ethernet9 is rejected: UnknownPort: \"Ethernet9\" is not a port of this leaf"),
        "{said}"
    );
    let (_, json) = plan(&["--desired", desired, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rejected"]["Ethernet9"]["reason"], "UnknownPort", "{json}");
    support::agent::write(&document, r#"{"ports": []}"#);
    let (code, said) = plan(&["--desired", desired]);
    assert_eq!(code, Some(1));
    assert!(said.contains("push.json: not a port document: its field \"ports\" is not an object"), "{said}");
    assert_eq!(bench.switch.dump(CONFIG_DB), rows, "nothing was changed");
}
