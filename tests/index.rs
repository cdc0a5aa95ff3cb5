//! Tests of a pass's reads from a real redis-server: the current rows of leafboot and no others, also after lost
//! events.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use leafboot::internals::{Db, Paces};
use leafboot_core::observed::Snapshot;
use support::switch::{CONFIG_DB, Switch};
use support::{agent, run};
use tokio::runtime::Runtime;
use tokio::time::timeout;

const ASIC_DB: &str = "1";

/// A switch and a connection to its databases.
struct Bench {
    switch: Switch,
    runtime: Runtime,
    db: Db,
}

impl Bench {
    fn start(paces: Paces) -> Self {
        Self::on(Switch::start(), paces)
    }

    fn on(switch: Switch, paces: Paces) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let db = runtime.block_on(Db::connect_at(&switch.path("database_config.json"), paces)).unwrap();
        Self { switch, runtime, db }
    }

    fn snapshot(&mut self) -> Snapshot {
        self.runtime.block_on(self.db.snapshot()).unwrap()
    }

    fn config(&self, command: &[&str]) {
        self.switch.cli(CONFIG_DB, command);
    }

    /// Runs commands without keyspace events.
    fn without_events(&self, commands: &[&[&str]]) {
        self.config(&["CONFIG", "SET", "notify-keyspace-events", ""]);
        for command in commands {
            self.config(command);
        }
        self.config(&["CONFIG", "SET", "notify-keyspace-events", "AKE"]);
    }

    /// Whether `Db::changed` reports a change within 5 s.
    fn sees_change(&mut self) -> bool {
        let change = async { timeout(Duration::from_secs(5), self.db.changed()).await };
        self.runtime.block_on(change) == Ok(true)
    }

    /// How often a settled pass sends each command to Redis.
    fn commands_of_a_pass(&mut self) -> BTreeMap<String, u64> {
        self.snapshot();
        self.config(&["CONFIG", "RESETSTAT"]);
        self.snapshot();
        let info = self.switch.cli(CONFIG_DB, &["INFO", "commandstats"]);
        let calls = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        // Leave out the commands of redis-cli.
        let is_ours = |name: &str| !matches!(name, "config|resetstat" | "select" | "info");
        info.lines().filter_map(calls).filter(|(name, _)| is_ours(name)).collect()
    }
}

/// A scan whose slow rounds begin after every test has ended.
fn without_slow_scan() -> Paces {
    Paces { rest: Duration::from_secs(3600), rest_after_loss: Duration::from_secs(3600), ..Paces::default() }
}

fn with_fast_scan() -> Paces {
    let mut paces = Paces::default();
    paces.later.pause = Duration::from_millis(1);
    Paces { rest: Duration::from_millis(50), rest_after_loss: Duration::from_millis(50), ..paces }
}

#[test]
fn a_pass_asks_redis_for_no_more_with_20000_routes_than_with_none() {
    let mut bench = Bench::start(without_slow_scan());
    let asic = [
        ("ROUTER_INTERFACE:oid:0x6", "SAI_ROUTER_INTERFACE_ATTR_PORT_ID"),
        ("PORT:oid:0x1", "SAI_PORT_ATTR_INGRESS_ACL"),
    ];
    for (key, field) in asic {
        let key = format!("ASIC_STATE:SAI_OBJECT_TYPE_{key}");
        bench.switch.cli(ASIC_DB, &["HSET", &key, field, "oid:0x1"]);
    }
    let before = (bench.commands_of_a_pass(), bench.snapshot());
    let route = |route: u32| {
        let [_, a, b, c] = route.to_be_bytes();
        let key = format!(
            r#"ASIC_STATE:SAI_OBJECT_TYPE_ROUTE_ENTRY:{{\"dest\":\"{a}.{b}.{c}.0/24\",\"vr\":\"oid:0x3000000000022\"}}"#
        );
        format!("HSET \"{key}\" SAI_ROUTE_ENTRY_ATTR_NEXT_HOP_ID oid:0x4000000000abc\n")
    };
    let file = agent::write(&bench.switch.path("routes"), &(0..20_000).map(route).collect::<String>());
    let socket = bench.switch.path("redis.sock");
    run("sh", &["-c", &format!("redis-cli -s {} -n 1 < {}", socket.display(), file.display())]);
    assert_eq!(bench.switch.cli(ASIC_DB, &["DBSIZE"]), "20002\n");
    assert_eq!((bench.commands_of_a_pass(), bench.snapshot()), before);
    assert!(!before.0.contains_key("scan") && !before.0.contains_key("keys"), "{:?}", before.0);
    assert_eq!(before.1.asic.len(), 2);

    // This also holds for a connection that finds the routes at its start.
    let Bench { switch, .. } = bench;
    let mut bench = Bench::on(switch, without_slow_scan());
    assert_eq!((bench.commands_of_a_pass(), bench.snapshot()), before);
}

