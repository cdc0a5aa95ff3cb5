//! Observe, plan and apply on a real redis-server against the laboratory's model of SONiC. A port enters, stays in and leaves the
//! boot VRF in SONiC's order, and unmanaged rows do not change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "redis/acl.rs"]
mod acl;
#[path = "redis/bench.rs"]
mod bench;
#[path = "redis/commands.rs"]
mod commands;
#[path = "redis/reads.rs"]
mod reads;
mod support;

use std::collections::BTreeSet;

use bench::{A, B, Bench, desired};
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::settings::Settings;
use leafboot_lab::sonic::yang::{self, Release};
use support::eventually;
use support::switch::CONFIG_DB;

#[test]
fn a_port_is_taken_and_given_back_in_sonics_order() {
    let mut bench = Bench::start();
    let before = bench.switch.dump(CONFIG_DB);
    let steps = bench.settle(&desired(&[("Ethernet0", A)]));
    let list = "set ACL_TABLE|LEAFBOOT policy_desc=machines that boot (leafboot) ports@";
    let of_the_acl = |step: &&String| step.starts_with("set ACL_RULE|LEAFBOOT|");
    assert!(steps.iter().filter(of_the_acl).count() > 8, "{steps:?}");
    assert_eq!(
        steps.iter().filter(|step| !of_the_acl(step)).collect::<Vec<_>>(),
        [
            &format!("{list}= stage=ingress type=L3V6"),
            "set VRF|Vrfboot",
            &format!("{list}=Ethernet0 stage=ingress type=L3V6"),
            "set INTERFACE|Ethernet0 vrf_name=Vrfboot",
            "set INTERFACE|Ethernet0|2001:db8:b007:1::1/64",
        ]
    );
    for release in Release::ALL {
        assert_eq!(yang::check(release, &bench.switch.config_rows()), Vec::<String>::new(), "{release:?}");
    }
    let rows = bench.switch.dump(CONFIG_DB);
    assert!(rows.contains("VRF|Vrfboot: NULL NULL"), "{rows}");
    assert!(rows.contains("INTERFACE|Ethernet0: vrf_name Vrfboot"), "{rows}");
    assert!(rows.contains("INTERFACE|Ethernet0|2001:db8:b007:1::1/64: NULL NULL"), "{rows}");
    assert!(bench.settle(&desired(&[("Ethernet0", A)])).is_empty(), "a second plan is empty");

    let steps = bench.settle(&desired(&[]));
    assert_eq!(
        steps,
        [
            "delete ACL_RULE|LEAFBOOT|GATEWAY_ETHERNET0",
            "delete ACL_RULE|LEAFBOOT|GATEWAY_ICMPV6_ETHERNET0",
            "delete INTERFACE|Ethernet0|2001:db8:b007:1::1/64",
            "delete INTERFACE|Ethernet0",
            &format!("{list}= stage=ingress type=L3V6"),
        ]
    );
    let port = bench.observe().ports[&"Ethernet0".parse().unwrap()].clone();
    assert!(port.bound_vrf.is_none() && !port.router_interface, "{port:?}");
    let after = bench.switch.dump(CONFIG_DB);
    let is_shared = |row: &&str| row.starts_with("VRF|Vrfboot: ") || row.contains("|LEAFBOOT");
    let others: String = after.lines().filter(|row| !is_shared(row)).map(|row| format!("{row}\n")).collect();
    assert_eq!(others, before, "unmanaged rows are as they were, and only VRF and ACL stay");
}

#[test]
fn a_port_gets_another_prefix_and_two_ports_swap_theirs() {
    let mut bench = Bench::start();
    bench.settle(&desired(&[("Ethernet0", A), ("Ethernet4", B)]));
    bench.settle(&desired(&[("Ethernet0", B), ("Ethernet4", A)]));
    let observed = bench.observe();
    for (port, prefix) in [("Ethernet0", B), ("Ethernet4", A)] {
        let port = &observed.ports[&port.parse().unwrap()];
        assert_eq!(port.bound_addresses, BTreeSet::from([prefix.parse().unwrap()]));
        assert!(port.router_interface);
    }
}

#[test]
fn a_tenants_port_is_taken_by_a_push_and_by_no_memory() {
    let mut bench = Bench::start();
    bench.switch.cli(CONFIG_DB, &["HSET", "INTERFACE|Ethernet0", "vrf_name", "VrfTenant"]);
    let tenant = "Ethernet0".parse().unwrap();
    eventually("the tenant's port is bound", || bench.observe().ports[&tenant].router_interface);
    // A restored document deletes no unmanaged row.
    let wish = Desired { provenance: Provenance::Restored, ..desired(&[("Ethernet0", A), ("Ethernet4", B)]) };
    eventually("the other port is served", || {
        let (plan, _) = bench.pass(&wish);
        plan.unchanged.len() == 1 && plan.steps.is_empty()
    });
    let row = bench.switch.cli(CONFIG_DB, &["HGETALL", "INTERFACE|Ethernet0"]);
    assert_eq!(row, "vrf_name\nVrfTenant\n");

    // A push does: the tenant's rows on this port go, in order.
    let steps = bench.settle(&Desired { provenance: Provenance::Pushed, ..wish });
    assert_eq!(steps.first().map(String::as_str), Some("delete INTERFACE|Ethernet0"), "{steps:?}");
    assert_eq!(bench.observe().ports[&tenant].bound_vrf.as_deref(), Some("Vrfboot"));
    assert!(
        bench.switch.dump(CONFIG_DB).contains("VRF|VrfTenant: NULL NULL"),
        "the tenant's VRF is not ours"
    );
}

