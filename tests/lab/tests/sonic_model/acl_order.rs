//! In which order and in which steps aclorch works off its rules, and what others see of ASIC_DB in between.
//!
//! Owns: those tests. Must never: run the model on a thread of its own.

use std::time::Duration;

use leafboot_lab::sonic::Swss;
use leafboot_lab::sonic::acl_loader::{self, Rules, Update};
use leafboot_lab::sonic::behaviour::SonicRelease;
use leafboot_lab::sonic::isolation::Watch;

use crate::leaf::{Leaf, until};

const TABLE: &str = "ACL_TABLE|boot";
const COUNTER: &str = "SAI_OBJECT_TYPE_ACL_COUNTER";
const ENTRY: &str = "SAI_OBJECT_TYPE_ACL_ENTRY";

fn set_table(leaf: &mut Leaf, ports: &str) {
    leaf.set(TABLE, &[("type", "L3V6"), ("stage", "ingress"), ("ports@", ports)]);
}

fn set_rule(leaf: &mut Leaf, name: &str, priority: &str) {
    let row = [("PRIORITY", priority), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];
    leaf.set(&format!("ACL_RULE|boot|{name}"), &row);
}

/// A leaf of a release, with the ACL on Ethernet0 and these rules.
fn guarded(release: SonicRelease, rules: &[(&str, &str)]) -> (Leaf, Swss) {
    let mut leaf = Leaf::prepare();
    leaf.behaviour.release = release;
    leaf.behaviour.sai_calls_apart = true;
    set_table(&mut leaf, "Ethernet0");
    for (name, priority) in rules {
        set_rule(&mut leaf, name, priority);
    }
    let swss = leaf.held();
    (leaf, swss)
}

/// Writes all at once, and has aclorch see it as one batch.
fn in_one_batch(leaf: &mut Leaf, swss: &mut Swss, pipe: &redis::Pipeline) {
    swss.let_acls_wait(true);
    pipe.exec(leaf.config.connection()).unwrap();
    swss.run_until_idle().unwrap();
    swss.let_acls_wait(false);
}

/// Everything that is seen on the way, step by step, until the last of it is seen.
fn seen<T: PartialEq>(
    swss: &mut Swss,
    mut look: impl FnMut(&Swss) -> T,
    last: impl Fn(&T) -> bool,
) -> Vec<T> {
    let mut seen = vec![look(swss)];
    until("the last step", || {
        swss.run_once(Duration::ZERO).unwrap();
        let now = look(swss);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        (seen.len() > 1 && seen.last().is_some_and(&last)).then_some(())
    });
    seen
}

fn rules_on(swss: &Swss, port: &str) -> String {
    let rules = swss.rules_on(port).remove("boot").unwrap_or_default();
    rules.into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_rule_that_is_written_again_goes_and_comes_in_steps_and_state_db_keeps_calling_it_active() {
    let (mut leaf, mut swss) = guarded(SonicRelease::Head, &[("deny", "1")]);
    let before = leaf.counters.field("ACL_COUNTER_RULE_MAP", "", "boot:deny").unwrap();
    leaf.set("ACL_RULE|boot|deny", &[("L4_DST_PORT", "9")]);
    let look = |_: &Swss| {
        assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|deny").unwrap(), "Active");
        let name = leaf.counters.field("ACL_COUNTER_RULE_MAP", "", "boot:deny").unwrap();
        let count = |keys: Vec<String>| keys.len();
        let (entries, counters) = (count(leaf.asic_keys(ENTRY)), count(leaf.asic_keys(COUNTER)));
        (name.is_some(), entries, counters, name != before)
    };
    let expected = [
        (true, 1, 1, false),
        (false, 1, 1, true),
        (false, 0, 1, true),
        (false, 0, 0, true),
        (false, 0, 1, true),
        (true, 1, 1, true),
    ];
    assert_eq!(seen(&mut swss, look, |last| *last == expected[5]), expected);
}

#[test]
fn a_rule_is_known_by_name_through_its_counter_which_names_the_table() {
    let (mut leaf, _swss) = guarded(SonicRelease::Head, &[("deny", "1"), ("other", "7")]);
    for (rule, priority) in [("deny", "1"), ("other", "7")] {
        let counter =
            leaf.counters.field("ACL_COUNTER_RULE_MAP", "", &format!("boot:{rule}")).unwrap().unwrap();
        let row = leaf.asic.row("ASIC_STATE", &format!("{COUNTER}:{counter}")).unwrap().unwrap();
        let mut entries = Vec::new();
        for key in leaf.asic_keys(ENTRY) {
            entries.extend(leaf.asic.row("ASIC_STATE", &key).unwrap());
        }
        entries.retain(|entry| entry["SAI_ACL_ENTRY_ATTR_ACTION_COUNTER"] == counter);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0]["SAI_ACL_ENTRY_ATTR_PRIORITY"], priority);
        assert_eq!(entries[0]["SAI_ACL_ENTRY_ATTR_TABLE_ID"], row["SAI_ACL_COUNTER_ATTR_TABLE_ID"]);
        assert_eq!(row["SAI_ACL_COUNTER_ATTR_ENABLE_PACKET_COUNT"], "true");
    }
}

