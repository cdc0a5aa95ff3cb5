//! caclmgrd: rebuilds the host's firewall at each change of an ACL.
//!
//! Owns: the number of rebuilds, and the reasons of its crashes. (The model has no ip6tables.)
//! Must never: survive a rule whose table's row it cannot find.

use redis::Msg;

use super::Error;
use super::daemons::Daemon;
use super::database::{self, Database};
use super::subscription::Subscription;
use super::switch::Switch;

/// What caclmgrd did to the host since power on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFirewall {
    /// Events about ACL_TABLE rows, the rows of a start among them.
    pub table_events: u64,
    /// The number of rebuilds: each sets every policy to ACCEPT, flushes every rule, also those of other programs, and
    /// builds its own. Events that come together cause one.
    pub rebuilds: u64,
    /// The reason of each crash.
    pub deaths: Vec<String>,
}

/// The daemon. It starts with swss here; SONiC's is a service of its own.
pub struct Caclmgrd {
    tables: Subscription,
    rules: Subscription,
    is_dead: bool,
}

impl Caclmgrd {
    /// Starts a daemon that has not read its rows yet.
    pub fn start(config: &mut Database) -> Result<Self, database::Error> {
        Ok(Self {
            tables: Subscription::start(config, "ACL_TABLE")?,
            rules: Subscription::start(config, "ACL_RULE")?,
            is_dead: false,
        })
    }

    /// Reads every event; returns the error that ends the daemon, if there is one.
    // sonic-host-services scripts/caclmgrd: ControlPlaneAclManager.run
    fn read_events(&mut self, switch: &mut Switch) -> Result<Result<(), String>, Error> {
        let changed = self.tables.pop(&mut switch.config)?.len();
        switch.host_firewall.table_events += u64::try_from(changed).unwrap_or(u64::MAX);
        let mut needs_rebuild = changed > 0;
        for (rule, _) in self.rules.pop(&mut switch.config)? {
            let table = rule.split('|').next().unwrap_or_default();
            let Some(row) = switch.config.row("ACL_TABLE", table)? else {
                return Ok(Err(format!("KeyError: '{table}' (ACL_RULE|{rule})")));
            };
            match row.get("type") {
                Some(kind) => needs_rebuild |= kind == "CTRLPLANE",
                None => return Ok(Err(format!("KeyError: 'type' (ACL_TABLE|{table})"))),
            }
        }
        if !needs_rebuild {
            return Ok(Ok(()));
        }
        // sonic-host-services scripts/caclmgrd: get_acl_rules_and_translate_to_iptables_commands
        for table in switch.config.keys("ACL_TABLE")? {
            let row = switch.config.row("ACL_TABLE", &table)?;
            if row.is_some_and(|row| !row.contains_key("type")) {
                return Ok(Err(format!("KeyError: 'type' (ACL_TABLE|{table})")));
            }
        }
        switch.host_firewall.rebuilds += 1;
        eprintln!("caclmgrd: ip6tables flushed and rebuilt");
        Ok(Ok(()))
    }
}

impl Daemon for Caclmgrd {
    fn offer(&mut self, message: &Msg) -> Result<bool, database::Error> {
        Ok(self.tables.offer(message)? || self.rules.offer(message)?)
    }

    /// systemd starts a dead one again, from the rows that are there then.
    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        if self.is_dead {
            *self = Self::start(&mut switch.config)?;
        }
        if let Err(reason) = self.read_events(switch)? {
            eprintln!("caclmgrd: {reason}");
            switch.host_firewall.deaths.push(reason);
            self.is_dead = true;
        }
        // No daemon waits for its work.
        Ok(false)
    }
}
