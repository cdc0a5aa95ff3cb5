//! SONiC's counters and LLDP neighbours of the ports where a machine boots, read by known keys.
//!
//! Must never: scan, subscribe, or be read while no machine boots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::DbError;
use super::database::Database;
use super::endpoint::DatabaseConfig;
use leafboot_core::counters::Reading;
use leafboot_core::names::{AclName, PortName};
use leafboot_core::rows::{self, counters};

/// Connections to COUNTERS_DB and APPL_DB.
pub struct Counters {
    counters: Database,
    appl: Database,
    acl: AclName,
}

impl Counters {
    /// Connects to the databases that `database_config` names. `acl`: the boot ACL.
    pub async fn connect(database_config: &Path, acl: &AclName) -> Result<Self, DbError> {
        let config = DatabaseConfig::read(database_config)?;
        let counters = config.endpoint("COUNTERS_DB", ":")?.connect().await?;
        let appl = config.endpoint("APPL_DB", ":")?.connect().await?;
        Ok(Self { counters, appl, acl: acl.clone() })
    }

    /// Reads the counters and LLDP neighbours of `ports`, in short commands, so that no daemon of the switch waits for Redis.
    pub async fn read(&mut self, ports: &BTreeSet<PortName>) -> Result<Reading, DbError> {
        let objects = self.counters.row(rows::PORT_NAME_MAP).await?;
        let rules = self.counters.row(rows::RULE_COUNTER_MAP).await?;
        let rules = rows::rules_by_counter(&rules, self.acl.as_str());
        let port_objects = ports.iter().filter_map(|port| Some((port, objects.get(port.as_str())?)));
        let (names, objects): (Vec<_>, Vec<_>) = port_objects.unzip();
        let out_octets = self.numbers(&objects, counters::OUT_OCTETS).await?;
        let rule_objects: Vec<_> = rules.keys().collect();
        let packets = self.numbers(&rule_objects, counters::RULE_PACKETS).await?;
        Ok(Reading {
            out_octets: names.into_iter().cloned().zip(out_octets).filter_map(known).collect(),
            rule_packets: rules
                .values()
                .map(|rule| (*rule).to_owned())
                .zip(packets)
                .filter_map(known)
                .collect(),
            lldp: self.lldp(ports).await?,
        })
    }

    /// One counter of each object, in the objects' order.
    async fn numbers(
        &mut self,
        objects: &[impl std::fmt::Display],
        counter: &str,
    ) -> Result<Vec<Option<u64>>, DbError> {
        let keys: Vec<String> = objects.iter().map(counters::key).collect();
        let texts = self.counters.field(&keys, counter).await?;
        Ok(texts.into_iter().map(|text| text?.parse().ok()).collect())
    }

    async fn lldp(&mut self, ports: &BTreeSet<PortName>) -> Result<BTreeMap<PortName, String>, DbError> {
        let keys: Vec<String> = ports.iter().map(counters::lldp_key).collect();
        let names = self.appl.field(&keys, counters::LLDP_SYSTEM).await?;
        Ok(ports.iter().cloned().zip(names).filter_map(known).collect())
    }
}

fn known<K, V>((key, value): (K, Option<V>)) -> Option<(K, V)> {
    Some((key, value?))
}
