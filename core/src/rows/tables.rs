//! Which tables of SONiC's databases are read, and which fields of their rows: every key outside of them, a full leaf's
//! hundreds of thousands of routes above all, is none of leafboot's.
//!
//! Must never: name a table that has a row for each route, neighbour or address of the network.

use super::{BRIDGED_PORT, ENTRY_COUNTER, ENTRY_TABLE, MEMBER_GROUP, MEMBER_TABLE, RIF_PORT, RIF_TYPE};

/// The tables that are read of one database.
#[derive(Debug)]
pub struct Tables {
    /// A glob pattern that every key of these tables matches, and few others: Redis leaves those out of a scan's answers.
    pub pattern: &'static str,
    /// How the keys of each table begin, and the fields that are read of its rows.
    pub prefixes: &'static [(&'static str, FieldNames)],
}

/// Fields by name; [`ALL`] of a row's fields when there is no name.
pub type FieldNames = &'static [&'static str];

/// Every field of a row.
pub const ALL: FieldNames = &[];

impl Tables {
    /// The fields that are read of the row with this key; none: it is in no table that is read.
    pub fn fields(&self, key: &str) -> Option<FieldNames> {
        self.prefixes.iter().find(|(prefix, _)| key.starts_with(prefix)).map(|(_, fields)| *fields)
    }
}

/// CONFIG_DB: the ports alone.
pub static PORTS: Tables = Tables { pattern: "PORT|*", prefixes: &[("PORT|", ALL)] };

/// CONFIG_DB: the ports, our tables, and the tables in which others claim a port.
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
};

/// STATE_DB: what vrfmgrd, intfmgrd, vlanmgrd, portsyncd and orchagent have done.
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
        // A row for each BGP session of the leaf.
        ("NEIGH_STATE_TABLE|", ALL),
    ],
};

/// ASIC_DB: the router interfaces, bridge ports and ACL bindings that the ASIC really has. The sixth letter is what the
/// pattern tells `ROUTER_INTERFACE` from `ROUTE_ENTRY` by.
pub static ASIC: Tables = Tables {
    pattern: "ASIC_STATE:SAI_OBJECT_TYPE_[RBPA]????[^_]*",
    prefixes: &[
        ("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:", &[RIF_PORT, RIF_TYPE]),
        ("ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:", &[BRIDGED_PORT]),
        // All: of one that has no ACL, it must be known that it is there.
        ("ASIC_STATE:SAI_OBJECT_TYPE_PORT:", ALL),
        ("ASIC_STATE:SAI_OBJECT_TYPE_ACL_TABLE_GROUP_MEMBER:", &[MEMBER_GROUP, MEMBER_TABLE]),
        ("ASIC_STATE:SAI_OBJECT_TYPE_ACL_ENTRY:", &[ENTRY_TABLE, ENTRY_COUNTER]),
    ],
};
