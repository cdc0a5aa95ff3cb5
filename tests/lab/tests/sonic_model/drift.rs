//! The kernel loses what STATE_DB shows: what no daemon notices, and which row restores it.
//!
//! Owns: those tests. Must never: run the model on a thread of its own, except in tests of the process itself.

use ipnet::IpNet;
use leafboot_lab::sonic::Swss;
use leafboot_lab::sonic::by_hand::ByHand;
use leafboot_lab::sonic::kernel::Link;

use crate::leaf::{Leaf, until};

const BASE: &str = "INTERFACE|Ethernet0";
const ADDRESS: &str = "INTERFACE|Ethernet0|2001:db8:0:1::1/64";
const BOOT: [(&str, &str); 1] = [("vrf_name", "Vrfboot")];

/// A leaf with Ethernet0 in Vrfboot, with an address.
fn settled() -> (Leaf, Swss) {
    let mut leaf = Leaf::prepare();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set(BASE, &BOOT);
    leaf.set(ADDRESS, &[]);
    let mut swss = leaf.held();
    assert_eq!(link(&mut swss, "Ethernet0").master.as_deref(), Some("Vrfboot"));
    (leaf, swss)
}

fn link(swss: &mut Swss, name: &str) -> Link {
    swss.links().unwrap().remove(name).unwrap()
}

fn prefix() -> IpNet {
    "2001:db8:0:1::1/64".parse().unwrap()
}

#[test]
fn a_master_taken_by_hand_stays_away_until_the_same_base_row_is_written_again() {
    let (mut leaf, mut swss) = settled();
    swss.meddle_kernel(&ByHand::no_master("Ethernet0")).unwrap();
    swss.run_until_idle().unwrap();
    let port = link(&mut swss, "Ethernet0");
    assert_eq!(port.master, None);
    assert!(port.addresses.contains(&prefix()), "it answers from the default VRF");
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "Vrfboot");
    assert!(leaf.rif("Ethernet0").is_some());

    // The rows of the VRF and of the address do not help.
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set(ADDRESS, &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(link(&mut swss, "Ethernet0").master, None);

    leaf.set(BASE, &BOOT);
    swss.run_until_idle().unwrap();
    assert_eq!(link(&mut swss, "Ethernet0").master.as_deref(), Some("Vrfboot"));
}

#[test]
fn an_address_taken_by_hand_stays_away_until_the_same_address_row_is_written_again() {
    let (mut leaf, mut swss) = settled();
    let takings = [
        ByHand::DeleteAddress { port: "Ethernet0".to_owned(), address: prefix() },
        ByHand::DisableIpv6 { port: "Ethernet0".to_owned() },
    ];
    for taking in takings {
        swss.meddle_kernel(&taking).unwrap();
        leaf.set(BASE, &BOOT);
        swss.run_until_idle().unwrap();
        assert!(link(&mut swss, "Ethernet0").addresses.is_empty(), "{taking:?}");
        let state = leaf.state.field("INTERFACE_TABLE", "Ethernet0|2001:db8:0:1::1/64", "state").unwrap();
        assert_eq!(state.unwrap(), "ok", "it was asked for");
        leaf.set(ADDRESS, &[]);
        swss.run_until_idle().unwrap();
        assert!(link(&mut swss, "Ethernet0").addresses.contains(&prefix()), "{taking:?}");
    }
}

#[test]
fn a_vrf_that_is_down_stays_down_whatever_row_is_written() {
    let (mut leaf, mut swss) = settled();
    assert!(link(&mut swss, "Vrfboot").up);
    swss.meddle_kernel(&ByHand::down("Vrfboot")).unwrap();
    for row in ["VRF|Vrfboot", BASE] {
        leaf.set(row, if row == BASE { &BOOT } else { &[] });
        swss.run_until_idle().unwrap();
    }
    assert!(!link(&mut swss, "Vrfboot").up);
    assert_eq!(link(&mut swss, "Ethernet0").master.as_deref(), Some("Vrfboot"));
    assert_eq!(leaf.state.field("VRF_TABLE", "Vrfboot", "state").unwrap().unwrap(), "ok");
    swss.meddle_kernel(&ByHand::up("Vrfboot")).unwrap();
    assert!(link(&mut swss, "Vrfboot").up);
}

