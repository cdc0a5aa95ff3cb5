//! Changes to the boot ACL of a full leaf: 63 ports, the real reconciler, and the model of orchagent with a slow ASIC, in the
//! order of work of every release. The kernel is modelled, too, because a laboratory's leaf has fewer ports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "acl_repair/full_leaf.rs"]
mod full_leaf;
mod support;

use std::time::Duration;

use full_leaf::{FullLeaf, PORTS, SAI_CALL};
use leafboot_lab::sonic::behaviour::SonicRelease;

/// How long a denying rule may be absent at most, in milliseconds, with SAI calls of [`SAI_CALL`].
const BAR: u128 = 100;
/// The number of the model's steps for which a rule is absent while it is recreated: four SAI calls and two writes of its name
/// (swss e6b0c5b5d, `orchagent/aclorch.cpp: AclTable::add`).
const OWN_STEPS: u64 = 6;
/// The two orders in which SONiC's releases work off a batch of rules.
const BOTH_ORDERS: [SonicRelease; 2] = [SonicRelease::R202511, SonicRelease::Head];
/// How long the test checks that nothing more is written after a repair: longer than the time between two passes.
const QUIET: Duration = Duration::from_secs(3);

#[test]
fn one_strange_field_on_the_default_rule_costs_one_write_and_one_short_gap() {
    for release in BOTH_ORDERS {
        let leaf = FullLeaf::settled(release);
        let mark = leaf.mark();
        leaf.config(&["HSET", "ACL_RULE|LEAFBOOT|DEFAULT_RULE", "L4_DST_PORT", "9"]);
        leaf.until("the field is gone again, and the rule is there", || {
            !leaf.config(&["HGETALL", "ACL_RULE|LEAFBOOT|DEFAULT_RULE"]).contains("L4_DST_PORT")
        });
        leaf.settles();
        std::thread::sleep(QUIET);
        assert!(leaf.is_settled(), "{release:?}: it has settled for good");
        let written = mark.written();
        assert_eq!(
            written,
            ["hset ACL_RULE|LEAFBOOT|DEFAULT_RULE", "hdel ACL_RULE|LEAFBOOT|DEFAULT_RULE"],
            "{release:?}: the test's write and one repair"
        );
        let gaps = leaf.gaps_since(&mark);
        assert!(!gaps.is_empty(), "{release:?}: orchagent makes a rule again by removing it");
        for gap in &gaps {
            assert!(
                gap.steps <= OWN_STEPS,
                "{release:?}: other work was done while a rule was away: {gap:?}"
            );
        }
        let worst = gaps.iter().map(|gap| gap.milliseconds).max().unwrap_or_default();
        let model = gaps.iter().map(|gap| gap.steps).max().unwrap_or_default() * SAI_CALL.as_millis() as u64;
        println!(
            "{release:?}, {PORTS} ports, a strange field on DEFAULT_RULE: absent {} times, at most {worst} ms ({model} ms of \
             SAI calls)",
            full_leaf::times(&gaps)
        );
        assert!(u128::from(model) <= BAR, "{release:?}");
    }
}

#[test]
fn rules_that_acl_loader_has_deleted_come_back_and_those_that_deny_first() {
    for release in BOTH_ORDERS {
        let leaf = FullLeaf::settled(release);
        let mark = leaf.mark();
        let rules = leaf.config(&["--raw", "KEYS", "ACL_RULE|LEAFBOOT|*"]);
        let rules: Vec<&str> = rules.lines().collect();
        leaf.config(&[&["DEL"], rules.as_slice()].concat());
        leaf.until("a denying rule is missing", || !leaf.gaps_since(&mark).is_empty());
        leaf.settles();
        let written = mark.written();
        let hset = |rule: &str| {
            let event = format!("hset ACL_RULE|LEAFBOOT|{rule}");
            written.iter().position(|event_seen| *event_seen == event)
        };
        let denying = ["DENY_ROUTER_ADVERTISEMENT", "DENY_REDIRECT", "DENY_MACHINES", "DEFAULT_RULE"];
        let last_denying = denying.map(|rule| hset(rule).unwrap()).into_iter().max().unwrap();
        let is_permit =
            |event: &&String| event.starts_with("hset ") && !denying.iter().any(|rule| event.ends_with(rule));
        let first_permit = written.iter().position(|event| is_permit(&event)).unwrap();
        assert!(last_denying < first_permit, "{release:?}: {written:?}");
        assert_eq!(
            written.iter().filter(|event| event.starts_with("hset ")).count(),
            rules.len(),
            "{release:?}: each rule is written once"
        );
        let worst = leaf.gaps_since(&mark).iter().map(|gap| gap.milliseconds).max().unwrap_or_default();
        println!(
            "{release:?}, {PORTS} ports, all {} rules deleted: some denying rule absent for {worst} ms",
            rules.len()
        );
    }
}