#[test]
fn a_dropped_vrf_change_is_found_and_healed() {
    let mut bench = Bench::start();
    let port = "Ethernet0".parse().unwrap();
    bench.switch.cli(CONFIG_DB, &["HSET", "INTERFACE|Ethernet0", "vrf_name", "VrfTenant"]);
    eventually("the tenant's port is bound", || bench.observe().ports[&port].router_interface);
    // Another program writes leafboot's row over a live one. intfmgrd ignores it, and CONFIG_DB looks right.
    bench.switch.cli(CONFIG_DB, &["HSET", "INTERFACE|Ethernet0", "vrf_name", "Vrfboot"]);
    let steps = bench.settle(&desired(&[("Ethernet0", A)]));
    assert!(steps.contains(&"delete INTERFACE|Ethernet0".to_owned()), "{steps:?}");
    assert_eq!(bench.observe().ports[&port].bound_vrf.as_deref(), Some("Vrfboot"));
}

#[test]
fn rows_that_were_deleted_by_hand_come_back() {
    let mut bench = Bench::start();
    let wish = desired(&[("Ethernet0", A)]);
    let port = "Ethernet0".parse().unwrap();
    for row in ["INTERFACE|Ethernet0|2001:db8:b007:1::1/64", "INTERFACE|Ethernet0"] {
        bench.settle(&wish);
        bench.switch.cli(CONFIG_DB, &["DEL", row]);
        bench.settle(&wish);
        let healed = bench.observe().ports[&port].clone();
        assert_eq!(healed.bound_addresses, BTreeSet::from([A.parse().unwrap()]), "{row}");
    }
}

#[test]
fn the_anycast_address_is_taken_healed_moved_and_retired() {
    let mut bench = Bench::start();
    let file = support::agent::settings(&bench.switch);
    let text = std::fs::read_to_string(&file).unwrap();
    let set = |bench: &mut Bench, anycast: &str| {
        let text = text.replace("protected", &format!("anycast = \"{anycast}\"\nprotected"));
        bench.settings = Settings::parse(&text).unwrap();
        support::agent::write(&file, &text);
    };
    set(&mut bench, "2001:db8:ffff:1::1/127");
    let wish = desired(&[("Ethernet0", A)]);
    let steps = bench.settle(&wish);
    let base = "set LOOPBACK_INTERFACE|Loopback64 vrf_name=Vrfboot".to_owned();
    let address = "set LOOPBACK_INTERFACE|Loopback64|2001:db8:ffff:1::1/127".to_owned();
    let at = |step: &String| steps.iter().position(|found| found == step).expect("a step");
    assert!(at(&"set VRF|Vrfboot".to_owned()) < at(&base) && at(&base) < at(&address), "{steps:?}");
    assert!(steps.iter().any(|step| step.contains("RELAY_ANYCAST_0 DST_IPV6=2001:db8:ffff:1::1/128")));
    for release in Release::ALL {
        assert_eq!(yang::check(release, &bench.switch.config_rows()), Vec::<String>::new(), "{release:?}");
    }
    for row in ["LOOPBACK_INTERFACE|Loopback64", "LOOPBACK_INTERFACE|Loopback64|2001:db8:ffff:1::1/127"] {
        bench.switch.cli(CONFIG_DB, &["DEL", row]);
        bench.settle(&wish);
        assert!(bench.switch.config_rows().contains_key(row), "{row}");
    }
    set(&mut bench, "2001:db8:ffff:2::1/127");
    bench.settle(&wish);
    let bound = bench.observe().loopback.bound_addresses;
    assert_eq!(bound, BTreeSet::from(["2001:db8:ffff:2::1/127".to_owned()]));

    bench.settle(&desired(&[]));
    assert!(bench.switch.dump(CONFIG_DB).contains("Loopback64"), "a release is not a retirement");
    let retired = support::agent::leafboot(&["retire", "--config", file.to_str().unwrap(), "--wait", "20s"]);
    assert!(retired.status.success(), "{}", String::from_utf8_lossy(&retired.stderr));
    for database in [CONFIG_DB, "6"] {
        let rows = bench.switch.dump(database);
        assert!(!rows.contains("Loopback64") && !rows.contains("Vrfboot"), "{rows}");
    }
}
