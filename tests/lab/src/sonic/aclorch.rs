//! AclOrch: CONFIG_DB ACL_TABLE and ACL_RULE rows become tables and entries of the ASIC, bound to ports.
//!
//! Owns: the order in which rows are worked off, STATE_DB ACL_TABLE_TABLE and ACL_RULE_TABLE, and which tables there are.
//! Must never: remember the rows of a rule that it has made. Only a new write of its row restores a rule that a table
//! has lost. STATE_DB shows Active also while a rule is removed and made again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use redis::Msg;

use super::acl_rows::{TableRow, invalid_priority, priority, read_rule};
use super::acl_table::{Table, Work, is_lag_member};
use super::database;
use super::queue::{Queue, Task, Verdict};
use super::subscription::Subscription;
use super::switch::Switch;
use super::{Error, fields};

/// The ACLs.
pub struct AclOrch {
    table_rows: Subscription,
    table_queue: Queue,
    rule_rows: Subscription,
    rule_queue: Queue,
    /// The tasks of this batch that have not begun, in order.
    batch: VecDeque<(String, Task)>,
    /// The rule that is being worked on.
    current: Option<Current>,
    /// SAI calls for tables that were made and not waited for.
    unanswered: u32,
    tables: BTreeMap<String, Table>,
    /// Tables for caclmgrd.
    control_plane: BTreeSet<String>,
}

/// The remaining steps of a rule.
struct Current {
    key: String,
    work: VecDeque<Work>,
    /// The call at the front was made; syncd has not answered.
    is_called: bool,
    /// The rule's status in STATE_DB afterwards, or none.
    status: Option<&'static str>,
}

impl AclOrch {
    /// An orch without any ACL.
    pub fn new(table_rows: Subscription, rule_rows: Subscription) -> Self {
        Self {
            // aclorch takes the NULL of an empty row for an attribute.
            table_rows: table_rows.with_null(),
            table_queue: Queue::default(),
            rule_rows: rule_rows.with_null(),
            rule_queue: Queue::default(),
            batch: VecDeque::new(),
            current: None,
            unanswered: 0,
            tables: BTreeMap::new(),
            control_plane: BTreeSet::new(),
        }
    }

