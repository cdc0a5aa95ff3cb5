//! vrfmgrd: CONFIG_DB VRF rows become VRF devices.
//!
//! Owns: the VRF devices and their routing tables, APPL_DB VRF_TABLE, STATE_DB VRF_TABLE.
//! Must never: write orchagent's state of a VRF (STATE_DB VRF_OBJECT_TABLE).

use std::collections::{BTreeMap, BTreeSet};

use redis::Msg;

use super::daemons::Daemon;
use super::database::{self, Fields};
use super::queue::{Queue, Task, Verdict};
use super::subscription::Subscription;
use super::switch::Switch;
use super::{Error, fields, throw};

/// The routing tables for VRFs.
// sonic-swss cfgmgr/vrfmgr.cpp: VRF_TABLE_START, VRF_TABLE_END
const TABLES: std::ops::Range<u32> = 1001..5097;

/// The daemon.
#[derive(Debug)]
pub struct Vrfmgrd {
    subscription: Subscription,
    queue: Queue,
    devices: Devices,
}

/// Which VRF device has which routing table.
#[derive(Debug)]
struct Devices {
    tables: BTreeMap<String, u32>,
    free: BTreeSet<u32>,
}

impl Vrfmgrd {
    /// A daemon that has no VRF yet.
    pub fn new(subscription: Subscription) -> Self {
        let devices = Devices { tables: BTreeMap::new(), free: TABLES.collect() };
        Self { subscription, queue: Queue::default(), devices }
    }
}

impl Daemon for Vrfmgrd {
    fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        self.subscription.offer(message)
    }

    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        for (vrf, task) in self.subscription.pop(&mut switch.config)? {
            self.queue.add(&vrf, task);
        }
        let devices = &mut self.devices;
        self.queue.drain(
            |vrf, reason| eprintln!("vrfmgrd: {vrf}: waiting: {reason}"),
            |vrf, task| {
                let verdict = match task {
                    Task::Set(fields) => devices.set(switch, vrf, fields),
                    Task::Del => devices.delete(switch, vrf),
                }?;
                switch.look(&format!("vrfmgrd: {vrf}"))?;
                Ok(verdict)
            },
        )
    }
}

impl Devices {
    /// For a VRF that already has a table, nothing changes in the kernel: another write of the row does not restore a
    /// device that was deleted or brought down by hand.
    // sonic-swss cfgmgr/vrfmgr.cpp: VrfMgr::doTask (SET), VrfMgr::setLink
    fn set(&mut self, switch: &mut Switch, vrf: &str, row: &Fields) -> Result<Verdict, Error> {
        if !self.tables.contains_key(vrf) {
            // Without a free table it logs a failure, and then reports success.
            if let Some(table) = self.free.pop_first() {
                // The command runs in EXEC_WITH_ERROR_THROW. A table that was taken for it is lost.
                if let Err(error) = switch.kernel.add_vrf(vrf, table) {
                    return throw(switch.behaviour.release, "vrfmgrd", format!("{vrf}: {error}"));
                }
                eprintln!("vrfmgrd: {vrf}: created with table {table}");
                self.tables.insert(vrf.to_owned(), table);
            } else {
                eprintln!("vrfmgrd: Failed to create vrf netdev {vrf}");
            }
        }
        switch.state.set("VRF_TABLE", vrf, &fields(&[("state", "ok")]))?;
        switch.vrf_table.set(&mut switch.appl, vrf, row)?;
        Ok(Verdict::Done)
    }

    /// The device is deleted last: orchagent must first have made its object, then gets the DEL, then must have removed
    /// the object. No event wakes vrfmgrd for that; only the next event of another row or the retry does.
    // sonic-swss cfgmgr/vrfmgr.cpp: VrfMgr::doTask (DEL), VrfMgr::isVrfObjExist, VrfMgr::delLink
    fn delete(&mut self, switch: &mut Switch, vrf: &str) -> Result<Verdict, Error> {
        let has_object = switch.state.row("VRF_OBJECT_TABLE", vrf)?.is_some();
        if switch.state.row("VRF_TABLE", vrf)?.is_some() {
            if !has_object {
                return Ok(Verdict::Retry("orchagent has no object yet, cannot delete".to_owned()));
            }
            switch.vrf_table.delete(&mut switch.appl, vrf)?;
            switch.state.delete("VRF_TABLE", vrf)?;
        }
        if has_object {
            return Ok(Verdict::Retry("orchagent still has the object".to_owned()));
        }
        let Some(table) = self.tables.get(vrf).copied() else {
            eprintln!("vrfmgrd: {vrf}: no device to delete");
            return Ok(Verdict::Done);
        };
        // For a device that was deleted by hand, the command fails and throws, now and at every retry.
        if let Err(error) = switch.kernel.delete_vrf(vrf) {
            return throw(switch.behaviour.release, "vrfmgrd", format!("{vrf}: {error}"));
        }
        self.tables.remove(vrf);
        self.free.insert(table);
        eprintln!("vrfmgrd: {vrf}: deleted");
        Ok(Verdict::Done)
    }
}
