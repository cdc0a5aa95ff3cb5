//! What SONiC and the kernel say now, normalised: whose each row is, and which facts have been published.
//!
//! Must never: read a database, or drop a foreign row from view because it is in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::desired::{PortRow, PortRows};
use crate::net::{BootPrefix, Mac, PortName, VrfName};
use crate::rows::{self, Fields, Row, Rows};

/// The rows of one pass, as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// CONFIG_DB holds its whole configuration (`CONFIG_DB_INITIALIZED` is `1`).
    pub initialized: bool,
    /// CONFIG_DB.
    pub config: Rows,
    /// STATE_DB.
    pub state: Rows,
    /// ASIC_DB: the router interfaces.
    pub asic: Rows,
    /// COUNTERS_DB: port name to ASIC object.
    pub port_objects: Fields,
}

/// What the databases say, port by port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// CONFIG_DB holds its whole configuration.
    pub initialized: bool,
    /// The boot VRF.
    pub vrf: Vrf,
    /// Every front-panel port.
    pub ports: BTreeMap<PortName, Port>,
}

/// The boot VRF's row and facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vrf {
    /// CONFIG_DB has its row.
    pub row: bool,
    /// vrfmgrd has made it in the kernel.
    pub in_kernel: bool,
    /// orchagent has made it in the ASIC.
    pub in_asic: bool,
}

/// One front-panel port's rows and facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// Its `PORT` row.
    pub row: PortRow,
    /// STATE_DB: the port exists in the kernel (`PORT_TABLE` state ok).
    pub ready: bool,
    /// CONFIG_DB: its base `INTERFACE` row.
    pub base: Base,
    /// CONFIG_DB: address rows of the shape that leafboot writes.
    pub addresses: BTreeSet<BootPrefix>,
    /// CONFIG_DB: keys of address rows of any other shape.
    pub other_addresses: BTreeSet<String>,
    /// CONFIG_DB: the VLAN that it is a member of.
    pub vlan: Option<String>,
    /// CONFIG_DB: the LAG that it is a member of.
    pub lag: Option<String>,
    /// STATE_DB: the VRF that intfmgrd has bound it to, empty for the default VRF.
    pub bound: Option<String>,
    /// STATE_DB: addresses that intfmgrd has taken.
    pub bound_addresses: BTreeSet<BootPrefix>,
    /// ASIC_DB: a router interface stands on it.
    pub router_interface: bool,
}

/// Whose a port's base `INTERFACE` row is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Base {
    /// There is none.
    #[default]
    Absent,
    /// It names the boot VRF: it is ours.
    Ours,
    /// It names another VRF (empty: the default VRF): somebody else's.
    Foreign(String),
}

/// One network device that carries a port's name, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; another one after swss has recreated the port.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up and with a carrier.
    pub up: bool,
    /// How often it has got a carrier: a loss of less than a second may show nowhere else (`net/core/link_watch.c`).
    pub carriers: u32,
    /// The VRF device that it is a member of.
    pub vrf: Option<String>,
    /// Its link-local address, once that is usable (not tentative).
    pub link_local: Option<Ipv6Addr>,
    /// Its other usable addresses.
    pub addresses: BTreeSet<Ipv6Net>,
}

/// The kernel's view of the ports.
pub type Links = BTreeMap<PortName, Link>;

impl Observed {
    /// Normalises a snapshot for the boot VRF named `vrf`.
    pub fn new(snapshot: &Snapshot, vrf: &VrfName) -> Self {
        let mut observed = Self { initialized: snapshot.initialized, ..Self::default() };
        for (key, fields) in &snapshot.config {
            if let Some(Row::Port(name)) = Row::parse(key)
                && let Ok(port) = name.parse()
            {
                let row = PortRow { alias: rows::alias(fields).cloned(), index: rows::index(fields) };
                observed.ports.insert(port, Port { row, ..Port::default() });
            }
        }
        for (key, fields) in &snapshot.config {
            observed.see_config(key, fields, vrf);
        }
        for (key, fields) in &snapshot.state {
            observed.see_state(key, fields, vrf);
        }
        let on_asic: BTreeSet<&String> =
            snapshot.asic.values().filter_map(rows::router_interface_port).collect();
        for (name, object) in &snapshot.port_objects {
            if on_asic.contains(object)
                && let Some(port) = observed.port(name)
            {
                port.router_interface = true;
            }
        }
        observed
    }

    /// The ports' own rows.
    pub fn port_rows(&self) -> PortRows {
        self.ports.iter().map(|(name, port)| (name.clone(), port.row.clone())).collect()
    }

    fn port(&mut self, name: &str) -> Option<&mut Port> {
        self.ports.get_mut(&name.parse::<PortName>().ok()?)
    }

    fn see_config(&mut self, key: &str, fields: &Fields, vrf: &VrfName) {
        match Row::parse(key) {
            Some(Row::Vrf(name)) if name == vrf.as_str() => self.vrf.row = true,
            Some(Row::Interface(name)) => {
                if let Some(port) = self.port(name) {
                    port.base = match rows::configured_vrf(fields) {
                        name if name == vrf.as_str() => Base::Ours,
                        other => Base::Foreign(other.to_owned()),
                    };
                }
            }
            Some(Row::Address(name, address)) => {
                if let Some(port) = self.port(name) {
                    match rows::gateway_row(address) {
                        Some(prefix) => port.addresses.insert(prefix),
                        None => port.other_addresses.insert(key.to_owned()),
                    };
                }
            }
            Some(Row::VlanMember(vlan, name)) => {
                if let Some(port) = self.port(name) {
                    port.vlan = Some(vlan.to_owned());
                }
            }
            Some(Row::LagMember(lag, name)) => {
                if let Some(port) = self.port(name) {
                    port.lag = Some(lag.to_owned());
                }
            }
            Some(Row::Port(_) | Row::Vrf(_) | Row::PortState(_) | Row::VrfState(_) | Row::VrfObject(_))
            | None => {}
        }
    }

    fn see_state(&mut self, key: &str, fields: &Fields, vrf: &VrfName) {
        match Row::parse(key) {
            Some(Row::VrfState(name)) if name == vrf.as_str() => self.vrf.in_kernel = rows::is_ok(fields),
            Some(Row::VrfObject(name)) if name == vrf.as_str() => self.vrf.in_asic = rows::is_ok(fields),
            Some(Row::PortState(name)) => {
                if let Some(port) = self.port(name) {
                    port.ready = rows::is_ok(fields);
                }
            }
            Some(Row::Interface(name)) => {
                if let Some(port) = self.port(name) {
                    port.bound = Some(rows::bound_vrf(fields).to_owned());
                }
            }
            Some(Row::Address(name, address)) => {
                if let (Some(port), Some(prefix)) = (self.port(name), rows::gateway_row(address)) {
                    port.bound_addresses.insert(prefix);
                }
            }
            Some(
                Row::Port(_)
                | Row::Vrf(_)
                | Row::VlanMember(..)
                | Row::LagMember(..)
                | Row::VrfState(_)
                | Row::VrfObject(_),
            )
            | None => {}
        }
    }
}
