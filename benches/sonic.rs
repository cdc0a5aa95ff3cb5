//! The benchmark of CONFIG_DB writes: round trips and time until leafboot has settled its ports, beside the same rows
//! and facts one command at a time and port by port, as metal-core's applier works (`redis/applier.go`).
//!
//! `tests/bench/sonic` runs it. Prints Markdown. SONiC is the laboratory's model on a paper kernel; it answers at once, and
//! its own time is not counted. What leafboot costs a leaf with full routing tables is in `sonic/full_leaf.rs`, beside its
//! goals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that cannot go on ends")]

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "sonic/full_leaf.rs"]
mod full_leaf;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use leafboot::internals::Db;
use leafboot_core::acl;
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::{BootPrefix, PortName};
use leafboot_core::observed::Observed;
use leafboot_core::plan::{Facts, Plan, Remedies};
use leafboot_core::port_role::RaStates;
use leafboot_core::rows;
use leafboot_core::settings::Settings;
use leafboot_lab::sonic::database::{Database, Databases, Fields};
use leafboot_lab::sonic::{Args, Swss, WhichKernel};
use support::switch::{CONFIG_DB, Switch, links};

const SETTINGS: &str = r#"leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = []
[relay.boot_service]
origins = ["http://[2001:db8:ffff::80]:8080"]
[relay.cache]
name = "http://images.metal-stack.io"
"#;

/// The cost of a run.
#[derive(Default)]
struct Cost {
    /// Round trips: each waits for the answer of the one before.
    round_trips: u64,
    commands: u64,
    time: Duration,
    rebuilds: u64,
}

/// A switch with this many ports, and SONiC on it.
struct World {
    switch: Switch,
    swss: Swss,
    settings: Settings,
    desired: Desired,
    rebuilds: u64,
}

