//! SONiC's database schema. The names of tables, keys and fields are only in this file and in `rows/tables`.
//!
//! SONiC's sources were read at swss e6b0c5b5d, swss-common 85a39d80, sairedis 53aa7c15, host-services c2a4cdfe and buildimage
//! 086b03bd; `docs/sonic.md` lists them by release.
//!
//! Must never: talk to a database, or decide what to write to one.

pub mod counters;
pub mod tables;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use litemap::LiteMap;

use crate::acl::{Action, Rule};
use crate::names::{AclName, BootPrefix, LoopbackName, PortName, VrfName};

/// One row's fields by name. A row without fields is empty here and `{"NULL": "NULL"}` in Redis.
///
/// A `BTreeMap` would allocate space for eleven fields in each of a leaf's thousands of rows.
pub type Fields = LiteMap<String, String>;

/// The rows of one database by their key.
pub type Rows = BTreeMap<String, Fields>;

/// Name and value of the field that a row without fields has in Redis (swss-common `common/configdb.h: typed_to_raw`).
pub const NULL: &str = "NULL";

/// `INTERFACE` field: the VRF that a port is a member of. STATE_DB spells it `vrf`.
const VRF_NAME: &str = "vrf_name";

/// `ACL_TABLE` field: the ports that the table is bound to, comma-separated.
const ACL_PORTS: &str = "ports@";

/// `ACL_TABLE` field and value that mark leafboot's table, even after its other fields were edited.
const ACL_DESCRIPTION: (&str, &str) = ("policy_desc", "machines that boot (leafboot)");

const RIF_PORT: &str = "SAI_ROUTER_INTERFACE_ATTR_PORT_ID";
const RIF_TYPE: &str = "SAI_ROUTER_INTERFACE_ATTR_TYPE";
const BRIDGED_PORT: &str = "SAI_BRIDGE_PORT_ATTR_PORT_ID";
const INGRESS_ACL: &str = "SAI_PORT_ATTR_INGRESS_ACL";
const MEMBER_GROUP: &str = "SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_GROUP_ID";
const MEMBER_TABLE: &str = "SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_ID";
const ENTRY_TABLE: &str = "SAI_ACL_ENTRY_ATTR_TABLE_ID";
const ENTRY_COUNTER: &str = "SAI_ACL_ENTRY_ATTR_ACTION_COUNTER";

/// CONFIG_DB key: `1` when the configuration is loaded, `0` before (sonic-buildimage `docker_image_ctl.j2`).
pub const CONFIG_DB_INITIALIZED: &str = "CONFIG_DB_INITIALIZED";

/// COUNTERS_DB hash: a port's name to its ASIC object.
pub const PORT_NAME_MAP: &str = "COUNTERS_PORT_NAME_MAP";

/// COUNTERS_DB hash: an ACL rule's name to the ASIC object of its counter (`orchagent/aclorch.cpp:
/// AclOrch::registerFlexCounter`).
pub const RULE_COUNTER_MAP: &str = "ACL_COUNTER_RULE_MAP";

/// A row of CONFIG_DB that leafboot may write or, on a pushed port, delete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// `ACL_TABLE|<name>`.
    AclTable(AclName),
    /// `ACL_RULE|<table>|<rule>`.
    AclRule(AclName, String),
    /// `VRF|<name>`.
    Vrf(VrfName),
    /// The base row `INTERFACE|<port>`.
    Interface(PortName),
    /// The address row `INTERFACE|<port>|<prefix>::1/64`.
    Address(PortName, BootPrefix),
    /// An unmanaged address row on a port, as it is spelled. leafboot only deletes such rows.
    OtherAddress(PortName, String),
    /// The base row `LOOPBACK_INTERFACE|<loopback>`.
    Loopback(LoopbackName),
    /// The address row `LOOPBACK_INTERFACE|<loopback>|<address>`.
    LoopbackAddress(LoopbackName, String),
    /// `VLAN_MEMBER|<vlan>|<port>`. leafboot only deletes such rows.
    VlanMember(String, PortName),
}

impl RowKey {
    /// The row's port. None for a row that all ports share.
    pub fn port(&self) -> Option<&PortName> {
        match self {
            Self::Vrf(_)
            | Self::AclTable(_)
            | Self::AclRule(..)
            | Self::Loopback(_)
            | Self::LoopbackAddress(..) => None,
            Self::Interface(port)
            | Self::Address(port, _)
            | Self::OtherAddress(port, _)
            | Self::VlanMember(_, port) => Some(port),
        }
    }

