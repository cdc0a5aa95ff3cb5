//! orchagent: APPL_DB rows become objects of the ASIC. This file is its loop; the rules are in the orchs' own files.
//!
//! Owns: the queues of VRFs and interfaces, and the order in which the orchs are tried.
//! Must never: touch the kernel, or write CONFIG_DB. It reads the managers' tables, and the ACL rows of CONFIG_DB.

use std::time::{Duration, Instant};

use redis::Msg;

use super::Error;
use super::aclorch::AclOrch;
use super::daemons::Daemon;
use super::database;
use super::intfsorch::IntfsOrch;
use super::members::Members;
use super::queue::Queue;
use super::switch::Switch;
use super::vrforch::VrfOrch;

/// The daemon.
pub struct Orchagent {
    vrf_queue: Queue,
    vrfs: VrfOrch,
    members: Members,
    acls: AclOrch,
    intf_queue: Queue,
    intfs: IntfsOrch,
}

impl Orchagent {
    /// An orchagent that has made the default virtual router.
    pub fn start(switch: &mut Switch, acls: AclOrch) -> Result<Self, Error> {
        Ok(Self {
            vrf_queue: Queue::default(),
            vrfs: VrfOrch::start(switch)?,
            members: Members::default(),
            acls,
            intf_queue: Queue::default(),
            intfs: IntfsOrch::default(),
        })
    }

    fn run_vrfs(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        let Self { vrfs, intfs, .. } = self;
        self.vrf_queue.drain(
            |vrf, reason| eprintln!("orchagent: {vrf}: waiting: {reason}"),
            |vrf, task| vrfs.handle(switch, intfs, vrf, task),
        )
    }
}

impl Daemon for Orchagent {
    fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        self.acls.offer(message)
    }

    fn has_news(&self, switch: &mut Switch) -> bool {
        switch.has_news_for_orchagent()
    }

    fn busy_for(&self, switch: &Switch) -> Option<Duration> {
        self.acls.busy_for(switch)
    }

    /// orchagent waits for a SAI call for an ACL rule: it does nothing else before the answer.
    ///
    /// VRFs come twice: one may be needed by an interface, and one may be free to go because of an interface. ACLs come
    /// from CONFIG_DB without a manager in between, so they overtake rows that a manager still works on; or they come late,
    /// because one event is selected at a time and others are before them.
    // sonic-swss orchagent/orchdaemon.cpp: OrchDaemon::start (every orch is tried after every event);
    // sonic-swss-common common/select.cpp: Select::poll_descriptors
    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        if self.acls.is_under_way() {
            self.acls.run(switch)?;
            return Ok(true);
        }
        switch.news_for_orchagent = false;
        for (vrf, task) in switch.vrf_table.pop(&mut switch.appl)? {
            self.vrf_queue.add(&vrf, task);
        }
        if switch.comes_to_interfaces() {
            for (key, task) in switch.intf_table.pop(&mut switch.appl)? {
                self.intf_queue.add(&key, task);
            }
        }
        let mut progress = self.intfs.name_new(switch, Instant::now())?;
        progress |= self.run_vrfs(switch)?;
        progress |= self.members.run(switch)?;
        if !switch.acls_wait {
            progress |= self.acls.run(switch)?;
            if self.acls.is_under_way() {
                return Ok(true);
            }
        }
        if !switch.comes_to_interfaces() {
            return Ok(progress);
        }
        let Self { vrfs, intfs, .. } = self;
        progress |= self.intf_queue.drain(
            |key, reason| eprintln!("orchagent: {key}: waiting: {reason}"),
            |key, task| {
                let verdict = intfs.handle(switch, vrfs, key, task)?;
                switch.look_at_asic(&format!("orchagent: INTF_TABLE {key}"))?;
                Ok::<_, Error>(verdict)
            },
        )?;
        Ok(progress | self.run_vrfs(switch)?)
    }
}
