//! Ports that are in a VLAN or a LAG as well, and loopbacks.
//!
//! Owns: those tests. Must never: run the model on a thread of its own.

use std::collections::BTreeSet;

use leafboot_lab::sonic::Swss;
use leafboot_lab::sonic::behaviour::SonicRelease;
use leafboot_lab::sonic::by_hand::ByHand;
use leafboot_lab::sonic::isolation::{Opening, Watch};

use crate::leaf::Leaf;

const MEMBER: &str = "VLAN_MEMBER|Vlan100|Ethernet0";
const BRIDGE_PORT: &str = "SAI_OBJECT_TYPE_BRIDGE_PORT";
const LAG_MEMBER: &str = "SAI_OBJECT_TYPE_LAG_MEMBER";
const DENY_ALL: [(&str, &str); 3] = [("PRIORITY", "1"), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];

/// A leaf with Ethernet0 in a VLAN, as an unprovisioned port is.
fn bridged() -> (Leaf, Swss) {
    bridged_on(SonicRelease::Head)
}

fn bridged_on(release: SonicRelease) -> (Leaf, Swss) {
    let mut leaf = Leaf::prepare();
    leaf.behaviour.release = release;
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
fn a_vlan_member_row_takes_the_port_out_of_its_vrf_and_its_deletion_leaves_it_nowhere() {
    let mut leaf = Leaf::prepare();
    routed(&mut leaf);
    leaf.set("VLAN|Vlan100", &[("vlanid", "100")]);
    let mut swss = leaf.held();
    leaf.set(MEMBER, &[("tagging_mode", "untagged")]);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("Bridge"));
    leaf.delete(MEMBER);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss), None);
    // No daemon got an event.
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "Vrfboot");
    assert!(leaf.rif("Ethernet0").is_some());
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("Vrfboot"));
}

#[test]
fn a_member_that_is_in_a_vrf_by_now_is_never_removed_and_those_sorted_behind_it_wait() {
    for release in [SonicRelease::R202605, SonicRelease::Head] {
        let (mut leaf, mut swss) = bridged_on(release);
        for member in ["VLAN_MEMBER|Vlan100|Ethernet4", "VLAN_MEMBER|Vlan100|Ethernet8"] {
            leaf.set(member, &[("tagging_mode", "untagged")]);
        }
        leaf.set("VLAN|Vlan1000", &[("vlanid", "1000")]);
        routed(&mut leaf);
        swss.run_until_idle().unwrap();
        assert_eq!(master(&mut swss).as_deref(), Some("Vrfboot"));

        leaf.delete(MEMBER);
        swss.run_until_idle().unwrap();
        leaf.delete("VLAN_MEMBER|Vlan100|Ethernet4");
        leaf.set("VLAN_MEMBER|Vlan1000|Ethernet8", &[("tagging_mode", "tagged")]);
        swss.run_until_idle().unwrap();
        assert_eq!(master(&mut swss).as_deref(), Some("Vrfboot"), "it stays");
        let rows = leaf.state.keys("VLAN_MEMBER_TABLE").unwrap();
        let expected = ["Vlan100|Ethernet0", "Vlan100|Ethernet4", "Vlan100|Ethernet8", "Vlan1000|Ethernet8"];
        assert_eq!(rows.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected.into());
        assert!(leaf.appl.row("VLAN_MEMBER_TABLE", "Vlan100:Ethernet0").unwrap().is_some());

        // Back in the bridge by hand, it can be removed, and so can the others.
        swss.meddle_kernel(&ByHand::SetMaster {
            port: "Ethernet0".to_owned(),
            master: Some("Bridge".to_owned()),
        })
        .unwrap();
        swss.run_until_idle().unwrap();
        let rows = leaf.state.keys("VLAN_MEMBER_TABLE").unwrap();
        assert_eq!(rows, ["Vlan1000|Ethernet8", "Vlan100|Ethernet8"]);
    }
}

#[test]
fn a_member_that_is_in_a_vrf_by_now_ends_an_older_vlanmgrd() {
    let (mut leaf, mut swss) = bridged_on(SonicRelease::R202511);
    routed(&mut leaf);
    swss.run_until_idle().unwrap();
    leaf.delete(MEMBER);
    let end = swss.run_until_idle().unwrap_err().to_string();
    assert_eq!(end, "vlanmgrd exits: bridge vlan del dev Ethernet0: rc 255, Operation not supported");
    // The container is restarted.
    swss.restart().unwrap();
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("Vrfboot"));
    assert_eq!(leaf.state.keys("VLAN_MEMBER_TABLE").unwrap(), [""; 0]);
}

#[test]
fn a_base_row_that_goes_behind_a_vlan_member_row_takes_the_port_out_of_the_bridge() {
    let mut leaf = Leaf::prepare();
    leaf.set("VLAN|Vlan100", &[("vlanid", "100")]);
    leaf.set("INTERFACE|Ethernet0", &[]);
    let mut swss = leaf.held();
    leaf.set(MEMBER, &[("tagging_mode", "untagged")]);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("Bridge"));
    leaf.delete("INTERFACE|Ethernet0");
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss), None);
    assert!(leaf.state.row("VLAN_MEMBER_TABLE", "Vlan100|Ethernet0").unwrap().is_some());
    // It cannot even be taken back.
    leaf.delete(MEMBER);
    swss.run_until_idle().unwrap();
    assert!(leaf.state.row("VLAN_MEMBER_TABLE", "Vlan100|Ethernet0").unwrap().is_some());
}

