//! The tables of SONiC's databases that leafboot reads, and the fields of their rows. leafboot reads no other key: a full leaf
//! has hundreds of thousands of routes.
//!
//! Must never: have a table with a row for each route, neighbour or address of the network.

use super::{BRIDGED_PORT, ENTRY_COUNTER, ENTRY_TABLE, MEMBER_GROUP, MEMBER_TABLE, RIF_PORT, RIF_TYPE};

/// The tables of one database that leafboot reads.
#[derive(Debug)]
pub struct Tables {
    /// A glob pattern for SCAN. Every key of these tables matches it, and few other keys do.
    pub pattern: &'static str,
    /// The key prefix of each table, and the fields that leafboot reads of its rows.
    pub prefixes: &'static [(&'static str, FieldNames)],
    /// The hash whose field names are the IDs of all objects that have a row in these tables, and a glob pattern for HSCAN,
    /// which every such ID matches. None if the database has no such hash.
    pub objects: Option<(&'static str, &'static str)>,
}

/// Names of fields. An empty list means all fields ([`ALL`]).
pub type FieldNames = &'static [&'static str];

/// Every field of a row.
pub const ALL: FieldNames = &[];

impl Tables {
    /// The fields to read of the row with this key; none if leafboot does not read the key's table.
    pub fn fields(&self, key: &str) -> Option<FieldNames> {
        self.prefixes.iter().find(|(prefix, _)| key.starts_with(prefix)).map(|(_, fields)| *fields)
    }
}

/// CONFIG_DB, the `PORT` table alone.
pub static PORTS: Tables = Tables { pattern: "PORT|*", prefixes: &[("PORT|", ALL)], objects: None };

/// CONFIG_DB: the ports, the tables that leafboot writes, and the tables with which other programs configure a port.
pub static CONFIG: Tables = Tables {
    pattern: "*|*",
    prefixes: &[
        ("PORT|", ALL),
        ("VRF|", ALL),
        ("INTERFACE|", ALL),
        ("LOOPBACK_INTERFACE|", ALL),
        ("ACL_TABLE|", ALL),
        ("ACL_RULE|", ALL),
        ("VLAN_MEMBER|", ALL),
        ("PORTCHANNEL_MEMBER|", ALL),
        ("VLAN_SUB_INTERFACE|", ALL),
    ],
    objects: None,
};

/// STATE_DB: the state that vrfmgrd, intfmgrd, vlanmgrd, portsyncd, orchagent and bgpmon publish.
pub static STATE: Tables = Tables {
    pattern: "*|*",
    prefixes: &[
        ("PORT_TABLE|", ALL),
        ("VRF_TABLE|", ALL),
        ("VRF_OBJECT_TABLE|", ALL),
        ("INTERFACE_TABLE|", ALL),
        ("VLAN_MEMBER_TABLE|", ALL),
        ("ACL_TABLE_TABLE|", ALL),
        ("ACL_RULE_TABLE|", ALL),
        // This table has a row for each BGP session of the leaf.
        ("NEIGH_STATE_TABLE|", ALL),
    ],
    objects: None,
};

/// ASIC_DB: the router interfaces, bridge ports and ACL bindings of the ASIC. The pattern excludes `ROUTE_ENTRY` by the sixth
/// letter, which is `R` in `ROUTER_INTERFACE` and `_` in `ROUTE_ENTRY`.
pub static ASIC: Tables = Tables {
    pattern: "ASIC_STATE:SAI_OBJECT_TYPE_[RBPA]????[^_]*",
    prefixes: &[
        ("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:", &[RIF_PORT, RIF_TYPE]),
        ("ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:", &[BRIDGED_PORT]),
        // All fields: a port without an ACL must be seen, too.
        ("ASIC_STATE:SAI_OBJECT_TYPE_PORT:", ALL),
        ("ASIC_STATE:SAI_OBJECT_TYPE_ACL_TABLE_GROUP_MEMBER:", &[MEMBER_GROUP, MEMBER_TABLE]),
        ("ASIC_STATE:SAI_OBJECT_TYPE_ACL_ENTRY:", &[ENTRY_TABLE, ENTRY_COUNTER]),
    ],
    // syncd has every object with an ID here. Routes and neighbours have no ID (sairedis `syncd/RedisClient.cpp:
    // insertVidAndRid`). The pattern is for the types of `object_row`, whose numbers end with these digits.
    objects: Some(("VIDTORID", "*[168ac]????????????")),
};

/// The ASIC_DB key of an object's row; none if leafboot does not read its table. Bits 48 to 55 of an object's ID are its type
/// (sairedis `lib/VirtualObjectIdManager.cpp`; the numbers are SAI's, `inc/saitypes.h: sai_object_type_t`).
pub fn object_row(id: &str) -> Option<String> {
    let number = u64::from_str_radix(id.strip_prefix("oid:0x")?, 16).ok()?;
    let table = match (number >> 48) & 0xff {
        1 => "PORT",
        6 => "ROUTER_INTERFACE",
        8 => "ACL_ENTRY",
        12 => "ACL_TABLE_GROUP_MEMBER",
        58 => "BRIDGE_PORT",
        _ => return None,
    };
    Some(format!("ASIC_STATE:SAI_OBJECT_TYPE_{table}:{id}"))
}
