//! `acl-loader update`: an operator loads a file of ACL rules, which changes the rules of all owners.
//!
//! Owns: which rows it deletes and writes, and in what order.
//! Must never: spare a rule because of its owner; the program does not either.

use std::collections::{BTreeMap, BTreeSet};

use super::database::{Database, Error, Fields};

/// The two kinds of update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// `acl-loader update full FILE`: every rule of every table is deleted.
    Full,
    /// `acl-loader update incremental FILE`: every rule of every table of the data plane is deleted. Those of the control
    /// plane are compared with the file.
    Incremental,
}

/// The rules of a file, by table and name.
pub type Rules = BTreeMap<(String, String), Fields>;

/// Loads a file: first the deletions, one command each, then the rules of the file, one command each. With no rules it only
/// deletes. No ACL_TABLE row changes. Works on CONFIG_DB alone, so a test may call it beside a running model.
// sonic-utilities acl_loader/main.py: AclLoader.full_update, AclLoader.incremental_update
pub fn update(config: &mut Database, update: Update, rules: &Rules) -> Result<(), Error> {
    let mut kept = BTreeSet::new();
    for key in config.keys("ACL_RULE")? {
        let (table, name) = key.split_once('|').unwrap_or((&key, ""));
        let key_of_file = (table.to_owned(), name.to_owned());
        let kind = config.field("ACL_TABLE", table, "type")?.unwrap_or_default();
        let is_compared = update == Update::Incremental && kind.eq_ignore_ascii_case("CTRLPLANE");
        if is_compared && config.row("ACL_RULE", &key)?.as_ref() == rules.get(&key_of_file) {
            kept.insert(key_of_file);
        } else {
            config.delete("ACL_RULE", &key)?;
        }
    }
    for (rule, row) in rules.iter().filter(|(rule, _)| !kept.contains(*rule)) {
        config.set("ACL_RULE", &format!("{}|{}", rule.0, rule.1), row)?;
    }
    Ok(())
}
