//! The facts that a port can wait for: each has a reason for programs and a sentence for operators.
//!
//! The names of the variants are part of the API: `docs/api.md` and `sonic/openapi.yaml` list them.
//!
//! Must never: decide anything.

use std::time::Duration;

use ipnet::IpNet;
use strum::{IntoStaticStr, VariantNames};
use thiserror::Error;

use crate::names::{AclName, BootPrefix, PortName, VrfName};

/// How long the kernel may take to show what a daemon has done to it.
const KERNEL: Duration = Duration::from_secs(2);
/// How long a daemon may take. SONiC's daemons retry deferred work every second (`cfgmgr/intfmgrd.cpp: SELECT_TIMEOUT`), and
/// the ASIC follows some seconds behind the kernel when SONiC has just started.
const DAEMON: Duration = Duration::from_secs(10);
/// How long a removal may take. Daemons remove within seconds, and announcing a removal again does no harm.
const DEPARTURE: Duration = Duration::from_secs(5);

/// A fact that must appear, or an obstacle that must go.
#[derive(Debug, Clone, PartialEq, Eq, Error, IntoStaticStr, VariantNames)]
pub enum Waiting {
    /// CONFIG_DB is not loaded.
    #[error("CONFIG_DB is not loaded: CONFIG_DB_INITIALIZED is not 1")]
    ConfigDbNotLoaded,
    /// The port has no `PORT` row any more.
    #[error("CONFIG_DB has no PORT row of it")]
    PortRowMissing,
    /// The port is a member of a VLAN. leafboot deletes the row only while metal-core's push stands.
    #[error(
        "it is a member of {0}: VLAN_MEMBER|{0}|<port> must go first, or metal-core must push the port again"
    )]
    VlanMember(String),
    /// vlanmgrd still has the port in a VLAN.
    #[error("vlanmgrd still has it in {0} (STATE_DB VLAN_MEMBER_TABLE)")]
    VlanMemberGone(String),
    /// orchagent still has the port's bridge port.
    #[error("the ASIC still has its bridge port (ASIC_DB)")]
    BridgePortGone,
    /// The settings protect the port, and the document of an earlier run names it.
    #[error("boot.protected names it: metal-core must leave it out of its document")]
    Protected,
    /// The port is a LAG member.
    #[error("it is a member of {0}: PORTCHANNEL_MEMBER|{0}|<port> must go first")]
    LagMember(String),
    /// The port has a sub-interface.
    #[error("it has the sub-interface {0}: VLAN_SUB_INTERFACE|{0} must go first")]
    SubInterface(String),
    /// orchagent still has the router interface of one of the port's sub-interfaces.
    #[error("the ASIC still has the router interface of a sub-interface on it (ASIC_DB)")]
    SubInterfaceGone,
    /// An `INTERFACE` row of another VRF is on the port. leafboot deletes it only while metal-core's push stands.
    #[error("its INTERFACE row is unmanaged (vrf_name {0:?})")]
    UnmanagedInterface(String),
    /// An address row of another owner is on the port. leafboot deletes it only while metal-core's push stands.
    #[error("the unmanaged row {0} is in the way")]
    UnmanagedAddress(String),
    /// Another ACL table has the name of the boot ACL.
    #[error("ACL_TABLE|{0} is unmanaged (not L3V6 ingress): rename it, or set acl.table to another name")]
    UnmanagedAclTable(AclName),
    /// The loopback of `boot.loopback` belongs to another VRF.
    #[error("its LOOPBACK_INTERFACE row is unmanaged (vrf_name {0:?}): set boot.loopback to another name")]
    UnmanagedLoopback(String),
    /// intfmgrd has not taken the anycast address.
    #[error("intfmgrd has not taken the address {0} (STATE_DB INTERFACE_TABLE)")]
    AnycastBound(String),
    /// The boot ACL's rows were only just written.
    #[error("the rows of the ACL {0} are being written")]
    AclRowsPending(AclName),
    /// orchagent does not have the boot ACL's table.
    #[error("orchagent does not have the ACL table {0} (STATE_DB ACL_TABLE_TABLE is not Active)")]
    AclTableActive(AclName),
    /// orchagent does not have a rule of the boot ACL.
    #[error("orchagent does not have the ACL rule {0}|{1} (STATE_DB ACL_RULE_TABLE is not Active)")]
    AclRuleActive(AclName, String),
    /// orchagent has refused a rule of the boot ACL. It forgets the row then (`orchagent/aclorch.cpp:
    /// AclOrch::doAclRuleTask`).
    #[error("orchagent has refused the ACL rule {0}|{1} (STATE_DB ACL_RULE_TABLE is Inactive)")]
    AclRuleRefused(AclName, String),
    /// orchagent reports a rule of the boot ACL as active, and the ASIC does not have it.
    #[error("the ASIC does not have the ACL rule {0}|{1} (ASIC_DB)")]
    AclRuleInAsic(AclName, String),
    /// orchagent still has a rule of the boot ACL whose row is deleted.
    #[error("orchagent still has the ACL rule {0}|{1} (STATE_DB ACL_RULE_TABLE), whose row is gone")]
    AclRuleGone(AclName, String),
    /// A denying rule of the boot ACL is missing: no port may be in the boot VRF without it.
    #[error("a denying rule of the ACL {0} is missing")]
    AclDenyRuleMissing(AclName),
    /// The ASIC has not bound the boot ACL to the port.
    #[error("the ASIC has not bound the ACL {0} to it (ASIC_DB)")]
    AclBound(AclName),
    /// The port is being taken out of the boot ACL.
    #[error("the ACL {0} still has it")]
    AclUnbound(AclName),
    /// portsyncd has not created the port.
    #[error("STATE_DB does not show the port ready (PORT_TABLE)")]
    PortReady,
    /// vrfmgrd and orchagent are creating or removing the boot VRF.
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
    /// intfmgrd has not bound the port to the boot VRF.
    #[error("intfmgrd has not bound it to the VRF (STATE_DB INTERFACE_TABLE)")]
    InterfaceBound,
    /// intfmgrd still has an unmanaged address whose row is deleted.
    #[error("intfmgrd still has the address {0} (STATE_DB INTERFACE_TABLE)")]
    UnmanagedAddressGone(String),
    /// intfmgrd still has an address that leafboot has withdrawn.
    #[error("intfmgrd still has the address {} (STATE_DB INTERFACE_TABLE)", .0.gateway_net())]
    AddressGone(BootPrefix),
    /// Another port still has the prefix.
    #[error("{0} still has the prefix {1}")]
    PrefixTaken(PortName, BootPrefix),
    /// intfmgrd has not taken the gateway's address.
    #[error("intfmgrd has not taken the address {} (STATE_DB INTERFACE_TABLE)", .0.gateway_net())]
    AddressBound(BootPrefix),
    /// orchagent has not created the port's router interface.
    #[error("the ASIC has no router interface on it (ASIC_DB)")]
    RouterInterfaceReady,
    /// The kernel does not have the port in the boot VRF.
    #[error("the kernel does not have it in the boot VRF")]
    KernelVrfBound,
    /// The boot VRF's device is administratively down.
    #[error("the kernel has the device {0} down: nothing is routed in the boot VRF")]
    VrfDeviceDown(VrfName),
    /// The boot VRF's device is gone. vrfmgrd creates it only when it starts, and exits when the device is deleted
    /// (`cfgmgr/vrfmgr.cpp: VrfMgr::setLink`, `VrfMgr::delLink`).
    #[error("another program has deleted the device {0} from the kernel: restart swss")]
    VrfDeviceDeleted(VrfName),
    /// The port has a carrier and no link-local address to advertise from.
    #[error("the kernel has no usable link-local address on it")]
    LinkLocalAddress,
    /// The kernel does not have the gateway's address on the port.
    #[error("the kernel does not have the gateway {} on it", .0.gateway_net())]
    GatewayAssigned(BootPrefix),
    /// Duplicate address detection has found the gateway's address on the link.
    #[error("its machine uses the gateway's address {} itself (duplicate address detection)", .0.gateway())]
    GatewayDuplicate(BootPrefix),
    /// The kernel does not have the anycast address on the loopback.
    #[error("the kernel does not have the anycast address {0} on it")]
    AnycastAssigned(String),
    /// The kernel has an address that no row names, and intfmgrd waits until it is gone (`cfgmgr/intfmgr.cpp:
    /// IntfMgr::getIntfIpCount`).
    #[error("the kernel still has the address {0} on it, which no row names")]
    StrayKernelAddress(IpNet),
    /// intfmgrd fails at an unreadable row and does not reach the rows behind it.
    #[error(
        "intfmgrd does not get past the row {0}, whose address it cannot read: delete that row, then restart swss"
    )]
    IntfmgrdBlocked(String),
    /// The final Router Advertisement, which tells the machine that the router goes, was not sent.
    #[error("its machine has not been told that the router goes (final Router Advertisement)")]
    FinalAdvertisementSent,
    /// A fact is missing for too long, and leafboot has written its row again.
    #[error("repairing, attempt {attempt}: {fact}")]
    Repairing {
        /// How many attempts were made, from 1.
        attempt: u32,
        /// What is missing.
        fact: Box<Waiting>,
    },
}

