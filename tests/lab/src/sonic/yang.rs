//! The rules of SONiC's YANG models for CONFIG_DB's rows: `config reload` refuses a file that breaks them.
//!
//! Owns: the rules for the tables that leafboot writes or reads, for three releases.
//! Must never: accept rows that SONiC's models refuse. It may be stricter: fields that leafboot does not use are
//! unknown here. It does not check tables that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::database::Fields;

/// A release of SONiC, by its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// The branch 202311.
    R202311,
    /// The branch 202505.
    R202505,
    /// The branch master.
    Head,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::R202311, Self::R202505, Self::Head];
}

/// Rows as redis has them: `TABLE|key`, and the fields with the mark of a list and the `NULL` of an empty row.
pub type Rows = BTreeMap<String, Fields>;

/// Every error that the models of a release find in these rows, taken as the whole of CONFIG_DB.
pub fn check(release: Release, rows: &Rows) -> Vec<String> {
    let mut checker = Checker { release, rows, complaints: Vec::new() };
    for (name, row) in rows {
        let keys: Vec<&str> = name.split('|').collect();
        match keys.as_slice() {
            ["VRF", vrf] => checker.vrf(name, vrf, row),
            ["INTERFACE", port] => checker.interface(name, port, row),
            ["LOOPBACK_INTERFACE", loopback] => checker.loopback(name, loopback, row),
            ["INTERFACE" | "LOOPBACK_INTERFACE", _, prefix] => checker.address(name, prefix, row),
            ["VLAN_MEMBER", vlan, port] => checker.vlan_member(name, vlan, port, row),
            ["ACL_TABLE", _] => checker.acl_table(name, row),
            ["ACL_RULE", table, _] => checker.acl_rule(name, table, row),
            ["VRF" | "INTERFACE" | "LOOPBACK_INTERFACE" | "VLAN_MEMBER" | "ACL_TABLE" | "ACL_RULE", ..] => {
                checker.complain(name, "not a key of this table");
            }
            _ => {}
        }
    }
    checker.complaints
}

struct Checker<'a> {
    release: Release,
    rows: &'a Rows,
    complaints: Vec<String>,
}

