//! Observe, plan and apply on a real redis-server against the laboratory's model of SONiC. A port enters, stays in and leaves the
//! boot VRF in SONiC's order, and unmanaged rows do not change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use leafboot::internals::Db;
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::{BootPrefix, PortName};
use leafboot_core::observed::Observed;
use leafboot_core::plan::{Facts, Plan, Repairs};
use leafboot_core::port_role::RaStates;
use leafboot_core::settings::Settings;
use leafboot_lab::sonic;
use leafboot_lab::sonic::yang::{self, Release};
use support::eventually;
use support::switch::{CONFIG_DB, Switch, links};
use tokio::runtime::Runtime;

/// A switch with its model of SONiC, and leafboot's passes, made one by one.
struct Bench {
    switch: Switch,
    runtime: Runtime,
    db: Db,
    config: Settings,
    repairs: Repairs,
}

impl Bench {
    fn start() -> Self {
        Self::on(Switch::start())
    }

    fn on(switch: Switch) -> Self {
        switch.cli(CONFIG_DB, &["HSET", "VRF|VrfTenant", "NULL", "NULL"]);
        switch.cli(CONFIG_DB, &["HSET", "LOOPBACK_INTERFACE|Loopback0", "NULL", "NULL"]);
        let database_config = switch.path("database_config.json");
        let model = sonic::Args {
            database_config: database_config.clone(),
            kernel: sonic::WhichKernel::Paper,
            ..sonic::Args::default()
        };
        // The model ends with its redis-server.
        std::thread::spawn(move || sonic::run(model));
        eventually("SONiC has made its ports", || {
            switch.cli("6", &["HGET", "PORT_TABLE|Ethernet120", "state"]) == "ok\n"
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let db = runtime.block_on(Db::connect(&database_config)).unwrap();
        let settings = std::fs::read_to_string(support::agent::settings(&switch)).unwrap();
        let config = Settings::parse(&settings).unwrap();
        Self { switch, runtime, db, config, repairs: Repairs::default() }
    }

    fn observe(&mut self) -> Observed {
        let snapshot = self.runtime.block_on(self.db.snapshot()).unwrap();
        Observed::new(&snapshot, &self.config)
    }

    /// One pass. The kernel's state comes from SONiC's databases, because the model's kernel is not a real one.
    fn pass(&mut self, desired: &Desired) -> (Plan, Observed) {
        let observed = self.observe();
        let links = links(&observed);
        // No port has a machine, so no port waits for its final Router Advertisement.
        let now = Instant::now();
        let (ra, remedies) = (RaStates::new(), self.repairs.remedies(now, true));
        let facts = Facts {
            desired: Some(desired),
            observed: &observed,
            links: &links,
            ra: &ra,
            remedies: &remedies,
        };
        let plan = Plan::new(facts, &self.config);
        self.repairs.record(&plan, &remedies, now);
        self.runtime.block_on(self.db.apply(&plan.steps)).unwrap();
        (plan, observed)
    }

    /// Makes passes until nothing is left to do or to wait for, and returns all their steps.
    fn settle(&mut self, desired: &Desired) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut steps = Vec::new();
        loop {
            let (plan, _) = self.pass(desired);
            steps.extend(plan.steps.iter().map(ToString::to_string));
            if plan.steps.is_empty() && plan.waiting.is_empty() && plan.anycast.is_none() {
                return steps;
            }
            assert!(Instant::now() < deadline, "not settled after 10 s: {plan}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn desired(ports: &[(&str, &str)]) -> Desired {
    let ports: BTreeMap<PortName, BootPrefix> =
        ports.iter().map(|(port, prefix)| (port.parse().unwrap(), prefix.parse().unwrap())).collect();
    Desired {
        generation: 1,
        provenance: Provenance::Pushed,
        ports: ports.into_iter().map(|(port, prefix)| (port, prefix.into())).collect(),
        old: Default::default(),
        rejected: Default::default(),
    }
}

const A: &str = "2001:db8:b007:1::/64";
const B: &str = "2001:db8:b007:2::/64";

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
    assert!(port.bound.is_none() && !port.router_interface, "{port:?}");
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
    assert_eq!(bench.observe().ports[&tenant].bound.as_deref(), Some("Vrfboot"));
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
            support::agent::leafboot(&["retire", "--config", config.to_str().unwrap(), "--wait", "20s"]);
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    bench.settle(&desired(&[("Ethernet0", A)]));
    let rows = bench.switch.dump(CONFIG_DB);
    let (done, said) = retire();
    assert!(
        !done && said.contains("Vrfboot or its ACL still has Ethernet0: push a document without"),
        "{said}"
    );
    assert_eq!(bench.switch.dump(CONFIG_DB), rows);

    bench.settle(&desired(&[]));
    let (done, said) = retire();
    assert!(done && said == "Vrfboot is gone, and leafboot's ACL and loopback with it\n", "{said}");
    assert!(!bench.switch.dump(CONFIG_DB).contains("Vrfboot"));
    assert!(!bench.switch.dump("6").contains("Vrfboot"));
    assert!(
        !bench.switch.dump(CONFIG_DB).contains("LEAFBOOT") && !bench.switch.dump("6").contains("LEAFBOOT")
    );
    assert!(retire().0, "what is gone may be retired again");
}

#[test]
fn acl_rules_and_ports_that_were_deleted_by_hand_come_back() {
    let mut bench = Bench::start();
    let wish = desired(&[("Ethernet0", A)]);
    bench.settle(&wish);
    let rules = bench.observe().acl.active_rules;
    // What `acl-loader update full` does.
    let rows = bench.switch.cli(CONFIG_DB, &["KEYS", "ACL_RULE|*"]);
    let mut delete = vec!["DEL"];
    delete.extend(rows.lines());
    bench.switch.cli(CONFIG_DB, &delete);
    bench.settle(&wish);
    assert_eq!(bench.observe().acl.active_rules, rules);

    bench.switch.cli(CONFIG_DB, &["HSET", "ACL_TABLE|LEAFBOOT", "ports@", ""]);
    bench.settle(&wish);
    assert_eq!(bench.switch.cli(CONFIG_DB, &["HGET", "ACL_TABLE|LEAFBOOT", "ports@"]), "Ethernet0\n");
}

#[test]
fn rules_that_orchagent_has_lost_come_back_although_state_db_says_active() {
    let mut bench = Bench::start();
    let wish = desired(&[("Ethernet0", A)]);
    bench.settle(&wish);
    let before = bench.observe().acl;
    let entries =
        |acl: &leafboot_core::observed::ObservedAcl| acl.asic_entries.keys().cloned().collect::<Vec<_>>();
    for stage in ["egress", "ingress"] {
        bench.switch.cli(CONFIG_DB, &["HSET", "ACL_TABLE|LEAFBOOT", "stage", stage]);
        // The first change has already deleted the entries. The table's status shows when the second one is done.
        let stage = format!("SAI_ACL_STAGE_{}\n", stage.to_uppercase());
        eventually("orchagent has made the table again", || {
            let table = bench.switch.cli("1", &["KEYS", "ASIC_STATE:SAI_OBJECT_TYPE_ACL_TABLE:*"]);
            let made = ["HGET", table.trim(), "SAI_ACL_TABLE_ATTR_ACL_STAGE"];
            bench.switch.cli("1", &made) == stage && bench.observe().acl.asic_entries.is_empty()
        });
    }
    assert_eq!(bench.observe().acl.active_rules, before.active_rules, "STATE_DB is not told");
    let steps = bench.settle(&wish);
    let writes = |rule: &str, what: &str| {
        let step = format!("{what} ACL_RULE|LEAFBOOT|{rule}");
        steps.iter().filter(|found| **found == step || found.starts_with(&format!("{step} "))).count()
    };
    assert!(steps.iter().all(|step| step.contains(" ACL_RULE|LEAFBOOT|")), "{steps:?}");
    assert!(
        before.rules.keys().all(|rule| (writes(rule, "delete"), writes(rule, "set")) == (0, 1)),
        "{steps:?}"
    );
    let denies = steps.iter().map(|step| step.contains("PACKET_ACTION=DROP")).collect::<Vec<_>>();
    assert!(denies.is_sorted_by(|first, second| first >= second), "those that deny come first: {steps:?}");
    assert_eq!(entries(&bench.observe().acl), entries(&before));
}

#[test]
fn the_rules_that_the_asic_has_are_known_by_name() {
    let mut bench = Bench::start();
    let wish = desired(&[("Ethernet0", A), ("Ethernet4", B)]);
    bench.settle(&wish);
    // A rule of the same name in an unmanaged table is unmanaged.
    bench.switch.cli("2", &["HSET", "ACL_COUNTER_RULE_MAP", "OTHER:DEFAULT_RULE", "oid:0xffff"]);
    let acl = bench.observe().acl;
    let names: Vec<&String> = acl.asic_entries.keys().collect();
    assert_eq!(names, acl.rules.keys().collect::<Vec<_>>());
    let tables: BTreeSet<&String> = acl.asic_entries.values().collect();
    assert_eq!(tables.len(), 1, "all are in one table");

    let counter = bench.switch.cli("2", &["HGET", "ACL_COUNTER_RULE_MAP", "LEAFBOOT:DEFAULT_RULE"]);
    let entries = bench.switch.cli("1", &["KEYS", "ASIC_STATE:SAI_OBJECT_TYPE_ACL_ENTRY:*"]);
    let counts =
        |key: &&str| bench.switch.cli("1", &["HGET", key, "SAI_ACL_ENTRY_ATTR_ACTION_COUNTER"]) == counter;
    let entry = entries.lines().find(counts).unwrap();
    bench.switch.cli("1", &["DEL", entry]);
    let mut left = acl.asic_entries.clone();
    left.remove("DEFAULT_RULE").unwrap();
    assert_eq!(bench.observe().acl.asic_entries, left, "and one that is lost is known, too");
}

#[test]
fn the_anycast_address_is_taken_healed_moved_and_retired() {
    let mut bench = Bench::start();
    let file = support::agent::settings(&bench.switch);
    let text = std::fs::read_to_string(&file).unwrap();
    let set = |bench: &mut Bench, anycast: &str| {
        let text = text.replace("protected", &format!("anycast = \"{anycast}\"\nprotected"));
        bench.config = Settings::parse(&text).unwrap();
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

/// How often Redis has read from a socket since it started: once for a round trip, or a little more for a long one.
fn reads(switch: &Switch) -> u64 {
    let info = switch.cli(CONFIG_DB, &["INFO", "stats"]);
    let line = info.lines().find_map(|line| line.strip_prefix("total_reads_processed:")).unwrap();
    line.trim().parse().unwrap()
}

/// The round trips of one pass over `ports` settled ports, and the rows that it reads.
fn round_trips(ports: usize) -> (u64, u64) {
    let switch = Switch::start();
    // Ethernet120 is protected.
    let numbers: Vec<usize> = (0..).filter(|port| *port != 30).take(ports).collect();
    let commands = numbers.iter().map(|port| format!("HSET PORT|Ethernet{} index {port}\n", port * 4));
    let file = support::agent::write(&switch.path("ports.redis"), &commands.collect::<String>());
    let load = format!("redis-cli -s {} -n 4 < {}", switch.path("redis.sock").display(), file.display());
    support::run("sh", &["-c", &load]);
    let mut bench = Bench::on(switch);
    let wishes: Vec<(String, String)> = numbers
        .iter()
        .map(|port| (format!("Ethernet{}", port * 4), format!("2001:db8:b007:{port:x}::/64")))
        .collect();
    let wishes: Vec<(&str, &str)> =
        wishes.iter().map(|(port, prefix)| (port.as_str(), prefix.as_str())).collect();
    let wish = desired(&wishes);
    bench.settle(&wish);
    // The model reads, too, so take the smallest number of many passes.
    let pass = |bench: &mut Bench| {
        let before = reads(&bench.switch);
        bench.pass(&wish);
        reads(&bench.switch) - before
    };
    let trips = (0..50).map(|_| pass(&mut bench)).min().unwrap();
    let snapshot = bench.runtime.block_on(bench.db.snapshot()).unwrap();
    let rows = snapshot.config.len() + snapshot.state.len() + snapshot.asic.len();
    (trips, u64::try_from(rows).unwrap())
}

#[test]
fn a_pass_takes_a_round_trip_for_64_rows_and_none_for_each_port() {
    let ((few, _), (many, rows)) = (round_trips(1), round_trips(120));
    // Redis may read twice for one round trip.
    assert!(many <= few + rows / 64 + 8, "{few} round trips for one port, {many} for 120 with {rows} rows");
}

#[test]
fn config_db_is_not_said_to_be_loaded_when_it_was_emptied_while_it_was_read() {
    let Bench { switch, runtime, mut db, .. } = Bench::start();
    let ports: String = (0..40).map(|port| format!("HSET PORT|Ethernet{port} index {port}\n")).collect();
    let rows = format!("{ports}SET CONFIG_DB_INITIALIZED 1\n");
    let file = support::agent::write(&switch.path("rows.redis"), &rows);
    let load = format!("redis-cli -s {} -n 4 < {}", switch.path("redis.sock").display(), file.display());
    switch.cli(CONFIG_DB, &["FLUSHDB"]);
    let reload = || {
        for _ in 0..60 {
            support::run("sh", &["-c", &load]);
            std::thread::sleep(Duration::from_millis(5));
            switch.cli(CONFIG_DB, &["FLUSHDB"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut loaded = 0;
    std::thread::scope(|scope| {
        let reloading = scope.spawn(reload);
        while !reloading.is_finished() {
            let snapshot = runtime.block_on(db.snapshot()).unwrap();
            let ports = snapshot.config.keys().filter(|key| key.starts_with("PORT|")).count();
            assert!(!snapshot.initialized || ports == 40, "loaded, with {ports} of 40 ports");
            loaded += usize::from(snapshot.initialized);
        }
    });
    assert!(loaded > 0, "no pass met a loaded CONFIG_DB");
}

#[test]
fn what_is_no_text_or_no_row_hides_no_other_row() {
    let mut bench = Bench::start();
    let cli = |command: &[&str]| bench.switch.cli(CONFIG_DB, command);
    let describe = "return redis.call('HSET', 'PORT|Ethernet4', 'description', string.char(0xe4))";
    assert_eq!(cli(&["EVAL", describe, "0"]), "1\n");
    assert_eq!(cli(&["EVAL", "return redis.call('SET', 'PORT|' .. string.char(0xe4), 'x')", "0"]), "OK\n");
    assert_eq!(cli(&["SET", "VRF|Vrftext", "no row"]), "OK\n");
    let observed = bench.observe();
    assert!(observed.initialized && observed.ports.contains_key(&"Ethernet4".parse().unwrap()));
}

#[test]
fn a_subscription_that_is_lost_alone_is_noticed() {
    let Bench { switch, runtime, mut db, .. } = Bench::start();
    let ours = |line: &&str| line.contains(" db=6 ") && !line.contains(" psub=0 ");
    let clients = switch.cli(CONFIG_DB, &["CLIENT", "LIST", "TYPE", "pubsub"]);
    let ids = clients.lines().filter(ours).filter_map(|line| line.strip_prefix("id=")?.split(' ').next());
    for id in ids {
        switch.cli(CONFIG_DB, &["CLIENT", "KILL", "ID", id]);
    }
    let noticed = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), async { while db.changed().await {} }).await
    });
    assert!(noticed.is_ok(), "STATE_DB's subscription is gone, and nobody noticed");
}

#[test]
fn the_plan_command_prints_steps_waits_and_unmanaged_rows_and_changes_nothing() {
    let bench = Bench::start();
    let config = support::agent::settings(&bench.switch);
    let document = support::agent::write(
        &bench.switch.path("push.json"),
        r#"{"ports": {"Eth1/1": {"state": "boot", "prefix": "2001:db8:b007:1::/64"}}}"#,
    );
    let plan = |more: &[&str]| {
        let mut arguments = vec!["plan", "--config", config.to_str().unwrap()];
        arguments.extend(more);
        let output = support::agent::leafboot(&arguments);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let rows = bench.switch.dump(CONFIG_DB);
    let (code, said) = plan(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no document was ever accepted here; give one with --desired"), "{said}");

    let desired = document.to_str().unwrap();
    let (code, said) = plan(&["--desired", desired]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("set VRF|Vrfboot\n") && said.contains("set ACL_TABLE|LEAFBOOT "), "{said}");
    assert!(said.contains("Ethernet0 waits: the rows of the ACL LEAFBOOT are being written\n"), "{said}");
    assert!(said.contains("unmanaged: VRF|VrfTenant\n"), "{said}");
    let (code, json) = plan(&["--desired", desired, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let unmanaged = serde_json::json!(["LOOPBACK_INTERFACE|Loopback0", "VRF|VrfTenant"]);
    assert_eq!((code, &json["unmanaged"]), (Some(2), &unmanaged));
    assert!(json["steps"].as_array().unwrap().iter().any(|step| step["set"] == "VRF|Vrfboot"), "{json}");

    support::agent::write(&document, r#"{"ports": {}}"#);
    let (code, said) = plan(&["--desired", desired]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("nothing to write now\n"), "{said}");
    support::agent::write(&document, r#"{"ports": {"Ethernet9": {"state": "boot"}}}"#);
    let (code, said) = plan(&["--desired", desired]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("Ethernet9 is rejected: UnknownPort: \"Ethernet9\" is not a port of this leaf"),
        "{said}"
    );
    let (_, json) = plan(&["--desired", desired, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rejected"]["Ethernet9"]["reason"], "UnknownPort", "{json}");
    support::agent::write(&document, r#"{"ports": []}"#);
    let (code, said) = plan(&["--desired", desired]);
    assert_eq!(code, Some(1));
    assert!(said.contains("push.json: not a port document: its field \"ports\" is not an object"), "{said}");
    assert_eq!(bench.switch.dump(CONFIG_DB), rows, "nothing was changed");
}