impl World {
    fn new(ports: u16) -> Self {
        let switch = Switch::start_unloaded();
        for port in 0..ports {
            let row = format!("PORT|Ethernet{}", port * 4);
            switch.cli(CONFIG_DB, &["HSET", &row, "index", &port.to_string(), "admin_status", "up"]);
        }
        switch.cli(CONFIG_DB, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
        let database_config = switch.path("database_config.json");
        let args =
            Args { database_config: database_config.clone(), kernel: WhichKernel::Paper, ..Args::default() };
        let mut swss = Swss::start(&args).unwrap();
        swss.run_until_idle().unwrap();
        let text = format!("[sonic]\ndatabase_config = {database_config:?}\n");
        let settings = Settings::parse(&format!("{SETTINGS}{text}")).unwrap();
        let wish = |port: u16| {
            let prefix: BootPrefix = format!("2001:db8:b007:{port:x}::/64").parse().unwrap();
            (format!("Ethernet{}", port * 4).parse::<PortName>().unwrap(), prefix.into())
        };
        let ports = (0..ports).map(wish).collect();
        let desired = Desired {
            generation: 1,
            provenance: Provenance::Pushed,
            ports,
            old: Default::default(),
            rejected: Default::default(),
        };
        let rebuilds = swss.host_firewall().rebuilds;
        Self { switch, swss, settings, desired, rebuilds }
    }

    /// How many commands Redis has done since it started.
    fn commands(&self) -> u64 {
        let info = self.switch.cli(CONFIG_DB, &["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// Does some work and adds its cost. Counting the commands takes two commands itself.
    fn measure<T>(&mut self, cost: &mut Cost, work: impl FnOnce(&mut Self) -> (u64, T)) -> T {
        let before = self.commands();
        let start = Instant::now();
        let (round_trips, result) = work(self);
        cost.time += start.elapsed();
        cost.commands += self.commands() - before - 2;
        cost.round_trips += round_trips;
        result
    }

    fn finish(&mut self, mut cost: Cost) -> Cost {
        self.swss.run_until_idle().unwrap();
        cost.rebuilds = self.swss.host_firewall().rebuilds - self.rebuilds;
        cost
    }
}

/// leafboot: observe, plan, apply, until every port is settled.
fn leafboot(ports: u16) -> Cost {
    let mut world = World::new(ports);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut db = runtime.block_on(Db::connect(&world.settings.database_config)).unwrap();
    let mut cost = Cost::default();
    for _pass in 0..50 {
        let plan = world.measure(&mut cost, |world| {
            let snapshot = runtime.block_on(db.snapshot()).unwrap();
            // STATE_DB then ASIC_DB: the events until now, and the rows, 64 at a time; everything else meanwhile.
            let reads: usize =
                [&snapshot.state, &snapshot.asic].map(|rows| 1 + rows.len().div_ceil(64)).iter().sum();
            let observed = Observed::new(&snapshot, &world.settings);
            let (links, ra) = (links(&observed), RaStates::new());
            let remedies = Remedies::default();
            let facts = Facts {
                desired: Some(&world.desired),
                observed: &observed,
                links: &links,
                ra: &ra,
                remedies: &remedies,
            };
            let plan = Plan::new(facts, &world.settings);
            runtime.block_on(db.apply(&plan.steps)).unwrap();
            // Then the rows that others need, and the others.
            let writes = if plan.steps.is_empty() { 0 } else { 2 };
            (u64::try_from(reads + writes).unwrap(), plan)
        });
        if plan.unchanged.len() == usize::from(ports) {
            return world.finish(cost);
        }
        world.swss.run_until_idle().unwrap();
    }
    panic!("{ports} ports are not settled after 50 passes");
}

/// As the laboratory's databases take a row.
fn as_map(fields: rows::Fields) -> Fields {
    fields.into_iter().collect()
}

/// One command after the other, one port after the other.
struct OneByOne {
    config: Database,
    state: Database,
    asic: Database,
    counters: Database,
}

impl OneByOne {
    fn take(&mut self, world: &mut World, cost: &mut Cost, port: &PortName, prefix: BootPrefix) {
        let settings = world.settings.clone();
        let table = settings.acl.table.to_string();
        let name = port.as_str();
        let address = format!("{name}|{}", prefix.gateway_net());
        let vrf = as_map(rows::interface_fields(&settings.boot.vrf));
        let rules = acl::gateway_rules(&settings, port, prefix);
        let rule = rules.first().expect("the relay has a port");
        // The port must have no other owner; then it comes under the ACL.
        world.measure(cost, |_| {
            assert!(self.config.row("INTERFACE", name).unwrap().is_none());
            assert!(self.config.keys("VLAN_MEMBER").unwrap().is_empty());
            let row = self.config.row("ACL_TABLE", &table).unwrap().unwrap_or_default();
            let mut ports: BTreeSet<PortName> =
                row["ports"].split(',').filter_map(|name| name.parse().ok()).collect();
            ports.insert(port.clone());
            let key = format!("{table}|{}", rule.name);
            self.config.set("ACL_RULE", &key, &as_map(rows::acl_rule_fields(rule))).unwrap();
            self.config.set("ACL_TABLE", &table, &as_map(rows::acl_table_fields(&ports))).unwrap();
            (5, ())
        });
        world.swss.run_until_idle().unwrap();
        world.measure(cost, |_| {
            assert!(self.state.row("ACL_RULE_TABLE", &format!("{table}|{}", rule.name)).unwrap().is_some());
            assert!(self.state.row("VRF_OBJECT_TABLE", settings.boot.vrf.as_str()).unwrap().is_some());
            self.config.set("INTERFACE", name, &vrf).unwrap();
            (3, ())
        });
        world.swss.run_until_idle().unwrap();
        world.measure(cost, |_| {
            assert!(self.state.row("INTERFACE_TABLE", name).unwrap().is_some());
            self.config.set("INTERFACE", &address, &Fields::new()).unwrap();
            (2, ())
        });
        world.swss.run_until_idle().unwrap();
        world.measure(cost, |_| {
            assert!(self.state.row("INTERFACE_TABLE", &address).unwrap().is_some());
            assert!(self.counters.row("COUNTERS_PORT_NAME_MAP", "").unwrap().unwrap().contains_key(name));
            let interfaces = self.asic.keys("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE").unwrap();
            assert!(!interfaces.is_empty());
            (3, ())
        });
    }
}

fn one_by_one(ports: u16) -> Cost {
    let mut world = World::new(ports);
    let databases = Databases::read(&world.settings.database_config).unwrap();
    let open = |name| databases.open(name).unwrap();
    let [config, state, asic, counters] = ["CONFIG_DB", "STATE_DB", "ASIC_DB", "COUNTERS_DB"].map(open);
    let mut client = OneByOne { config, state, asic, counters };
    let mut cost = Cost::default();
    let settings = world.settings.clone();
    let table = settings.acl.table.to_string();
    world.measure(&mut cost, |_| {
        client.config.set("ACL_TABLE", &table, &as_map(rows::acl_table_fields(&BTreeSet::new()))).unwrap();
        let rules = acl::rules(&settings);
        for rule in &rules {
            let key = format!("{table}|{}", rule.name);
            client.config.set("ACL_RULE", &key, &as_map(rows::acl_rule_fields(rule))).unwrap();
        }
        client.config.set("VRF", settings.boot.vrf.as_str(), &Fields::new()).unwrap();
        (2 + u64::try_from(rules.len()).unwrap(), ())
    });
    world.swss.run_until_idle().unwrap();
    let wishes: BTreeMap<PortName, BootPrefix> = world.desired.prefixes();
    for (port, prefix) in &wishes {
        client.take(&mut world, &mut cost, port, *prefix);
    }
    world.finish(cost)
}

fn main() {
    // `cargo bench --bench sonic -- waits`: a minute instead of ten.
    if std::env::args().any(|argument| argument == "waits") {
        return full_leaf::report_waits();
    }
    full_leaf::report();
    println!();
    println!("| | round trips | commands | ms | rebuilt |");
    println!("|---|---|---|---|---|");
    type Way = fn(u16) -> Cost;
    for (name, way) in [("leafboot", leafboot as Way), ("one command at a time", one_by_one)] {
        for ports in [1, 16, 128] {
            let Cost { round_trips, commands, time, rebuilds } = way(ports);
            let (unit, ms) = (if ports == 1 { "port" } else { "ports" }, time.as_secs_f64() * 1000.0);
            println!("| {name}, {ports} {unit} | {round_trips} | {commands} | {ms:.0} | {rebuilds} |");
        }
    }
}