    /// The row that must be in CONFIG_DB before this one is written. caclmgrd crashes on an ACL rule whose table has no row
    /// (`scripts/caclmgrd: run`).
    pub fn needs(&self) -> Option<Self> {
        match self {
            Self::AclRule(table, _) => Some(Self::AclTable(table.clone())),
            Self::AclTable(_)
            | Self::Vrf(_)
            | Self::Interface(_)
            | Self::Address(..)
            | Self::OtherAddress(..)
            | Self::Loopback(_)
            | Self::LoopbackAddress(..)
            | Self::VlanMember(..) => None,
        }
    }

    /// Whether this is a row of an ACL.
    pub fn is_acl(&self) -> bool {
        matches!(self, Self::AclTable(_) | Self::AclRule(..))
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AclTable(name) => write!(f, "ACL_TABLE|{name}"),
            Self::AclRule(table, rule) => write!(f, "ACL_RULE|{table}|{rule}"),
            Self::Vrf(name) => write!(f, "VRF|{name}"),
            Self::Interface(port) => write!(f, "INTERFACE|{port}"),
            Self::Address(port, prefix) => write!(f, "INTERFACE|{port}|{}", prefix.gateway_net()),
            Self::OtherAddress(port, address) => write!(f, "INTERFACE|{port}|{address}"),
            Self::Loopback(name) => write!(f, "LOOPBACK_INTERFACE|{name}"),
            Self::LoopbackAddress(name, address) => write!(f, "LOOPBACK_INTERFACE|{name}|{address}"),
            Self::VlanMember(vlan, port) => write!(f, "VLAN_MEMBER|{vlan}|{port}"),
        }
    }
}

/// The fields of leafboot's base row on a port or on the loopback.
pub fn interface_fields(vrf: &VrfName) -> Fields {
    fields([(VRF_NAME, vrf.to_string())])
}

/// The fields of leafboot's ACL table. An empty port list is the empty text: SONiC then keeps the table unbound.
pub fn acl_table_fields(ports: &BTreeSet<PortName>) -> Fields {
    fields([
        (ACL_DESCRIPTION.0, ACL_DESCRIPTION.1.to_owned()),
        ("type", "L3V6".to_owned()),
        ("stage", "ingress".to_owned()),
        (ACL_PORTS, ports.iter().map(PortName::as_str).collect::<Vec<_>>().join(",")),
    ])
}

/// The ports that an ACL table's row lists, by name.
pub fn acl_table_ports(fields: &Fields) -> BTreeSet<String> {
    let list = fields.get(ACL_PORTS).map_or("", String::as_str);
    list.split(',').filter(|port| !port.is_empty()).map(str::to_owned).collect()
}

/// Whether an ACL table's row is leafboot's, perhaps half-written or edited. A row without leafboot's description and of another
/// type or stage is unmanaged.
pub fn is_our_acl_table(row: &Fields) -> bool {
    let could_be = |name: &str, value: &str| row.get(name).is_none_or(|got| got.eq_ignore_ascii_case(value));
    let is_marked = row.get(ACL_DESCRIPTION.0).is_some_and(|text| text == ACL_DESCRIPTION.1);
    is_marked || (could_be("type", "L3V6") && could_be("stage", "ingress"))
}

/// Whether two rows of an ACL table mean the same. The order of the ports does not matter.
pub fn is_same_acl_table(row: &Fields, other: &Fields) -> bool {
    let mut sorted = row.clone();
    if let (Some(ports), Some(others)) = (sorted.get_mut(ACL_PORTS), other.get(ACL_PORTS))
        && acl_table_ports(row) == acl_table_ports(other)
    {
        ports.clone_from(others);
    }
    sorted == *other
}

/// The fields of an ACL rule. The next header goes into `IP_PROTOCOL`, because SONiC's YANG models do not have `NEXT_HEADER`
/// (`sonic-acl.yang.j2`), and `orchagent/aclorch.cpp: AclRule` translates it.
pub fn acl_rule_fields(rule: &Rule) -> Fields {
    let action = match rule.action {
        Action::Forward => "FORWARD",
        Action::Drop => "DROP",
    };
    let matches = &rule.matches;
    let mut all = fields([
        ("PRIORITY", rule.priority.to_string()),
        ("PACKET_ACTION", action.to_owned()),
        ("IP_TYPE", "IPV6ANY".to_owned()),
    ]);
    let optional = [
        ("IP_PROTOCOL", matches.protocol.map(|protocol| protocol.to_string())),
        ("ICMPV6_TYPE", matches.icmpv6_type.map(|kind| kind.to_string())),
        ("SRC_IPV6", matches.source.map(|net| net.to_string())),
        ("DST_IPV6", matches.destination.map(|net| net.to_string())),
        ("L4_DST_PORT", matches.destination_port.map(|port| port.to_string())),
    ];
    all.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    all
}