#[test]
fn rules_come_by_descending_priority_or_by_name() {
    let rules = [("a", "10"), ("b", "30"), ("c", "20")];
    for (release, expected) in [
        (SonicRelease::R202511, ["", "a", "a b", "a b c"]),
        (SonicRelease::R202605, ["", "a", "a b", "a b c"]),
        (SonicRelease::Head, ["", "b", "b c", "a b c"]),
    ] {
        let (mut leaf, mut swss) = guarded(release, &[]);
        let mut pipe = redis::pipe();
        pipe.atomic();
        for (name, priority) in rules {
            let row = [("PRIORITY", priority), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];
            pipe.hset_multiple(format!("ACL_RULE|boot|{name}"), &row);
        }
        in_one_batch(&mut leaf, &mut swss, &pipe);
        let steps = seen(&mut swss, |swss| rules_on(swss, "Ethernet0"), |last| last == "a b c");
        assert_eq!(steps, expected, "{release:?}");
    }
}

#[test]
fn rules_go_by_ascending_priority_before_any_comes_or_all_by_name() {
    for (release, expected) in [
        (SonicRelease::R202511, ["b d", "a b d", "a d", "a c d", "a c"]),
        (SonicRelease::R202605, ["b d", "a b d", "a d", "a c d", "a c"]),
        (SonicRelease::Head, ["b d", "b", "", "c", "a c"]),
    ] {
        let (mut leaf, mut swss) = guarded(release, &[("b", "20"), ("d", "10")]);
        let key = |name: &str| format!("ACL_RULE|boot|{name}");
        let row = |priority| [("PRIORITY", priority), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];
        let mut pipe = redis::pipe();
        pipe.del(&[key("b"), key("d")]).hset_multiple(key("a"), &row("1")).hset_multiple(key("c"), &row("2"));
        in_one_batch(&mut leaf, &mut swss, &pipe);
        let steps = seen(&mut swss, |swss| rules_on(swss, "Ethernet0"), |last| last == "a c");
        assert_eq!(steps, expected, "{release:?}");
    }
}