#[test]
fn a_loopback_moves_into_another_vrf_without_its_addresses_or_never() {
    for (release, moves) in [(SonicRelease::R202511, false), (SonicRelease::Head, true)] {
        let mut leaf = Leaf::prepare();
        leaf.behaviour.release = release;
        leaf.set("VRF|Vrfboot", &[]);
        leaf.set("LOOPBACK_INTERFACE|Loopback7", &[]);
        let mut swss = leaf.held();
        // intfmgrd refuses the change, but for a DEL and a SET that orchagent sees as one.
        swss.let_interfaces_wait(true);
        leaf.delete("LOOPBACK_INTERFACE|Loopback7");
        swss.run_until_idle().unwrap();
        leaf.set("LOOPBACK_INTERFACE|Loopback7", &[("vrf_name", "Vrfboot")]);
        swss.run_until_idle().unwrap();
        swss.let_interfaces_wait(false);
        swss.run_until_idle().unwrap();
        leaf.delete("VRF|Vrfboot");
        swss.run_until_idle().unwrap();
        assert_eq!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap().is_some(), moves, "{release:?}");
    }
}

#[test]
fn a_tagging_mode_that_does_not_exist_is_dropped() {
    let mut leaf = Leaf::prepare();
    leaf.set("VLAN|Vlan100", &[("vlanid", "100")]);
    leaf.set(MEMBER, &[("tagging_mode", "sometimes")]);
    let mut swss = leaf.held();
    assert_eq!(leaf.state.keys("VLAN_MEMBER_TABLE").unwrap(), [""; 0]);
    assert_eq!(master(&mut swss), None);
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
    swss.meddle_kernel(&ByHand::no_master("Ethernet0")).unwrap();
    assert_eq!(openings(&swss), [Opening::BridgePort, Opening::OutsideVrf]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    swss.run_until_idle().unwrap();
    assert!(swss.isolation_gaps()[0].closed.is_none());
    assert!(swss.isolation_gaps()[1].closed.is_some());
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
fn a_port_that_becomes_a_lag_member_while_it_is_listed_keeps_the_table_from_changing_for_all() {
    let mut leaf = Leaf::prepare();
    leaf.set("ACL_TABLE|boot", &[("type", "L3V6"), ("stage", "ingress"), ("ports@", "Ethernet0,Ethernet8")]);
    leaf.set("ACL_RULE|boot|deny", &DENY_ALL);
    let mut swss = leaf.held();
    leaf.set("PORTCHANNEL_MEMBER|PortChannel1|Ethernet8", &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Active", "nothing has asked it since");
    for ports in ["Ethernet0,Ethernet4,Ethernet8", "Ethernet8"] {
        leaf.set("ACL_TABLE|boot", &[("ports@", ports)]);
        swss.run_until_idle().unwrap();
        assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Inactive");
        for port in ["Ethernet0", "Ethernet8"] {
            assert!(!swss.rules_on(port)["boot"].is_empty(), "{port} keeps what it had");
        }
        assert!(swss.rules_on("Ethernet4").is_empty());
    }
    // orchagent still handles a rule.
    leaf.delete("ACL_RULE|boot|deny");
    swss.run_until_idle().unwrap();
    assert!(swss.rules_on("Ethernet0")["boot"].is_empty());
    leaf.set("ACL_RULE|boot|deny", &DENY_ALL);

    // Without the LAG member the others go on; but the ASIC keeps the table on the LAG member, and cannot delete it.
    leaf.set("ACL_TABLE|boot", &[("ports@", "Ethernet0,Ethernet4")]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Active");
    for port in ["Ethernet0", "Ethernet4", "Ethernet8"] {
        assert!(!swss.rules_on(port)["boot"].is_empty(), "{port}");
    }
    leaf.delete("ACL_TABLE|boot");
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Pending removal");
}

#[test]
fn a_port_in_a_vrf_does_not_become_a_lag_member_before_it_has_left_and_leaves_its_lag_for_a_vrf() {
    let mut leaf = Leaf::prepare();
    routed(&mut leaf);
    let mut swss = leaf.held();
    leaf.set("PORTCHANNEL_MEMBER|PortChannel1|Ethernet0", &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("Vrfboot"));
    assert_eq!(leaf.asic_keys(LAG_MEMBER), [""; 0]);
    leaf.delete("INTERFACE|Ethernet0|2001:db8:0:1::1/64");
    leaf.delete("INTERFACE|Ethernet0");
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("PortChannel1"));
    assert_eq!(leaf.asic_keys(LAG_MEMBER).len(), 1);

    // intfmgrd does not ask either.
    routed(&mut leaf);
    swss.run_until_idle().unwrap();
    assert_eq!(master(&mut swss).as_deref(), Some("Vrfboot"));
    assert_eq!(leaf.asic_keys(LAG_MEMBER), [""; 0]);
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
