//! ACL rows as aclorch reads them.
//!
//! Owns: which fields and values it accepts, and the attributes of the ASIC's objects that follow from them.
//! Must never: do I/O, or know what exists already.

use std::collections::BTreeSet;

use ipnet::Ipv6Net;

use super::database::Fields;

/// An ACL_TABLE row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// What kind of rules it takes, in upper case.
    pub kind: String,
    /// INGRESS or EGRESS. Only a table for the control plane has none.
    pub stage: String,
    /// The ports that it is to be bound to.
    pub ports: BTreeSet<String>,
}

/// The kinds of tables that exist without an ACL_TABLE_TYPE row.
// sonic-swss orchagent/aclorch.cpp: AclOrch::initDefaultTableTypes
const KINDS: [&str; 7] = ["L3", "L3V6", "L3V4V6", "MIRROR", "MIRRORV6", "MIRROR_DSCP", "CTRLPLANE"];

impl TableRow {
    /// Reads a row. An error makes the table inactive for good.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::doAclTableTask, AclTable::validate
    pub fn read(row: &Fields) -> Result<Self, String> {
        let mut table = Self { kind: String::new(), stage: String::new(), ports: BTreeSet::new() };
        for (field, value) in row {
            match field.to_uppercase().as_str() {
                "POLICY_DESC" | "SERVICES" => {}
                "TYPE" => table.kind = value.to_uppercase(),
                "STAGE" => table.stage = value.to_uppercase(),
                "PORTS" => {
                    table.ports =
                        value.split(',').filter(|port| !port.is_empty()).map(str::to_owned).collect();
                }
                // Also the NULL of an empty row.
                _ => return Err(format!("Unknown table attribute '{field}'")),
            }
        }
        match (table.kind.as_str(), table.stage.as_str()) {
            ("", _) => Err("no type".to_owned()),
            // Only on Marvell and the virtual switch. sonic-swss orchagent/aclorch.cpp: m_L3V4V6Capability
            ("L3V4V6", _) => Err("type L3V4V6 is not supported on this platform".to_owned()),
            ("CTRLPLANE", _) | (_, "INGRESS" | "EGRESS") => Ok(table),
            (_, stage) => Err(format!("invalid stage '{stage}'")),
        }
    }

    /// Is this a kind that orchagent knows by itself?
    pub fn is_known_kind(&self) -> bool {
        KINDS.contains(&self.kind.as_str())
    }

    /// Is this table for caclmgrd and not for the ASIC?
    pub fn is_control_plane(&self) -> bool {
        self.kind == "CTRLPLANE"
    }
}

/// Reads an ACL_RULE row for a table of this kind: the attributes of its entry. An error makes the rule inactive for
/// good.
// sonic-swss orchagent/aclorch.cpp: AclOrch::doAclRuleTask, AclRulePacket::validate
pub fn read_rule(kind: &str, row: &Fields) -> Result<Fields, String> {
    let mut attributes = Fields::new();
    let (mut priority, mut matches, mut actions) = (0, 0, 0);
    for (field, value) in row {
        let name = field.to_uppercase();
        let invalid = || format!("Unknown or invalid rule attribute '{name} : {value}'");
        let attribute = match name.as_str() {
            // sonic-swss orchagent/aclorch.cpp: AclRule::validateAddPriority
            "PRIORITY" => {
                number::<u32>(value).filter(|number| *number <= 999_999).ok_or_else(invalid)?;
                priority += 1;
                "SAI_ACL_ENTRY_ATTR_PRIORITY".to_owned()
            }
            // ACCEPT is for the control plane only.
            // sonic-swss orchagent/aclorch.cpp: aclPacketActionLookup
            "PACKET_ACTION" if ["FORWARD", "DROP"].contains(&value.to_uppercase().as_str()) => {
                actions += 1;
                "SAI_ACL_ENTRY_ATTR_ACTION_PACKET_ACTION".to_owned()
            }
            _ => {
                let field = if is_match(kind, &name, value) { sai_field(&name) } else { None };
                matches += 1;
                format!("SAI_ACL_ENTRY_ATTR_FIELD_{}", field.ok_or_else(invalid)?)
            }
        };
        let is_action = attribute.contains("_ACTION_");
        let sai =
            if is_action { format!("SAI_PACKET_ACTION_{}", value.to_uppercase()) } else { value.clone() };
        attributes.insert(attribute, sai);
    }
    match (priority, matches, actions) {
        // aclorch takes a rule without a priority as one with 0; SONiC's YANG refuses the row.
        (0, _, _) => Err("no PRIORITY".to_owned()),
        (_, 0, _) => Err("no match".to_owned()),
        (_, _, 0) => Err("no PACKET_ACTION".to_owned()),
        _ => Ok(attributes),
    }
}

/// The priority of a rule's row, by which a batch is sorted: 0 without a valid one.
// sonic-swss orchagent/aclorch.cpp: AclOrch::doAclRuleTask (RuleEntry::priority)
pub fn priority(row: &Fields) -> u32 {
    stated_priority(row).and_then(number).unwrap_or_default()
}

/// Has a rule's row a priority that is no number of 32 bits?
pub fn invalid_priority(row: &Fields) -> bool {
    stated_priority(row).is_some_and(|text| number::<u32>(text).is_none())
}

fn stated_priority(row: &Fields) -> Option<&str> {
    row.iter().find(|(field, _)| field.to_uppercase() == "PRIORITY").map(|(_, value)| value.as_str())
}

