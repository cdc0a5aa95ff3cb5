//! Tests of the model of SONiC: each breaks a rule that leafboot must respect, against a real redis-server and a kernel
//! on paper, and the model reacts as SONiC does.
//!
//! Nothing here waits for time to pass. What must come is polled for. What must *not* come is asserted after a fence:
//! later work of the same daemons that has visibly been done, and that made them try everything pending again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "sonic_model/acl.rs"]
mod acl;
#[path = "sonic_model/acl_order.rs"]
mod acl_order;
#[path = "sonic_model/drift.rs"]
mod drift;
#[path = "sonic_model/interfaces.rs"]
mod interfaces;
#[path = "sonic_model/leaf.rs"]
mod leaf;
#[path = "sonic_model/members.rs"]
mod members;
#[path = "sonic_model/restart.rs"]
mod restart;
#[path = "sonic_model/throws.rs"]
mod throws;
#[path = "sonic_model/yang.rs"]
mod yang;

use leaf::{Leaf, RIF, fields, until};
use leafboot_lab::sonic::database::Fields;

#[test]
fn a_cold_start_waits_for_config_db_forgets_the_past_and_replays_the_rows() {
    let mut leaf = Leaf::prepare();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.initialised("0");
    leaf.state.set("INTERFACE_TABLE", "Ethernet4", &fields(&[("vrf", "Vrfold")])).unwrap();
    leaf.appl.set("INTF_TABLE", "Ethernet4", &Fields::new()).unwrap();
    leaf.asic.set("ASIC_STATE", &format!("{RIF}:oid:0x6000000000001"), &Fields::new()).unwrap();
    leaf.start();

    // It asks again and again for CONFIG_DB_INITIALIZED, and "0" is no answer.
    let asked = leaf.reads_of_plain_keys();
    until("the model asks twice more", || (leaf.reads_of_plain_keys() > asked + 1).then_some(()));
    assert!(leaf.state.row("INTERFACE_TABLE", "Ethernet4").unwrap().is_some());

    leaf.initialised("1");
    until("PortInitDone", || leaf.appl.row("PORT_TABLE", "PortInitDone").unwrap());
    leaf.until_bound("Ethernet0", "Vrfboot");
    assert_eq!(leaf.state.row("INTERFACE_TABLE", "Ethernet4").unwrap(), None);
    assert_eq!(leaf.appl.row("INTF_TABLE", "Ethernet4").unwrap(), None);
    assert_eq!(leaf.state.field("PORT_TABLE", "Ethernet0", "state").unwrap().unwrap(), "ok");
    assert_eq!(leaf.state.field("PORT_TABLE", "Ethernet0", "netdev_oper_status").unwrap().unwrap(), "up");
    let rifs = leaf.asic_keys(RIF);
    assert_eq!(rifs.len(), 1, "{rifs:?}");
    assert!(leaf.config.row("INTERFACE", "Ethernet0").unwrap().is_some());
}

#[test]
fn a_port_enters_a_vrf_whatever_the_order_of_the_rows() {
    let mut leaf = Leaf::started();
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.fence();
    assert_eq!(leaf.state.row("INTERFACE_TABLE", "Ethernet0").unwrap(), None);
    let address = leaf.state.row("INTERFACE_TABLE", "Ethernet0|2001:db8:0:1::1/64");
    assert_eq!(address.unwrap(), None);

    leaf.set("VRF|Vrfboot", &[]);
    leaf.until_bound("Ethernet0", "Vrfboot");
    leaf.until_routed("2001:db8:0:1::1/128");
    assert_eq!(leaf.state.field("VRF_TABLE", "Vrfboot", "state").unwrap().unwrap(), "ok");
    assert_eq!(leaf.state.field("VRF_OBJECT_TABLE", "Vrfboot", "state").unwrap().unwrap(), "ok");
    let address = leaf.state.field("INTERFACE_TABLE", "Ethernet0|2001:db8:0:1::1/64", "state");
    assert_eq!(address.unwrap().unwrap(), "ok");

    let rif = leaf.rif("Ethernet0").unwrap();
    assert_eq!(rif["SAI_ROUTER_INTERFACE_ATTR_TYPE"], "SAI_ROUTER_INTERFACE_TYPE_PORT");
    let virtual_router = &rif["SAI_ROUTER_INTERFACE_ATTR_VIRTUAL_ROUTER_ID"];
    assert!(leaf.asic_keys("SAI_OBJECT_TYPE_VIRTUAL_ROUTER").iter().any(|key| key.ends_with(virtual_router)));
}

