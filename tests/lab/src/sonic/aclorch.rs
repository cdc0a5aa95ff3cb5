//! AclOrch: CONFIG_DB ACL_TABLE and ACL_RULE rows become tables and entries of the ASIC, bound to ports.
//!
//! Owns: the ACL objects of ASIC_DB, STATE_DB ACL_TABLE_TABLE and ACL_RULE_TABLE, COUNTERS_DB ACL_COUNTER_RULE_MAP.
//! Must never: remember the rows of a rule that it has made. What a table loses, only a new write of the row brings back.

use std::collections::{BTreeMap, BTreeSet};

use redis::Msg;

use super::acl_rows::{TableRow, read_rule};
use super::asic::{ACL_ENTRY, ACL_GROUP_MEMBER, LAG_MEMBER, PORT};
use super::database::{self, Fields};
use super::queue::{Queue, Task, Verdict};
use super::subscription::Subscription;
use super::switch::Switch;
use super::{Error, fields};

const TABLE: &str = "SAI_OBJECT_TYPE_ACL_TABLE";
const GROUP: &str = "SAI_OBJECT_TYPE_ACL_TABLE_GROUP";
const COUNTER: &str = "SAI_OBJECT_TYPE_ACL_COUNTER";
const GROUP_OF_MEMBER: &str = "SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_GROUP_ID";
const TABLE_OF_MEMBER: &str = "SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_ID";
const NO_GROUP: &str = "oid:0x0";

/// The ACLs.
pub struct AclOrch {
    table_rows: Subscription,
    table_queue: Queue,
    rule_rows: Subscription,
    rule_queue: Queue,
    tables: BTreeMap<String, Table>,
    /// Tables that are caclmgrd's business.
    control_plane: BTreeSet<String>,
}

/// A table in the ASIC.
struct Table {
    oid: String,
    row: TableRow,
    /// Entry and counter by rule.
    rules: BTreeMap<String, [String; 2]>,
    /// The group member by port.
    bound: BTreeMap<String, String>,
}

impl AclOrch {
    /// An orch without any ACL.
    pub fn new(table_rows: Subscription, rule_rows: Subscription) -> Self {
        Self {
            // It takes the NULL of an empty row for an attribute.
            table_rows: table_rows.with_null(),
            table_queue: Queue::default(),
            rule_rows: rule_rows.with_null(),
            rule_queue: Queue::default(),
            tables: BTreeMap::new(),
            control_plane: BTreeSet::new(),
        }
    }

