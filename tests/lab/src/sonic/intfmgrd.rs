//! intfmgrd: CONFIG_DB INTERFACE rows become masters and addresses of ports, LOOPBACK_INTERFACE rows of loopbacks.
//!
//! Owns: the master and the configured addresses of every port and loopback, APPL_DB INTF_TABLE, STATE_DB INTERFACE_TABLE.
//! Must never: tolerate more than SONiC's. It forgets dropped rows, and writes `ok` for an address that it only
//! requested.

use std::collections::BTreeSet;

use ipnet::IpNet;
use redis::Msg;

use super::daemons::Daemon;
use super::database::{self, Fields};
use super::kernel::LOOPBACK;
use super::queue::{Queue, Task, Verdict};
use super::subscription::Subscription;
use super::switch::Switch;
use super::{Error, fields, parse_prefix, throw};

/// Rows for these are not about ports; this model does not play them.
// sonic-swss cfgmgr/intfmgr.cpp: VLAN_PREFIX, LAG_PREFIX, LOOPBACK_PREFIX
const NOT_PORTS: [&str; 3] = ["Vlan", "PortChannel", LOOPBACK];

/// The daemon.
#[derive(Debug)]
pub struct Intfmgrd {
    ports: Subscription,
    port_queue: Queue,
    loopbacks: Subscription,
    loopback_queue: Queue,
    /// The loopbacks that it has made. It makes none of them twice, even if the device was deleted.
    made: BTreeSet<String>,
}

impl Intfmgrd {
    /// A daemon that has done nothing yet.
    pub fn new(ports: Subscription, loopbacks: Subscription) -> Self {
        let (port_queue, loopback_queue) = (Queue::default(), Queue::default());
        Self { ports, port_queue, loopbacks, loopback_queue, made: BTreeSet::new() }
    }
}

impl Daemon for Intfmgrd {
    fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        Ok(self.ports.offer(message)? || self.loopbacks.offer(message)?)
    }

    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        for (key, task) in self.ports.pop(&mut switch.config)? {
            if NOT_PORTS.iter().any(|prefix| key.starts_with(prefix)) {
                eprintln!("intfmgrd: {key}: not a port, not played");
            } else {
                self.port_queue.add(&key, task);
            }
        }
        for (key, task) in self.loopbacks.pop(&mut switch.config)? {
            self.loopback_queue.add(&key, task);
        }
        let mut progress = false;
        let made = &mut self.made;
        for queue in [&mut self.port_queue, &mut self.loopback_queue] {
            progress |= queue.drain(
                |key, reason| eprintln!("intfmgrd: {key}: waiting: {reason}"),
                |key, task| {
                    let verdict = handle(switch, made, key, task)?;
                    switch.look(&format!("intfmgrd: {key}"))?;
                    Ok::<_, Error>(verdict)
                },
            )?;
        }
        Ok(progress)
    }
}

// sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::doTask
fn handle(
    switch: &mut Switch,
    made: &mut BTreeSet<String>,
    key: &str,
    task: &Task,
) -> Result<Verdict, Error> {
    let parts: Vec<&str> = key.split('|').collect();
    match (parts.as_slice(), task) {
        ([port], Task::Set(row)) => set_base(switch, made, port, row),
        ([port], Task::Del) => delete_base(switch, made, port),
        ([port, prefix], task) => {
            // The prefix is parsed before anything else, whatever the task is: a DEL throws as its SET did.
            // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::doIntfAddrTask
            let Some(address) = parse_prefix(prefix) else {
                let reason = format!("{port}: {prefix} is not an IP prefix");
                return throw(switch.behaviour.release, "intfmgrd", reason);
            };
            match task {
                Task::Set(_) => set_address(switch, port, prefix, address),
                Task::Del => delete_address(switch, port, prefix, address),
            }
        }
        _ => {
            eprintln!("intfmgrd: {key}: invalid key, dropped");
            Ok(Verdict::Done)
        }
    }
}

// sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask (SET)
fn set_base(
    switch: &mut Switch,
    made: &mut BTreeSet<String>,
    port: &str,
    row: &Fields,
) -> Result<Verdict, Error> {
    let vrf = row.get("vrf_name").map_or("", String::as_str);
    if !is_ready(switch, port)? {
        return Ok(Verdict::Retry("the port is not ready".to_owned()));
    }
    if !vrf.is_empty() && !is_ready(switch, vrf)? {
        return Ok(Verdict::Retry(format!("{vrf} is not ready")));
    }
    // Dropped, not retried: only a new write of the row brings the port another chance.
    // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::isIntfChangeVrf
    if switch.state.field("INTERFACE_TABLE", port, "vrf")?.is_some_and(|bound| bound != vrf) {
        eprintln!("intfmgrd: {port}: can not change to {vrf} directly, skipping");
        return Ok(Verdict::Done);
    }
    if port.starts_with(LOOPBACK) && made.insert(port.to_owned()) {
        // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::addLoopbackIntf
        report(port, switch.kernel.add_loopback(port));
    }
    if !vrf.is_empty() {
        // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::setIntfVrf (a failure is logged, no more)
        report(port, switch.kernel.set_master(port, Some(vrf)));
    }
    let mut row = row.clone();
    row.entry("mac_addr".to_owned()).or_insert_with(|| "00:00:00:00:00:00".to_owned());
    switch.intf_table.set(&mut switch.appl, port, &row)?;
    switch.state.set("INTERFACE_TABLE", port, &fields(&[("vrf", vrf)]))?;
    eprintln!("intfmgrd: {port}: bound to {}", if vrf.is_empty() { "the default VRF" } else { vrf });
    Ok(Verdict::Done)
}

// sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask (DEL)
fn delete_base(switch: &mut Switch, made: &mut BTreeSet<String>, port: &str) -> Result<Verdict, Error> {
    // Any address counts, also one that no row asked for.
    let addresses = switch.kernel.addresses(port).unwrap_or_default();
    if !addresses.is_empty() {
        return Ok(Verdict::Retry(format!("{} addresses are left, cannot delete", addresses.len())));
    }
    report(port, switch.kernel.set_master(port, None));
    if port.starts_with(LOOPBACK) {
        // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::delLoopbackIntf
        report(port, switch.kernel.delete_loopback(port));
        made.remove(port);
    }
    switch.intf_table.delete(&mut switch.appl, port)?;
    switch.state.delete("INTERFACE_TABLE", port)?;
    eprintln!("intfmgrd: {port}: deleted");
    Ok(Verdict::Done)
}

// sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::doIntfAddrTask (SET)
fn set_address(switch: &mut Switch, port: &str, prefix: &str, address: IpNet) -> Result<Verdict, Error> {
    if !is_ready(switch, port)? || switch.state.row("INTERFACE_TABLE", port)?.is_none() {
        return Ok(Verdict::Retry("the interface is not ready".to_owned()));
    }
    // "ok" means that the address was requested, not that it exists.
    report(port, switch.kernel.add_address(port, address));
    let family = if matches!(address, IpNet::V4(_)) { "IPv4" } else { "IPv6" };
    let row = fields(&[("scope", "global"), ("family", family)]);
    switch.intf_table.set(&mut switch.appl, &format!("{port}:{prefix}"), &row)?;
    switch.state.set("INTERFACE_TABLE", &format!("{port}|{prefix}"), &fields(&[("state", "ok")]))?;
    eprintln!("intfmgrd: {port}: {prefix} added");
    Ok(Verdict::Done)
}

// sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::doIntfAddrTask (DEL)
fn delete_address(switch: &mut Switch, port: &str, prefix: &str, address: IpNet) -> Result<Verdict, Error> {
    report(port, switch.kernel.delete_address(port, address));
    switch.intf_table.delete(&mut switch.appl, &format!("{port}:{prefix}"))?;
    switch.state.delete("INTERFACE_TABLE", &format!("{port}|{prefix}"))?;
    eprintln!("intfmgrd: {port}: {prefix} deleted");
    Ok(Verdict::Done)
}

/// The name alone decides the lookup: a loopback is always ready, any other name that does not begin with `Vrf` is a
/// port, and a VRF of another name is never ready.
// sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::isIntfStateOk
fn is_ready(switch: &mut Switch, name: &str) -> Result<bool, Error> {
    if name.starts_with(LOOPBACK) {
        return Ok(true);
    }
    let table = if name.starts_with("Vrf") { "VRF_TABLE" } else { "PORT_TABLE" };
    Ok(switch.is_ready(table, name)?)
}

fn report(port: &str, result: Result<(), super::kernel::Error>) {
    if let Err(error) = result {
        eprintln!("intfmgrd: {port}: {error}");
    }
}