#[test]
fn a_rule_deleted_and_written_in_one_batch_is_away_while_all_others_go_on_head() {
    let (mut leaf, mut swss) = guarded(SonicRelease::Head, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let key = |name: &str| format!("ACL_RULE|boot|{name}");
    let mut pipe = redis::pipe();
    pipe.atomic();
    for (name, priority) in [("a", "1"), ("b", "2"), ("c", "3")] {
        let row = [("PRIORITY", priority), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];
        pipe.del(key(name)).hset_multiple(key(name), &row);
    }
    in_one_batch(&mut leaf, &mut swss, &pipe);
    let mut was_empty = false;
    let look = |swss: &Swss| {
        let rules = rules_on(swss, "Ethernet0");
        was_empty |= rules.is_empty();
        (rules, was_empty)
    };
    let steps = seen(&mut swss, look, |last| *last == ("a b c".to_owned(), true));
    let rules: Vec<&str> = steps.iter().map(|(rules, _)| rules.as_str()).collect();
    assert_eq!(rules, ["a b c", "b c", "c", "", "c", "b c", "a b c"]);
}

#[test]
fn without_steps_a_rule_is_never_seen_to_be_away_between_two_runs() {
    let (mut leaf, mut swss) = guarded(SonicRelease::Head, &[("deny", "1")]);
    leaf.behaviour.sai_calls_apart = false;
    swss.behave(leaf.behaviour);
    let before = leaf.asic_keys(ENTRY);
    leaf.set("ACL_RULE|boot|deny", &[("L4_DST_PORT", "9")]);
    until("another entry", || {
        swss.run_once(Duration::ZERO).unwrap();
        let now = leaf.asic_keys(ENTRY);
        assert_eq!(now.len(), 1);
        (now != before).then_some(())
    });
}

#[test]
fn each_sai_call_takes_its_time_and_a_gap_is_as_long_as_that() {
    let mut leaf = Leaf::prepare();
    leaf.behaviour.sai_delay_ms = 20;
    set_table(&mut leaf, "Ethernet0");
    set_rule(&mut leaf, "deny", "1");
    leaf.set("VRF|Vrfboot", &[]);
    leaf.set("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]);
    let mut swss = leaf.held();
    let rules = std::iter::once("deny".to_owned()).collect();
    swss.watch_isolation(Watch { vrf: "Vrfboot".to_owned(), acl_table: "boot".to_owned(), rules });
    leaf.set("ACL_RULE|boot|deny", &[("L4_DST_PORT", "9")]);
    until("the gap", || {
        swss.run_once(Duration::from_millis(5)).unwrap();
        swss.isolation_gaps().first().and_then(|gap| gap.closed)
    });
    // The entry is gone; then the counter goes, another comes, and another entry.
    assert_eq!(swss.isolation_gaps().len(), 1);
    assert!(swss.longest_gap() >= Duration::from_millis(60), "{:?}", swss.longest_gap());
}

#[test]
fn a_table_that_goes_takes_names_entries_and_counters_of_its_rules_and_state_db_keeps_the_rules() {
    let (mut leaf, mut swss) = guarded(SonicRelease::Head, &[("deny", "1"), ("other", "2")]);
    leaf.delete(TABLE);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.asic_keys(ENTRY), [""; 0]);
    assert_eq!(leaf.asic_keys(COUNTER), [""; 0]);
    assert_eq!(leaf.counters.row("ACL_COUNTER_RULE_MAP", "").unwrap(), None);
    for rule in ["boot|deny", "boot|other"] {
        assert_eq!(leaf.status("ACL_RULE_TABLE", rule).unwrap(), "Active", "{rule}");
    }
    leaf.delete("ACL_RULE|boot|deny");
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|deny"), None);
}

#[test]
fn a_rule_with_an_invalid_priority_is_inactive_or_has_no_status() {
    for (release, said) in [(SonicRelease::R202511, Some("Inactive")), (SonicRelease::Head, None)] {
        let (mut leaf, mut swss) = guarded(release, &[]);
        set_rule(&mut leaf, "odd", "ten");
        swss.run_until_idle().unwrap();
        assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|odd").as_deref(), said, "{release:?}");
        set_rule(&mut leaf, "odd", "1000000");
        swss.run_until_idle().unwrap();
        assert_eq!(leaf.status("ACL_RULE_TABLE", "boot|odd").as_deref(), Some("Inactive"), "{release:?}");
    }
}

#[test]
fn acl_loader_deletes_all_rules_and_incrementally_all_but_those_of_the_control_plane() {
    let services = [("PRIORITY", "9"), ("PACKET_ACTION", "ACCEPT"), ("SRC_IPV6", "::/0")];
    for (update, kept) in [(Update::Full, false), (Update::Incremental, true)] {
        let (mut leaf, mut swss) = guarded(SonicRelease::Head, &[("deny", "1"), ("other", "2")]);
        leaf.set("ACL_TABLE|SSH", &[("type", "CTRLPLANE"), ("services@", "SSH")]);
        leaf.set("ACL_RULE|SSH|RULE_1", &services);
        swss.run_until_idle().unwrap();
        let loaded = |rule: &str, row: &[(&str, &str)]| {
            let (table, rule) = rule.split_once('|').unwrap();
            ((table.to_owned(), rule.to_owned()), crate::leaf::fields(row))
        };
        let data = [("PRIORITY", "5"), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];
        let rules: Rules = [loaded("SSH|RULE_1", &services), loaded("boot|RULE_5", &data)].into();
        let before = leaf.deletions();
        acl_loader::update(&mut leaf.config, update, &rules).unwrap();
        assert_eq!(leaf.deletions() - before, if kept { 2 } else { 3 }, "{update:?}");
        swss.run_until_idle().unwrap();
        assert_eq!(rules_on(&swss, "Ethernet0"), "RULE_5", "{update:?}");
        assert!(leaf.config.row("ACL_RULE", "SSH|RULE_1").unwrap().is_some());
        assert!(leaf.config.row("ACL_TABLE", "boot").unwrap().is_some());
    }
}