    /// Keeps an event if it is about ACLs.
    pub fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        Ok(self.table_rows.offer(message)? || self.rule_rows.offer(message)?)
    }

    /// Takes what has changed, and tries everything that is pending.
    // sonic-swss orchagent/orchdaemon.cpp: OrchDaemon::init (ACL tables come before their rules)
    pub fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        for (table, task) in self.table_rows.pop(&mut switch.config)? {
            self.table_queue.add(&table, task);
        }
        for (rule, task) in self.rule_rows.pop(&mut switch.config)? {
            self.rule_queue.add(&rule, task);
        }
        let (mut table_queue, mut rule_queue) =
            (std::mem::take(&mut self.table_queue), std::mem::take(&mut self.rule_queue));
        let waits = |key: &str, reason: &str| eprintln!("orchagent: {key}: waiting: {reason}");
        let tables = table_queue.drain(waits, |name, task| {
            let verdict = self.handle_table(switch, name, task)?;
            switch.look_at_asic(&format!("orchagent: ACL_TABLE {name}"))?;
            Ok::<_, Error>(verdict)
        })?;
        let rules = rule_queue.drain(waits, |key, task| {
            let verdict = self.handle_rule(switch, key, task)?;
            switch.look_at_asic(&format!("orchagent: ACL_RULE {key}"))?;
            Ok::<_, Error>(verdict)
        })?;
        (self.table_queue, self.rule_queue) = (table_queue, rule_queue);
        Ok(tables || rules)
    }

    // sonic-swss orchagent/aclorch.cpp: AclOrch::doAclTableTask
    fn handle_table(&mut self, switch: &mut Switch, name: &str, task: &Task) -> Result<Verdict, Error> {
        let Task::Set(row) = task else {
            self.remove_table(switch, name)?;
            self.control_plane.remove(name);
            switch.state.delete("ACL_TABLE_TABLE", name)?;
            return Ok(Verdict::Done);
        };
        let row = match TableRow::read(row) {
            // Not retried: only a new write of the row brings the table another chance. What the ASIC has stays.
            Err(reason) => {
                eprintln!("orchagent: ACL table {name}: {reason}, invalid configuration");
                return status(switch, "ACL_TABLE_TABLE", name, "Inactive");
            }
            Ok(row) if !row.is_known_kind() => {
                return Ok(Verdict::Retry(format!("no ACL_TABLE_TYPE {}", row.kind)));
            }
            Ok(row) => row,
        };
        if row.is_control_plane() {
            self.control_plane.insert(name.to_owned());
            return status(switch, "ACL_TABLE_TABLE", name, "Active");
        }
        // One LAG member in the list, and the whole update is refused.
        // sonic-swss orchagent/aclorch.cpp: AclOrch::processAclTablePorts; orchagent/portsorch.cpp: getAclBindPortId
        if let Some(member) = row.ports.iter().find(|port| is_lag_member(switch, port)) {
            eprintln!("orchagent: ACL table {name}: Failed to get port {member} bind port ID");
            return status(switch, "ACL_TABLE_TABLE", name, "Inactive");
        }
        let keeps_rules = |table: &Table| table.row.kind == row.kind && table.row.stage == row.stage;
        if self.tables.get(name).is_some_and(keeps_rules) {
            self.rebind(switch, name, row)?;
        } else {
            // sonic-swss orchagent/aclorch.cpp: AclOrch::addAclTable (a table of another type or stage goes first, and
            // its rules with it: nobody has kept them)
            self.remove_table(switch, name)?;
            switch.look_at_asic(&format!("orchagent: ACL_TABLE {name} removed to be created again"))?;
            self.create_table(switch, name, row)?;
        }
        status(switch, "ACL_TABLE_TABLE", name, "Active")
    }

    // sonic-swss orchagent/aclorch.cpp: AclTable::create
    fn create_table(&mut self, switch: &mut Switch, name: &str, row: TableRow) -> Result<(), Error> {
        let oid = switch.asic.new_oid();
        let stage = format!("SAI_ACL_STAGE_{}", row.stage);
        switch.asic.set(TABLE, &oid, &fields(&[("SAI_ACL_TABLE_ATTR_ACL_STAGE", &stage)]))?;
        switch.asic.name(&oid, name);
        eprintln!("orchagent: ACL table {name}: created as {oid}");
        let unbound = TableRow { ports: BTreeSet::new(), ..row.clone() };
        let table = Table { oid, row: unbound, rules: BTreeMap::new(), bound: BTreeMap::new() };
        self.tables.insert(name.to_owned(), table);
        self.rebind(switch, name, row)
    }

    // sonic-swss orchagent/aclorch.cpp: AclOrch::removeAclTable. Nobody takes back what STATE_DB says of its rules.
    fn remove_table(&mut self, switch: &mut Switch, name: &str) -> Result<(), Error> {
        let Some(mut table) = self.tables.remove(name) else { return Ok(()) };
        let rules: Vec<String> = table.rules.keys().cloned().collect();
        for rule in rules {
            table.remove_rule(switch, name, &rule)?;
        }
        for (port, member) in &table.bound {
            unbind(switch, &table.row.stage, port, member)?;
        }
        switch.asic.delete(TABLE, &table.oid)?;
        eprintln!("orchagent: ACL table {name}: deleted");
        Ok(())
    }

    /// Binds and unbinds only what differs. A port that is not there yet is bound when it comes.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::updateAclTablePorts
    fn rebind(&mut self, switch: &mut Switch, name: &str, row: TableRow) -> Result<(), Error> {
        let Some(table) = self.tables.get_mut(name) else { return Ok(()) };
        for port in &row.ports {
            if switch.ports.oid(port).is_none() {
                eprintln!("orchagent: ACL table {name}: unready port {port} is pending");
            } else if !table.bound.contains_key(port) {
                let member = bind(switch, &table.oid, &row.stage, port)?;
                table.bound.insert(port.clone(), member);
            }
        }
        let leaving: Vec<String> =
            table.bound.keys().filter(|port| !row.ports.contains(*port)).cloned().collect();
        for port in leaving {
            if let Some(member) = table.bound.remove(&port) {
                unbind(switch, &row.stage, &port, &member)?;
            }
        }
        eprintln!("orchagent: ACL table {name}: bound to {:?}", table.bound.keys());
        table.row = row;
        Ok(())
    }

    // sonic-swss orchagent/aclorch.cpp: AclOrch::doAclRuleTask
    fn handle_rule(&mut self, switch: &mut Switch, key: &str, task: &Task) -> Result<Verdict, Error> {
        let (name, rule) = key.split_once('|').unwrap_or((key, ""));
        let table = self.tables.get_mut(name);
        let row = match (task, &table) {
            (Task::Set(_), None) if self.control_plane.contains(name) => return Ok(Verdict::Done),
            // STATE_DB has no word about a rule that waits.
            (Task::Set(_), None) => return Ok(Verdict::Retry(format!("no ACL table {name}"))),
            (Task::Set(row), Some(_)) => Some(row),
            (Task::Del, _) => None,
        };
        let (Some(table), Some(row)) = (table, row) else {
            if let Some(table) = self.tables.get_mut(name) {
                table.remove_rule(switch, name, rule)?;
            }
            switch.state.delete("ACL_RULE_TABLE", key)?;
            return Ok(Verdict::Done);
        };
        let attributes = match read_rule(&table.row.kind, row) {
            Err(reason) => {
                eprintln!("orchagent: ACL rule {key}: {reason}, dropped");
                return status(switch, "ACL_RULE_TABLE", key, "Inactive");
            }
            Ok(attributes) => attributes,
        };
        // A rule that exists is removed first: for a moment it is not enforced.
        // sonic-swss orchagent/aclorch.cpp: AclTable::add
        if table.remove_rule(switch, name, rule)? {
            switch.look_at_asic(&format!("orchagent: ACL_RULE {key} removed to be created again"))?;
        }
        table.add_rule(switch, name, rule, attributes)?;
        status(switch, "ACL_RULE_TABLE", key, "Active")
    }
}

