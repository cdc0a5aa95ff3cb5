//! Ports that are in a VLAN or a LAG as well, and loopbacks.
//!
//! Owns: those tests. Must never: run the model on a thread of its own.

use std::collections::BTreeSet;

use leafboot_lab::sonic::Swss;
use leafboot_lab::sonic::isolation::{Opening, Watch};

use crate::leaf::Leaf;

const MEMBER: &str = "VLAN_MEMBER|Vlan100|Ethernet0";
const BRIDGE_PORT: &str = "SAI_OBJECT_TYPE_BRIDGE_PORT";
const DENY_ALL: [(&str, &str); 3] = [("PRIORITY", "1"), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];

/// A leaf with Ethernet0 in a VLAN, as an unprovisioned port is.
fn bridged() -> (Leaf, Swss) {
    let mut leaf = Leaf::prepare();
    leaf.set("VLAN|Vlan100", &[("vlanid", "100")]);
    leaf.set(MEMBER, &[("tagging_mode", "untagged")]);
    let swss = leaf.held();
    (leaf, swss)
}

fn routed(leaf: &mut Leaf) {
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
}

fn master(swss: &mut Swss) -> Option<String> {
    swss.links().unwrap().remove("Ethernet0").unwrap().master
}

#[test]
fn a_member_has_the_bridge_as_its_master_and_a_bridge_port_until_it_leaves_its_last_vlan() {
    let (mut leaf, mut swss) = bridged();
    leaf.set("VLAN|Vlan200", &[("vlanid", "200")]);
    leaf.set("VLAN_MEMBER|Vlan200|Ethernet0", &[("tagging_mode", "tagged")]);
    swss.run_until_idle().unwrap();
    for vlan in ["Vlan100", "Vlan200"] {
        let state = leaf.state.field("VLAN_MEMBER_TABLE", &format!("{vlan}|Ethernet0"), "state").unwrap();
        assert_eq!(state.unwrap(), "ok", "{vlan}");
    }
    assert_eq!(leaf.asic_keys(BRIDGE_PORT).len(), 1);
    leaf.delete(MEMBER);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("Bridge"));
    assert_eq!(leaf.asic_keys(BRIDGE_PORT).len(), 1);
    leaf.delete("VLAN_MEMBER|Vlan200|Ethernet0");
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss), None);
    assert_eq!(leaf.asic_keys(BRIDGE_PORT), [""; 0]);
    assert_eq!(leaf.state.keys("VLAN_MEMBER_TABLE").unwrap(), [""; 0]);
}

#[test]
fn a_member_waits_for_its_vlan() {
    let mut leaf = Leaf::prepare();
    leaf.set(MEMBER, &[("tagging_mode", "untagged")]);
    let mut swss = leaf.held();
    assert_eq!(leaf.state.keys("VLAN_MEMBER_TABLE").unwrap(), [""; 0]);
    leaf.set("VLAN|Vlan100", &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.asic_keys(BRIDGE_PORT).len(), 1);
}

#[test]
fn a_port_that_leaves_its_vlan_is_thrown_out_of_its_vrf_and_nobody_says_so() {
    let (mut leaf, mut swss) = bridged();
    routed(&mut leaf);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("Vrfboot"));
    leaf.delete(MEMBER);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss), None);
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "Vrfboot");
    assert!(leaf.rif("Ethernet0").is_some());
}

#[test]
fn a_bridge_port_waits_until_the_router_interface_is_gone() {
    let mut leaf = Leaf::prepare();
    routed(&mut leaf);
    let mut swss = leaf.held();
    leaf.set("VLAN|Vlan100", &[("vlanid", "100")]);
    leaf.set(MEMBER, &[("tagging_mode", "untagged")]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.asic_keys(BRIDGE_PORT), [""; 0]);
    assert!(leaf.state.row("VLAN_MEMBER_TABLE", "Vlan100|Ethernet0").unwrap().is_some());
    leaf.delete("INTERFACE|Ethernet0|2001:db8:0:1::1/64");
    leaf.delete("INTERFACE|Ethernet0");
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.asic_keys(BRIDGE_PORT).len(), 1);
}