    /// Keeps an event if it is about ACLs.
    pub fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        Ok(self.table_rows.offer(message)? || self.rule_rows.offer(message)?)
    }

    /// Does orchagent wait for syncd? It does nothing else in the meantime.
    pub fn is_under_way(&self) -> bool {
        self.current.is_some() || self.unanswered > 0
    }

    /// How long syncd takes for the call that is under way.
    pub fn busy_for(&self, switch: &Switch) -> Option<Duration> {
        self.is_under_way().then(|| switch.behaviour.sai_delay() * self.unanswered.max(1))
    }

    /// Reads the changes, and tries every pending task. If SAI calls are separate steps, it stops at the next SAI call
    /// for a rule, or after the tables; or it takes syncd's answer and goes on from there.
    // sonic-swss orchagent/orchdaemon.cpp: OrchDaemon::init (ACL tables come before their rules)
    pub fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        let mut progress = false;
        if !self.is_under_way() {
            for (table, task) in self.table_rows.pop(&mut switch.config)? {
                self.table_queue.add(&table, task);
            }
            for (rule, task) in self.rule_rows.pop(&mut switch.config)? {
                self.rule_queue.add(&rule, task);
            }
            let before = switch.asic.calls();
            progress |= self.run_tables(switch)?;
            self.batch = self.sorted(switch);
            if switch.behaviour.sai_delay_ms > 0 {
                self.unanswered = switch.asic.calls() - before;
            }
            if self.unanswered > 0 {
                return Ok(true);
            }
        }
        self.unanswered = 0;
        Ok(self.run_rules(switch)? || progress)
    }

    fn run_tables(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        let mut queue = std::mem::take(&mut self.table_queue);
        let progress = queue.drain(log, |name, task| {
            let verdict = self.handle_table(switch, name, task)?;
            switch.look_at_asic(&format!("orchagent: ACL_TABLE {name}"))?;
            Ok::<_, Error>(verdict)
        })?;
        self.table_queue = queue;
        Ok(progress)
    }

    /// The pending rules in the order in which a release works them off.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::doAclRuleTask
    fn sorted(&self, switch: &Switch) -> VecDeque<(String, Task)> {
        let mut tasks = self.rule_queue.tasks();
        if switch.behaviour.release.sorts_rules_by_priority() {
            tasks.sort_by_key(|(key, task)| match task {
                Task::Del => {
                    let (table, rule) = key.split_once('|').unwrap_or((key, ""));
                    (false, i64::from(self.tables.get(table).map_or(0, |table| table.priority(rule))))
                }
                Task::Set(row) => (true, -i64::from(priority(row))),
            });
        }
        tasks.into()
    }

    /// Goes on until a SAI call must be waited for, or the batch is through.
    fn run_rules(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        let mut progress = false;
        loop {
            if let Some(mut current) = self.current.take() {
                progress = true;
                if self.go_on(switch, &mut current)? {
                    self.current = Some(current);
                    return Ok(true);
                }
                set_rule_status(switch, &current.key, current.status)?;
            }
            let Some((key, task)) = self.batch.pop_front() else { return Ok(progress) };
            let verdict = self.begin_rule(switch, &key, &task)?;
            progress |= verdict == Verdict::Done;
            self.rule_queue.settle(&key, &task, verdict, |reason| log(&key, reason));
        }
    }

    /// Goes on with the steps of a rule, and returns whether syncd must be waited for.
    fn go_on(&mut self, switch: &mut Switch, current: &mut Current) -> Result<bool, Error> {
        let (name, rule) = current.key.split_once('|').unwrap_or((&current.key, ""));
        let Some(table) = self.tables.get_mut(name) else { return Ok(false) };
        while let Some(work) = current.work.front() {
            let stops = switch.behaviour.stops_in_sai_calls();
            if stops && work.is_sai_call() && !current.is_called {
                current.is_called = true;
                return Ok(true);
            }
            current.is_called = false;
            table.carry_out(switch, rule, work)?;
            switch.look_at_asic(&format!("orchagent: ACL_RULE {}: {work}", current.key))?;
            current.work.pop_front();
        }
        Ok(false)
    }

    // sonic-swss orchagent/aclorch.cpp: AclOrch::doAclTableTask
    fn handle_table(&mut self, switch: &mut Switch, name: &str, task: &Task) -> Result<Verdict, Error> {
        let Task::Set(row) = task else {
            if !self.remove_table(switch, name)? {
                set_table_status(switch, name, "Pending removal")?;
                return Ok(Verdict::Retry("the ASIC still has a port bound to it".to_owned()));
            }
            self.control_plane.remove(name);
            switch.state.delete("ACL_TABLE_TABLE", name)?;
            return Ok(Verdict::Done);
        };
        let row = match TableRow::read(row) {
            // Not retried: only a new write of the row brings the table another chance. What the ASIC has stays.
            Err(reason) => {
                eprintln!("orchagent: ACL table {name}: {reason}, invalid configuration");
                return set_table_status(switch, name, "Inactive");
            }
            Ok(row) if !row.is_known_kind() => {
                return Ok(Verdict::Retry(format!("no ACL_TABLE_TYPE {}", row.kind)));
            }
            Ok(row) => row,
        };
        if row.is_control_plane() {
            self.control_plane.insert(name.to_owned());
            return set_table_status(switch, name, "Active");
        }
        // One LAG member in the list makes aclorch refuse the whole update.
        // sonic-swss orchagent/aclorch.cpp: AclOrch::processAclTablePorts
        if let Some(member) = row.ports.iter().find(|port| is_lag_member(switch, port)) {
            eprintln!("orchagent: ACL table {name}: Failed to get port {member} bind port ID");
            return set_table_status(switch, name, "Inactive");
        }
        let same = self
            .tables
            .get_mut(name)
            .filter(|table| table.row.kind == row.kind && table.row.stage == row.stage);
        if let Some(table) = same {
            table.rebind(switch, row)?;
            return set_table_status(switch, name, "Active");
        }
        // sonic-swss orchagent/aclorch.cpp: AclOrch::addAclTable (a table of another type or stage goes first, and its
        // rules with it: aclorch keeps no rows)
        if !self.remove_table(switch, name)? {
            set_table_status(switch, name, "Pending creation")?;
            return Ok(Verdict::Retry("the earlier table is still bound".to_owned()));
        }
        switch.look_at_asic(&format!("orchagent: ACL_TABLE {name} removed to be created again"))?;
        let mut table = Table::create(switch, name, &row)?;
        table.rebind(switch, row)?;
        self.tables.insert(name.to_owned(), table);
        set_table_status(switch, name, "Active")
    }

    /// Removes a table, if it exists, and returns whether it is gone.
    fn remove_table(&mut self, switch: &mut Switch, name: &str) -> Result<bool, Error> {
        let Some(table) = self.tables.get_mut(name) else { return Ok(true) };
        let is_gone = table.remove(switch)?;
        if is_gone {
            self.tables.remove(name);
        }
        Ok(is_gone)
    }

    /// Begins a task.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::doAclRuleTask
    fn begin_rule(&mut self, switch: &mut Switch, key: &str, task: &Task) -> Result<Verdict, Error> {
        let (name, rule) = key.split_once('|').unwrap_or((key, ""));
        let table = self.tables.get(name);
        let mut work: Vec<Work> = Vec::new();
        if table.is_some_and(|table| table.has_rule(rule)) {
            work.extend(Work::REMOVE);
        }
        let mut status = None;
        if let Task::Set(row) = task {
            // A rule with such a priority is skipped, and STATE_DB keeps its earlier status.
            if switch.behaviour.release.sorts_rules_by_priority() && invalid_priority(row) {
                eprintln!("orchagent: ACL rule {key}: invalid priority, skipped");
                return Ok(Verdict::Done);
            }
            let Some(table) = table else {
                if self.control_plane.contains(name) {
                    return Ok(Verdict::Done);
                }
                // STATE_DB has no row of a rule that waits.
                return Ok(Verdict::Retry(format!("no ACL table {name}")));
            };
            // A bad rule leaves the ASIC as it is.
            let attributes = match read_rule(&table.row.kind, row) {
                Err(reason) => {
                    eprintln!("orchagent: ACL rule {key}: {reason}, dropped");
                    return set_rule_status(switch, key, Some("Inactive")).map(|()| Verdict::Done);
                }
                Ok(attributes) => attributes,
            };
            // A rule that exists was removed first: for a moment it is not enforced.
            work.extend(Work::create(attributes));
            status = Some("Active");
        }
        self.current = Some(Current { key: key.to_owned(), work: work.into(), is_called: false, status });
        Ok(Verdict::Done)
    }
}

fn log(key: &str, reason: &str) {
    eprintln!("orchagent: {key}: waiting: {reason}");
}

/// Writes a table's status to STATE_DB.
// sonic-swss orchagent/aclorch.cpp: AclOrch::setAclTableStatus
fn set_table_status(switch: &mut Switch, table: &str, status: &str) -> Result<Verdict, Error> {
    switch.state.set("ACL_TABLE_TABLE", table, &fields(&[("status", status)]))?;
    Ok(Verdict::Done)
}

/// Writes a rule's status to STATE_DB, or deletes its row.
// sonic-swss orchagent/aclorch.cpp: AclOrch::setAclRuleStatus, AclOrch::removeAclRuleStatus
fn set_rule_status(switch: &mut Switch, key: &str, status: Option<&str>) -> Result<(), Error> {
    match status {
        Some(status) => switch.state.set("ACL_RULE_TABLE", key, &fields(&[("status", status)]))?,
        None => switch.state.delete("ACL_RULE_TABLE", key)?,
    }
    Ok(())
}