impl Table {
    // sonic-swss orchagent/aclorch.cpp: AclRule::create, AclRule::createCounter
    fn add_rule(&mut self, switch: &mut Switch, name: &str, rule: &str, row: Fields) -> Result<(), Error> {
        let [entry, counter] = [switch.asic.new_oid(), switch.asic.new_oid()];
        let mut attributes = row;
        attributes.extend(fields(&[
            ("SAI_ACL_ENTRY_ATTR_TABLE_ID", &self.oid),
            ("SAI_ACL_ENTRY_ATTR_ADMIN_STATE", "true"),
            ("SAI_ACL_ENTRY_ATTR_ACTION_COUNTER", &counter),
        ]));
        switch.asic.set(COUNTER, &counter, &fields(&[("SAI_ACL_COUNTER_ATTR_TABLE_ID", &self.oid)]))?;
        switch.asic.set(ACL_ENTRY, &entry, &attributes)?;
        switch.asic.name(&entry, rule);
        switch.counters.set("ACL_COUNTER_RULE_MAP", "", &fields(&[(&format!("{name}:{rule}"), &counter)]))?;
        self.rules.insert(rule.to_owned(), [entry, counter]);
        Ok(())
    }

    /// Removes a rule, if it is there, and says whether it was.
    // sonic-swss orchagent/aclorch.cpp: AclTable::remove
    fn remove_rule(&mut self, switch: &mut Switch, name: &str, rule: &str) -> Result<bool, Error> {
        let Some([entry, counter]) = self.rules.remove(rule) else { return Ok(false) };
        switch.asic.delete(ACL_ENTRY, &entry)?;
        switch.asic.delete(COUNTER, &counter)?;
        switch.counters.delete_field("ACL_COUNTER_RULE_MAP", "", &format!("{name}:{rule}"))?;
        Ok(true)
    }
}

