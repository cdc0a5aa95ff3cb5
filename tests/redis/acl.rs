//! The boot ACL: rows that another program deletes, and rules that orchagent loses.
//!
//! Must never: write to ASIC_DB, except to delete an entry that leafboot must notice.

use std::collections::BTreeSet;

use leafboot_core::observed::ObservedAcl;

use super::bench::{A, B, Bench, desired};
use super::support::eventually;
use super::support::switch::CONFIG_DB;

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
    let entries = |acl: &ObservedAcl| acl.asic_entries.keys().cloned().collect::<Vec<_>>();
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
