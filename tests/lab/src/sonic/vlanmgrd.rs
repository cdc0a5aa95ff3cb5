//! vlanmgrd and teammgrd: ports become members of a VLAN's bridge or of a LAG.
//!
//! Owns: APPL_DB VLAN_MEMBER_TABLE and LAG_MEMBER_TABLE, STATE_DB VLAN_TABLE and VLAN_MEMBER_TABLE.
//! Must never: ask whether a port is in a VRF. It takes the port out of it, and tells nobody.

use redis::Msg;

use super::daemons::Daemon;
use super::database::{self, Fields};
use super::kernel::BRIDGE;
use super::queue::{Queue, Task, Verdict};
use super::subscription::Subscription;
use super::switch::Switch;
use super::{Error, fields};

/// The daemon for VLANs.
pub struct Vlanmgrd {
    vlans: Subscription,
    vlan_queue: Queue,
    members: Subscription,
    member_queue: Queue,
}

impl Vlanmgrd {
    /// A daemon that has done nothing yet.
    pub fn new(vlans: Subscription, members: Subscription) -> Self {
        Self { vlans, vlan_queue: Queue::default(), members, member_queue: Queue::default() }
    }
}

impl Daemon for Vlanmgrd {
    fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        Ok(self.vlans.offer(message)? || self.members.offer(message)?)
    }

    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        for (vlan, task) in self.vlans.pop(&mut switch.config)? {
            self.vlan_queue.add(&vlan, task);
        }
        for (key, task) in self.members.pop(&mut switch.config)? {
            self.member_queue.add(&key, task);
        }
        let waits = |key: &str, reason: &str| eprintln!("vlanmgrd: {key}: waiting: {reason}");
        let vlans = self.vlan_queue.drain(waits, |vlan, task| handle_vlan(switch, vlan, task))?;
        let members = self.member_queue.drain(waits, |key, task| {
            let verdict = handle_vlan_member(switch, key, task)?;
            switch.look(&format!("vlanmgrd: {key}"))?;
            Ok::<_, Error>(verdict)
        })?;
        Ok(vlans || members)
    }
}

// sonic-swss cfgmgr/vlanmgr.cpp: VlanMgr::doVlanTask
fn handle_vlan(switch: &mut Switch, vlan: &str, task: &Task) -> Result<Verdict, Error> {
    match task {
        Task::Set(_) => switch.state.set("VLAN_TABLE", vlan, &fields(&[("state", "ok")]))?,
        Task::Del => switch.state.delete("VLAN_TABLE", vlan)?,
    }
    Ok(Verdict::Done)
}

fn handle_vlan_member(switch: &mut Switch, key: &str, task: &Task) -> Result<Verdict, Error> {
    let Some((vlan, port)) = key.split_once('|') else {
        eprintln!("vlanmgrd: {key}: invalid key, dropped");
        return Ok(Verdict::Done);
    };
    let is_member = switch.is_ready("VLAN_MEMBER_TABLE", key)?;
    match task {
        Task::Set(_) if is_member => {}
        // sonic-swss cfgmgr/vlanmgr.cpp: VlanMgr::doVlanMemberTask (SET), addHostVlanMember
        Task::Set(row) => {
            if !switch.is_ready("PORT_TABLE", port)? || !switch.is_ready("VLAN_TABLE", vlan)? {
                return Ok(Verdict::Retry("the port or the VLAN is not ready".to_owned()));
            }
            report(port, switch.kernel.set_master(port, Some(BRIDGE)));
            switch.vlan_member_table.set(&mut switch.appl, &format!("{vlan}:{port}"), row)?;
            switch.state.set("VLAN_MEMBER_TABLE", key, &fields(&[("state", "ok")]))?;
            eprintln!("vlanmgrd: {port}: member of {vlan}");
        }
        // With its last VLAN gone the port gets no master, whatever its master is by then: a VRF as well.
        // sonic-swss cfgmgr/vlanmgr.cpp: VlanMgr::doVlanMemberTask (DEL), removeHostVlanMember
        Task::Del if is_member => {
            switch.state.delete("VLAN_MEMBER_TABLE", key)?;
            let others = switch.state.keys("VLAN_MEMBER_TABLE")?;
            if !others.iter().any(|other| other.ends_with(&format!("|{port}"))) {
                report(port, switch.kernel.set_master(port, None));
            }
            switch.vlan_member_table.delete(&mut switch.appl, &format!("{vlan}:{port}"))?;
            eprintln!("vlanmgrd: {port}: no longer a member of {vlan}");
        }
        Task::Del => eprintln!("vlanmgrd: {port}: is not a member of {vlan}"),
    }
    Ok(Verdict::Done)
}

/// The daemon for LAGs, as far as a member needs it.
pub struct Teammgrd {
    members: Subscription,
    queue: Queue,
}

impl Teammgrd {
    /// A daemon that has done nothing yet.
    pub fn new(members: Subscription) -> Self {
        Self { members, queue: Queue::default() }
    }
}

impl Daemon for Teammgrd {
    fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        self.members.offer(message)
    }

    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        for (key, task) in self.members.pop(&mut switch.config)? {
            self.queue.add(&key, task);
        }
        self.queue.drain(
            |key, reason| eprintln!("teammgrd: {key}: waiting: {reason}"),
            |key, task| {
                let verdict = handle_lag_member(switch, key, task)?;
                switch.look(&format!("teammgrd: {key}"))?;
                Ok(verdict)
            },
        )
    }
}

// sonic-swss cfgmgr/teammgr.cpp: TeamMgr::doLagMemberTask, addLagMember, removeLagMember
fn handle_lag_member(switch: &mut Switch, key: &str, task: &Task) -> Result<Verdict, Error> {
    let Some((lag, port)) = key.split_once('|') else { return Ok(Verdict::Done) };
    let appl_key = format!("{lag}:{port}");
    match task {
        Task::Set(_) if !switch.is_ready("PORT_TABLE", port)? => {
            return Ok(Verdict::Retry("the port is not ready".to_owned()));
        }
        Task::Set(_) => {
            report(port, switch.kernel.set_master(port, Some(lag)));
            let row: Fields = fields(&[("status", "enabled")]);
            switch.lag_member_table.set(&mut switch.appl, &appl_key, &row)?;
        }
        Task::Del => {
            report(port, switch.kernel.set_master(port, None));
            switch.lag_member_table.delete(&mut switch.appl, &appl_key)?;
        }
    }
    Ok(Verdict::Done)
}

fn report(port: &str, result: Result<(), super::kernel::Error>) {
    if let Err(error) = result {
        eprintln!("vlanmgrd: {port}: {error}");
    }
}
