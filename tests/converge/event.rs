//! What can happen to the switch, and the rows that a port can have before leafboot starts.
//!
//! Must never: touch a switch.

/// The rows that a port has before leafboot starts.
#[derive(Debug, Clone, Copy)]
pub enum Before {
    Nothing,
    Tenant,
    TenantAddress,
    AddressOnly,
    PxeVlan,
    OurBaseOnly,
    OursStale,
}

/// One thing that happens to the switch.
#[derive(Debug, Clone)]
pub enum Event {
    /// metal-core pushes: for each port the number of its /64, or nothing.
    Push([Option<u8>; 4]),
    /// The agent makes one pass.
    Pass,
    /// The agent is killed and started again.
    Kill,
    /// SONiC's daemons work until they have nothing to do.
    Sonic,
    /// SONiC's daemons do one piece of work.
    SonicStep,
    /// orchagent does its ACLs after everything else (true), or in order (false).
    AclsWait(bool),
    RestartSwss,
    /// `config save`.
    Save,
    /// `config reload` of what was saved last, or of what there is.
    Reload,
    /// Another program deletes the base row, or the address rows, of a port or of the loopback.
    Delete(usize, bool),
    /// Another program deletes the boot VRF's row.
    DeleteVrf,
    /// Another program changes the boot ACL's rows, and SONiC follows.
    Meddle(Meddling),
    /// Another program changes the kernel behind SONiC's back.
    Drift(Drift),
    /// `config reload -n` of what was saved last: no daemon hears of the rows that are not in it.
    ReloadWithoutRestart,
    /// Another program makes a port a member of a LAG, or takes it out.
    Lag(usize, bool),
    /// The agent makes one pass. Redis refuses its write number n if bit n % 8 is set.
    RefusedPass(u8),
}

/// A change that another program makes to the kernel.
#[derive(Debug, Clone, Copy)]
pub enum Drift {
    /// `ip link set PORT nomaster`.
    NoMaster(usize),
    /// `ip address del` of every address of a port.
    NoAddress(usize),
    /// `ip link set Vrfboot down`.
    VrfDown,
}

/// A change that another program makes to the boot ACL.
#[derive(Debug, Clone, Copy)]
pub enum Meddling {
    /// Changes the table's stage and changes it back.
    StageAndBack,
    /// Changes the table's type.
    OtherType,
    /// Puts a field into the table's row that it does not have.
    StrangeField,
    /// Deletes the table's row.
    TableGone,
    /// `acl-loader update full`: deletes every rule.
    RulesGone,
    /// Adds a match to the last rule.
    RuleNarrowed,
    /// Deletes half of a rule's row.
    RuleHalved,
    /// Writes a field that means nothing new into a rule's row: orchagent removes the rule and creates it again.
    RuleExtended,
}
