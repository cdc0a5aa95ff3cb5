//! An ACL table of aclorch in the ASIC: its rules, and the ports that it is bound to.
//!
//! Owns: the SAI calls for entries, counters and group members, their order, and COUNTERS_DB ACL_COUNTER_RULE_MAP.
//! Must never: read CONFIG_DB, or write STATE_DB; that is aclorch's part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Error;
use super::acl_rows::TableRow;
use super::asic::{ACL_ENTRY, ACL_GROUP_MEMBER, LAG_MEMBER, PORT};
use super::database::Fields;
use super::fields;
use super::switch::Switch;

const TABLE: &str = "SAI_OBJECT_TYPE_ACL_TABLE";
const GROUP: &str = "SAI_OBJECT_TYPE_ACL_TABLE_GROUP";
const COUNTER: &str = "SAI_OBJECT_TYPE_ACL_COUNTER";
const GROUP_OF_MEMBER: &str = "SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_GROUP_ID";
const TABLE_OF_MEMBER: &str = "SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_ID";
const NO_GROUP: &str = "oid:0x0";
const NAMES: &str = "ACL_COUNTER_RULE_MAP";

/// A table in the ASIC.
pub struct Table {
    name: String,
    oid: String,
    /// The row that it was made and bound from. Its ports are those of the list, ready or not.
    pub row: TableRow,
    rules: BTreeMap<String, Rule>,
    /// The group member by port.
    bound: BTreeMap<String, String>,
    /// Group members that orchagent will never remove.
    lost: Vec<String>,
}

/// A rule in the ASIC.
#[derive(Debug, Default)]
struct Rule {
    entry: Option<String>,
    counter: Option<String>,
    priority: u32,
}

/// A step for a rule. A removal takes away its name, its entry and its counter, in this order; a creation makes its
/// counter, its entry and its name.
// sonic-swss orchagent/aclorch.cpp: AclOrch::removeAclRule, AclTable::add, AclRule::create, AclRule::remove,
// AclOrch::addAclRule
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Its name leaves the map of counters.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::deregisterFlexCounter
    Unname,
    /// Its entry is removed.
    RemoveEntry,
    /// Its counter is removed.
    RemoveCounter,
    /// A counter is made.
    CreateCounter,
    /// An entry is made, with these attributes and the counter.
    CreateEntry(Fields),
    /// Its name enters the map of counters.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::registerFlexCounter
    Name,
}

impl Work {
    /// The steps of a removal.
    pub const REMOVE: [Self; 3] = [Self::Unname, Self::RemoveEntry, Self::RemoveCounter];

    /// The steps of a creation.
    pub fn create(attributes: Fields) -> [Self; 3] {
        [Self::CreateCounter, Self::CreateEntry(attributes), Self::Name]
    }

    /// Does orchagent wait for syncd in this step?
    pub fn is_sai_call(&self) -> bool {
        !matches!(self, Self::Name | Self::Unname)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unname => "name removed",
            Self::RemoveEntry => "entry removed",
            Self::RemoveCounter => "counter removed",
            Self::CreateCounter => "counter created",
            Self::CreateEntry(_) => "entry created",
            Self::Name => "name added",
        })
    }
}

impl Table {
    /// Makes a table, not bound to any port.
    // sonic-swss orchagent/aclorch.cpp: AclTable::create
    pub fn create(switch: &mut Switch, name: &str, row: &TableRow) -> Result<Self, Error> {
        let oid = switch.asic.new_oid(TABLE);
        let stage = format!("SAI_ACL_STAGE_{}", row.stage);
        switch.asic.set(TABLE, &oid, &fields(&[("SAI_ACL_TABLE_ATTR_ACL_STAGE", &stage)]))?;
        switch.asic.name(&oid, name);
        eprintln!("orchagent: ACL table {name}: created as {oid}");
        Ok(Self {
            name: name.to_owned(),
            oid,
            row: TableRow { ports: BTreeSet::new(), ..row.clone() },
            rules: BTreeMap::new(),
            bound: BTreeMap::new(),
            lost: Vec::new(),
        })
    }

    /// Removes its rules first, while its ports are still bound, then its members, then itself; returns whether it is
    /// gone. The rules' rows in STATE_DB stay.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::removeAclTable, AclTable::clear, AclOrch::deleteUnbindAclTable
    pub fn remove(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        let rules: Vec<String> = self.rules.keys().cloned().collect();
        for rule in rules {
            for work in Work::REMOVE {
                self.carry_out(switch, &rule, &work)?;
                switch.look_at_asic(&format!(
                    "orchagent: ACL_TABLE {} and its rule {rule} removed",
                    self.name
                ))?;
            }
        }
        // The ASIC does not remove a table that is still in a group.
        if !self.lost.is_empty() {
            return Ok(false);
        }
        for (port, member) in std::mem::take(&mut self.bound) {
            unbind(switch, &self.row.stage, &port, &member)?;
        }
        switch.asic.delete(TABLE, &self.oid)?;
        eprintln!("orchagent: ACL table {}: deleted", self.name);
        Ok(true)
    }

