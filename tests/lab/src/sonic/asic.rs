//! The ASIC: ASIC_DB, and the state of a port in it.
//!
//! Owns: ASIC_DB, a copy of it in memory, and the names that its object ids stand for.
//! Must never: decide what belongs into the ASIC. It answers from objects alone, as the hardware would.

use std::collections::{BTreeMap, BTreeSet};

use super::database::{Database, Error, Fields};

/// The object of a router interface.
pub const ROUTER_INTERFACE: &str = "SAI_OBJECT_TYPE_ROUTER_INTERFACE";
/// The port of a router interface.
pub const PORT_OF_ROUTER_INTERFACE: &str = "SAI_ROUTER_INTERFACE_ATTR_PORT_ID";
/// The object of a port.
pub const PORT: &str = "SAI_OBJECT_TYPE_PORT";
/// The object of a rule of an ACL.
pub const ACL_ENTRY: &str = "SAI_OBJECT_TYPE_ACL_ENTRY";
/// The object of a table in a group.
pub const ACL_GROUP_MEMBER: &str = "SAI_OBJECT_TYPE_ACL_TABLE_GROUP_MEMBER";
/// The object of a port as a member of a bridge.
pub const BRIDGE_PORT: &str = "SAI_OBJECT_TYPE_BRIDGE_PORT";
/// The object of a port as a member of a LAG.
pub const LAG_MEMBER: &str = "SAI_OBJECT_TYPE_LAG_MEMBER";

const TABLE: &str = "ASIC_STATE";
/// The hash of all object ids. syncd maps its own ids to those of the hardware; here both are the same.
// sonic-sairedis syncd/RedisClient.cpp: RedisClient::insertVidAndRid
const OBJECT_IDS: &str = "VIDTORID";

/// The ASIC.
pub struct Asic {
    database: Database,
    objects: BTreeMap<String, BTreeMap<String, Fields>>,
    names: BTreeMap<String, String>,
    created: u64,
    calls: u32,
}

impl Asic {
    /// The ASIC behind this database.
    pub fn new(database: Database) -> Self {
        Self { database, objects: BTreeMap::new(), names: BTreeMap::new(), created: 0, calls: 0 }
    }

    /// An id for an object of a kind that was never used before. Bits 48 to 55 are the kind's number in SAI.
    // sonic-sairedis lib/VirtualObjectIdManager.cpp: constructObjectId; SAI inc/saitypes.h: sai_object_type_t
    pub fn new_oid(&mut self, object: &str) -> String {
        self.created += 1;
        let kind: u64 = match object.trim_start_matches("SAI_OBJECT_TYPE_") {
            "ACL_TABLE" => 7,
            "ACL_ENTRY" => 8,
            "ACL_COUNTER" => 9,
            "ACL_TABLE_GROUP" => 11,
            "ACL_TABLE_GROUP_MEMBER" => 12,
            "LAG_MEMBER" => 27,
            "VLAN_MEMBER" => 39,
            "BRIDGE_PORT" => 58,
            // SAI_OBJECT_TYPE_NULL.
            _ => 0,
        };
        format!("oid:{:#x}", (kind << 48) + 1 + self.created)
    }

    /// Sets attributes of an object, and leaves its others alone.
    pub fn set(&mut self, object: &str, id: &str, attributes: &Fields) -> Result<(), Error> {
        self.calls += 1;
        let known = self.objects.entry(object.to_owned()).or_default();
        let is_new = !known.contains_key(id);
        known.entry(id.to_owned()).or_default().extend(attributes.clone());
        if is_new && id.starts_with("oid:") {
            self.database.set(OBJECT_IDS, "", &BTreeMap::from([(id.to_owned(), id.to_owned())]))?;
        }
        self.database.set(TABLE, &format!("{object}:{id}"), attributes)
    }

    /// Removes an object.
    pub fn delete(&mut self, object: &str, id: &str) -> Result<(), Error> {
        self.calls += 1;
        if let Some(objects) = self.objects.get_mut(object) {
            objects.remove(id);
        }
        self.names.remove(id);
        self.database.delete_field(OBJECT_IDS, "", id)?;
        self.database.delete(TABLE, &format!("{object}:{id}"))
    }

