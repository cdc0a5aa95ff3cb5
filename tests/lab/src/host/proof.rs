//! Checks rows, kernel and wire without asking leafboot.
//!
//! It changes nothing, and names everything that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::lab::Lab;
use super::{Error, network, until};
use crate::site::{self, Port};

/// vrfmgrd deletes the VRF's device a moment after the VRF's last row is gone.
const RETIRE_LIMIT: Duration = Duration::from_secs(10);

/// The databases that leafboot writes to, or that follow from it.
const DATABASES: [(&str, &str); 3] = [("ASIC_DB", "1"), ("CONFIG_DB", "4"), ("STATE_DB", "6")];

/// One redis-cli call gives a whole database: keys with their fields and values.
const DUMP: &str = "local rows = {} \
    for _, key in ipairs(redis.call('KEYS', '*')) do \
      local kind = redis.call('TYPE', key).ok \
      if kind == 'hash' then rows[key] = redis.call('HGETALL', key) \
      elseif kind == 'string' then rows[key] = {'', redis.call('GET', key)} \
      else rows[key] = {'', kind} end \
    end \
    return cjson.encode(rows)";

/// Every row of the databases, as `<database> <key>` with its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows(BTreeMap<String, BTreeMap<String, String>>);

impl Rows {
    /// The rows as they are now.
    pub fn now(lab: &Lab) -> Result<Rows, Error> {
        let mut rows = BTreeMap::new();
        for (name, id) in DATABASES {
            let dump = lab.leaf.run(&["redis-cli", "-s", site::REDIS_SOCKET, "-n", id, "EVAL", DUMP, "0"])?;
            let dump: BTreeMap<String, Value> = serde_json::from_str(&dump).map_err(std::io::Error::from)?;
            // syncd's list of the ASIC's objects. Each object has a row of its own.
            for (key, fields) in dump.into_iter().filter(|(key, _)| key != "VIDTORID") {
                let words: Vec<&str> =
                    fields.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let fields = words.chunks(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?)));
                // SAI's null object: an attribute that was unset equals one that was never set.
                let fields = fields.filter(|(_, value)| **value != "oid:0x0");
                let fields =
                    fields.map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect();
                rows.insert(format!("{name} {key}"), fields);
            }
        }
        Ok(Rows(rows))
    }

    /// The fields of a row.
    pub fn get(&self, row: &str) -> Option<&BTreeMap<String, String>> {
        self.0.get(row)
    }

    /// Every row, as `<database> <key>`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether SONiC has applied the leaf's first configuration, down to ASIC_DB.
    pub fn have_foundation(&self) -> bool {
        let uplink = format!("\"dest\":\"{}/128\"", site::UPLINK_LEAF);
        self.get(&format!("STATE_DB VRF_OBJECT_TABLE|{}", site::TENANT_VRF)).is_some()
            && self.0.keys().any(|row| row.starts_with("ASIC_DB") && row.contains(&uplink))
    }

    /// Each row that differs, with its earlier and its later fields.
    pub fn differences(&self, later: &Rows) -> Vec<String> {
        self.differing(later).map(|row| self.describe(later, row)).collect()
    }

    fn differing<'a>(&'a self, later: &'a Rows) -> impl Iterator<Item = &'a String> {
        let rows: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        rows.into_iter().filter(|row| self.0.get(*row) != later.0.get(*row))
    }

    fn describe(&self, later: &Rows, row: &str) -> String {
        format!("{row}: was {:?}, is {:?}", self.get(row), later.get(row))
    }
}

/// Whether a row is of the boot VRF or the boot ACL itself, and of no port: such rows stay until they are retired. A
/// port's own rule names the port.
fn is_shared(row: &str) -> bool {
    let vrf = ["CONFIG_DB VRF|", "STATE_DB VRF_TABLE|", "STATE_DB VRF_OBJECT_TABLE|"];
    let acl = [
        "CONFIG_DB ACL_TABLE|",
        "CONFIG_DB ACL_RULE|",
        "STATE_DB ACL_TABLE_TABLE|",
        "STATE_DB ACL_RULE_TABLE|",
    ];
    let asic = ["VIRTUAL_ROUTER:", "ACL_TABLE:", "ACL_ENTRY:", "ACL_COUNTER:"];
    let object = row.strip_prefix("ASIC_DB ASIC_STATE:SAI_OBJECT_TYPE_");
    let of_acl = |name: &str| name == site::BOOT_ACL || name.starts_with(&format!("{}|", site::BOOT_ACL));
    vrf.iter().any(|table| row.strip_prefix(table) == Some(site::BOOT_VRF))
        || acl.iter().any(|table| row.strip_prefix(table).is_some_and(of_acl)) && !row.contains("GATEWAY_")
        || object.is_some_and(|object| asic.iter().any(|kind| object.starts_with(kind)))
}