    /// Unbinds and binds only what differs, in that order. A port that is not there yet is bound when it comes.
    ///
    /// A port that has become a LAG member is not found by its own id any more: it leaves the list, and the ASIC keeps
    /// what is bound to it.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::updateAclTablePorts (its asserts are compiled out: orchagent/Makefile.am)
    pub fn rebind(&mut self, switch: &mut Switch, row: TableRow) -> Result<(), Error> {
        let leaving: Vec<String> =
            self.bound.keys().filter(|port| !row.ports.contains(*port)).cloned().collect();
        for port in leaving {
            let Some(member) = self.bound.remove(&port) else { continue };
            if is_lag_member(switch, &port) {
                eprintln!("orchagent: ACL table {}: {port} is a LAG member, {member} is lost", self.name);
                self.lost.push(member);
            } else {
                unbind(switch, &row.stage, &port, &member)?;
            }
        }
        for port in &row.ports {
            if switch.ports.oid(port).is_none() {
                eprintln!("orchagent: ACL table {}: unready port {port} is pending", self.name);
            } else if !self.bound.contains_key(port) {
                let member = bind(switch, &self.oid, &row.stage, port)?;
                self.bound.insert(port.clone(), member);
            }
        }
        eprintln!("orchagent: ACL table {}: bound to {:?}", self.name, self.bound.keys());
        self.row = row;
        Ok(())
    }

    /// Is there such a rule?
    pub fn has_rule(&self, rule: &str) -> bool {
        self.rules.contains_key(rule)
    }

    /// The priority of a rule, or 0 of one that is not there.
    // sonic-swss orchagent/aclorch.cpp: AclOrch::doAclRuleTask (RuleEntry::priority)
    pub fn priority(&self, rule: &str) -> u32 {
        self.rules.get(rule).map_or(0, |rule| rule.priority)
    }

    /// Does one step for a rule.
    pub fn carry_out(&mut self, switch: &mut Switch, name: &str, work: &Work) -> Result<(), Error> {
        let identifier = format!("{}:{name}", self.name);
        let rule = self.rules.entry(name.to_owned()).or_default();
        match work {
            Work::Unname => switch.counters.delete_field(NAMES, "", &identifier)?,
            Work::RemoveEntry => {
                if let Some(entry) = rule.entry.take() {
                    switch.asic.delete(ACL_ENTRY, &entry)?;
                }
            }
            Work::RemoveCounter => {
                if let Some(counter) = rule.counter.take() {
                    switch.asic.delete(COUNTER, &counter)?;
                }
                self.rules.remove(name);
            }
            Work::CreateCounter => {
                let counter = switch.asic.new_oid(COUNTER);
                let attributes = fields(&[
                    ("SAI_ACL_COUNTER_ATTR_TABLE_ID", &self.oid),
                    ("SAI_ACL_COUNTER_ATTR_ENABLE_PACKET_COUNT", "true"),
                    ("SAI_ACL_COUNTER_ATTR_ENABLE_BYTE_COUNT", "true"),
                ]);
                switch.asic.set(COUNTER, &counter, &attributes)?;
                rule.counter = Some(counter);
            }
            Work::CreateEntry(row) => {
                let entry = switch.asic.new_oid(ACL_ENTRY);
                let mut attributes = row.clone();
                attributes.extend(fields(&[
                    ("SAI_ACL_ENTRY_ATTR_TABLE_ID", &self.oid),
                    ("SAI_ACL_ENTRY_ATTR_ADMIN_STATE", "true"),
                    ("SAI_ACL_ENTRY_ATTR_ACTION_COUNTER", rule.counter.as_deref().unwrap_or(NO_GROUP)),
                ]));
                switch.asic.set(ACL_ENTRY, &entry, &attributes)?;
                switch.asic.name(&entry, name);
                let priority = row.get("SAI_ACL_ENTRY_ATTR_PRIORITY").and_then(|text| text.parse().ok());
                rule.priority = priority.unwrap_or_default();
                rule.entry = Some(entry);
            }
            Work::Name => {
                if let Some(counter) = &rule.counter {
                    switch.counters.set(NAMES, "", &fields(&[(&identifier, counter)]))?;
                }
            }
        }
        Ok(())
    }
}

/// Is this port a member of a LAG, as PortsOrch knows it?
// sonic-swss orchagent/aclorch.cpp: AclOrch::getAclBindPortId
pub fn is_lag_member(switch: &Switch, port: &str) -> bool {
    let Some(oid) = switch.ports.oid(port) else { return false };
    switch.asic.find(LAG_MEMBER, "SAI_LAG_MEMBER_ATTR_PORT_ID", oid).is_some()
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
            let group = switch.asic.new_oid(GROUP);
            let attributes = fields(&[
                ("SAI_ACL_TABLE_GROUP_ATTR_ACL_STAGE", &format!("SAI_ACL_STAGE_{stage}")),
                ("SAI_ACL_TABLE_GROUP_ATTR_TYPE", "SAI_ACL_TABLE_GROUP_TYPE_PARALLEL"),
            ]);
            switch.asic.set(GROUP, &group, &attributes)?;
            switch.asic.set(PORT, &port_oid, &fields(&[(&attribute, &group)]))?;
            group
        }
    };
    let member = switch.asic.new_oid(ACL_GROUP_MEMBER);
    let attributes = fields(&[
        (GROUP_OF_MEMBER, group.as_str()),
        (TABLE_OF_MEMBER, table),
        ("SAI_ACL_TABLE_GROUP_MEMBER_ATTR_PRIORITY", "100"),
    ]);
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