fn fields<const N: usize>(pairs: [(&str, String); N]) -> Fields {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The key of a CONFIG_DB or STATE_DB row, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row<'a> {
    /// CONFIG_DB `PORT`.
    Port(&'a str),
    /// CONFIG_DB `VRF`.
    Vrf(&'a str),
    /// CONFIG_DB `INTERFACE` or STATE_DB `INTERFACE_TABLE`, base row.
    Interface(&'a str),
    /// The same tables, address row, with the address as it is spelled.
    Address(&'a str, &'a str),
    /// CONFIG_DB `LOOPBACK_INTERFACE`, base row.
    Loopback(&'a str),
    /// The same table, address row, with the address as it is spelled.
    LoopbackAddress(&'a str, &'a str),
    /// CONFIG_DB `ACL_TABLE` or STATE_DB `ACL_TABLE_TABLE`.
    AclTable(&'a str),
    /// CONFIG_DB `ACL_RULE` or STATE_DB `ACL_RULE_TABLE`: table and rule.
    AclRule(&'a str, &'a str),
    /// CONFIG_DB `VLAN_MEMBER` or STATE_DB `VLAN_MEMBER_TABLE`: VLAN and port.
    VlanMember(&'a str, &'a str),
    /// CONFIG_DB `PORTCHANNEL_MEMBER`: LAG and port.
    LagMember(&'a str, &'a str),
    /// CONFIG_DB `VLAN_SUB_INTERFACE`, base row: the port and the sub-interface's name. `Eth4.10` is short for
    /// `Ethernet4.10` (`cfgmgr/intfmgr.cpp`, `lib/subintf.cpp`).
    SubInterface(Cow<'a, str>, &'a str),
    /// STATE_DB `PORT_TABLE`.
    PortState(&'a str),
    /// STATE_DB `VRF_TABLE`: the VRF exists in the kernel (vrfmgrd).
    VrfState(&'a str),
    /// STATE_DB `VRF_OBJECT_TABLE`: the VRF exists in the ASIC (orchagent).
    VrfObject(&'a str),
    /// STATE_DB `NEIGH_STATE_TABLE`: a BGP neighbour of the default VRF, by its address or, without one, by its interface
    /// (`sonic-bgpcfgd/bgpmon.py`, which updates it every 15 s).
    BgpNeighbour(&'a str),
}

impl<'a> Row<'a> {
    /// Parses a key. Returns none for a table that leafboot does not know, and for a key of another shape.
    pub fn parse(key: &'a str) -> Option<Self> {
        let (table, rest) = key.split_once('|')?;
        let (first, second) = match rest.split_once('|') {
            Some((first, second)) => (first, Some(second)),
            None => (rest, None),
        };
        match (table, second) {
            ("PORT", None) => Some(Self::Port(first)),
            ("VRF", None) => Some(Self::Vrf(first)),
            ("INTERFACE" | "INTERFACE_TABLE", None) => Some(Self::Interface(first)),
            ("INTERFACE" | "INTERFACE_TABLE", Some(address)) => Some(Self::Address(first, address)),
            ("LOOPBACK_INTERFACE", None) => Some(Self::Loopback(first)),
            ("LOOPBACK_INTERFACE", Some(address)) => Some(Self::LoopbackAddress(first, address)),
            ("ACL_TABLE" | "ACL_TABLE_TABLE", None) => Some(Self::AclTable(first)),
            ("ACL_RULE" | "ACL_RULE_TABLE", Some(rule)) => Some(Self::AclRule(first, rule)),
            ("VLAN_MEMBER" | "VLAN_MEMBER_TABLE", Some(port)) => Some(Self::VlanMember(first, port)),
            ("PORTCHANNEL_MEMBER", Some(port)) => Some(Self::LagMember(first, port)),
            ("VLAN_SUB_INTERFACE", None) => {
                let (port, _) = first.split_once('.')?;
                let short =
                    port.strip_prefix("Eth").filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
                let port =
                    short.map_or(Cow::Borrowed(port), |number| Cow::Owned(format!("Ethernet{number}")));
                Some(Self::SubInterface(port, first))
            }
            ("PORT_TABLE", None) => Some(Self::PortState(first)),
            ("VRF_TABLE", None) => Some(Self::VrfState(first)),
            ("VRF_OBJECT_TABLE", None) => Some(Self::VrfObject(first)),
            ("NEIGH_STATE_TABLE", None) => Some(Self::BgpNeighbour(first)),
            _ => None,
        }
    }
}

/// The VRF that a CONFIG_DB `INTERFACE` base row names; empty for the default VRF.
pub fn configured_vrf(fields: &Fields) -> &str {
    fields.get(VRF_NAME).map_or("", String::as_str)
}

/// The VRF that intfmgrd has bound a port to (STATE_DB `INTERFACE_TABLE`); empty for the default VRF.
pub fn bound_vrf(fields: &Fields) -> &str {
    fields.get("vrf").map_or("", String::as_str)
}

/// Whether a STATE_DB row has `state` `ok`.
pub fn is_ok(fields: &Fields) -> bool {
    fields.get("state").is_some_and(|state| state == "ok")
}

/// Whether a BGP session is established (`bgpmon.py` writes FRR's state).
pub fn is_established(fields: &Fields) -> bool {
    fields.get("state").is_some_and(|state| state == "Established")
}

/// A port's alias, from its CONFIG_DB `PORT` row.
pub fn alias(fields: &Fields) -> Option<&String> {
    fields.get("alias")
}

/// A port's front-panel index, from its CONFIG_DB `PORT` row.
pub fn index(fields: &Fields) -> Option<u32> {
    fields.get("index")?.parse().ok()
}

/// Whether orchagent has an ACL table or rule in the ASIC (STATE_DB; `orchagent/aclorch.cpp`).
pub fn is_active(fields: &Fields) -> bool {
    fields.get("status").is_some_and(|status| status == "Active")
}

/// Whether orchagent has refused an ACL rule. It forgets a refused row until the row is written again, and retries a rule in
/// `Pending creation` by itself (`orchagent/aclorch.cpp`).
pub fn is_refused(fields: &Fields) -> bool {
    fields.get("status").is_some_and(|status| status == "Inactive")
}

/// The part of an ASIC_DB row that leafboot reads. The texts are object IDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsicRow<'a> {
    /// The port with this object has a router interface.
    RouterInterface(&'a str),
    /// The port with this object has a sub-interface's router interface (`orchagent/intfsorch.cpp: addRouterIntfs`).
    SubInterface(&'a str),
    /// The port with this object has a bridge port.
    BridgePort(&'a str),
    /// The port's object, and the ACL table group on its ingress.
    Port(&'a str, Option<&'a str>),
    /// The ACL table group (first) has this ACL table (second).
    GroupMember(&'a str, &'a str),
    /// The ACL table has an entry.
    AclEntry {
        /// The table's object.
        table: &'a str,
        /// The object of the entry's counter.
        counter: Option<&'a str>,
    },
}

impl<'a> AsicRow<'a> {
    /// Parses a row. Returns none if leafboot needs nothing from it.
    pub fn parse(key: &'a str, fields: &'a Fields) -> Option<Self> {
        let rest = key.strip_prefix("ASIC_STATE:SAI_OBJECT_TYPE_")?;
        let (kind, object) = rest.split_once(':')?;
        let get = |name: &str| fields.get(name).map(String::as_str);
        match kind {
            "ROUTER_INTERFACE" => {
                let port = get(RIF_PORT)?;
                Some(match get(RIF_TYPE) {
                    Some("SAI_ROUTER_INTERFACE_TYPE_SUB_PORT") => Self::SubInterface(port),
                    _ => Self::RouterInterface(port),
                })
            }
            "BRIDGE_PORT" => Some(Self::BridgePort(get(BRIDGED_PORT)?)),
            "PORT" => Some(Self::Port(object, get(INGRESS_ACL))),
            "ACL_TABLE_GROUP_MEMBER" => Some(Self::GroupMember(get(MEMBER_GROUP)?, get(MEMBER_TABLE)?)),
            "ACL_ENTRY" => Some(Self::AclEntry {
                table: get(ENTRY_TABLE)?,
                counter: get(ENTRY_COUNTER).and_then(action_object),
            }),
            _ => None,
        }
    }
}

/// The object ID in an ACL entry's action. sairedis writes the bare ID, or `disabled` (`meta/sai_serialize.cpp:
/// sai_serialize_acl_action`). `true:` before the ID means the same as the bare ID.
fn action_object(action: &str) -> Option<&str> {
    let object = action.strip_prefix("true:").unwrap_or(action);
    (object.starts_with("oid:") && object != "oid:0x0").then_some(object)
}

/// The rules of an ACL table by the object of their counter, from COUNTERS_DB's map of all tables' rules.
pub fn rules_by_counter<'a>(map: &'a Fields, table: &str) -> BTreeMap<&'a str, &'a str> {
    let rule = |name: &'a str| name.strip_prefix(table)?.strip_prefix(':');
    map.iter().filter_map(|(name, counter)| Some((counter.as_str(), rule(name)?))).collect()
}

/// Whether SONiC can parse the address of an address row. An address without a length is a host's (swss-common
/// `common/ipprefix.cpp: IpPrefix::IpPrefix`).
pub fn is_address(text: &str) -> bool {
    text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok()
}

/// The boot prefix of a gateway address that is spelled as leafboot spells it. None for every other text. SONiC copies the text
/// literally, so another spelling is another row.
pub fn gateway_row(address: &str) -> Option<BootPrefix> {
    let net: Ipv6Net = address.parse().ok()?;
    (net.to_string() == address).then(|| BootPrefix::of_gateway(net)).flatten()
}

#[cfg(test)]
mod tests;
