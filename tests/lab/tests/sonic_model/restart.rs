//! What is left of a leaf after SONiC was restarted, or its config reloaded.
//!
//! Owns: those tests. Must never: run the model on a thread of its own, except in tests of the process itself.

use crate::leaf::{Leaf, until};

/// A leaf with Ethernet0 in Vrfboot, an unmanaged VLAN row, and one VRF that no row asks for.
const BOOT: [(&str, &[(&str, &str)]); 3] = [
    ("VRF|Vrfboot", &[]),
    ("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]),
    ("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]),
];

fn boot(leaf: &mut Leaf) {
    for (row, fields) in BOOT {
        leaf.set(row, fields);
    }
}

#[test]
fn a_restart_takes_everything_away_and_config_db_brings_it_back_with_other_indexes() {
    let mut leaf = Leaf::prepare();
    boot(&mut leaf);
    let mut swss = leaf.held();
    let before = swss.links().unwrap();
    assert_eq!(before["Ethernet0"].master.as_deref(), Some("Vrfboot"));
    assert_eq!(before["Ethernet0"].addresses.len(), 1);
    assert!(leaf.is_routed("2001:db8:0:1::1/128"));

    swss.restart().unwrap();
    let during = swss.links().unwrap();
    assert!(!during.contains_key("Vrfboot"));
    assert_eq!(during["Ethernet0"].master, None);
    assert!(during["Ethernet0"].addresses.is_empty());
    assert_eq!(leaf.state.keys("INTERFACE_TABLE").unwrap(), [""; 0]);
    assert_eq!(leaf.state.keys("VRF_OBJECT_TABLE").unwrap(), [""; 0]);
    assert_eq!(leaf.appl.keys("INTF_TABLE").unwrap(), [""; 0]);
    assert_eq!(leaf.rif("Ethernet0"), None);
    assert!(leaf.config.row("INTERFACE", "Ethernet0").unwrap().is_some());

    swss.run_until_idle().unwrap();
    let after = swss.links().unwrap();
    assert_eq!(after["Ethernet0"].master.as_deref(), Some("Vrfboot"));
    assert_eq!(after["Ethernet0"].addresses, before["Ethernet0"].addresses);
    for name in ["Ethernet0", "Vrfboot"] {
        assert_ne!(after[name].index, before[name].index, "{name}");
    }
    assert!(leaf.rif("Ethernet0").is_some());
}

#[test]
fn what_was_pending_is_forgotten_by_a_restart() {
    let mut leaf = Leaf::prepare();
    boot(&mut leaf);
    let mut swss = leaf.held();
    // It waits for its address to go.
    leaf.delete("INTERFACE|Ethernet0");
    swss.run_until_idle().unwrap();
    assert!(leaf.state.row("INTERFACE_TABLE", "Ethernet0").unwrap().is_some());
    swss.restart().unwrap();
    swss.run_until_idle().unwrap();
    // The address has no interface now.
    assert_eq!(leaf.state.keys("INTERFACE_TABLE").unwrap(), [""; 0]);
    leaf.delete("INTERFACE|Ethernet0|2001:db8:0:1::1/64");
    leaf.set("INTERFACE|Ethernet0", &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "");
}

#[test]
fn a_reload_leaves_only_the_given_rows() {
    let mut leaf = Leaf::prepare();
    boot(&mut leaf);
    let mut swss = leaf.held();
    let saved = r#"{"PORT": {"Ethernet0": {"admin_status": "up"}, "Ethernet4": {"admin_status": "up"}},
                    "INTERFACE": {"Ethernet4": {}, "Ethernet4|2001:db8:0:4::1/64": {}}}"#;
    swss.reload(saved).unwrap();
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.config.keys("VRF").unwrap(), [""; 0]);
    assert_eq!(leaf.state.keys("PORT_TABLE").unwrap(), ["Ethernet0", "Ethernet4"]);
    leaf.until_unbound("Ethernet0");
    leaf.until_bound("Ethernet4", "");
    assert_eq!(leaf.config.text("CONFIG_DB_INITIALIZED").unwrap().unwrap(), "1");

    // What cannot be used changes nothing.
    assert!(swss.reload(r#"{"VRF": []}"#).is_err());
    assert!(leaf.config.row("INTERFACE", "Ethernet4").unwrap().is_some());
}

#[test]
fn between_the_halves_of_a_reload_nothing_runs() {
    let mut leaf = Leaf::prepare();
    boot(&mut leaf);
    let mut swss = leaf.held();
    swss.empty_config().unwrap();
    assert_eq!(leaf.config.text("CONFIG_DB_INITIALIZED").unwrap().unwrap(), "0");
    leaf.set("INTERFACE|Ethernet4", &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.state.row("INTERFACE_TABLE", "Ethernet4").unwrap(), None);
    // The kernel is unchanged.
    assert_eq!(swss.links().unwrap()["Ethernet0"].master.as_deref(), Some("Vrfboot"));

    leaf.set("PORT|Ethernet4", &[]);
    leaf.initialised("1");
    swss.run_until_idle().unwrap();
    leaf.until_bound("Ethernet4", "");
}

#[test]
fn the_process_restarts_and_reloads_on_order() {
    let mut leaf = Leaf::prepare();
    boot(&mut leaf);
    leaf.initialised("1");
    leaf.start();
    leaf.until_bound("Ethernet0", "Vrfboot");
    // A row that no daemon would delete: only a cold start does.
    leaf.appl.set("INTF_TABLE", "leftover", &crate::leaf::fields(&[])).unwrap();
    leaf.order("restart");
    until("the restart", || leaf.appl.row("INTF_TABLE", "leftover").unwrap().is_none().then_some(()));
    leaf.until_bound("Ethernet0", "Vrfboot");

    let rows = leaf.path("rows");
    std::fs::write(&rows, "HSET PORT|Ethernet4 admin_status up\nHSET INTERFACE|Ethernet4 NULL NULL\n")
        .unwrap();
    leaf.order("no such order");
    leaf.order("reload /no/such/file");
    leaf.order(&format!("reload {}", rows.display()));
    leaf.until_bound("Ethernet4", "");
    assert_eq!(leaf.config.keys("VRF").unwrap(), [""; 0]);
}
