//! What a pass reads: how many round trips it takes, and that neither odd values nor a reload while it reads mislead it.
//!
//! Must never: measure time.

use std::time::Duration;

use super::bench::{Bench, desired};
use super::support;
use super::support::switch::{CONFIG_DB, Switch};

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
