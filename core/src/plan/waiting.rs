//! The facts that a port can wait for, each with the words that an operator reads.
//!
//! Must never: decide: a wait is a value.

use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

use crate::names::{AclName, BootPrefix, PortName, VrfName};

/// The kernel shows what a daemon has done to it within a moment.
const KERNEL: Duration = Duration::from_secs(2);
/// SONiC's daemons look at what they have put off each second (`cfgmgr/intfmgrd.cpp: SELECT_TIMEOUT`), and the ASIC follows
/// some seconds behind the kernel when SONiC has just started.
const DAEMON: Duration = Duration::from_secs(10);
/// What is to go goes within some of those seconds, and to announce it once more does no harm.
const DEPARTURE: Duration = Duration::from_secs(5);

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
    /// orchagent has refused a rule of the boot ACL: it forgets the row (`orchagent/aclorch.cpp: AclOrch::doAclRuleTask`).
    #[error("orchagent has refused the ACL rule {0}|{1} (STATE_DB ACL_RULE_TABLE is Inactive)")]
    AclRuleRefused(AclName, String),
    /// orchagent says that it has a rule, and the ASIC does not have it.
    #[error("the ASIC does not have the ACL rule {0}|{1} (ASIC_DB)")]
    AclEntry(AclName, String),
    /// orchagent still has a rule of the boot ACL that no row names.
    #[error("orchagent still has the ACL rule {0}|{1} (STATE_DB ACL_RULE_TABLE), whose row is gone")]
    AclRuleGone(AclName, String),
    /// A rule that denies is missing.
    #[error("a denying rule of the ACL {0} is missing")]
    AclDenials(AclName),
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
    #[error(
        "STATE_DB still shows the {0} that was deleted before (VRF_TABLE, VRF_OBJECT_TABLE); if `show vrf` has had none of \
         that name for minutes, the row is left over: redis-cli -n 6 del 'VRF_OBJECT_TABLE|{0}'"
    )]
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
    /// The boot VRF's device is administratively down.
    #[error("the kernel has the device {0} down: nothing is routed in the boot VRF")]
    KernelVrfDown(VrfName),
    /// The boot VRF's device is gone. vrfmgrd makes it again only when it starts, and dies of its deletion
    /// (`cfgmgr/vrfmgr.cpp: VrfMgr::setLink`, `VrfMgr::delLink`).
    #[error("somebody has deleted the device {0} from the kernel: restart swss")]
    KernelVrfGone(VrfName),
    /// The port has a carrier and no link-local address to advertise from.
    #[error("the kernel has no usable link-local address on it")]
    LinkLocal,
    /// The kernel does not have the gateway's address.
    #[error("the kernel does not have the gateway {} on it", .0.gateway_net())]
    KernelGateway(BootPrefix),
    /// Duplicate address detection has found the gateway's address on the link.
    #[error("its machine uses the gateway's address {} itself (duplicate address detection)", .0.gateway())]
    KernelDuplicate(BootPrefix),
    /// The kernel does not have the anycast address.
    #[error("the kernel does not have the anycast address {0} on it")]
    KernelAnycast(String),
    /// The kernel has an address that intfmgrd waits for (`cfgmgr/intfmgr.cpp: IntfMgr::getIntfIpCount`).
    #[error("the kernel still has the address {0} on it, which no row names")]
    KernelAddress(IpNet),
    /// intfmgrd stumbles over somebody's row and does not come to the rows behind it.
    #[error(
        "intfmgrd does not get past the row {0}, whose address it cannot read: delete that row, then restart swss"
    )]
    IntfmgrdBlocked(String),
    /// The machine has not been told that the router goes.
    #[error("its machine has not been told that the router goes (final Router Advertisement)")]
    FinalAdvertisement,
    /// A fact stays away, and its row has been written again.
    #[error("repairing, attempt {attempt}: {fact}")]
    Repairing {
        /// How many attempts were made.
        attempt: u32,
        /// What is missing.
        fact: Box<Waiting>,
    },
}

impl Waiting {
    /// How long the fact may stay away, once everything before it is there, until something is wrong. None: writing its row
    /// again would not help, or could harm.
    pub fn lateness(&self) -> Option<Duration> {
        Some(match self {
            Self::KernelVrf
            | Self::KernelVrfDown(_)
            | Self::KernelGateway(_)
            | Self::KernelDuplicate(_)
            | Self::KernelAddress(_)
            | Self::KernelAnycast(_)
            | Self::AclEntry(..)
            | Self::AclRuleRefused(..) => KERNEL,
            Self::AclTable(_)
            | Self::AddressBound(_)
            | Self::AnycastBound(_)
            | Self::InterfaceBound
            | Self::RouterInterface => DAEMON,
            Self::AclRuleGone(..)
            | Self::AddressGone(_)
            | Self::InterfaceGone(_)
            | Self::OtherAddressGone(_)
            | Self::VlanGone(_)
            | Self::VrfGone(_) => DEPARTURE,
            Self::AclBound(_)
            | Self::AclDenials(_)
            | Self::AclForeign(_)
            | Self::AclRows(_)
            | Self::AclRule(..)
            | Self::AclUnbound(_)
            | Self::BridgePortGone
            | Self::ConfigDb
            | Self::FinalAdvertisement
            | Self::ForeignAddress(_)
            | Self::ForeignInterface(_)
            | Self::ForeignLoopback(_)
            | Self::IntfmgrdBlocked(_)
            | Self::KernelVrfGone(_)
            | Self::LagMember(_)
            | Self::LinkLocal
            | Self::PortReady
            | Self::PortRow
            | Self::PrefixTaken(..)
            | Self::Protected
            | Self::Repairing { .. }
            | Self::RouterInterfaceGone
            | Self::SubInterface(_)
            | Self::SubInterfaceGone
            | Self::VlanMember(_)
            | Self::VrfReady(_) => return None,
        })
    }

    /// Whether the kernel or the ASIC contradicts what a daemon has said: then the thing may go out and come again, if its
    /// row alone does not help. A daemon that has said nothing may be slow: 63 ports at once take it more than a minute.
    pub fn is_contradiction(&self) -> bool {
        matches!(
            self,
            Self::AclEntry(..)
                | Self::AclRuleRefused(..)
                | Self::KernelAnycast(_)
                | Self::KernelDuplicate(_)
                | Self::KernelGateway(_)
                | Self::KernelVrf
                | Self::KernelVrfDown(_)
        )
    }

    /// Whether intfmgrd has to do something for it.
    pub fn is_of_intfmgrd(&self) -> bool {
        matches!(
            self,
            Self::AddressBound(_)
                | Self::AddressGone(_)
                | Self::InterfaceBound
                | Self::InterfaceGone(_)
                | Self::OtherAddressGone(_)
        )
    }
}
