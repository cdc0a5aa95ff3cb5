//! SONiC's database vocabulary: the only file with the names of its tables, keys and fields.
//!
//! Must never: talk to a database, or decide what should stand in one.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::Ipv6Net;

use crate::net::{BootPrefix, PortName, VrfName};

/// One row's fields by name. A row without fields is empty here and `{"NULL": "NULL"}` in Redis.
pub type Fields = BTreeMap<String, String>;

/// Rows by their key's text, as one database holds them.
pub type Rows = BTreeMap<String, Fields>;

/// What a row without fields holds instead (`common/configdb.h`: `typed_to_raw`).
pub const NULL: &str = "NULL";

/// `INTERFACE` field: the VRF that a port is a member of. STATE_DB spells it `vrf`.
const VRF_NAME: &str = "vrf_name";

/// What is read of each database in one pass: glob patterns of keys.
pub mod patterns {
    /// CONFIG_DB: the ports, our tables, and the tables in which others claim a port.
    pub const CONFIG: [&str; 5] = ["PORT|*", "VRF|*", "INTERFACE|*", "VLAN_MEMBER|*", "PORTCHANNEL_MEMBER|*"];
    /// STATE_DB: what vrfmgrd, intfmgrd, portsyncd and orchagent have done.
    pub const STATE: [&str; 4] = ["PORT_TABLE|*", "VRF_TABLE|*", "VRF_OBJECT_TABLE|*", "INTERFACE_TABLE|*"];
    /// ASIC_DB: the router interfaces that the ASIC really has.
    pub const ASIC: [&str; 1] = ["ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:*"];
}

/// CONFIG_DB: `1` once the configuration is loaded; `0` while it is not (`docker_image_ctl.j2`).
pub const CONFIG_DB_INITIALIZED: &str = "CONFIG_DB_INITIALIZED";

/// COUNTERS_DB hash: a port's name to its ASIC object.
pub const PORT_NAME_MAP: &str = "COUNTERS_PORT_NAME_MAP";

/// A row of CONFIG_DB that leafboot may write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// `VRF|<name>`.
    Vrf(VrfName),
    /// The base row `INTERFACE|<port>`.
    Interface(PortName),
    /// The address row `INTERFACE|<port>|<prefix>::1/64`.
    Address(PortName, BootPrefix),
}

impl RowKey {
    /// The fields that the row has when it is ours.
    pub fn fields(&self, vrf: &VrfName) -> Fields {
        match self {
            Self::Interface(_) => Fields::from([(VRF_NAME.to_owned(), vrf.to_string())]),
            Self::Vrf(_) | Self::Address(..) => Fields::new(),
        }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vrf(name) => write!(f, "VRF|{name}"),
            Self::Interface(port) => write!(f, "INTERFACE|{port}"),
            Self::Address(port, prefix) => write!(f, "INTERFACE|{port}|{}", prefix.gateway_net()),
        }
    }
}

/// What a CONFIG_DB or STATE_DB row is about, read from its key.
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
    /// CONFIG_DB `VLAN_MEMBER`: VLAN and port.
    VlanMember(&'a str, &'a str),
    /// CONFIG_DB `PORTCHANNEL_MEMBER`: LAG and port.
    LagMember(&'a str, &'a str),
    /// STATE_DB `PORT_TABLE`.
    PortState(&'a str),
    /// STATE_DB `VRF_TABLE`: what vrfmgrd made in the kernel.
    VrfState(&'a str),
    /// STATE_DB `VRF_OBJECT_TABLE`: what orchagent made in the ASIC.
    VrfObject(&'a str),
}

impl<'a> Row<'a> {
    /// Reads a key's text; none for a table that leafboot does not know or a key of another shape.
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
            ("VLAN_MEMBER", Some(port)) => Some(Self::VlanMember(first, port)),
            ("PORTCHANNEL_MEMBER", Some(port)) => Some(Self::LagMember(first, port)),
            ("PORT_TABLE", None) => Some(Self::PortState(first)),
            ("VRF_TABLE", None) => Some(Self::VrfState(first)),
            ("VRF_OBJECT_TABLE", None) => Some(Self::VrfObject(first)),
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

/// Whether a STATE_DB row says that its thing is there.
pub fn is_ok(fields: &Fields) -> bool {
    fields.get("state").is_some_and(|state| state == "ok")
}

/// A port's other name, from its CONFIG_DB `PORT` row.
pub fn alias(fields: &Fields) -> Option<&String> {
    fields.get("alias")
}

/// A port's front-panel index, from its CONFIG_DB `PORT` row.
pub fn index(fields: &Fields) -> Option<u32> {
    fields.get("index")?.parse().ok()
}

/// The ASIC object of the port that an ASIC_DB router interface stands on.
pub fn router_interface_port(fields: &Fields) -> Option<&String> {
    fields.get("SAI_ROUTER_INTERFACE_ATTR_PORT_ID")
}

/// The boot prefix whose gateway an address row carries, if it is spelled as leafboot spells it.
/// SONiC copies the text literally, so another spelling is another row.
pub fn gateway_row(address: &str) -> Option<BootPrefix> {
    let net: Ipv6Net = address.parse().ok()?;
    (net.to_string() == address).then(|| BootPrefix::of_gateway(net)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelled_as_sonic_reads_them() {
        let port: PortName = "Ethernet0".parse().unwrap();
        let vrf: VrfName = "Vrfboot".parse().unwrap();
        let prefix: BootPrefix = "2001:db8:b007::/64".parse().unwrap();
        assert_eq!(RowKey::Vrf(vrf.clone()).to_string(), "VRF|Vrfboot");
        let base = RowKey::Interface(port.clone());
        assert_eq!(base.to_string(), "INTERFACE|Ethernet0");
        assert_eq!(configured_vrf(&base.fields(&vrf)), "Vrfboot");
        assert_eq!(RowKey::Address(port, prefix).to_string(), "INTERFACE|Ethernet0|2001:db8:b007::1/64");
    }

    #[test]
    fn keys_are_read_back_and_foreign_shapes_are_not_guessed() {
        assert_eq!(Row::parse("INTERFACE|Ethernet0"), Some(Row::Interface("Ethernet0")));
        assert_eq!(
            Row::parse("INTERFACE|Ethernet0|10.0.0.1/31"),
            Some(Row::Address("Ethernet0", "10.0.0.1/31"))
        );
        assert_eq!(
            Row::parse("VLAN_MEMBER|Vlan4000|Ethernet0"),
            Some(Row::VlanMember("Vlan4000", "Ethernet0"))
        );
        for other in ["ACL_TABLE|X", "PORT|a|b", "VLAN_MEMBER|Vlan1", "INTERFACE", ""] {
            assert_eq!(Row::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_our_own_spelling_of_a_gateway_is_a_gateway_row() {
        assert!(gateway_row("2001:db8:b007::1/64").is_some());
        for other in
            ["2001:DB8:b007::1/64", "2001:db8:b007:0::1/64", "2001:db8:b007::2/64", "10.0.0.1/31", ""]
        {
            assert_eq!(gateway_row(other), None, "{other}");
        }
    }
}