#[test]
fn the_start_looks_at_no_route_when_syncd_has_a_hash_of_all_objects() {
    let switch = Switch::start();
    let rows = "redis.call('SELECT', 1)
        local prefix = 'ASIC_STATE:SAI_OBJECT_TYPE_'
        for i = 1, 20000 do redis.call('HSET', prefix .. 'ROUTE_ENTRY:' .. i, 'NULL', 'NULL') end
        for i, row in ipairs({'PORT:oid:0x1000000000002', 'ROUTER_INTERFACE:oid:0x6000000000002',
            'ACL_ENTRY:oid:0x8000000000002', 'ACL_TABLE_GROUP_MEMBER:oid:0xc000000000002',
            'BRIDGE_PORT:oid:0x3a000000000002', 'QUEUE:oid:0x15000000000002'}) do
            redis.call('HSET', prefix .. row, 'NULL', 'NULL')
            redis.call('HSET', 'VIDTORID', row:match('oid:.*'), 'oid:0x1')
        end
        redis.call('HSET', prefix .. 'PORT:oid:0x1000000000003', 'NULL', 'NULL')";
    switch.cli(CONFIG_DB, &["EVAL", rows, "0"]);
    switch.cli(CONFIG_DB, &["CONFIG", "RESETSTAT"]);
    let mut bench = Bench::on(switch, without_slow_scan());
    assert_eq!(bench.snapshot().asic.len(), 5, "{:?}", bench.snapshot().asic);
    let info = bench.switch.cli(CONFIG_DB, &["INFO", "commandstats"]);
    assert!(info.contains("cmdstat_scan:calls=2,") && info.contains("cmdstat_hscan:calls=1,"), "{info}");

    // The slow scan finds the row that the hash lacks.
    let Bench { switch, .. } = bench;
    let mut bench = Bench::on(switch, with_fast_scan());
    assert_eq!(bench.snapshot().asic.len(), 5);
    assert!(bench.sees_change());
    assert_eq!(bench.snapshot().asic.len(), 6);
}

#[test]
fn a_pass_sees_every_row_that_was_there_when_it_began() {
    let mut bench = Bench::start(without_slow_scan());
    for number in 0..40 {
        let key = format!("VRF|Vrf{number}");
        bench.config(&["HSET", &key, "NULL", "NULL"]);
        assert!(bench.snapshot().config.contains_key(&key), "{key}");
        bench.config(&["DEL", &key]);
        assert!(!bench.snapshot().config.contains_key(&key), "{key}");
    }
    // More events than Tokio's cooperative budget lets a task read at a time.
    let rows = "for i = 1, 2000 do redis.call('HSET', 'VRF|Many' .. i, 'NULL', 'NULL') end";
    bench.config(&["EVAL", rows, "0"]);
    assert_eq!(bench.snapshot().config.keys().filter(|key| key.starts_with("VRF|Many")).count(), 2000);
}

