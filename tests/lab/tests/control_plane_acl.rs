//! The rows of `docs/operations.md` for a leaf with a control plane ACL: SONiC's models accept them, and caclmgrd
//! translates them into the intended rules.
//!
//! `translated` is a copy of caclmgrd's function, which is the same in the releases 202405 to master.

use std::collections::{BTreeMap, BTreeSet};

use leafboot_lab::sonic::yang::{Release, Rows, check};

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// The words of a command, as a shell has them.
fn words(command: &str) -> Vec<String> {
    let pieces = command.split('\'').enumerate();
    let words = pieces.flat_map(|(number, piece)| match number % 2 {
        1 => vec![piece.to_owned()],
        _ => piece.split_whitespace().map(str::to_owned).collect(),
    });
    words.collect()
}

/// The rows that the page tells the operator to write, in this order.
fn written() -> Vec<(String, BTreeMap<String, String>)> {
    let commands = OPERATIONS.lines().filter_map(|line| line.trim().strip_prefix("redis-cli -n 4 hset "));
    let row = |command| {
        let words = words(command);
        let (name, fields) = words.split_first()?;
        let fields = fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Some((name.clone(), fields))
    };
    commands.filter_map(row).collect()
}

/// `sonic-host-services scripts/caclmgrd: get_acl_rules_and_translate_to_iptables_commands`, for tables of EXTERNAL_CLIENT.
fn translated(rows: &Rows) -> BTreeSet<String> {
    let mut commands = BTreeSet::new();
    let tables = rows.iter().filter_map(|(name, row)| Some((name.strip_prefix("ACL_TABLE|")?, row)));
    for (table, row) in tables {
        assert_eq!((row["type"].as_str(), row["services@"].as_str()), ("CTRLPLANE", "EXTERNAL_CLIENT"));
        let of_table = format!("ACL_RULE|{table}|");
        let rules: Vec<_> =
            rows.iter().filter(|(name, _)| name.starts_with(&of_table)).map(|(_, row)| row).collect();
        // One for the whole table: the last one's.
        let Some(port) = rules.iter().filter_map(|rule| rule.get("L4_DST_PORT")).next_back() else {
            continue;
        };
        // Without any prefix it does not know whether the table is one of IPv4 or of IPv6, and skips it.
        if !rules.iter().any(|rule| rule.contains_key("SRC_IPV6") || rule.contains_key("DST_IPV6")) {
            continue;
        }
        for rule in rules {
            let from = rule.get("SRC_IPV6").map(|net| format!(" -s {net}")).unwrap_or_default();
            let to = rule.get("DST_IPV6").map(|net| format!(" -d {net}")).unwrap_or_default();
            let action = &rule["PACKET_ACTION"];
            commands.insert(format!("ip6tables -A INPUT -p tcp{from}{to} --dport {port} -j {action}"));
        }
    }
    commands
}

#[test]
fn the_rows_open_the_relays_ports_to_every_machine() {
    let rows: Rows = written().into_iter().collect();
    let open = |port| format!("ip6tables -A INPUT -p tcp -s ::/0 --dport {port} -j ACCEPT");
    assert_eq!(translated(&rows), [open(443), open(80)].into());
    for release in Release::ALL {
        assert_eq!(check(release, &rows), [""; 0], "{release:?}");
    }
}

#[test]
fn each_table_is_written_before_its_rule() {
    let names: Vec<String> = written().into_iter().map(|(name, _)| name).collect();
    for (number, rule) in names.iter().enumerate().filter(|(_, name)| name.starts_with("ACL_RULE|")) {
        let table = format!("ACL_TABLE|{}", rule.split('|').nth(1).unwrap_or_default());
        assert!(names[..number].contains(&table), "{rule}");
    }
}
