//! `config reload -n`: CONFIG_DB is emptied without events and filled again, and SONiC's daemons keep what they have
//! made.

use std::collections::BTreeMap;

use leafboot_lab::host::Error;
use leafboot_lab::host::lab::Lab;
use leafboot_lab::host::proof::{KernelPort, Rows};
use leafboot_lab::site::Port;

use super::ground::{Ground, Row, kernel_has, on_settled_leaf, order, settles, until};

/// The leaf's first configuration: a save that has no row of leafboot's.
const SAVED_BEFORE: &str = include_str!("../../../src/leaf/config_db.redis");
/// orchagent removes a rule whose row is written again, and makes it again.
const RULES_AGAIN: &[&str] = &["DENY_MACHINES: entry removed", "DEFAULT_RULE: entry removed"];

#[test]
fn a_config_reload_without_a_restart_is_healed() -> Result<(), String> {
    on_settled_leaf(|ground| {
        let row =
            Row { name: "config reload -n of a save with leafboot's rows", told: &[], gaps: RULES_AGAIN };
        ground.row(&row, |lab, mark| {
            let (rows, text) = (config_rows(lab)?, saved(lab)?);
            reload(lab, &text)?;
            let last = format!("intfmgrd: Ethernet4: {}/64 added", Port::Ethernet4.gateway());
            until("SONiC has read the rows again", || Ok(mark.model(lab)?.contains(&last).then_some(())))?;
            Port::ALL.into_iter().try_for_each(|port| settles(lab, port, "boot"))?;
            let now = config_rows(lab)?;
            let is_same = now == rows;
            if is_same { Ok(()) } else { Err(Error::Wrong(format!("{rows:#?} has become {now:#?}"))) }
        })?;
        without_our_rows(ground)
    })
}

/// SONiC keeps its objects and gets no event for a row that is gone. One port comes back. The other one, which the next
/// document does not name, is released.
fn without_our_rows(ground: &mut Ground<'_>) -> Result<(), Error> {
    let (kept, dropped) = (Port::Ethernet0, Port::Ethernet4);
    let row = Row {
        name: "config reload -n of a save with none of leafboot's rows, and a push without one of the ports",
        told: &["announce that INTERFACE|Ethernet4|2001:db8:b007:1::1/64 is gone"],
        gaps: RULES_AGAIN,
    };
    ground.row(&row, |lab, _| {
        reload(lab, SAVED_BEFORE)?;
        lab.push(&[kept])?;
        settles(lab, dropped, "released")?;
        kernel_has(lab, dropped, &KernelPort { vrf: None, addresses: Vec::new() })?;
        settles(lab, kept, "boot")?;
        let left: Vec<String> = Rows::now(lab)?
            .names()
            .filter(|row| {
                row.contains(&format!("|{dropped}|")) || row.ends_with(&format!("INTERFACE_TABLE|{dropped}"))
            })
            .map(str::to_owned)
            .collect();
        if !left.is_empty() {
            return Err(Error::Wrong(format!("{dropped} was released, and of it is left: {left:?}")));
        }
        lab.push(&Port::ALL).map(drop)
    })
}

fn reload(lab: &Lab, rows: &str) -> Result<(), Error> {
    lab.leaf.run_with(&["tee", "/run/saved"], rows)?;
    order(lab, "reload-n /run/saved")
}

/// CONFIG_DB's rows.
fn config_rows(lab: &Lab) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
    let rows = Rows::now(lab)?;
    let row = |name: &str| Some((name.strip_prefix("CONFIG_DB ")?.to_owned(), rows.get(name)?.clone()));
    Ok(rows.names().filter_map(row).filter(|(key, _)| key != "CONFIG_DB_INITIALIZED").collect())
}

/// CONFIG_DB as `config save` has it.
fn saved(lab: &Lab) -> Result<String, Error> {
    let mut tables: BTreeMap<String, BTreeMap<String, serde_json::Value>> = BTreeMap::new();
    for (key, fields) in config_rows(lab)? {
        let Some((table, name)) = key.split_once('|') else { continue };
        let field = |(name, value): (String, String)| match name.strip_suffix('@') {
            Some(list) => (list.to_owned(), value.split(',').collect::<Vec<_>>().into()),
            None => (name, serde_json::Value::from(value)),
        };
        let fields = fields.into_iter().filter(|(name, _)| name != "NULL").map(field);
        let fields: serde_json::Map<String, serde_json::Value> = fields.collect();
        tables.entry(table.to_owned()).or_default().insert(name.to_owned(), fields.into());
    }
    serde_json::to_string(&tables).map_err(|error| Error::Control(error.into()))
}
