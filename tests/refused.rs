//! Redis refuses writes while its connections are fine. The real binary logs each refused row once, writes the other rows, and
//! tries the refused row again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use serde_json::Value;
use support::agent::{self, Agent};
use support::switch::{CONFIG_DB, Switch};
use support::{eventually, run};

/// How many writes Redis has refused since it started.
fn refusals(switch: &Switch) -> usize {
    let info = switch.cli(CONFIG_DB, &["INFO", "commandstats"]);
    let writes =
        info.lines().filter(|line| line.starts_with("cmdstat_hset:") || line.starts_with("cmdstat_hmset:"));
    let counts = writes.flat_map(|line| line.split(',')).filter_map(|field| field.split_once('='));
    let refused = counts.filter(|(name, _)| matches!(*name, "rejected_calls" | "failed_calls"));
    refused.map(|(_, count)| count.trim().parse::<usize>().unwrap()).sum()
}

/// A push of this many ports, and the `PORT` rows for it.
fn ports(switch: &Switch, count: usize) -> String {
    let rows: String =
        (0..count).map(|port| format!("HSET PORT|Ethernet{} index {port}\n", port * 4 + 1000)).collect();
    let file = agent::write(&switch.path("ports.redis"), &rows);
    let load = format!("redis-cli -s {} -n 4 < {}", switch.path("redis.sock").display(), file.display());
    run("sh", &["-c", &load]);
    let wish = |port| {
        let name = format!("Ethernet{}", port * 4 + 1000);
        (name, serde_json::json!({"state": "boot", "prefix": format!("2001:db8:b008:{port:x}::/64")}))
    };
    let ports: serde_json::Map<String, Value> = (0..count).map(wish).collect();
    serde_json::json!({ "ports": ports }).to_string()
}

/// The message of a refused write; empty while there is no condition.
fn message(condition: &Value) -> String {
    if condition.is_null() {
        return String::new();
    }
    let reason = condition["reason"].as_str().unwrap();
    let message = condition["message"].as_str().unwrap();
    assert_eq!(reason == "WriteRefused", message.starts_with("Redis refuses to write "), "{condition}");
    message.to_owned()
}

fn count(text: &str, what: &str) -> usize {
    text.lines().filter(|line| line.contains(what)).count()
}

#[test]
fn a_full_redis_is_logged_once_and_briefly_with_512_ports_and_tried_again_with_pauses() {
    let switch = Switch::start();
    let document = ports(&switch, 512);
    let file = agent::write(&switch.path("push.json"), &document);
    let agent = Agent::start_with(&switch, "supernet = \"2001:db8:b000::/36\"\n");
    eventually("leafboot has read CONFIG_DB", || agent.get("/v1/ports/Ethernet0").0 == 200);
    switch.cli(CONFIG_DB, &["CONFIG", "SET", "maxmemory", "1"]);
    let push = ["-X", "PUT", "--data-binary", &format!("@{}", file.display()), "http://leafboot/v1/ports"];
    let (code, answer) = agent.curl(&push);
    assert_eq!(code, 202, "{:.200}", answer.to_string());
    let error = || message(&agent.get("/v1/ports").1["error"]);
    eventually("the refusal is shown", || error().starts_with("Redis refuses to write ACL_"));
    assert!(error().contains(": OOM command not allowed") && error().len() < 600, "{}", error());
    let round = refusals(&switch);
    eventually("it is tried again", || refusals(&switch) >= round + 2);

    let (_, all) = agent.get("/v1/ports");
    assert!(all.to_string().len() < 512 * 700, "{} bytes", all.to_string().len());
    assert_eq!(all["settled"], false);
    let log = agent.log();
    assert!(count(&log, "Redis refuses to write") <= 3, "{log}");
    assert!(log.lines().all(|line| line.len() < 1000), "a line is longer");
    assert_eq!(count(&log, "wrote CONFIG_DB"), 0, "{log}");
    assert_eq!(count(&log, "SONiC's databases cannot be used"), 0, "they can be read");

    switch.cli(CONFIG_DB, &["CONFIG", "SET", "maxmemory", "0"]);
    eventually("all is written", || switch.dump(CONFIG_DB).contains("VRF|Vrfboot"));
    eventually("the error is gone", || agent.get("/v1/ports").1["error"].is_null());
}