#[test]
fn the_next_pass_sees_an_emptied_database_and_the_rows_that_are_loaded_into_it() {
    let mut bench = Bench::start(without_slow_scan());
    assert_eq!(bench.snapshot().config.len(), 3);
    bench.config(&["FLUSHDB"]);
    let flushed = bench.snapshot();
    assert!(flushed.config.is_empty() && !flushed.initialized);
    bench.config(&["HSET", "PORT|Ethernet0", "index", "1"]);
    bench.config(&["SET", "CONFIG_DB_INITIALIZED", "1"]);
    let loaded = bench.snapshot();
    assert!(loaded.config.contains_key("PORT|Ethernet0") && loaded.initialized);
}

#[test]
fn a_row_is_followed_when_its_key_is_renamed() {
    let mut bench = Bench::start(without_slow_scan());
    bench.config(&["HSET", "VRF|Vrf1", "NULL", "NULL"]);
    bench.config(&["RENAME", "VRF|Vrf1", "VRF|Vrf2"]);
    bench.config(&["COPY", "VRF|Vrf2", "VRF|Vrf3"]);
    let keys: Vec<String> =
        bench.snapshot().config.into_keys().filter(|key| key.starts_with("VRF|")).collect();
    assert_eq!(keys, ["VRF|Vrf2", "VRF|Vrf3"]);
}

#[test]
fn the_slow_scan_finds_a_row_whose_event_was_lost() {
    let mut bench = Bench::start(with_fast_scan());
    bench.snapshot();
    bench.without_events(&[&["HSET", "VRF|Vrf1", "NULL", "NULL"]]);
    assert!(!bench.snapshot().config.contains_key("VRF|Vrf1"), "it is not known yet");
    assert!(bench.sees_change());
    assert!(bench.snapshot().config.contains_key("VRF|Vrf1"));
}

#[test]
fn a_lost_event_makes_the_slow_scan_begin_at_once() {
    let mut bench = Bench::start(Paces { rest: Duration::from_secs(3600), ..with_fast_scan() });
    bench.snapshot();
    bench.without_events(&[&["DEL", "PORT|Ethernet0"], &["HSET", "VRF|Vrf1", "NULL", "NULL"]]);
    assert!(!bench.snapshot().config.contains_key("PORT|Ethernet0"));
    // The deletion's event may have arrived late. By now it has arrived.
    bench.snapshot();
    assert!(bench.sees_change());
    assert!(bench.snapshot().config.contains_key("VRF|Vrf1"));
}

#[test]
fn the_slow_scan_ignores_keys_that_are_no_rows_no_text_or_have_no_field_of_interest() {
    let switch = Switch::start();
    let odd = "redis.call('SET', 'VRF|text', 'no row')
        redis.call('HSET', 'VRF|' .. string.char(0xe4), 'NULL', 'NULL')
        redis.call('SELECT', 1)
        redis.call('SET', 'ASIC_STATE:SAI_OBJECT_TYPE_ACL_ENTRY:oid:0x2', 'no row')
        redis.call('HSET', 'ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:oid:0x1', 'NULL', 'NULL')";
    switch.cli(CONFIG_DB, &["EVAL", odd, "0"]);
    let mut bench = Bench::on(switch, with_fast_scan());
    for _ in 0..3 {
        let asic: Vec<String> = bench.snapshot().asic.into_keys().collect();
        assert_eq!(asic, ["ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:oid:0x1"]);
        bench.config(&["CONFIG", "RESETSTAT"]);
        let change = async { timeout(Duration::from_millis(300), bench.db.changed()).await };
        assert!(bench.runtime.block_on(change).is_err(), "nothing has changed");
        let info = bench.switch.cli(CONFIG_DB, &["INFO", "commandstats"]);
        assert!(info.contains("cmdstat_scan:"), "the slow scan has gone on: {info}");
    }
}