#[test]
fn an_empty_row_is_null_null_and_means_no_field_to_every_daemon() {
    let mut leaf = Leaf::started();
    // VRFOrch would drop a VRF row with a field that it does not know.
    leaf.set("VRF|Vrfboot", &[]);
    assert_eq!(leaf.raw("VRF|Vrfboot"), fields(&[("NULL", "NULL")]));
    until("the object", || leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap());
    leaf.set("INTERFACE|Ethernet0", &[]);
    leaf.until_bound("Ethernet0", "");
}

#[test]
fn a_vrf_row_with_an_unknown_field_gets_a_device_but_never_an_object() {
    let mut leaf = Leaf::started();
    leaf.set("VRF|Vrfodd", &[("owner", "leafboot")]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfodd")]);
    until("the device", || leaf.state.row("VRF_TABLE", "Vrfodd").unwrap());
    until("the binding", || leaf.state.row("INTERFACE_TABLE", "Ethernet0").unwrap());
    leaf.fence();
    assert_eq!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfodd").unwrap(), None);
    assert_eq!(leaf.rif("Ethernet0"), None);

    // And since there is no object, its deletion waits for ever.
    leaf.delete("VRF|Vrfodd");
    leaf.fence();
    assert!(leaf.state.row("VRF_TABLE", "Vrfodd").unwrap().is_some());
}

#[test]
fn a_vrf_whose_name_does_not_begin_with_vrf_is_never_ready() {
    let mut leaf = Leaf::started();
    leaf.set("VRF|boot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "boot")]);
    until("the object", || leaf.state.row("VRF_OBJECT_TABLE", "boot").unwrap());
    leaf.fence();
    assert_eq!(leaf.state.row("INTERFACE_TABLE", "Ethernet0").unwrap(), None);
}

#[test]
fn a_change_of_vrf_name_is_dropped_for_good() {
    let mut leaf = Leaf::started();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[]);
    leaf.until_bound("Ethernet0", "");

    // From no VRF into one counts as a change.
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.fence();
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "");

    // The row is not applied when the obstacle is gone: intfmgrd has dropped it.
    leaf.state.delete("INTERFACE_TABLE", "Ethernet0").unwrap();
    leaf.fence();
    assert_eq!(leaf.state.row("INTERFACE_TABLE", "Ethernet0").unwrap(), None);
}

#[test]
fn an_interface_row_is_not_deleted_before_its_addresses_and_a_set_behind_it_is_lost() {
    let mut leaf = Leaf::started();
    leaf.set("VRF|Vrfa", &[]);
    leaf.set("VRF|Vrfb", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfa")]);
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
    leaf.until_bound("Ethernet0", "Vrfa");
    leaf.until_routed("2001:db8:0:1::1/128");

    leaf.delete("INTERFACE|Ethernet0");
    leaf.fence();
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "Vrfa");
    assert!(leaf.rif("Ethernet0").is_some());

    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfb")]);
    leaf.fence();
    leaf.delete("INTERFACE|Ethernet0|2001:db8:0:1::1/64");
    leaf.until_unbound("Ethernet0");
    leaf.fence();
    assert_eq!(leaf.state.row("INTERFACE_TABLE", "Ethernet0").unwrap(), None, "CONFIG_DB's row was lost");

    // A new write of the row works.
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfb")]);
    leaf.until_bound("Ethernet0", "Vrfb");
}