impl Checker<'_> {
    // sonic-buildimage src/sonic-yang-models/yang-models/sonic-vrf.yang: VRF_LIST
    fn vrf(&mut self, name: &str, vrf: &str, row: &Fields) {
        let suffix = vrf.strip_prefix("Vrf").unwrap_or_default();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if suffix.is_empty() || !suffix.chars().all(is_word) {
            self.complain(name, "Invalid VRF name");
        }
        // Since 2024-11, sonic-buildimage#20108.
        if self.release > Release::R202311 && vrf.len() > 15 {
            self.complain(name, "a VRF name has at most 15 characters");
        }
        self.fields(name, row, |field, value| match field {
            "fallback" => Some(matches!(value, "true" | "false")),
            "vni" => Some(in_range(value, 0, 16_777_215)),
            _ => None,
        });
    }

    // sonic-buildimage src/sonic-yang-models/yang-models/sonic-interface.yang: INTERFACE_LIST
    fn interface(&mut self, name: &str, port: &str, row: &Fields) {
        self.must_exist(name, "PORT", port);
        self.vrf_of(name, row);
        // Since 2024-05, sonic-buildimage#18292. A LAG member is not looked at.
        let is_of_port =
            |other: &String| other.starts_with("VLAN_MEMBER|") && other.ends_with(&format!("|{port}"));
        if self.release > Release::R202311 && self.rows.keys().any(is_of_port) {
            self.complain(name, "Port is a router interface, and a VLAN member");
        }
        self.fields(name, row, |field, value| match field {
            "vrf_name" => Some(true),
            "ipv6_use_link_local_only" | "mpls" => Some(matches!(value, "enable" | "disable")),
            "loopback_action" => Some(matches!(value, "drop" | "forward")),
            "nat_zone" => Some(in_range(value, 0, 3)),
            "mac_addr" => Some(is_mac(value)),
            _ => None,
        });
    }

    // sonic-buildimage src/sonic-yang-models/yang-models/sonic-loopback-interface.yang: LOOPBACK_INTERFACE_LIST
    fn loopback(&mut self, name: &str, loopback: &str, row: &Fields) {
        let number = loopback.strip_prefix("Loopback").unwrap_or_default();
        if !(1..=3).contains(&number.len()) || !number.bytes().all(|digit| digit.is_ascii_digit()) {
            self.complain(name, "Invalid Loopback name");
        }
        self.vrf_of(name, row);
        self.fields(name, row, |field, value| match field {
            "vrf_name" => Some(true),
            "admin_status" => Some(matches!(value, "up" | "down")),
            "nat_zone" => Some(in_range(value, 0, 3)),
            _ => None,
        });
    }

    // sonic-buildimage src/sonic-yang-models/yang-models/sonic-interface.yang: INTERFACE_IPPREFIX_LIST
    fn address(&mut self, name: &str, prefix: &str, row: &Fields) {
        if let Some((base, _)) = name.rsplit_once('|')
            && !self.rows.contains_key(base)
        {
            self.complain(name, format!("there is no {base}"));
        }
        let Some(prefix) = Some(prefix).filter(|text| text.contains('/')).and_then(|text| text.parse().ok())
        else {
            self.complain(name, "not an IP prefix");
            return;
        };
        let family = if matches!(prefix, IpNet::V4(_)) { "IPv4" } else { "IPv6" };
        self.fields(name, row, |field, value| match field {
            "scope" => Some(matches!(value, "global" | "local")),
            "family" => Some(value == family),
            _ => None,
        });
    }

    // sonic-buildimage src/sonic-yang-models/yang-models/sonic-vlan.yang: VLAN_MEMBER_LIST
    fn vlan_member(&mut self, name: &str, vlan: &str, port: &str, row: &Fields) {
        self.must_exist(name, "VLAN", vlan);
        self.must_be_port_or_lag(name, port);
        self.must_have(name, row, "tagging_mode");
        self.fields(name, row, |field, value| match field {
            "tagging_mode" => Some(matches!(value, "tagged" | "untagged" | "priority_tagged")),
            _ => None,
        });
    }

    // sonic-buildimage src/sonic-yang-models/yang-templates/sonic-acl.yang.j2: ACL_TABLE_LIST
    fn acl_table(&mut self, name: &str, row: &Fields) {
        self.must_have(name, row, "type");
        let kind = row.get("type").map_or("", String::as_str);
        if !KINDS.contains(&kind) {
            self.must_exist(name, "ACL_TABLE_TYPE", kind);
        }
        let mut seen = BTreeSet::new();
        // A list with one empty name is the way to write an empty list.
        for port in row.get("ports@").map_or("", String::as_str).split(',').filter(|port| !port.is_empty()) {
            self.must_be_port_or_lag(name, port);
            if !seen.insert(port) {
                self.complain(name, format!("{port} is twice in ports"));
            }
        }
        self.fields(name, row, |field, value| match field {
            "policy_desc" => Some((1..=255).contains(&value.len())),
            "type" | "ports@" => Some(true),
            "services@" => {
                Some(value.split(',').all(|s| matches!(s, "SSH" | "SNMP" | "NTP" | "EXTERNAL_CLIENT")))
            }
            "stage" => Some(matches!(value, "ingress" | "egress" | "INGRESS" | "EGRESS")),
            _ => None,
        });
    }

    // sonic-buildimage src/sonic-yang-models/yang-templates/sonic-acl.yang.j2: ACL_RULE_LIST
    fn acl_rule(&mut self, name: &str, table: &str, row: &Fields) {
        self.must_exist(name, "ACL_TABLE", table);
        self.must_have(name, row, "PRIORITY");
        let of_table = self.rows.get(&format!("ACL_TABLE|{table}"));
        let is_built_in =
            of_table.and_then(|row| row.get("type")).is_some_and(|kind| KINDS.contains(&kind.as_str()));
        // Since 2026-03, sonic-buildimage#25357.
        if self.release == Release::Head && is_built_in && row.contains_key("TCP_FLAGS") {
            self.complain(name, "TCP_FLAGS in a table of a built-in type");
        }
        let ip_type = row.get("IP_TYPE").map_or("", String::as_str);
        for (family, ip_types) in
            [("IPV6", ["ANY", "IP", "IPV6", "IPV6ANY"]), ("IP", ["ANY", "IP", "IPV4", "IPV4ANY"])]
        {
            let has_address = ["SRC", "DST"].iter().any(|end| row.contains_key(&format!("{end}_{family}")));
            if has_address && !ip_types.contains(&ip_type) {
                self.complain(name, format!("an {family} prefix with IP_TYPE '{ip_type}'"));
            }
        }
        self.fields(name, row, is_rule_field);
    }

    fn vrf_of(&mut self, name: &str, row: &Fields) {
        match row.get("vrf_name").map(String::as_str) {
            None | Some("default") => {}
            Some(vrf) => self.must_exist(name, "VRF", vrf),
        }
    }

    fn must_be_port_or_lag(&mut self, name: &str, port: &str) {
        if !self.rows.contains_key(&format!("PORTCHANNEL|{port}")) {
            self.must_exist(name, "PORT", port);
        }
    }

    fn must_exist(&mut self, name: &str, table: &str, key: &str) {
        if !self.rows.contains_key(&format!("{table}|{key}")) {
            self.complain(name, format!("there is no {table}|{key}"));
        }
    }

    fn must_have(&mut self, name: &str, row: &Fields, field: &str) {
        if !row.contains_key(field) {
            self.complain(name, format!("{field} is mandatory"));
        }
    }

    /// `is_valid` returns none for a field that does not exist.
    fn fields(&mut self, name: &str, row: &Fields, is_valid: impl Fn(&str, &str) -> Option<bool>) {
        for (field, value) in row.iter().filter(|(field, _)| *field != "NULL") {
            match is_valid(field, value) {
                Some(true) => {}
                Some(false) => self.complain(name, format!("{field} cannot be '{value}'")),
                None => self.complain(name, format!("there is no field {field}")),
            }
        }
    }

    fn complain(&mut self, name: &str, what: impl Display) {
        self.complaints.push(format!("{name}: {what}"));
    }
}