impl Waiting {
    /// Every reason that [`Waiting::reason`] can return.
    pub fn reasons() -> impl Iterator<Item = &'static str> {
        Self::VARIANTS.iter().copied().filter(|name| *name != "Repairing")
    }

    /// The reason for programs: the variant's name. While leafboot repairs, it is that of the missing fact.
    pub fn reason(&self) -> &'static str {
        if let Self::Repairing { fact, .. } = self { fact.reason() } else { self.into() }
    }

    /// The number of the repair's attempt; none if there is no repair.
    pub fn attempt(&self) -> Option<u32> {
        if let Self::Repairing { attempt, .. } = self { Some(*attempt) } else { None }
    }

    /// How long the fact may be missing, once everything before it is there, before it is repaired. None: it is never repaired,
    /// because writing its row again would not help, or could do harm.
    pub fn lateness(&self) -> Option<Duration> {
        Some(match self {
            Self::KernelVrfBound
            | Self::VrfDeviceDown(_)
            | Self::GatewayAssigned(_)
            | Self::GatewayDuplicate(_)
            | Self::StrayKernelAddress(_)
            | Self::AnycastAssigned(_)
            | Self::AclRuleInAsic(..)
            | Self::AclRuleRefused(..) => KERNEL,
            Self::AclTableActive(_)
            | Self::AddressBound(_)
            | Self::AnycastBound(_)
            | Self::InterfaceBound
            | Self::RouterInterfaceReady => DAEMON,
            Self::AclRuleGone(..)
            | Self::AddressGone(_)
            | Self::InterfaceGone(_)
            | Self::UnmanagedAddressGone(_)
            | Self::VlanMemberGone(_)
            | Self::VrfGone(_) => DEPARTURE,
            Self::AclBound(_)
            | Self::AclDenyRuleMissing(_)
            | Self::AclRowsPending(_)
            | Self::AclRuleActive(..)
            | Self::AclUnbound(_)
            | Self::BridgePortGone
            | Self::ConfigDbNotLoaded
            | Self::FinalAdvertisementSent
            | Self::IntfmgrdBlocked(_)
            | Self::LagMember(_)
            | Self::LinkLocalAddress
            | Self::PortReady
            | Self::PortRowMissing
            | Self::PrefixTaken(..)
            | Self::Protected
            | Self::Repairing { .. }
            | Self::RouterInterfaceGone
            | Self::SubInterface(_)
            | Self::SubInterfaceGone
            | Self::UnmanagedAclTable(_)
            | Self::UnmanagedAddress(_)
            | Self::UnmanagedInterface(_)
            | Self::UnmanagedLoopback(_)
            | Self::VlanMember(_)
            | Self::VrfDeviceDeleted(_)
            | Self::VrfReady(_) => return None,
        })
    }

    /// Whether the kernel or the ASIC contradicts what a daemon reports. If rewriting the row does not help then, the
    /// interface or rule is removed and created again. A daemon that reports nothing may just be slow: it needs more than a
    /// minute for 63 ports at once.
    pub fn is_contradiction(&self) -> bool {
        matches!(
            self,
            Self::AclRuleInAsic(..)
                | Self::AclRuleRefused(..)
                | Self::AnycastAssigned(_)
                | Self::GatewayDuplicate(_)
                | Self::GatewayAssigned(_)
                | Self::KernelVrfBound
                | Self::VrfDeviceDown(_)
        )
    }

    /// Whether intfmgrd has to act before the fact appears.
    pub fn is_of_intfmgrd(&self) -> bool {
        matches!(
            self,
            Self::AddressBound(_)
                | Self::AddressGone(_)
                | Self::InterfaceBound
                | Self::InterfaceGone(_)
                | Self::UnmanagedAddressGone(_)
        )
    }
}
