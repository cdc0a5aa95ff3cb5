//! ACLs in the model's aclorch and caclmgrd, and the isolation gap that an ACL closes.
//!
//! Owns: those tests. Must never: run the model on a thread of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use leafboot_lab::sonic::Swss;
use leafboot_lab::sonic::isolation::{Opening, Watch};

use crate::leaf::{Leaf, until};

const TABLE: &str = "ACL_TABLE|boot";
const DENY: &str = "ACL_RULE|boot|deny";
const DENY_ALL: [(&str, &str); 3] = [("PRIORITY", "1"), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];

fn table(ports: &str) -> [(&str, &str); 4] {
    [("policy_desc", "boot"), ("type", "L3V6"), ("stage", "ingress"), ("ports@", ports)]
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// The rules of the boot ACL on a port, or nothing if it is not bound there.
fn rules_on(swss: &Swss, port: &str) -> Option<BTreeSet<String>> {
    swss.rules_on(port).remove("boot")
}

/// A leaf with the boot ACL on Ethernet0, and its deny rule.
fn guarded() -> (Leaf, Swss) {
    let mut leaf = Leaf::prepare();
    leaf.set(TABLE, &table("Ethernet0"));
    leaf.set(DENY, &DENY_ALL);
    let swss = leaf.held();
    assert_eq!(rules_on(&swss, "Ethernet0"), Some(names(&["deny"])));
    (leaf, swss)
}

#[test]
fn a_table_and_its_rule_are_enforced_on_its_ports_and_state_db_says_so() {
    let (mut leaf, swss) = guarded();
    assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Active");
    assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|deny").unwrap(), "Active");
    assert_eq!(rules_on(&swss, "Ethernet4"), None);

    // An agent finds the rule from the port in this way.
    let port = leaf.counters.field("COUNTERS_PORT_NAME_MAP", "", "Ethernet0").unwrap().unwrap();
    let group =
        leaf.asic.field("ASIC_STATE", &format!("SAI_OBJECT_TYPE_PORT:{port}"), "SAI_PORT_ATTR_INGRESS_ACL");
    let group = group.unwrap().unwrap();
    let members = leaf.asic_keys("SAI_OBJECT_TYPE_ACL_TABLE_GROUP_MEMBER");
    let member = leaf.asic.row("ASIC_STATE", &members[0]).unwrap().unwrap();
    assert_eq!(member["SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_GROUP_ID"], group);
    let counter = leaf.counters.field("ACL_COUNTER_RULE_MAP", "", "boot:deny").unwrap().unwrap();
    let entries = leaf.asic_keys("SAI_OBJECT_TYPE_ACL_ENTRY");
    let entry = leaf.asic.row("ASIC_STATE", &entries[0]).unwrap().unwrap();
    assert_eq!(entry["SAI_ACL_ENTRY_ATTR_ACTION_COUNTER"], counter);
    assert_eq!(entry["SAI_ACL_ENTRY_ATTR_TABLE_ID"], member["SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_ID"]);
}

#[test]
fn a_table_with_an_unknown_field_is_inactive_and_null_is_one() {
    let mut leaf = Leaf::prepare();
    let mut swss = leaf.held();
    for odd in [("owner", "leafboot"), ("NULL", "NULL")] {
        let mut row = table("Ethernet0").to_vec();
        row.push(odd);
        leaf.set(TABLE, &row);
        swss.run_until_idle().unwrap();
        assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Inactive", "{odd:?}");
        assert_eq!(rules_on(&swss, "Ethernet0"), None);
        leaf.delete(TABLE);
        swss.run_until_idle().unwrap();
        assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot"), None);
    }
}

#[test]
fn a_rule_waits_for_its_table_and_state_db_is_silent_about_it() {
    let mut leaf = Leaf::prepare();
    leaf.set(DENY, &DENY_ALL);
    let mut swss = leaf.held();
    assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|deny"), None);
    leaf.set(TABLE, &table("Ethernet0"));
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|deny").unwrap(), "Active");
}

#[test]
fn a_bad_rule_is_inactive_and_stays_so_until_it_is_written_again() {
    let (mut leaf, mut swss) = guarded();
    let bad: [&[(&str, &str)]; 3] = [
        &[("PRIORITY", "9"), ("PACKET_ACTION", "FORWARD"), ("NEXT_HEADER", "58")],
        &[("PACKET_ACTION", "FORWARD"), ("IP_PROTOCOL", "58")],
        &[("PRIORITY", "9"), ("PACKET_ACTION", "FORWARD"), ("IP_PROTOCOL", "58"), ("owner", "leafboot")],
    ];
    for row in bad {
        leaf.set("ACL_RULE|boot|nd", row);
        swss.run_until_idle().unwrap();
        assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|nd").unwrap(), "Inactive", "{row:?}");
        assert_eq!(rules_on(&swss, "Ethernet0"), Some(names(&["deny"])));
        leaf.delete("ACL_RULE|boot|nd");
        swss.run_until_idle().unwrap();
        assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|nd"), None);
    }
    let good =
        [("PRIORITY", "9"), ("PACKET_ACTION", "FORWARD"), ("IP_PROTOCOL", "58"), ("ICMPV6_TYPE", "135")];
    leaf.set("ACL_RULE|boot|nd", &good);
    swss.run_until_idle().unwrap();
    assert_eq!(rules_on(&swss, "Ethernet0"), Some(names(&["deny", "nd"])));
}

#[test]
fn a_change_of_ports_keeps_the_rules_and_a_change_of_type_loses_them() {
    let (mut leaf, mut swss) = guarded();
    leaf.set(TABLE, &[("ports@", "Ethernet0,Ethernet4,Ethernet100")]);
    swss.run_until_idle().unwrap();
    for port in ["Ethernet0", "Ethernet4"] {
        assert_eq!(rules_on(&swss, port), Some(names(&["deny"])), "{port}");
    }
    assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot").unwrap(), "Active", "an unknown port is only pending");

    leaf.set(TABLE, &[("ports@", "Ethernet4")]);
    swss.run_until_idle().unwrap();
    assert_eq!(rules_on(&swss, "Ethernet0"), None);
    assert_eq!(rules_on(&swss, "Ethernet4"), Some(names(&["deny"])));

    leaf.set(TABLE, &[("stage", "egress")]);
    swss.run_until_idle().unwrap();
    assert_eq!(rules_on(&swss, "Ethernet4"), None, "nothing is enforced on ingress");
    leaf.set(TABLE, &[("stage", "ingress")]);
    swss.run_until_idle().unwrap();
    assert_eq!(rules_on(&swss, "Ethernet4"), Some(names(&[])), "bound, and lets everything pass");
    assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|deny").unwrap(), "Active", "STATE_DB was not told");
    leaf.set(DENY, &DENY_ALL);
    swss.run_until_idle().unwrap();
    assert_eq!(rules_on(&swss, "Ethernet4"), Some(names(&["deny"])));
}

#[test]
fn a_restart_brings_an_acl_back() {
    let (mut leaf, mut swss) = guarded();
    swss.restart().unwrap();
    assert_eq!(rules_on(&swss, "Ethernet0"), None);
    assert_eq!(leaf.status("ACL_TABLE_TABLE", "boot"), None);
    assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|deny"), None);
    swss.run_until_idle().unwrap();
    assert_eq!(rules_on(&swss, "Ethernet0"), Some(names(&["deny"])));
}

#[test]
fn caclmgrd_rebuilds_the_firewall_at_every_table_event_and_dies_of_a_rule_without_a_table() {
    let (mut leaf, mut swss) = guarded();
    let before = swss.host_firewall().clone();
    leaf.set(TABLE, &[("ports@", "Ethernet0,Ethernet4")]);
    swss.run_until_idle().unwrap();
    assert_eq!(swss.host_firewall().rebuilds, before.rebuilds + 1);
    leaf.set("ACL_RULE|boot|more", &DENY_ALL);
    swss.run_until_idle().unwrap();
    assert_eq!(
        swss.host_firewall().rebuilds,
        before.rebuilds + 1,
        "a rule of the data plane is not its business"
    );
    assert!(swss.host_firewall().deaths.is_empty());

    // The order is right, but the test did not wait in between.
    leaf.delete("ACL_RULE|boot|more");
    leaf.delete(DENY);
    leaf.delete(TABLE);
    swss.run_until_idle().unwrap();
    let deaths = &swss.host_firewall().deaths;
    assert!(deaths.first().is_some_and(|death| death.starts_with("KeyError: 'boot'")), "{deaths:?}");
}

#[test]
fn caclmgrd_dies_of_half_a_table() {
    let mut leaf = Leaf::prepare();
    let mut swss = leaf.held();
    leaf.set(TABLE, &[("policy_desc", "boot")]);
    swss.run_until_idle().unwrap();
    assert!(!swss.host_firewall().deaths.is_empty());
}

fn watch(swss: &mut Swss, rules: &[&str]) {
    let rules = names(rules);
    swss.watch_isolation(Watch { vrf: "Vrfboot".to_owned(), acl_table: "boot".to_owned(), rules });
}

/// The ways in which a port was open, in the order in which they were seen.
fn openings(swss: &Swss, port: &str) -> Vec<Opening> {
    swss.isolation_gaps().iter().filter(|gap| gap.port == port).map(|gap| gap.opening).collect()
}

#[test]
fn a_port_that_enters_behind_its_acl_and_leaves_before_it_has_no_gap() {
    let (mut leaf, mut swss) = guarded();
    watch(&mut swss, &["deny"]);
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
    swss.run_until_idle().unwrap();
    assert!(leaf.rif("Ethernet0").is_some());
    leaf.delete("INTERFACE|Ethernet0|2001:db8:0:1::1/64");
    leaf.delete("INTERFACE|Ethernet0");
    swss.run_until_idle().unwrap();
    leaf.set(TABLE, &table("Ethernet4"));
    swss.run_until_idle().unwrap();
    assert_eq!(swss.isolation_gaps(), []);
}

#[test]
fn every_shortcut_is_a_gap() {
    let (mut leaf, mut swss) = guarded();
    leaf.set("VRF|Vrfboot", &[]);
    swss.run_until_idle().unwrap();
    watch(&mut swss, &["deny"]);

    // All at once: the address is there before orchagent has looked at the ACL.
    leaf.set(TABLE, &[("ports@", "Ethernet0,Ethernet4")]);
    leaf.set("INTERFACE|Ethernet4", &[("vrf_name", "Vrfboot")]);
    leaf.set("INTERFACE|Ethernet4|2001:db8:0:4::1/64", &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(openings(&swss, "Ethernet4"), [Opening::KernelAddress]);
    assert!(swss.isolation_gaps().iter().all(|gap| gap.closed.is_some() && !gap.in_replay));

    // Out of the ACL together with the address: the ASIC is the slower one.
    watch(&mut swss, &["deny"]);
    leaf.delete("INTERFACE|Ethernet4|2001:db8:0:4::1/64");
    leaf.delete("INTERFACE|Ethernet4");
    leaf.set(TABLE, &[("ports@", "Ethernet0")]);
    swss.run_until_idle().unwrap();
    assert_eq!(openings(&swss, "Ethernet4"), [Opening::RouterInterface]);

    // The deny rule written again: for a moment it is gone.
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
    swss.run_until_idle().unwrap();
    watch(&mut swss, &["deny"]);
    leaf.set(DENY, &DENY_ALL);
    swss.run_until_idle().unwrap();
    assert_eq!(openings(&swss, "Ethernet0"), [Opening::KernelAddress, Opening::RouterInterface]);

    assert!(swss.isolation_gaps().iter().all(|gap| gap.closed_at.is_some_and(|at| at >= gap.opened_at)));
    let before = swss.longest_gap();
    assert_eq!(swss.longest_gap(), before, "a closed gap does not grow");

    // A rule that is missing all the time.
    watch(&mut swss, &["deny", "no-ra"]);
    assert_eq!(swss.longest_gap(), Duration::ZERO);
    leaf.set(DENY, &DENY_ALL);
    swss.run_until_idle().unwrap();
    assert!(swss.isolation_gaps().iter().all(|gap| gap.closed.is_none() && gap.closed_at.is_none()));
    let before = swss.longest_gap();
    until("it grows", || (swss.longest_gap() > before).then_some(()));
}

#[test]
fn a_gap_of_the_replay_is_told_from_one_of_the_agent() {
    let (mut leaf, mut swss) = guarded();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
    swss.run_until_idle().unwrap();
    watch(&mut swss, &["deny"]);
    swss.restart().unwrap();
    swss.run_until_idle().unwrap();
    assert_eq!(openings(&swss, "Ethernet0"), [Opening::KernelAddress]);
    assert!(swss.isolation_gaps().iter().all(|gap| gap.in_replay && gap.closed.is_some()));

    leaf.set(DENY, &DENY_ALL);
    swss.run_until_idle().unwrap();
    assert!(swss.isolation_gaps().last().is_some_and(|gap| !gap.in_replay));
}

#[test]
fn step_by_step_the_replay_ends_too() {
    let (mut leaf, mut swss) = guarded();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
    watch(&mut swss, &["deny"]);
    swss.restart().unwrap();
    let mut step = |leaf: &mut Leaf| {
        leaf.set(DENY, &DENY_ALL);
        swss.run_once(Duration::from_millis(50)).unwrap();
        swss.isolation_gaps().last().map(|gap| gap.in_replay)
    };
    assert!(until("a gap", || step(&mut leaf)));
    until("a gap after the replay", || (step(&mut leaf) == Some(false)).then_some(()));
}

#[test]
fn an_interface_may_overtake_the_acl_that_was_to_guard_it() {
    let (mut leaf, mut swss) = guarded();
    watch(&mut swss, &["deny"]);
    swss.let_acls_wait(true);
    leaf.set(TABLE, &[("ports@", "Ethernet0,Ethernet4")]);
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet4", &[("vrf_name", "Vrfboot")]);
    swss.run_until_idle().unwrap();
    assert_eq!(openings(&swss, "Ethernet4"), [Opening::RouterInterface]);
    swss.let_acls_wait(false);
    swss.run_until_idle().unwrap();
    assert!(swss.isolation_gaps().iter().all(|gap| gap.closed.is_some()));
}