    /// How many calls of SAI there were, since power on.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Records the CONFIG_DB name of an object id.
    pub fn name(&mut self, oid: &str, name: &str) {
        self.names.insert(oid.to_owned(), name.to_owned());
    }

    /// Removes everything.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.objects.clear();
        self.names.clear();
        self.database.flush()
    }

    /// The id of the first object of a kind with this attribute.
    pub fn find(&self, object: &str, attribute: &str, value: &str) -> Option<&str> {
        let with = |fields: &Fields| fields.get(attribute).is_some_and(|found| found == value);
        self.of(object).find(|(_, attributes)| with(attributes)).map(|(id, _)| id)
    }

    /// The id of the object of a kind with this name.
    pub fn named(&self, object: &str, name: &str) -> Option<&str> {
        let is_named = |id: &str| self.names.get(id).is_some_and(|found| found == name);
        self.of(object).map(|(id, _)| id).find(|id| is_named(id))
    }

    /// An attribute of an object.
    pub fn attribute(&self, object: &str, id: &str, attribute: &str) -> Option<&str> {
        self.objects.get(object)?.get(id)?.get(attribute).map(String::as_str)
    }

    /// The ports with a router interface in the virtual router of a VRF.
    pub fn routed_in(&self, vrf: &str) -> BTreeSet<String> {
        let is_inside = |attributes: &Fields| {
            self.name_of(attributes, "SAI_ROUTER_INTERFACE_ATTR_VIRTUAL_ROUTER_ID") == Some(vrf)
        };
        let interfaces = self.of(ROUTER_INTERFACE).filter(|(_, attributes)| is_inside(attributes));
        let port = |attributes| self.name_of(attributes, "SAI_ROUTER_INTERFACE_ATTR_PORT_ID");
        interfaces.filter_map(|(_, attributes)| port(attributes)).map(str::to_owned).collect()
    }

    /// The ports that are members of a bridge.
    pub fn bridged(&self) -> BTreeSet<String> {
        let port = |attributes| self.name_of(attributes, "SAI_BRIDGE_PORT_ATTR_PORT_ID");
        self.of(BRIDGE_PORT).filter_map(|(_, attributes)| port(attributes)).map(str::to_owned).collect()
    }

    /// The names of the rules that are enforced, by port, and there by table. A table without rules is there too: it
    /// is bound, and lets everything pass.
    pub fn enforced(&self) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
        let mut rules: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (oid, attributes) in self.of(ACL_ENTRY) {
            if let (Some(table), Some(rule)) =
                (attributes.get("SAI_ACL_ENTRY_ATTR_TABLE_ID"), self.names.get(oid))
            {
                rules.entry(table).or_default().insert(rule.clone());
            }
        }
        let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (_, member) in self.of(ACL_GROUP_MEMBER) {
            if let (Some(group), Some(table)) = (
                member.get("SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_GROUP_ID"),
                member.get("SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_ID"),
            ) {
                tables.entry(group).or_default().push(table);
            }
        }
        let mut enforced = BTreeMap::new();
        for (oid, attributes) in self.of(PORT) {
            let group = attributes.get("SAI_PORT_ATTR_INGRESS_ACL").map_or("", String::as_str);
            let (Some(port), Some(bound)) = (self.names.get(oid), tables.get(group)) else { continue };
            let with_rules = bound.iter().filter_map(|table| {
                Some((self.names.get(*table)?.clone(), rules.get(table).cloned().unwrap_or_default()))
            });
            enforced.insert(port.clone(), with_rules.collect());
        }
        enforced
    }

    fn of(&self, object: &str) -> impl Iterator<Item = (&str, &Fields)> {
        self.objects.get(object).into_iter().flatten().map(|(id, attributes)| (id.as_str(), attributes))
    }

    fn name_of(&self, attributes: &Fields, attribute: &str) -> Option<&str> {
        self.names.get(attributes.get(attribute)?).map(String::as_str)
    }
}