/// Puts a table into the group of a port, and returns the membership. All tables of a group see every packet.
// sonic-swss orchagent/portsorch.cpp: PortsOrch::bindAclTable, createBindAclTableGroup
fn bind(switch: &mut Switch, table: &str, stage: &str, port: &str) -> Result<String, Error> {
    let attribute = format!("SAI_PORT_ATTR_{stage}_ACL");
    let port_oid = switch.ports.oid(port).unwrap_or_default().to_owned();
    let existing = switch.asic.attribute(PORT, &port_oid, &attribute).filter(|group| *group != NO_GROUP);
    let group = match existing {
        Some(group) => group.to_owned(),
        None => {
            let group = switch.asic.new_oid();
            let attributes = fields(&[
                ("SAI_ACL_TABLE_GROUP_ATTR_ACL_STAGE", &format!("SAI_ACL_STAGE_{stage}")),
                ("SAI_ACL_TABLE_GROUP_ATTR_TYPE", "SAI_ACL_TABLE_GROUP_TYPE_PARALLEL"),
            ]);
            switch.asic.set(GROUP, &group, &attributes)?;
            switch.asic.set(PORT, &port_oid, &fields(&[(&attribute, &group)]))?;
            group
        }
    };
    let member = switch.asic.new_oid();
    let attributes = fields(&[(GROUP_OF_MEMBER, group.as_str()), (TABLE_OF_MEMBER, table)]);
    switch.asic.set(ACL_GROUP_MEMBER, &member, &attributes)?;
    Ok(member)
}

/// Takes a table out of the group of a port, and the group from the port if it was the last.
// sonic-swss orchagent/portsorch.cpp: PortsOrch::unbindAclTable, unbindRemoveAclTableGroup
fn unbind(switch: &mut Switch, stage: &str, port: &str, member: &str) -> Result<(), Error> {
    let attribute = format!("SAI_PORT_ATTR_{stage}_ACL");
    let port_oid = switch.ports.oid(port).unwrap_or_default().to_owned();
    switch.asic.delete(ACL_GROUP_MEMBER, member)?;
    let Some(group) = switch.asic.attribute(PORT, &port_oid, &attribute).map(str::to_owned) else {
        return Ok(());
    };
    if switch.asic.find(ACL_GROUP_MEMBER, GROUP_OF_MEMBER, &group).is_none() {
        switch.asic.set(PORT, &port_oid, &fields(&[(&attribute, NO_GROUP)]))?;
        switch.asic.delete(GROUP, &group)?;
    }
    Ok(())
}

fn is_lag_member(switch: &Switch, port: &str) -> bool {
    let Some(oid) = switch.ports.oid(port) else { return false };
    switch.asic.find(LAG_MEMBER, "SAI_LAG_MEMBER_ATTR_PORT_ID", oid).is_some()
}

/// Tells STATE_DB.
// sonic-swss orchagent/aclorch.cpp: AclOrch::setAclTableStatus, AclOrch::setAclRuleStatus
fn status(switch: &mut Switch, table: &str, key: &str, status: &str) -> Result<Verdict, Error> {
    switch.state.set(table, key, &fields(&[("status", status)]))?;
    Ok(Verdict::Done)
}
