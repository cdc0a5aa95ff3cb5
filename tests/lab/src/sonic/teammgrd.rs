//! teammgrd and teamsyncd: ports become members of a LAG.
//!
//! Owns: APPL_DB LAG_MEMBER_TABLE. (LAGs themselves are not modelled: a LAG exists as soon as it is named.)
//! Must never: take a port out of its master. It skips a port until the port has no master.

use std::collections::BTreeMap;

use redis::Msg;

use super::daemons::Daemon;
use super::database;
use super::queue::{Queue, Task, Verdict};
use super::subscription::Subscription;
use super::switch::Switch;
use super::{Error, fields};

/// The daemons for LAGs, as far as a member needs them.
pub struct Teammgrd {
    rows: Subscription,
    queue: Queue,
    /// The rows that were taken, as LAG and port, and whether the port is in the LAG.
    members: BTreeMap<(String, String), bool>,
}

impl Teammgrd {
    /// A daemon that has done nothing yet.
    pub fn new(rows: Subscription) -> Self {
        Self { rows, queue: Queue::default(), members: BTreeMap::new() }
    }

    // sonic-swss cfgmgr/teammgr.cpp: TeamMgr::doLagMemberTask, removeLagMember
    fn handle(&mut self, switch: &mut Switch, key: &str, task: &Task) -> Result<Verdict, Error> {
        let Some((lag, port)) = key.split_once('|') else { return Ok(Verdict::Done) };
        let member = (lag.to_owned(), port.to_owned());
        match task {
            Task::Set(_) if !switch.is_ready("PORT_TABLE", port)? => {
                return Ok(Verdict::Retry("the port is not ready".to_owned()));
            }
            Task::Set(_) => drop(self.members.entry(member).or_insert(false)),
            Task::Del => {
                if self.members.remove(&member) == Some(true) {
                    report(port, switch.kernel.set_master(port, None));
                    switch.lag_member_table.delete(&mut switch.appl, &format!("{lag}:{port}"))?;
                }
            }
        }
        Ok(Verdict::Done)
    }

    /// Looks at every port again. SONiC does so when a port has been down or up, as it is when its master changes.
    // sonic-swss cfgmgr/teammgr.cpp: TeamMgr::doPortUpdateTask, addLagMember, isPortEnslaved;
    // teamsyncd/teamsync.cpp: TeamSync::TeamPortSync::onChange
    fn follow_the_kernel(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        let mut progress = false;
        for ((lag, port), is_in) in &mut self.members {
            let Ok(master) = switch.kernel.master(port) else { continue };
            let key = format!("{lag}:{port}");
            if *is_in && master.as_deref() != Some(lag) {
                *is_in = false;
                switch.lag_member_table.delete(&mut switch.appl, &key)?;
                eprintln!("teamsyncd: {port}: has left {lag}");
            } else if !*is_in && master.is_none() {
                match switch.kernel.set_master(port, Some(lag)) {
                    Err(error) => {
                        report(port, Err(error));
                        continue;
                    }
                    Ok(()) => *is_in = true,
                }
                switch.lag_member_table.set(&mut switch.appl, &key, &fields(&[("status", "enabled")]))?;
                eprintln!("teammgrd: {port}: member of {lag}");
            } else {
                continue;
            }
            progress = true;
            switch.look(&format!("teammgrd: {key}"))?;
        }
        Ok(progress)
    }
}

impl Daemon for Teammgrd {
    fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        self.rows.offer(message)
    }

    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        for (key, task) in self.rows.pop(&mut switch.config)? {
            self.queue.add(&key, task);
        }
        let mut queue = std::mem::take(&mut self.queue);
        let progress = queue.drain(
            |key, reason| eprintln!("teammgrd: {key}: waiting: {reason}"),
            |key, task| {
                let verdict = self.handle(switch, key, task)?;
                switch.look(&format!("teammgrd: {key}"))?;
                Ok::<_, Error>(verdict)
            },
        )?;
        self.queue = queue;
        Ok(self.follow_the_kernel(switch)? || progress)
    }
}

fn report(port: &str, result: Result<(), super::kernel::Error>) {
    if let Err(error) = result {
        eprintln!("teammgrd: {port}: {error}");
    }
}
