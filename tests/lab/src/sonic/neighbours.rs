//! neighsyncd and NeighOrch: the machines that the switch has talked to on a port, in APPL_DB and in the ASIC.
//!
//! Owns: APPL_DB NEIGH_TABLE, the neighbour entries of ASIC_DB, and when each goes.
//! Must never: learn a neighbour. A test chooses the neighbours; SONiC's rules decide what they block.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Error;
use super::asic::{PORT_OF_ROUTER_INTERFACE, ROUTER_INTERFACE};
use super::fields;
use super::switch::Switch;

const ENTRY: &str = "SAI_OBJECT_TYPE_NEIGHBOR_ENTRY";
const TABLE: &str = "NEIGH_TABLE";
const MAC: &str = "52:54:00:00:00:01";

/// The neighbours of the switch.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// By port and address: the entry in the ASIC, and when it goes by itself.
    known: BTreeMap<(String, IpAddr), (Option<String>, Option<Instant>)>,
}

impl Neighbours {
    /// Does one of them hold the router interface of a port?
    // sonic-swss orchagent/neighorch.cpp: NeighOrch::addNeighbor (increaseRouterIntfsRefCount)
    pub fn hold(&self, port: &str) -> bool {
        self.known.iter().any(|((of, _), (entry, _))| of == port && entry.is_some())
    }

    /// The switch has learnt a neighbour on a port. It goes after this time, or when [`Self::remove`] is called.
    pub fn add(
        switch: &mut Switch,
        port: &str,
        address: IpAddr,
        stays: Option<Duration>,
    ) -> Result<(), Error> {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        switch.appl.set(
            TABLE,
            &format!("{port}:{address}"),
            &fields(&[("neigh", MAC), ("family", family)]),
        )?;
        // Without a router interface it waits; here it is forgotten.
        // sonic-swss orchagent/neighorch.cpp: NeighOrch::doTask
        let port_oid = switch.ports.oid(port).unwrap_or_default();
        let interface =
            switch.asic.find(ROUTER_INTERFACE, PORT_OF_ROUTER_INTERFACE, port_oid).map(str::to_owned);
        let mut entry = None;
        if let Some(interface) = interface {
            let key =
                format!(r#"{{"ip":"{address}","rif":"{interface}","switch_id":"oid:0x21000000000000"}}"#);
            let attributes = fields(&[("SAI_NEIGHBOR_ENTRY_ATTR_DST_MAC_ADDRESS", MAC)]);
            switch.asic.set(ENTRY, &key, &attributes)?;
            entry = Some(key);
        }
        let goes = stays.map(|stays| Instant::now() + stays);
        switch.neighbours.known.insert((port.to_owned(), address), (entry, goes));
        Ok(())
    }

    /// Removes a neighbour, if it is known.
    pub fn remove(switch: &mut Switch, port: &str, address: IpAddr) -> Result<(), Error> {
        if let Some((entry, _)) = switch.neighbours.known.remove(&(port.to_owned(), address)) {
            switch.appl.delete(TABLE, &format!("{port}:{address}"))?;
            if let Some(entry) = entry {
                switch.asic.delete(ENTRY, &entry)?;
            }
            switch.news_for_orchagent = true;
            eprintln!("orchagent: {port}: neighbour {address} removed");
        }
        Ok(())
    }

    /// Removes the neighbours whose time is over.
    pub fn expire(switch: &mut Switch, now: Instant) -> Result<(), Error> {
        let is_due = |goes: &Option<Instant>| goes.is_some_and(|goes| goes <= now);
        let due: Vec<(String, IpAddr)> = switch
            .neighbours
            .known
            .iter()
            .filter(|(_, (_, goes))| is_due(goes))
            .map(|(key, _)| key.clone())
            .collect();
        for (port, address) in due {
            Self::remove(switch, &port, address)?;
        }
        Ok(())
    }

    /// When the next neighbour goes by itself.
    pub fn due(&self) -> Option<Instant> {
        self.known.values().filter_map(|(_, goes)| *goes).min()
    }
}
