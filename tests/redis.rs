//! Observe, plan and apply on a real redis-server against the laboratory's model of SONiC: a port is taken, kept and
//! given back, in SONiC's order, and foreign rows stay as they are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use leafboot::db::Db;
use leafboot::desired::{Desired, Origin};
use leafboot::net::{BootPrefix, Mac, PortName, VrfName};
use leafboot::observed::{Link, Links, Observed, Port};
use leafboot::plan::Plan;
use leafboot::serving::RaStates;
use leafboot_lab::sonic;
use support::eventually;
use support::switch::{CONFIG_DB, Switch};
use tokio::runtime::Runtime;

/// A switch with its model of SONiC, and leafboot's reconciler with its hand on the crank.
struct Bench {
    switch: Switch,
    runtime: Runtime,
    db: Db,
    vrf: VrfName,
}

impl Bench {
    fn start() -> Self {
        let switch = Switch::start();
        switch.cli(CONFIG_DB, &["HSET", "VRF|VrfTenant", "NULL", "NULL"]);
        switch.cli(CONFIG_DB, &["HSET", "LOOPBACK_INTERFACE|Loopback0", "NULL", "NULL"]);
        let database_config = switch.path("database_config.json");
        let model = sonic::Args {
            database_config: database_config.clone(),
            kernel: sonic::WhichKernel::Paper,
            delay_ms: 0,
        };
        // It ends when its redis-server does.
        std::thread::spawn(move || sonic::run(model));
        eventually("SONiC has made its ports", || {
            switch.cli("6", &["HGET", "PORT_TABLE|Ethernet120", "state"]) == "ok\n"
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let db = runtime.block_on(Db::connect(&database_config)).unwrap();
        Self { switch, runtime, db, vrf: "Vrfboot".parse().unwrap() }
    }

    fn observe(&mut self) -> Observed {
        let snapshot = self.runtime.block_on(self.db.snapshot()).unwrap();
        Observed::new(&snapshot, &self.vrf)
    }

    /// One pass; the kernel is what SONiC says of it, since the model's is on paper.
    fn pass(&mut self, desired: &Desired) -> (Plan, Observed) {
        let observed = self.observe();
        let links = links(&observed);
        // No machine is there to be told, so no port waits for its final advertisement.
        let plan = Plan::new(Some(desired), &observed, &links, &RaStates::new(), &self.vrf);
        self.runtime.block_on(self.db.apply(&plan.steps)).unwrap();
        (plan, observed)
    }

    /// Passes until nothing is left to do or to wait for; returns every step that was made.
    fn settle(&mut self, desired: &Desired) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut steps = Vec::new();
        loop {
            let (plan, _) = self.pass(desired);
            steps.extend(plan.steps.iter().map(ToString::to_string));
            if plan.steps.is_empty() && plan.waiting.is_empty() {
                return steps;
            }
            assert!(Instant::now() < deadline, "not settled after 10 s: {plan}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A link without carrier for each port, as intfmgrd says it has made it.
fn links(observed: &Observed) -> Links {
    let link = |port: &Port| Link {
        ifindex: 1,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 9100,
        up: false,
        carriers: 1,
        vrf: port.bound.clone(),
        link_local: None,
        addresses: port.bound_addresses.iter().map(|prefix| prefix.gateway_net()).collect(),
    };
    observed.ports.iter().map(|(name, port)| (name.clone(), link(port))).collect()
}

fn desired(ports: &[(&str, &str)]) -> Desired {
    let ports: BTreeMap<PortName, BootPrefix> =
        ports.iter().map(|(port, prefix)| (port.parse().unwrap(), prefix.parse().unwrap())).collect();
    Desired { generation: 1, origin: Origin::Pushed, ports }
}

const A: &str = "2001:db8:b007:1::/64";
const B: &str = "2001:db8:b007:2::/64";

#[test]
fn a_port_is_taken_and_given_back_in_sonics_order() {
    let mut bench = Bench::start();
    let before = bench.switch.dump(CONFIG_DB);
    let steps = bench.settle(&desired(&[("Ethernet0", A)]));
    assert_eq!(
        steps,
        [
            "set VRF|Vrfboot",
            "set INTERFACE|Ethernet0 vrf_name=Vrfboot",
            "set INTERFACE|Ethernet0|2001:db8:b007:1::1/64",
        ]
    );
    let rows = bench.switch.dump(CONFIG_DB);
    assert!(rows.contains("VRF|Vrfboot: NULL NULL"), "{rows}");
    assert!(rows.contains("INTERFACE|Ethernet0: vrf_name Vrfboot"), "{rows}");
    assert!(rows.contains("INTERFACE|Ethernet0|2001:db8:b007:1::1/64: NULL NULL"), "{rows}");
    assert!(bench.settle(&desired(&[("Ethernet0", A)])).is_empty(), "a second plan is empty");

    let steps = bench.settle(&desired(&[]));
    assert_eq!(steps, ["delete INTERFACE|Ethernet0|2001:db8:b007:1::1/64", "delete INTERFACE|Ethernet0"]);
    let port = bench.observe().ports[&"Ethernet0".parse().unwrap()].clone();
    assert!(port.bound.is_none() && !port.router_interface, "{port:?}");
    let after = bench.switch.dump(CONFIG_DB).replace("VRF|Vrfboot: NULL NULL \n", "");
    assert_eq!(after, before, "foreign rows are as they were, and only the VRF stays");
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
fn a_tenants_port_is_left_alone_until_it_is_free() {
    let mut bench = Bench::start();
    bench.switch.cli(CONFIG_DB, &["HSET", "INTERFACE|Ethernet0", "vrf_name", "VrfTenant"]);
    let tenant = "Ethernet0".parse().unwrap();
    eventually("the tenant's port is bound", || bench.observe().ports[&tenant].router_interface);
    let wish = desired(&[("Ethernet0", A), ("Ethernet4", B)]);
    eventually("the other port is served", || {
        let (plan, _) = bench.pass(&wish);
        plan.unchanged.len() == 1 && plan.steps.is_empty()
    });
    let row = bench.switch.cli(CONFIG_DB, &["HGETALL", "INTERFACE|Ethernet0"]);
    assert_eq!(row, "vrf_name\nVrfTenant\n");

    bench.switch.cli(CONFIG_DB, &["DEL", "INTERFACE|Ethernet0"]);
    bench.settle(&wish);
    assert_eq!(bench.observe().ports[&tenant].bound.as_deref(), Some("Vrfboot"));
}

#[test]
fn a_dropped_vrf_change_is_found_and_healed() {
    let mut bench = Bench::start();
    let port = "Ethernet0".parse().unwrap();
    bench.switch.cli(CONFIG_DB, &["HSET", "INTERFACE|Ethernet0", "vrf_name", "VrfTenant"]);
    eventually("the tenant's port is bound", || bench.observe().ports[&port].router_interface);
    // Somebody writes our row over a live one: intfmgrd drops it, and CONFIG_DB looks right.
    bench.switch.cli(CONFIG_DB, &["HSET", "INTERFACE|Ethernet0", "vrf_name", "Vrfboot"]);
    let steps = bench.settle(&desired(&[("Ethernet0", A)]));
    assert!(steps.contains(&"delete INTERFACE|Ethernet0".to_owned()), "{steps:?}");
    assert_eq!(bench.observe().ports[&port].bound.as_deref(), Some("Vrfboot"));
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
fn the_vrf_is_retired_only_when_it_is_empty_and_sonic_lets_go_of_it() {
    let mut bench = Bench::start();
    let config = support::agent::settings(&bench.switch);
    let retire = || {
        let output =
            support::agent::leafboot(&["retire", "--config", config.to_str().unwrap(), "--wait", "5s"]);
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    bench.settle(&desired(&[("Ethernet0", A)]));
    let rows = bench.switch.dump(CONFIG_DB);
    let (done, said) = retire();
    assert!(!done && said.contains("Vrfboot still has Ethernet0: push a document without"), "{said}");
    assert_eq!(bench.switch.dump(CONFIG_DB), rows);

    bench.settle(&desired(&[]));
    let (done, said) = retire();
    assert!(done && said == "Vrfboot is gone\n", "{said}");
    assert!(!bench.switch.dump(CONFIG_DB).contains("Vrfboot"));
    assert!(!bench.switch.dump("6").contains("Vrfboot"));
    assert!(retire().0, "what is gone may be retired again");
}