#[test]
fn a_vrf_device_deleted_by_hand_is_not_made_again_and_its_ports_wait_for_another() {
    let (mut leaf, mut swss) = settled();
    let index = link(&mut swss, "Vrfboot").index;
    swss.meddle_kernel(&ByHand::DeleteDevice { device: "Vrfboot".to_owned() }).unwrap();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set(BASE, &BOOT);
    swss.run_until_idle().unwrap();
    assert!(!swss.links().unwrap().contains_key("Vrfboot"));
    assert_eq!(link(&mut swss, "Ethernet0").master, None);
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "Vrfboot");

    swss.meddle_kernel(&ByHand::AddVrf { vrf: "Vrfboot".to_owned(), table: 1001 }).unwrap();
    leaf.set(BASE, &BOOT);
    swss.run_until_idle().unwrap();
    assert_eq!(link(&mut swss, "Ethernet0").master.as_deref(), Some("Vrfboot"));
    assert_ne!(link(&mut swss, "Vrfboot").index, index);
}

#[test]
fn what_the_kernel_refuses_changes_nothing() {
    let (_leaf, mut swss) = settled();
    let before = swss.links().unwrap();
    for refused in [
        ByHand::AddAddress { port: "Ethernet0".to_owned(), address: prefix() },
        ByHand::DeleteAddress { port: "Ethernet4".to_owned(), address: prefix() },
        ByHand::SetMaster { port: "Ethernet0".to_owned(), master: Some("Vrfnone".to_owned()) },
        ByHand::DeleteDevice { device: "Vrfnone".to_owned() },
        ByHand::down("Vrfnone"),
    ] {
        assert!(swss.meddle_kernel(&refused).is_err(), "{refused:?}");
    }
    assert_eq!(swss.links().unwrap(), before);
}

#[test]
fn after_a_reload_without_restart_the_daemons_keep_what_no_row_asks_for_any_more() {
    let (mut leaf, mut swss) = settled();
    let index = link(&mut swss, "Ethernet0").index;
    let saved = r#"{"PORT": {"Ethernet0": {"admin_status": "up"}, "Ethernet4": {"admin_status": "up"}},
                    "INTERFACE": {"Ethernet0": {}, "Ethernet4": {}}}"#;
    swss.reload_without_restart(saved).unwrap();
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.config.keys("VRF").unwrap(), [""; 0]);
    assert_eq!(leaf.config.text("CONFIG_DB_INITIALIZED").unwrap().unwrap(), "1");
    let port = link(&mut swss, "Ethernet0");
    assert_eq!((port.index, port.master.as_deref()), (index, Some("Vrfboot")), "nothing was restarted");
    assert!(port.addresses.contains(&prefix()));
    assert_eq!(leaf.state.field("VRF_TABLE", "Vrfboot", "state").unwrap().unwrap(), "ok");
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "Vrfboot");
    leaf.until_bound("Ethernet4", "");

    // What cannot be used changes nothing.
    assert!(swss.reload_without_restart(r#"{"VRF": []}"#).is_err());
    assert!(leaf.config.row("INTERFACE", "Ethernet4").unwrap().is_some());
}

#[test]
fn between_the_halves_of_a_reload_without_restart_the_daemons_run_and_hear_nothing() {
    let (mut leaf, mut swss) = settled();
    swss.flush_config().unwrap();
    assert_eq!(leaf.config.text("CONFIG_DB_INITIALIZED").unwrap(), None);
    swss.run_until_idle().unwrap();
    assert_eq!(link(&mut swss, "Ethernet0").master.as_deref(), Some("Vrfboot"));
    leaf.set("INTERFACE|Ethernet4", &[]);
    swss.run_until_idle().unwrap();
    leaf.until_bound("Ethernet4", "");
}

#[test]
fn the_process_takes_its_orders_for_the_kernel_and_for_a_reload_without_restart() {
    let mut leaf = Leaf::prepare();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.initialised("1");
    leaf.start();
    until("the VRF", || leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap());
    leaf.order("ip link set Vrfboot sideways");
    leaf.order("ip link del Vrfnone");
    leaf.order("reload-n /no/such/file");
    let rows = leaf.path("rows");
    std::fs::write(&rows, "HSET INTERFACE|Ethernet4 NULL NULL\n").unwrap();
    leaf.order(&format!("reload-n {}", rows.display()));
    leaf.until_bound("Ethernet4", "");
    assert_eq!(leaf.config.keys("VRF").unwrap(), [""; 0]);
    assert!(leaf.state.row("VRF_TABLE", "Vrfboot").unwrap().is_some(), "nothing was restarted");
}
