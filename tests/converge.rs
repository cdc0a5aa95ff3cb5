//! Property: leafboot reaches the last push from any state of the switch, in SONiC's order. Meanwhile the agent is killed at any
//! point, swss restarts, CONFIG_DB is flushed and loaded from an older save, and rows are deleted by hand. No unmanaged row
//! changes, and no port is ever in the boot VRF without the boot ACL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "converge/event.rs"]
mod event;
#[path = "converge/rows.rs"]
mod rows;
mod support;
#[path = "converge/world.rs"]
mod world;

use event::{Before, Drift, Event, Meddling};
use leafboot_core::names::PortName;
use leafboot_core::observed::Links;
use leafboot_core::port_role;
use leafboot_lab::sonic::yang::{self, Release};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use world::{PORTS, World, own_gaps};

fn rows_before() -> impl Strategy<Value = [Before; 4]> {
    let before = prop_oneof![
        3 => Just(Before::Nothing),
        1 => Just(Before::Tenant),
        1 => Just(Before::TenantAddress),
        1 => Just(Before::AddressOnly),
        1 => Just(Before::PxeVlan),
        1 => Just(Before::OurBaseOnly),
        1 => Just(Before::OursStale),
    ];
    [before.clone(), before.clone(), before.clone(), before]
}

fn wishes() -> impl Strategy<Value = [Option<u8>; 4]> {
    let wish = proptest::option::weighted(0.6, 1u8..6);
    [wish.clone(), wish.clone(), wish.clone(), wish]
}

fn meddlings() -> impl Strategy<Value = Meddling> {
    prop_oneof![
        Just(Meddling::StageAndBack),
        Just(Meddling::OtherType),
        Just(Meddling::StrangeField),
        Just(Meddling::TableGone),
        Just(Meddling::RulesGone),
        Just(Meddling::RuleNarrowed),
        Just(Meddling::RuleHalved),
        Just(Meddling::RuleExtended),
    ]
}

fn drifts() -> impl Strategy<Value = Drift> {
    prop_oneof![
        (0usize..4).prop_map(Drift::NoMaster),
        (0usize..4).prop_map(Drift::NoAddress),
        Just(Drift::VrfDown),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => wishes().prop_map(Event::Push),
        8 => Just(Event::Pass),
        4 => Just(Event::Sonic),
        4 => Just(Event::SonicStep),
        2 => any::<bool>().prop_map(Event::AclsWait),
        2 => Just(Event::Kill),
        1 => Just(Event::RestartSwss),
        1 => Just(Event::Save),
        1 => Just(Event::Reload),
        1 => (0usize..5, any::<bool>()).prop_map(|(port, base)| Event::Delete(port, base)),
        1 => Just(Event::DeleteVrf),
        2 => meddlings().prop_map(Event::Meddle),
        3 => drifts().prop_map(Event::Drift),
        1 => Just(Event::ReloadWithoutRestart),
        1 => (0usize..4, any::<bool>()).prop_map(|(port, joins)| Event::Lag(port, joins)),
        1 => any::<u8>().prop_map(Event::RefusedPass),
    ];
    proptest::collection::vec(event, 0..40)
}

/// CI tries the same cases each time. `CONVERGE_CASES=500 cargo test --test converge` tries 500 random ones.
fn runs() -> ProptestConfig {
    let cases =
        std::env::var("CONVERGE_CASES").ok().map(|cases| cases.parse().expect("CONVERGE_CASES is a number"));
    ProptestConfig {
        cases: cases.unwrap_or(48),
        rng_seed: if cases.is_some() { RngSeed::Random } else { RngSeed::Fixed(20) },
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(runs())]

    #[test]
    fn the_last_push_is_reached_from_everywhere(
        before in rows_before(),
        events in events(),
        last in proptest::option::weighted(0.6, wishes()),
    ) {
        let mut world = World::new(&before);
        for event in &events {
            world.happen(event);
        }
        // Half of metal-core's pushes repeat the last document.
        world.push_again(last.as_ref());
        let unmanaged = world.unmanaged();
        world.settle();

        let desired = world.desired.clone().unwrap();
        let plan = world.pass();
        prop_assert!(plan.steps.is_empty(), "a second plan is empty: {plan}");
        prop_assert_eq!(plan.unchanged.len(), desired.ports.len());
        prop_assert_eq!(&world.unmanaged(), &unmanaged);
        let links = world.links().ports;
        for port in PORTS {
            let port: PortName = port.parse().unwrap();
            let in_boot = port_role::is_in(&links[&port], &world.settings.boot.vrf);
            prop_assert_eq!(in_boot, desired.ports.contains_key(&port), "{}", port);
        }
        let own = own_gaps(&world, &before);
        let in_ms: Vec<_> = own.iter().map(|gap| (gap.duration().as_millis(), gap)).collect();
        prop_assert!(own.is_empty(), "isolation gaps, in milliseconds: {in_ms:?}");
        let deaths = &world.swss.host_firewall().deaths;
        prop_assert!(deaths.is_empty() || world.is_orphaned, "caclmgrd died: {deaths:?}");
        for release in Release::ALL {
            let complaints = yang::check(release, &world.switch.config_rows());
            // leafboot does not complete half-written unmanaged rows on a port that is not to boot.
            let is_ours = |text: &&String| {
                let shared = text.contains("LEAFBOOT") || text.contains("Vrfboot");
                shared || desired.ports.keys().any(|port| text.contains(&format!("|{port}")))
            };
            let ours: Vec<_> = complaints.iter().filter(is_ours).collect();
            prop_assert!(ours.is_empty(), "{release:?}: {ours:?}");
        }
    }
}

