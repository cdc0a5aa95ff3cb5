//! vlanmgrd: ports become members of a VLAN's bridge.
//!
//! Owns: APPL_DB VLAN_MEMBER_TABLE, STATE_DB VLAN_TABLE and VLAN_MEMBER_TABLE, and which VLANs the bridge has on a port.
//! Must never: check whether a port is in a VRF. A SET takes the port out of its VRF without an event; a DEL fails on
//! it.

use std::collections::{BTreeMap, BTreeSet};

use redis::Msg;

use super::daemons::Daemon;
use super::database;
use super::kernel::BRIDGE;
use super::queue::{Queue, Task, Verdict};
use super::subscription::Subscription;
use super::switch::Switch;
use super::{Error, fields, throw};

/// The daemon for VLANs.
pub struct Vlanmgrd {
    vlans: Subscription,
    vlan_queue: Queue,
    members: Subscription,
    member_queue: Queue,
    bridge: Bridge,
}

/// The VLANs of each port of the kernel's bridge. A port that leaves the bridge loses them.
#[derive(Debug, Default)]
struct Bridge(BTreeMap<String, BTreeSet<String>>);

impl Vlanmgrd {
    /// A daemon that has done nothing yet.
    pub fn new(vlans: Subscription, members: Subscription) -> Self {
        let (vlan_queue, member_queue) = (Queue::default(), Queue::default());
        Self { vlans, vlan_queue, members, member_queue, bridge: Bridge::default() }
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
        let bridge = &mut self.bridge;
        let members = self.member_queue.drain(waits, |key, task| {
            let verdict = bridge.handle_member(switch, key, task)?;
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

impl Bridge {
    // sonic-swss cfgmgr/vlanmgr.cpp: VlanMgr::doVlanMemberTask
    fn handle_member(&mut self, switch: &mut Switch, key: &str, task: &Task) -> Result<Verdict, Error> {
        let Some((vlan, port)) = key.split_once('|') else {
            eprintln!("vlanmgrd: {key}: invalid key, dropped");
            return Ok(Verdict::Done);
        };
        let is_member = switch.is_ready("VLAN_MEMBER_TABLE", key)?;
        let appl_key = format!("{vlan}:{port}");
        match task {
            Task::Set(_) if is_member => {}
            Task::Set(row) => {
                if !switch.is_ready("PORT_TABLE", port)? || !switch.is_ready("VLAN_TABLE", vlan)? {
                    return Ok(Verdict::Retry("the port or the VLAN is not ready".to_owned()));
                }
                let mode = row.get("tagging_mode").map_or("untagged", String::as_str);
                if !matches!(mode, "untagged" | "tagged" | "priority_tagged") {
                    eprintln!("vlanmgrd: {key}: Wrong tagging_mode '{mode}', dropped");
                    return Ok(Verdict::Done);
                }
                if let Err(reason) = self.add(switch, vlan, port) {
                    return throw(switch.behaviour.release, "vlanmgrd", reason);
                }
                switch.vlan_member_table.set(&mut switch.appl, &appl_key, row)?;
                switch.state.set("VLAN_MEMBER_TABLE", key, &fields(&[("state", "ok")]))?;
                eprintln!("vlanmgrd: {port}: member of {vlan}");
            }
            Task::Del if is_member => {
                if let Err(reason) = self.remove(switch, vlan, port) {
                    return throw(switch.behaviour.release, "vlanmgrd", reason);
                }
                switch.vlan_member_table.delete(&mut switch.appl, &appl_key)?;
                switch.state.delete("VLAN_MEMBER_TABLE", key)?;
                eprintln!("vlanmgrd: {port}: no longer a member of {vlan}");
            }
            Task::Del => eprintln!("vlanmgrd: {port}: is not a member of {vlan}"),
        }
        Ok(Verdict::Done)
    }

    /// Puts the port into the bridge, out of its earlier master.
    // sonic-swss cfgmgr/vlanmgr.cpp: VlanMgr::addHostVlanMember
    fn add(&mut self, switch: &mut Switch, vlan: &str, port: &str) -> Result<(), String> {
        if !is_in_bridge(switch, port)? {
            self.0.remove(port);
        }
        switch.kernel.set_master(port, Some(BRIDGE)).map_err(|error| error.to_string())?;
        self.0.entry(port.to_owned()).or_default().insert(vlan.to_owned());
        Ok(())
    }

    /// Takes a VLAN from a port of the bridge, and with the last of them the port from the bridge. A port that is not in
    /// the bridge any more, but in a VRF or nowhere, is an error.
    // sonic-swss cfgmgr/vlanmgr.cpp: VlanMgr::removeHostVlanMember (`bridge vlan del` ends with 255)
    fn remove(&mut self, switch: &mut Switch, vlan: &str, port: &str) -> Result<(), String> {
        if !is_in_bridge(switch, port)? {
            return Err(format!("bridge vlan del dev {port}: rc 255, Operation not supported"));
        }
        let vlans = self.0.entry(port.to_owned()).or_default();
        vlans.remove(vlan);
        if vlans.is_empty() {
            switch.kernel.set_master(port, None).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn is_in_bridge(switch: &mut Switch, port: &str) -> Result<bool, String> {
    let master = switch.kernel.master(port).map_err(|error| error.to_string())?;
    Ok(master.as_deref() == Some(BRIDGE))
}
