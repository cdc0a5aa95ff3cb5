//! PortsOrch's part in memberships: APPL_DB VLAN_MEMBER_TABLE and LAG_MEMBER_TABLE rows become objects of the ASIC.
//!
//! Owns: bridge ports, VLAN members and LAG members in ASIC_DB.
//! Must never: make a bridge port of a port with a router interface. (SONiC does not check the other direction.)

use super::asic::{BRIDGE_PORT, LAG_MEMBER, PORT_OF_ROUTER_INTERFACE, ROUTER_INTERFACE};
use super::database::Fields;
use super::queue::{Queue, Task, Verdict};
use super::switch::Switch;
use super::{Error, fields};

const VLAN_MEMBER: &str = "SAI_OBJECT_TYPE_VLAN_MEMBER";
const BRIDGE_PORT_OF_MEMBER: &str = "SAI_VLAN_MEMBER_ATTR_BRIDGE_PORT_ID";
const PORT_OF_BRIDGE_PORT: &str = "SAI_BRIDGE_PORT_ATTR_PORT_ID";
const PORT_OF_LAG_MEMBER: &str = "SAI_LAG_MEMBER_ATTR_PORT_ID";

/// The memberships.
#[derive(Debug, Default)]
pub struct Members {
    vlan_queue: Queue,
    lag_queue: Queue,
}

impl Members {
    /// Reads the changes, and tries every pending task.
    pub fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        for (key, task) in switch.vlan_member_table.pop(&mut switch.appl)? {
            self.vlan_queue.add(&key, task);
        }
        for (key, task) in switch.lag_member_table.pop(&mut switch.appl)? {
            self.lag_queue.add(&key, task);
        }
        let waits = |key: &str, reason: &str| eprintln!("orchagent: {key}: waiting: {reason}");
        let vlans = self.vlan_queue.drain(waits, |key, task| {
            let verdict = handle(switch, key, task, add_to_vlan, remove_from_vlan)?;
            switch.look_at_asic(&format!("orchagent: VLAN_MEMBER_TABLE {key}"))?;
            Ok::<_, Error>(verdict)
        })?;
        let lags = self
            .lag_queue
            .drain(waits, |key, task| handle(switch, key, task, add_to_lag, remove_from_lag))?;
        Ok(vlans || lags)
    }
}

fn handle(
    switch: &mut Switch,
    key: &str,
    task: &Task,
    add: impl Fn(&mut Switch, &str, &str) -> Result<Verdict, Error>,
    remove: impl Fn(&mut Switch, &str, &str) -> Result<Verdict, Error>,
) -> Result<Verdict, Error> {
    let port = key.split_once(':').and_then(|(_, port)| switch.ports.oid(port)).map(str::to_owned);
    match (task, port) {
        (Task::Set(_), None) => Ok(Verdict::Retry("no such port".to_owned())),
        (Task::Del, None) => Ok(Verdict::Done),
        (Task::Set(_), Some(port)) => add(switch, key, &port),
        (Task::Del, Some(port)) => remove(switch, key, &port),
    }
}

// sonic-swss orchagent/portsorch.cpp: PortsOrch::addBridgePort, PortsOrch::addVlanMember
fn add_to_vlan(switch: &mut Switch, key: &str, port: &str) -> Result<Verdict, Error> {
    if switch.asic.find(ROUTER_INTERFACE, PORT_OF_ROUTER_INTERFACE, port).is_some() {
        return Ok(Verdict::Retry("the port has a router interface".to_owned()));
    }
    let known = switch.asic.find(BRIDGE_PORT, PORT_OF_BRIDGE_PORT, port).map(str::to_owned);
    let bridge_port = match known {
        Some(known) => known,
        None => {
            let oid = switch.asic.new_oid(BRIDGE_PORT);
            let attributes = fields(&[
                ("SAI_BRIDGE_PORT_ATTR_TYPE", "SAI_BRIDGE_PORT_TYPE_PORT"),
                (PORT_OF_BRIDGE_PORT, port),
            ]);
            switch.asic.set(BRIDGE_PORT, &oid, &attributes)?;
            eprintln!("orchagent: {key}: bridge port {oid} created");
            oid
        }
    };
    if switch.asic.named(VLAN_MEMBER, key).is_none() {
        let oid = switch.asic.new_oid(VLAN_MEMBER);
        switch.asic.set(VLAN_MEMBER, &oid, &fields(&[(BRIDGE_PORT_OF_MEMBER, &bridge_port)]))?;
        switch.asic.name(&oid, key);
    }
    Ok(Verdict::Done)
}

// sonic-swss orchagent/portsorch.cpp: PortsOrch::removeVlanMember, PortsOrch::removeBridgePort
fn remove_from_vlan(switch: &mut Switch, key: &str, port: &str) -> Result<Verdict, Error> {
    if let Some(member) = switch.asic.named(VLAN_MEMBER, key).map(str::to_owned) {
        switch.asic.delete(VLAN_MEMBER, &member)?;
    }
    let bridge_port = switch.asic.find(BRIDGE_PORT, PORT_OF_BRIDGE_PORT, port).map(str::to_owned);
    if let Some(oid) = bridge_port
        && switch.asic.find(VLAN_MEMBER, BRIDGE_PORT_OF_MEMBER, &oid).is_none()
    {
        switch.asic.delete(BRIDGE_PORT, &oid)?;
        eprintln!("orchagent: {key}: bridge port {oid} removed");
    }
    Ok(Verdict::Done)
}

// sonic-swss orchagent/portsorch.cpp: PortsOrch::addLagMember
fn add_to_lag(switch: &mut Switch, key: &str, port: &str) -> Result<Verdict, Error> {
    if switch.asic.named(LAG_MEMBER, key).is_none() {
        let oid = switch.asic.new_oid(LAG_MEMBER);
        let attributes: Fields = fields(&[(PORT_OF_LAG_MEMBER, port)]);
        switch.asic.set(LAG_MEMBER, &oid, &attributes)?;
        switch.asic.name(&oid, key);
    }
    Ok(Verdict::Done)
}

// sonic-swss orchagent/portsorch.cpp: PortsOrch::removeLagMember
fn remove_from_lag(switch: &mut Switch, key: &str, _port: &str) -> Result<Verdict, Error> {
    if let Some(member) = switch.asic.named(LAG_MEMBER, key).map(str::to_owned) {
        switch.asic.delete(LAG_MEMBER, &member)?;
    }
    Ok(Verdict::Done)
}
