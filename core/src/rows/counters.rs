//! The keys and fields of what SONiC counts (COUNTERS_DB) and of what its LLDP hears (APPL_DB).
//!
//! Must never: name a key that has to be searched for.

use std::fmt::Display;

use crate::names::PortName;

/// Bytes that the ASIC has sent out of a port (sonic-swss e6b0c5b5d, `orchagent/portsorch.cpp`: `port_stat_ids`).
pub const OUT_OCTETS: &str = "SAI_PORT_STAT_IF_OUT_OCTETS";

/// Packets that matched an ACL rule (sonic-swss e6b0c5b5d, `orchagent/aclorch.cpp: AclOrch::registerFlexCounter`).
pub const RULE_PACKETS: &str = "SAI_ACL_COUNTER_ATTR_PACKETS";

/// The name of the system on a port's other end, as it says itself.
pub const LLDP_SYSTEM: &str = "lldp_rem_sys_name";

/// COUNTERS_DB: the key of an object's counters. `object`: `oid:0x…`.
pub fn key(object: impl Display) -> String {
    format!("COUNTERS:{object}")
}

/// APPL_DB: the key of what LLDP has heard on a port (sonic-dbsyncd `lldp_syncd/daemon.py: LldpSyncDaemon`).
pub fn lldp_key(port: &PortName) -> String {
    format!("LLDP_ENTRY_TABLE:{port}")
}