/// A port in the leaf's kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPort {
    /// The VRF that it is in.
    pub vrf: Option<String>,
    /// Its addresses, without the link-local ones.
    pub addresses: Vec<String>,
}

impl KernelPort {
    /// The port as it is now.
    pub fn now(lab: &Lab, port: Port) -> Result<KernelPort, Error> {
        let shown =
            lab.leaf.run(&["ip", "-j", "-6", "address", "show", "dev", port.name(), "scope", "global"])?;
        let shown: Value = serde_json::from_str(&shown).map_err(std::io::Error::from)?;
        let addresses = shown.as_array().into_iter().flatten().flat_map(|link| link["addr_info"].as_array());
        let addresses =
            addresses.flatten().filter_map(|entry| entry["local"].as_str()).map(str::to_owned).collect();
        let link = lab.leaf.run(&["ip", "-j", "link", "show", "dev", port.name()])?;
        let link: Value = serde_json::from_str(&link).map_err(std::io::Error::from)?;
        Ok(KernelPort { vrf: link[0]["master"].as_str().map(str::to_owned), addresses })
    }
}

/// An error unless a port is wholly set up for booting: rows, kernel, and an answer to a Router Solicitation.
pub fn boots(lab: &Lab, port: Port) -> Result<(), Error> {
    let kernel = KernelPort::now(lab, port)?;
    let wanted =
        KernelPort { vrf: Some(site::BOOT_VRF.to_owned()), addresses: vec![port.gateway().to_string()] };
    if kernel != wanted {
        return Err(Error::Wrong(format!("{port} is {kernel:?} in the kernel, but should be {wanted:?}")));
    }
    let rows = Rows::now(lab)?;
    let base = rows.get(&format!("CONFIG_DB INTERFACE|{port}"));
    if base.and_then(|row| row.get("vrf_name")).map(String::as_str) != Some(site::BOOT_VRF) {
        return Err(Error::Wrong(format!("CONFIG_DB INTERFACE|{port} is {base:?}")));
    }
    match network::solicit(port)? {
        Some(advertisement) if advertisement.contains(&port.network().to_string()) => Ok(()),
        Some(other) => Err(Error::Wrong(format!("{port} advertises something else: {other}"))),
        None => Err(Error::Wrong(format!("no router answers a Router Solicitation on {port}"))),
    }
}

/// An error if anything is left of the boot of this port or another one, or if another row differs from before the
/// push. Returns the checks that passed.
pub fn released(lab: &Lab, port: Port, before: &Rows) -> Result<Vec<String>, Error> {
    let kernel = KernelPort::now(lab, port)?;
    if kernel.vrf.is_some() || !kernel.addresses.is_empty() {
        return Err(Error::Wrong(format!("{port} was released and is still {kernel:?} in the kernel")));
    }
    let links = lab.leaf.run(&["ip", "-o", "link", "show"])?;
    let inside = links.lines().find(|link| link.contains(&format!(" master {} ", site::BOOT_VRF)));
    if let Some(inside) = inside {
        return Err(Error::Wrong(format!(
            "every port was released and {} still holds {inside}",
            site::BOOT_VRF
        )));
    }
    let after = Rows::now(lab)?;
    let left: Vec<String> = before
        .differing(&after)
        .filter(|row| before.get(row).is_some() || !is_shared(row))
        .map(|row| before.describe(&after, row))
        .collect();
    if !left.is_empty() {
        return Err(Error::Wrong(format!("rows differ after the release:\n{}", left.join("\n"))));
    }
    if let Some(advertisement) = network::solicit(port)? {
        return Err(Error::Wrong(format!(
            "{port} was released and still answers a solicitation: {advertisement}"
        )));
    }
    Ok(vec![
        format!(
            "{port} has no address and is in no VRF; {} is empty, and so is {}",
            site::BOOT_VRF,
            site::BOOT_ACL
        ),
        format!("all {} rows of ASIC_DB, CONFIG_DB and STATE_DB are as before the push", before.0.len()),
        format!("no router on {port}'s cable answers a Router Solicitation"),
    ])
}

/// An error unless the boot VRF itself is gone, from the kernel and from every row. Returns the check that passed.
pub fn retired(lab: &Lab, before: &Rows) -> Result<String, Error> {
    until("the kernel has no boot VRF", RETIRE_LIMIT, || {
        let links = lab.leaf.run(&["ip", "-o", "link", "show"])?;
        Ok((!links.contains(&format!(" {}:", site::BOOT_VRF))).then_some(()))
    })?;
    let left = before.differences(&Rows::now(lab)?);
    if left.is_empty() {
        Ok(format!("{} and {} are gone, and so is every row of them", site::BOOT_VRF, site::BOOT_ACL))
    } else {
        Err(Error::Wrong(format!("rows differ after the VRF was retired:\n{}", left.join("\n"))))
    }
}
