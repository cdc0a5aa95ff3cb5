//! Router interfaces: what holds them up, and what comes late after them.
//!
//! Owns: those tests. Must never: run the model on a thread of its own, except in tests of the process itself.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use leafboot_lab::sonic::Swss;

use crate::leaf::{Leaf, until};

const BASE: &str = "INTERFACE|Ethernet0";
const ADDRESS: &str = "INTERFACE|Ethernet0|2001:db8:0:1::1/64";

fn rows(leaf: &mut Leaf) {
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set(BASE, &[("vrf_name", "Vrfboot")]);
    leaf.set(ADDRESS, &[]);
}

/// A leaf with Ethernet0 in Vrfboot.
fn routed() -> (Leaf, Swss) {
    let mut leaf = Leaf::prepare();
    rows(&mut leaf);
    let swss = leaf.held();
    assert!(leaf.rif("Ethernet0").is_some());
    (leaf, swss)
}

fn machine() -> IpAddr {
    "2001:db8:0:1::5".parse().unwrap()
}

fn leave(leaf: &mut Leaf) {
    leaf.delete(ADDRESS);
    leaf.delete(BASE);
}

#[test]
fn a_neighbour_holds_the_router_interface_until_it_is_gone() {
    let (mut leaf, mut swss) = routed();
    swss.add_neighbour("Ethernet0", machine(), None).unwrap();
    assert!(leaf.appl.row("NEIGH_TABLE", "Ethernet0:2001:db8:0:1::5").unwrap().is_some());
    assert_eq!(leaf.asic_keys("SAI_OBJECT_TYPE_NEIGHBOR_ENTRY").len(), 1);
    leave(&mut leaf);
    leaf.delete("VRF|Vrfboot");
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.state.row("INTERFACE_TABLE", "Ethernet0").unwrap(), None, "intfmgrd is through");
    assert!(leaf.rif("Ethernet0").is_some());
    assert!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap().is_some());

    swss.remove_neighbour("Ethernet0", machine()).unwrap();
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.rif("Ethernet0"), None);
    assert_eq!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap(), None);
    assert_eq!(leaf.asic_keys("SAI_OBJECT_TYPE_NEIGHBOR_ENTRY"), [""; 0]);
}

#[test]
fn a_neighbour_goes_by_itself_or_with_a_restart() {
    let (mut leaf, mut swss) = routed();
    swss.add_neighbour("Ethernet0", machine(), Some(Duration::from_millis(50))).unwrap();
    leave(&mut leaf);
    let start = Instant::now();
    until("the router interface goes", || {
        swss.run_once(Duration::from_millis(10)).unwrap();
        leaf.rif("Ethernet0").is_none().then_some(())
    });
    assert!(start.elapsed() >= Duration::from_millis(40));

    rows(&mut leaf);
    swss.run_until_idle().unwrap();
    swss.add_neighbour("Ethernet0", machine(), None).unwrap();
    leave(&mut leaf);
    swss.restart().unwrap();
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.rif("Ethernet0"), None);
}

#[test]
fn the_process_learns_and_forgets_neighbours_on_order() {
    let mut leaf = Leaf::prepare();
    rows(&mut leaf);
    leaf.initialised("1");
    leaf.start();
    leaf.until_bound("Ethernet0", "Vrfboot");
    leaf.order("neighbour add Ethernet0 invalid");
    leaf.order("neighbour add Ethernet0 2001:db8:0:1::5");
    until("the neighbour", || leaf.appl.row("NEIGH_TABLE", "Ethernet0:2001:db8:0:1::5").unwrap());
    leave(&mut leaf);
    leaf.fence();
    assert!(leaf.rif("Ethernet0").is_some());
    leaf.order("neighbour del Ethernet0 2001:db8:0:1::5");
    leaf.until_unbound("Ethernet0");
}

#[test]
fn a_router_interface_is_named_in_counters_db_a_second_later_and_loses_its_name_before_it_goes() {
    let (mut leaf, mut swss) = routed();
    let named = |leaf: &mut Leaf| leaf.counters.field("COUNTERS_RIF_NAME_MAP", "", "Ethernet0").unwrap();
    let oid = named(&mut leaf).unwrap();
    assert!(leaf.asic.row("ASIC_STATE", &format!("{}:{oid}", crate::leaf::RIF)).unwrap().is_some());
    let kind = leaf.counters.field("COUNTERS_RIF_TYPE_MAP", "", &oid).unwrap();
    assert_eq!(kind.unwrap(), "SAI_ROUTER_INTERFACE_TYPE_PORT");
    leave(&mut leaf);
    swss.run_until_idle().unwrap();
    assert_eq!(named(&mut leaf), None);

    rows(&mut leaf);
    until("the router interface", || {
        swss.run_once(Duration::from_millis(10)).unwrap();
        assert_eq!(named(&mut leaf), None);
        leaf.rif("Ethernet0")
    });
    let start = Instant::now();
    until("its name", || {
        swss.run_once(Duration::from_millis(10)).unwrap();
        named(&mut leaf)
    });
    assert!(start.elapsed() >= Duration::from_millis(900));
}

#[test]
fn after_a_restart_the_acl_is_there_and_the_kernel_has_the_port_before_the_router_interface_comes() {
    let mut leaf = Leaf::prepare();
    leaf.behaviour.interfaces_after_ms = 300;
    rows(&mut leaf);
    leaf.set("ACL_TABLE|boot", &[("type", "L3V6"), ("stage", "ingress"), ("ports@", "Ethernet0")]);
    leaf.set("ACL_RULE|boot|deny", &[("PRIORITY", "1"), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")]);
    let mut swss = leaf.held();
    assert!(leaf.rif("Ethernet0").is_some(), "without waiting it is not seen");

    let start = Instant::now();
    swss.restart().unwrap();
    until("kernel and ACL", || {
        swss.run_once(Duration::from_millis(5)).unwrap();
        let is_there = !swss.links().unwrap()["Ethernet0"].addresses.is_empty();
        (is_there && !swss.rules_on("Ethernet0").is_empty()).then_some(())
    });
    if start.elapsed() < Duration::from_millis(300) {
        assert_eq!(leaf.rif("Ethernet0"), None);
    }
    until("the router interface", || {
        swss.run_once(Duration::from_millis(5)).unwrap();
        leaf.rif("Ethernet0")
    });
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn router_interfaces_wait_as_long_as_a_test_wants() {
    let (mut leaf, mut swss) = routed();
    swss.let_interfaces_wait(true);
    swss.restart().unwrap();
    swss.run_until_idle().unwrap();
    assert_eq!(swss.links().unwrap()["Ethernet0"].master.as_deref(), Some("Vrfboot"));
    assert_eq!(leaf.rif("Ethernet0"), None);
    swss.let_interfaces_wait(false);
    swss.run_until_idle().unwrap();
    assert!(leaf.rif("Ethernet0").is_some());
}

#[test]
fn a_loopback_that_was_deleted_by_hand_is_not_made_again() {
    let mut leaf = Leaf::prepare();
    leaf.set("LOOPBACK_INTERFACE|Loopback7", &[]);
    let mut swss = leaf.held();
    let delete = "ip link del Loopback7".parse().unwrap();
    swss.meddle_kernel(&delete).unwrap();
    leaf.set("LOOPBACK_INTERFACE|Loopback7", &[]);
    swss.run_until_idle().unwrap();
    assert!(!swss.links().unwrap().contains_key("Loopback7"));
}