#[test]
fn a_delete_and_set_too_close_together_leaves_the_router_interface_in_the_old_vrf() {
    let mut leaf = Leaf::prepare();
    leaf.initialised("1");
    leaf.start_with_delay(100);
    leaf.set("VRF|Vrfa", &[]);
    leaf.set("VRF|Vrfb", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfa")]);
    leaf.until_bound("Ethernet0", "Vrfa");
    leaf.fence();
    let before = leaf.rif("Ethernet0").unwrap();

    redis::pipe()
        .atomic()
        .del("INTERFACE|Ethernet0")
        .hset("INTERFACE|Ethernet0", "vrf_name", "Vrfb")
        .exec(leaf.config.connection())
        .unwrap();
    until("the new binding", || {
        let vrf = leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap();
        (vrf.as_deref() == Some("Vrfb")).then_some(())
    });
    leaf.fence();
    assert_eq!(leaf.rif("Ethernet0").unwrap(), before, "STATE_DB says Vrfb, the ASIC still has Vrfa");
}

#[test]
fn overlapping_prefixes_in_one_vrf_are_retried_until_the_other_is_gone() {
    let mut leaf = Leaf::started();
    leaf.set("VRF|Vrfboot", &[]);
    for port in ["Ethernet0", "Ethernet4"] {
        leaf.set(&format!("INTERFACE|{port}"), &[("vrf_name", "Vrfboot")]);
        leaf.until_bound(port, "Vrfboot");
    }
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
    leaf.until_routed("2001:db8:0:1::1/128");
    // Only one of them contains the other's address.
    leaf.set("INTERFACE|Ethernet4|2001:db8::1/32", &[]);
    until("STATE_DB says ok", || leaf.state.row("INTERFACE_TABLE", "Ethernet4|2001:db8::1/32").unwrap());
    leaf.fence();
    assert!(!leaf.is_routed("2001:db8::1/128"));

    // Another VRF accepts the same prefix.
    leaf.set("INTERFACE|Ethernet8", &[]);
    leaf.set("INTERFACE|Ethernet8|2001:db8:0:1::2/64", &[]);
    leaf.until_routed("2001:db8:0:1::2/128");

    leaf.delete("INTERFACE|Ethernet0|2001:db8:0:1::1/64");
    leaf.until_routed("2001:db8::1/128");

    // And the other way round: the new prefix lies inside the old one.
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::3/64", &[]);
    leaf.fence();
    assert!(!leaf.is_routed("2001:db8:0:1::3/128"));
}

#[test]
fn a_router_interface_goes_after_its_addresses() {
    let mut leaf = Leaf::prepare();
    leaf.initialised("1");
    // So slow that orchagent sees the interface and its address go at once, the interface first.
    leaf.start_with_delay(1200);
    leaf.set("INTERFACE|Ethernet0", &[]);
    leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
    leaf.until_routed("2001:db8:0:1::1/128");
    leaf.delete("INTERFACE|Ethernet0");
    leaf.delete("INTERFACE|Ethernet0|2001:db8:0:1::1/64");
    leaf.until_unbound("Ethernet0");
    assert!(!leaf.is_routed("2001:db8:0:1::1/128"));
}

#[test]
fn a_vrf_goes_after_its_last_router_interface() {
    let mut leaf = Leaf::started();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.until_bound("Ethernet0", "Vrfboot");

    leaf.delete("VRF|Vrfboot");
    until("vrfmgrd lets go", || leaf.state.row("VRF_TABLE", "Vrfboot").unwrap().is_none().then_some(()));
    leaf.fence();
    assert!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap().is_some());

    leaf.delete("INTERFACE|Ethernet0");
    until("orchagent lets go", || {
        leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap().is_none().then_some(())
    });
    assert_eq!(leaf.asic_keys("SAI_OBJECT_TYPE_VIRTUAL_ROUTER").len(), 2, "the default one and the fence's");
}

#[test]
fn a_vrf_written_again_behind_its_pending_delete_is_deleted_all_the_same() {
    let mut leaf = Leaf::started();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.until_bound("Ethernet0", "Vrfboot");
    leaf.delete("VRF|Vrfboot");
    leaf.fence();
    leaf.set("VRF|Vrfboot", &[]);
    until("vrfmgrd takes it", || leaf.state.row("VRF_TABLE", "Vrfboot").unwrap());
    leaf.fence();
    assert_eq!(leaf.state.row("VRF_TABLE", "Vrfboot").unwrap(), None, "the old DEL came back");

    leaf.delete("INTERFACE|Ethernet0");
    until("orchagent lets go", || {
        leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap().is_none().then_some(())
    });
    leaf.fence();
    assert_eq!(leaf.state.row("VRF_TABLE", "Vrfboot").unwrap(), None);
    assert_eq!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap(), None);
    assert!(leaf.config.row("VRF", "Vrfboot").unwrap().is_some(), "CONFIG_DB's row was lost");
}

#[test]
fn a_flushed_config_db_is_not_noticed() {
    let mut leaf = Leaf::started();
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    leaf.until_bound("Ethernet0", "Vrfboot");
    leaf.config.flush().unwrap();
    leaf.fence();
    assert_eq!(leaf.state.field("INTERFACE_TABLE", "Ethernet0", "vrf").unwrap().unwrap(), "Vrfboot");
    assert!(leaf.rif("Ethernet0").is_some());
    assert!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap().is_some());
}

#[test]
fn rows_for_other_interfaces_than_ports_do_no_harm() {
    let mut leaf = Leaf::started();
    for key in ["Vlan100", "PortChannel1", "Loopback0", "Loopback0|not an address", "a|b|c"] {
        leaf.set(&format!("INTERFACE|{key}"), &[]);
    }
    leaf.fence();
    assert_eq!(leaf.state.row("INTERFACE_TABLE", "Vlan100").unwrap(), None);
}