#[test]
fn a_port_that_is_routed_and_bridged_is_a_gap_whatever_its_acl() {
    let (mut leaf, mut swss) = bridged();
    leaf.set("ACL_TABLE|boot", &[("type", "L3V6"), ("stage", "ingress"), ("ports@", "Ethernet0")]);
    leaf.set("ACL_RULE|boot|deny", &DENY_ALL);
    swss.run_until_idle().unwrap();
    swss.watch_isolation(Watch {
        vrf: "Vrfboot".to_owned(),
        acl_table: "boot".to_owned(),
        rules: BTreeSet::new(),
    });
    routed(&mut leaf);
    swss.run_until_idle().unwrap();
    let openings = |swss: &Swss| swss.isolation_gaps().iter().map(|gap| gap.opening).collect::<Vec<_>>();
    assert_eq!(openings(&swss), [Opening::BridgePort]);
    // Thrown out of the VRF, its address answers from the default one.
    leaf.delete(MEMBER);
    swss.run_until_idle().unwrap();
    assert_eq!(openings(&swss), [Opening::BridgePort, Opening::OutsideVrf]);
    assert!(swss.isolation_gaps()[0].closed.is_some());
    assert!(swss.isolation_gaps()[1].closed.is_none());
}

#[test]
fn one_lag_member_in_the_list_and_the_acl_stays_as_it_was() {
    let mut leaf = Leaf::prepare();
    leaf.set("ACL_TABLE|boot", &[("type", "L3V6"), ("stage", "ingress"), ("ports@", "Ethernet0")]);
    leaf.set("ACL_RULE|boot|deny", &DENY_ALL);
    leaf.set("PORTCHANNEL_MEMBER|PortChannel1|Ethernet8", &[]);
    let mut swss = leaf.held();
    assert_eq!(swss.links().unwrap()["Ethernet8"].master.as_deref(), Some("PortChannel1"));
    leaf.set("ACL_TABLE|boot", &[("ports@", "Ethernet0,Ethernet4,Ethernet8")]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Inactive");
    assert!(!swss.rules_on("Ethernet0")["boot"].is_empty());
    assert!(swss.rules_on("Ethernet4").is_empty());

    leaf.delete("PORTCHANNEL_MEMBER|PortChannel1|Ethernet8");
    swss.run_until_idle().unwrap();
    assert!(swss.rules_on("Ethernet4").is_empty(), "it was refused, not put off");
    leaf.set("ACL_TABLE|boot", &[("ports@", "Ethernet0,Ethernet4,Ethernet8")]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Active");
    assert!(!swss.rules_on("Ethernet8")["boot"].is_empty());
}

#[test]
fn a_loopback_in_the_vrf_overlaps_with_ports_keeps_the_vrf_and_has_no_router_interface() {
    let mut leaf = Leaf::prepare();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("LOOPBACK_INTERFACE|Loopback7", &[("vrf_name", "Vrfboot")]);
    leaf.set("LOOPBACK_INTERFACE|Loopback7|2001:db8:0:1::53/128", &[]);
    let mut swss = leaf.held();
    let loopback = swss.links().unwrap().remove("Loopback7").unwrap();
    assert_eq!(loopback.master.as_deref(), Some("Vrfboot"));
    assert_eq!(loopback.addresses.len(), 1);
    assert!(leaf.is_routed("2001:db8:0:1::53/128"));
    assert_eq!(leaf.asic_keys(crate::leaf::RIF), [""; 0]);
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Loopback7", "vrf").unwrap().unwrap(), "Vrfboot");

    // Its address lies in the port's prefix.
    routed(&mut leaf);
    swss.run_until_idle().unwrap();
    assert!(leaf.rif("Ethernet0").is_some());
    assert!(!leaf.is_routed("2001:db8:0:1::1/128"));

    leaf.delete("INTERFACE|Ethernet0|2001:db8:0:1::1/64");
    leaf.delete("INTERFACE|Ethernet0");
    leaf.delete("VRF|Vrfboot");
    swss.run_until_idle().unwrap();
    assert!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap().is_some(), "the loopback holds it");

    swss.restart().unwrap();
    assert!(!swss.links().unwrap().contains_key("Loopback7"));
}