/// The types of ACL tables that need no ACL_TABLE_TYPE row.
// sonic-buildimage src/sonic-yang-models/yang-templates/sonic-types.yang.j2: acl_table_type
const KINDS: [&str; 7] = ["L3", "L3V6", "L3V4V6", "MIRROR", "MIRRORV6", "MIRROR_DSCP", "CTRLPLANE"];

// sonic-buildimage src/sonic-yang-models/yang-templates/sonic-acl.yang.j2: ACL_RULE_LIST (there is no NEXT_HEADER)
fn is_rule_field(field: &str, value: &str) -> Option<bool> {
    Some(match field {
        "PRIORITY" => in_range(value, 0, 999_999),
        "PACKET_ACTION" => matches!(value, "FORWARD" | "DROP" | "ACCEPT"),
        "IP_TYPE" => matches!(
            value,
            "ANY"
                | "IP"
                | "NON_IP"
                | "IPV4"
                | "IPV6"
                | "IPV4ANY"
                | "NON_IPV4"
                | "IPV6ANY"
                | "NON_IPV6"
                | "ARP"
        ),
        "IP_PROTOCOL" => in_range(value, 1, 143),
        "SRC_IPV6" | "DST_IPV6" => value.parse::<Ipv6Net>().is_ok(),
        "SRC_IP" | "DST_IP" => value.parse::<Ipv4Net>().is_ok(),
        "ICMPV6_TYPE" | "ICMPV6_CODE" | "ICMP_TYPE" | "ICMP_CODE" => in_range(value, 0, 255),
        "L4_SRC_PORT" | "L4_DST_PORT" => in_range(value, 0, 65_535),
        "L4_SRC_PORT_RANGE" | "L4_DST_PORT_RANGE" => {
            value.split_once('-').is_some_and(|(a, b)| in_range(a, 0, 65_535) && in_range(b, 0, 65_535))
        }
        "TCP_FLAGS" => value.split_once('/').is_some_and(|(a, b)| a.starts_with("0x") && b.starts_with("0x")),
        "VLAN_ID" => in_range(value, 1, 4094),
        _ => return None,
    })
}

/// A decimal number without a sign or leading zeros, within these bounds.
fn in_range(text: &str, first: u32, last: u32) -> bool {
    text.parse::<u32>().is_ok_and(|number| number.to_string() == text && (first..=last).contains(&number))
}

fn is_mac(text: &str) -> bool {
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(is_byte)
}
