//! The facts that a port can wait for, each with the words that an operator reads.
//!
//! Must never: decide: a wait is a value.

use thiserror::Error;

use crate::net::{AclName, BootPrefix, PortName, VrfName};

/// The fact that a port waits for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Waiting {
    /// CONFIG_DB is not loaded.
    #[error("CONFIG_DB is not loaded: CONFIG_DB_INITIALIZED is not 1")]
    ConfigDb,
    /// The port has no `PORT` row any more.
    #[error("CONFIG_DB has no PORT row of it")]
    PortRow,
    /// Somebody claims the port for a VLAN, and only a fresh push may clear that away.
    #[error(
        "it is a member of {0}: VLAN_MEMBER|{0}|<port> must go first, or metal-core must push the port again"
    )]
    VlanMember(String),
    /// vlanmgrd still has the port in a VLAN.
    #[error("vlanmgrd still has it in {0} (STATE_DB VLAN_MEMBER_TABLE)")]
    VlanGone(String),
    /// orchagent still has the port's bridge port.
    #[error("the ASIC still has its bridge port (ASIC_DB)")]
    BridgePortGone,
    /// The settings protect the port, and a memory of an earlier document has it.
    #[error("boot.protected names it: metal-core must leave it out of its document")]
    Protected,
    /// The port is a LAG member.
    #[error("it is a member of {0}: PORTCHANNEL_MEMBER|{0}|<port> must go first")]
    LagMember(String),
    /// The port has a sub-interface.
    #[error("it has the sub-interface {0}: VLAN_SUB_INTERFACE|{0} must go first")]
    SubInterface(String),
    /// orchagent still has a sub-interface of the port.
    #[error("the ASIC still has the router interface of a sub-interface on it (ASIC_DB)")]
    SubInterfaceGone,
    /// Somebody else's base row stands on the port, and only a fresh push may clear it away.
    #[error("its INTERFACE row is somebody else's (vrf_name {0:?})")]
    ForeignInterface(String),
    /// Somebody else's address row stands on the port.
    #[error("somebody else's row {0} is in the way")]
    ForeignAddress(String),
    /// Somebody else's table has the name of the boot ACL.
    #[error(
        "ACL_TABLE|{0} is somebody else's (not L3V6 ingress): rename it, or set acl.table to another name"
    )]
    AclForeign(AclName),
    /// Somebody else's loopback has the name of ours.
    #[error(
        "its LOOPBACK_INTERFACE row is somebody else's (vrf_name {0:?}): set boot.loopback to another name"
    )]
    ForeignLoopback(String),
    /// intfmgrd has not taken the anycast address.
    #[error("intfmgrd has not taken the address {0} (STATE_DB INTERFACE_TABLE)")]
    AnycastBound(String),
    /// The boot ACL's rows are only just written.
    #[error("the rows of the ACL {0} are being written")]
    AclRows(AclName),
    /// orchagent does not have the boot ACL.
    #[error("orchagent does not have the ACL table {0} (STATE_DB ACL_TABLE_TABLE is not Active)")]
    AclTable(AclName),
    /// orchagent does not have a rule of the boot ACL.
    #[error("orchagent does not have the ACL rule {0}|{1} (STATE_DB ACL_RULE_TABLE is not Active)")]
    AclRule(AclName, String),
    /// The ASIC has not bound the boot ACL to the port.
    #[error("the ASIC has not bound the ACL {0} to it (ASIC_DB)")]
    AclBound(AclName),
    /// The port is being taken out of the boot ACL.
    #[error("the ACL {0} still has it")]
    AclUnbound(AclName),
    /// portsyncd has not made the port.
    #[error("STATE_DB does not show the port ready (PORT_TABLE)")]
    PortReady,
    /// The VRF is being made or unmade.
    #[error("STATE_DB does not show {0} ready (VRF_TABLE, VRF_OBJECT_TABLE)")]
    VrfReady(VrfName),
    /// A VRF of the same name is still being removed.
    #[error("STATE_DB still shows the {0} that was deleted before")]
    VrfGone(VrfName),
    /// intfmgrd still has the port's earlier interface.
    #[error("intfmgrd still has its earlier interface (STATE_DB INTERFACE_TABLE, vrf {0:?})")]
    InterfaceGone(String),
    /// orchagent still has the port's earlier router interface.
    #[error("the ASIC still has its earlier router interface (ASIC_DB)")]
    RouterInterfaceGone,
    /// intfmgrd has not taken the base row.
    #[error("intfmgrd has not bound it to the VRF (STATE_DB INTERFACE_TABLE)")]
    InterfaceBound,
    /// intfmgrd still has somebody's address that was cleared away.
    #[error("intfmgrd still has the address {0} (STATE_DB INTERFACE_TABLE)")]
    OtherAddressGone(String),
    /// intfmgrd still has an address that was withdrawn.
    #[error("intfmgrd still has the address {} (STATE_DB INTERFACE_TABLE)", .0.gateway_net())]
    AddressGone(BootPrefix),
    /// Another port still has the prefix.
    #[error("{0} still has the prefix {1}")]
    PrefixTaken(PortName, BootPrefix),
    /// intfmgrd has not taken the address row.
    #[error("intfmgrd has not taken the address {} (STATE_DB INTERFACE_TABLE)", .0.gateway_net())]
    AddressBound(BootPrefix),
    /// orchagent has not made the router interface.
    #[error("the ASIC has no router interface on it (ASIC_DB)")]
    RouterInterface,
    /// The kernel does not have the port in the VRF.
    #[error("the kernel does not have it in the boot VRF")]
    KernelVrf,
    /// The kernel does not have the gateway's address.
    #[error("the kernel does not have the gateway {} on it", .0.gateway_net())]
    KernelGateway(BootPrefix),
    /// The machine has not been told that the router goes.
    #[error("its machine has not been told that the router goes (final Router Advertisement)")]
    FinalAdvertisement,
}