#[test]
fn a_replica_takes_no_writes_and_each_port_says_what_it_lacks() {
    let switch = Switch::start();
    switch.cli(CONFIG_DB, &["HSET", "INTERFACE|Ethernet0", "vrf_name", "VrfTenant"]);
    let agent = Agent::start_ready(&switch);
    switch.cli(CONFIG_DB, &["REPLICAOF", "127.0.0.1", "1"]);
    agent.put("/v1/ports", r#"{"ports": {"Ethernet0": {"state": "boot"}}}"#);
    let error = || message(&agent.get("/v1/ports").1["error"]);
    eventually("the refusal is shown", || error().contains(": READONLY "));
    let port = message(&agent.get("/v1/ports/Ethernet0").1["waiting"]);
    assert!(port.starts_with("Redis refuses to write INTERFACE|Ethernet0: READONLY "), "{port}");
    assert_eq!(agent.get("/v1/ports/Ethernet4").0, 200, "the ports are known");
    switch.cli(CONFIG_DB, &["REPLICAOF", "NO", "ONE"]);
    eventually("all is written", || switch.dump(CONFIG_DB).contains("VRF|Vrfboot"));
}

#[test]
fn pauses_between_refused_writes_hold_across_lost_connections() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    switch.cli(CONFIG_DB, &["CONFIG", "SET", "maxmemory", "1"]);
    agent.put("/v1/ports", r#"{"ports": {"Ethernet0": {"state": "boot"}}}"#);
    for _ in 0..3 {
        let before = refusals(&switch);
        eventually("it is refused", || refusals(&switch) > before);
    }
    // The pause is 8 s by now, and a new connection takes 1 s.
    let (before, connections) = (refusals(&switch), count(&agent.log(), "connected to SONiC"));
    for kind in ["pubsub", "normal"] {
        switch.cli(CONFIG_DB, &["CLIENT", "KILL", "TYPE", kind]);
    }
    eventually("it is connected again", || count(&agent.log(), "connected to SONiC") > connections);
    eventually("a pass is over", || agent.get("/v1/ports/Ethernet4").0 == 200);
    assert_eq!(refusals(&switch), before);
}

#[test]
fn one_refused_row_is_named_and_the_others_are_written() {
    let switch = Switch::start();
    switch.cli(CONFIG_DB, &["SET", "ACL_RULE|LEAFBOOT|DENY_REDIRECT", "no row"]);
    let agent = Agent::start_ready(&switch);
    agent.put("/v1/ports", r#"{"ports": {"Ethernet0": {"state": "boot"}}}"#);
    let refused = "Redis refuses to write ACL_RULE|LEAFBOOT|DENY_REDIRECT: WRONGTYPE ";
    let error = || message(&agent.get("/v1/ports").1["error"]);
    eventually("the refusal is shown", || error().starts_with(refused));
    let rows = switch.dump(CONFIG_DB);
    assert!(rows.contains("VRF|Vrfboot") && rows.contains("ACL_RULE|LEAFBOOT|DEFAULT_RULE"), "{rows}");
    let round = refusals(&switch);
    eventually("it is tried again", || refusals(&switch) > round);
    assert_eq!(count(&agent.log(), refused), 1, "{}", agent.log());

    switch.cli(CONFIG_DB, &["DEL", "ACL_RULE|LEAFBOOT|DENY_REDIRECT"]);
    eventually("it is written", || {
        switch.cli(CONFIG_DB, &["TYPE", "ACL_RULE|LEAFBOOT|DENY_REDIRECT"]) == "hash\n"
    });
}

#[test]
fn a_rule_is_not_written_when_its_tables_row_is_refused() {
    let switch = Switch::start();
    switch.cli(CONFIG_DB, &["SET", "ACL_TABLE|LEAFBOOT", "no row"]);
    let agent = Agent::start_ready(&switch);
    agent.put("/v1/ports", r#"{"ports": {"Ethernet0": {"state": "boot"}}}"#);
    let error = || message(&agent.get("/v1/ports").1["error"]);
    eventually("the refusal is shown", || error().contains("ACL_TABLE|LEAFBOOT: WRONGTYPE "));
    let round = refusals(&switch);
    eventually("it is tried again", || refusals(&switch) > round);
    assert!(!switch.dump(CONFIG_DB).contains("ACL_RULE|"), "caclmgrd dies of a rule without a table");
}