/// May a rule in a table of this kind match on this field?
// sonic-swss orchagent/aclorch.cpp: AclOrch::initDefaultTableTypes, AclRule::validateAddMatch
fn is_match(kind: &str, name: &str, value: &str) -> bool {
    let belongs = match name {
        "VLAN_ID" | "IP_TYPE" | "IP_PROTOCOL" | "L4_SRC_PORT" | "L4_DST_PORT" | "L4_SRC_PORT_RANGE"
        | "L4_DST_PORT_RANGE" | "TCP_FLAGS" => true,
        "SRC_IPV6" | "DST_IPV6" | "ICMPV6_TYPE" | "ICMPV6_CODE" => matches!(kind, "L3V6" | "MIRRORV6"),
        "SRC_IP" | "DST_IP" | "ICMP_TYPE" | "ICMP_CODE" | "ETHER_TYPE" => matches!(kind, "L3" | "MIRROR"),
        // aclorch would take NEXT_HEADER, but SONiC's YANG has no such field in any release: no such row may exist.
        // sonic-buildimage src/sonic-yang-models/yang-templates/sonic-acl.yang.j2: list ACL_RULE_LIST
        _ => false,
    };
    belongs && is_value(name, value)
}

fn is_value(name: &str, value: &str) -> bool {
    match name {
        "SRC_IPV6" | "DST_IPV6" => {
            value.parse::<Ipv6Net>().is_ok() || value.parse::<std::net::Ipv6Addr>().is_ok()
        }
        "SRC_IP" | "DST_IP" => {
            value.parse::<ipnet::Ipv4Net>().is_ok() || value.parse::<std::net::Ipv4Addr>().is_ok()
        }
        "IP_PROTOCOL" | "ICMPV6_TYPE" | "ICMPV6_CODE" | "ICMP_TYPE" | "ICMP_CODE" => {
            number::<u8>(value).is_some()
        }
        "L4_SRC_PORT" | "L4_DST_PORT" | "VLAN_ID" => number::<u16>(value).is_some(),
        "L4_SRC_PORT_RANGE" | "L4_DST_PORT_RANGE" => value
            .split_once('-')
            .and_then(|(first, last)| Some((number::<u16>(first)?, number::<u16>(last)?)))
            .is_some_and(|(first, last)| first < last),
        "TCP_FLAGS" => {
            value.split_once('/').is_some_and(|(flags, mask)| [flags, mask].iter().all(|t| hex(t).is_some()))
        }
        "ETHER_TYPE" => hex(value).is_some(),
        // sonic-swss orchagent/aclorch.cpp: aclIpTypeLookup
        "IP_TYPE" => matches!(
            value.to_uppercase().as_str(),
            "ANY" | "IP" | "NON_IP" | "IPV4ANY" | "NON_IPV4" | "IPV6ANY" | "NON_IPV6" | "ARP"
        ),
        _ => false,
    }
}

// sonic-swss orchagent/aclorch.cpp: aclMatchLookup (IP_PROTOCOL in a table for IPv6 is its next header)
fn sai_field(name: &str) -> Option<&str> {
    Some(match name {
        "VLAN_ID" => "OUTER_VLAN_ID",
        "IP_TYPE" => "ACL_IP_TYPE",
        "L4_SRC_PORT_RANGE" | "L4_DST_PORT_RANGE" => "ACL_RANGE_TYPE",
        name => name,
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn hex(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_table_knows_its_fields_in_any_case_and_no_others() {
        let good = [("type", "L3V6"), ("STAGE", "ingress"), ("ports", "Ethernet0,Ethernet4")];
        let table = TableRow::read(&row(&good)).unwrap();
        assert_eq!((table.kind.as_str(), table.stage.as_str()), ("L3V6", "INGRESS"));
        assert_eq!(table.ports.len(), 2);
        for bad in [("NULL", "NULL"), ("owner", "leafboot"), ("stage", "inwards"), ("type", "L3V4V6")] {
            let mut fields = row(&good[..1]);
            fields.extend(row(&good[1..]).into_iter().map(|(field, value)| (field.to_lowercase(), value)));
            fields.extend(row(&[bad]));
            assert!(TableRow::read(&fields).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_rule_needs_a_priority_a_match_and_an_action() {
        let good = [("PRIORITY", "10"), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")];
        assert!(read_rule("L3V6", &row(&good)).is_ok());
        for missing in 0..good.len() {
            let mut fields = good.to_vec();
            fields.remove(missing);
            assert!(read_rule("L3V6", &row(&fields)).is_err(), "without {:?}", good[missing]);
        }
    }

    #[test]
    fn a_rule_of_an_ipv6_table_takes_what_ipv6_has() {
        let base = [("PRIORITY", "10"), ("packet_action", "forward")];
        let with = |pair| {
            let mut fields = base.to_vec();
            fields.push(pair);
            read_rule("L3V6", &row(&fields)).is_ok()
        };
        for good in [
            ("IP_PROTOCOL", "58"),
            ("icmpv6_type", "135"),
            ("DST_IPV6", "2001:db8::1/128"),
            ("SRC_IPV6", "2001:db8::1"),
            ("L4_DST_PORT", "80"),
            ("L4_DST_PORT_RANGE", "80-90"),
        ] {
            assert!(with(good), "{good:?}");
        }
        for bad in [
            ("NEXT_HEADER", "58"),
            ("ETHER_TYPE", "0x86dd"),
            ("SRC_IP", "192.0.2.0/24"),
            ("DST_IPV6", "192.0.2.1/32"),
            ("L4_DST_PORT_RANGE", "90-80"),
            ("ICMPV6_TYPE", "256"),
            ("PACKET_ACTION", "ACCEPT"),
            ("PRIORITY", "1000000"),
            ("NULL", "NULL"),
        ] {
            assert!(!with(bad), "{bad:?}");
        }
    }
}
