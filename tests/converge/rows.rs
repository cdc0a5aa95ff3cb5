//! Rows of CONFIG_DB that leafboot has not written: those of a port before leafboot starts, and a `config save`.
//!
//! Must never: write a row that no SONiC command and no earlier leafboot writes.

use std::collections::BTreeMap;

use super::event::Before;
use super::support::switch::{CONFIG_DB, Switch};

/// Writes the rows that a port has before leafboot starts.
pub fn write_before(switch: &Switch, port: &str, before: Before) {
    let base = format!("INTERFACE|{port}");
    let address = |text: &str| format!("INTERFACE|{port}|{text}");
    let stale = address("2001:db8:b007:7f::1/64");
    match before {
        Before::Nothing => {}
        Before::Tenant => drop(switch.cli(CONFIG_DB, &["HSET", &base, "vrf_name", "VrfTenant"])),
        Before::TenantAddress => {
            switch.cli(CONFIG_DB, &["HSET", &base, "vrf_name", "VrfTenant"]);
            let number = port.trim_start_matches("Ethernet");
            switch.cli(CONFIG_DB, &["HSET", &address(&format!("10.0.{number}.1/31")), "NULL", "NULL"]);
        }
        Before::AddressOnly => {
            drop(switch.cli(CONFIG_DB, &["HSET", &address("10.9.9.1/31"), "NULL", "NULL"]))
        }
        Before::PxeVlan => {
            switch.cli(CONFIG_DB, &["HSET", "VLAN|Vlan4000", "vlanid", "4000"]);
            switch.cli(
                CONFIG_DB,
                &["HSET", &format!("VLAN_MEMBER|Vlan4000|{port}"), "tagging_mode", "untagged"],
            );
        }
        Before::OurBaseOnly => drop(switch.cli(CONFIG_DB, &["HSET", &base, "vrf_name", "Vrfboot"])),
        Before::OursStale => {
            switch.cli(CONFIG_DB, &["HSET", "VRF|Vrfboot", "NULL", "NULL"]);
            switch.cli(CONFIG_DB, &["HSET", &base, "vrf_name", "Vrfboot"]);
            switch.cli(CONFIG_DB, &["HSET", &stale, "NULL", "NULL"]);
        }
    }
}

/// CONFIG_DB in the format of `config save`.
pub fn config_save(switch: &Switch) -> String {
    let mut tables: BTreeMap<String, BTreeMap<String, serde_json::Value>> = BTreeMap::new();
    for (key, fields) in switch.config_rows() {
        let (table, name) = key.split_once('|').unwrap();
        let field = |(name, value): (String, String)| match name.strip_suffix('@') {
            Some(list) => (list.to_owned(), value.split(',').collect::<Vec<_>>().into()),
            None => (name, serde_json::Value::from(value)),
        };
        let fields: serde_json::Map<_, _> = fields.into_iter().map(field).collect();
        tables.entry(table.to_owned()).or_default().insert(name.to_owned(), fields.into());
    }
    serde_json::to_string(&tables).unwrap()
}