#[test]
fn what_the_kernel_has_lost_comes_back_and_no_other_port_notices() {
    for drift in [Drift::NoMaster(0), Drift::NoAddress(0), Drift::VrfDown] {
        let mut world = World::new(&[Before::Nothing; 4]);
        world.push(&[Some(1), Some(2), None, None]);
        world.settle();
        let before = world.links();
        world.happen(&Event::Drift(drift));
        world.settle();
        let after = world.links();
        for port in PORTS {
            let port: PortName = port.parse().unwrap();
            let has = |links: &Links| {
                (links.ports[&port].vrf.clone(), links.ports[&port].assigned_addresses.clone())
            };
            assert_eq!(has(&after), has(&before), "{port} after {drift:?}");
        }
        assert!(after.is_vrf_up(&world.settings.boot.vrf), "{drift:?}");
    }
}

#[test]
fn what_a_reload_without_a_restart_took_away_is_announced_and_comes_back() {
    let mut world = World::new(&[Before::Nothing; 4]);
    // The save is older than the first push, so it has none of leafboot's rows.
    world.happen(&Event::Save);
    world.push(&[Some(1), Some(2), None, None]);
    world.settle();
    world.happen(&Event::ReloadWithoutRestart);
    world.settle();
    let rows = world.switch.config_rows();
    assert!(rows.contains_key("VRF|Vrfboot") && rows.contains_key("INTERFACE|Ethernet0"));
    // A port that the document no longer names is released, too.
    world.happen(&Event::ReloadWithoutRestart);
    world.push(&[None, Some(2), None, None]);
    world.settle();
    let links = world.links();
    let port: PortName = "Ethernet0".parse().unwrap();
    assert!(
        links.ports[&port].vrf.is_none() && links.ports[&port].assigned_addresses.is_empty(),
        "{links:?}"
    );
}

#[test]
fn a_port_that_joins_a_lag_leaves_and_holds_nobody_back() {
    let mut world = World::new(&[Before::Nothing; 4]);
    world.push(&[Some(1), None, None, None]);
    world.settle();
    world.happen(&Event::AclsWait(false));
    world.happen(&Event::Lag(0, true));
    world.push(&[Some(1), Some(2), None, None]);
    let (lag, other): (PortName, PortName) = ("Ethernet0".parse().unwrap(), "Ethernet4".parse().unwrap());
    let mut last = String::new();
    for _ in 0..40 {
        let plan = world.pass();
        last = plan.to_string();
        if plan.unchanged.contains(&other) && plan.steps.is_empty() {
            assert_eq!(plan.waiting.keys().collect::<Vec<_>>(), [&lag], "{plan}");
            let links = world.links();
            assert!(!port_role::is_in(&links.ports[&lag], &world.settings.boot.vrf));
            return;
        }
        world.happen(&Event::Sonic);
    }
    panic!("Ethernet4 waits for Ethernet0's LAG: {last}");
}

#[test]
fn a_vrf_whose_row_was_deleted_is_left_and_made_again() {
    let mut world = World::new(&[Before::Nothing; 4]);
    world.push(&[Some(1), None, None, None]);
    world.settle();
    world.happen(&Event::DeleteVrf);
    world.happen(&Event::Sonic);
    world.settle();
    assert!(world.switch.config_rows().contains_key("VRF|Vrfboot"));
}
