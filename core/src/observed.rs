//! The observed state of SONiC and the kernel, normalised: which rows leafboot manages, and which facts are there.
//!
//! SONiC's sources were read at the commits that `docs/sonic.md` lists (swss e6b0c5b5d).
//!
//! Must never: read a database, or leave out an unmanaged row.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

use crate::desired::{PortRow, PortRows};
use crate::names::{BootPrefix, LoopbackName, Mac, PortName, VrfName};
use crate::rows::{self, AsicRow, Fields, Row, Rows};
use crate::settings::Settings;

/// The rows of one pass, as read from SONiC's databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// CONFIG_DB holds its whole configuration (`CONFIG_DB_INITIALIZED` is `1`).
    pub initialized: bool,
    /// CONFIG_DB.
    pub config: Rows,
    /// STATE_DB.
    pub state: Rows,
    /// ASIC_DB.
    pub asic: Rows,
    /// COUNTERS_DB: port name to ASIC object.
    pub port_objects: Fields,
    /// COUNTERS_DB: `<ACL table>:<rule>` to the ASIC object of the rule's counter, of all tables.
    pub rule_counters: Fields,
}

/// The observed state, port by port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// CONFIG_DB holds its whole configuration.
    pub initialized: bool,
    /// The boot VRF.
    pub vrf: Vrf,
    /// The boot ACL.
    pub acl: ObservedAcl,
    /// The loopback that carries the anycast address.
    pub loopback: Loopback,
    /// STATE_DB: the established BGP neighbours of the default VRF, by address or by interface.
    pub bgp_neighbours: BTreeSet<String>,
    /// Every front-panel port. A port whose `PORT` row is gone is also here while something of the boot VRF is on it.
    pub ports: BTreeMap<PortName, ObservedPort>,
    /// CONFIG_DB: the first `INTERFACE` row whose address cannot be parsed. intfmgrd works in the order of the keys and does not
    /// get past this row (`cfgmgr/intfmgr.cpp: IntfMgr::doIntfAddrTask`).
    pub unreadable: Option<String>,
}

/// The boot VRF's row and facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vrf {
    /// CONFIG_DB has the VRF's row.
    pub row: bool,
    /// STATE_DB: vrfmgrd has created the VRF in the kernel.
    pub in_kernel: bool,
    /// STATE_DB: orchagent has created the VRF in the ASIC.
    pub in_asic: bool,
}

/// The boot ACL's rows and facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedAcl {
    /// CONFIG_DB: the table's row.
    pub table: Option<Fields>,
    /// CONFIG_DB: the rows of the table's rules, by rule.
    pub rules: BTreeMap<String, Fields>,
    /// STATE_DB: orchagent reports the table active.
    pub table_active: bool,
    /// STATE_DB: the rules that orchagent reports active.
    pub active_rules: BTreeSet<String>,
    /// STATE_DB: the rules that orchagent has refused. It takes them only when they are written again.
    pub refused_rules: BTreeSet<String>,
    /// ASIC_DB and COUNTERS_DB: orchagent has created ports since SONiC started. Before that the ASIC is empty, and STATE_DB still
    /// has the tables and rules of an earlier run. At a start, swss.sh flushes ASIC_DB and COUNTERS_DB first, then orchagent
    /// deletes its old ACL rows in STATE_DB (`orchagent/aclorch.cpp: AclOrch::init`), and then it names the ports
    /// (`orchagent/portsorch.cpp: PortsOrch::initPort`).
    pub asic_has_ports: bool,
    /// ASIC_DB and COUNTERS_DB: the rules that the ASIC has now, by name, with the object of the ACL table that the entry is in. A
    /// rule whose row is written again is absent for a moment: orchagent deletes the entry and its counter and creates new
    /// ones, without a change in STATE_DB (`orchagent/aclorch.cpp: AclTable::add`).
    pub asic_entries: BTreeMap<String, String>,
}

/// The loopback's rows and facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loopback {
    /// CONFIG_DB: the base `LOOPBACK_INTERFACE` row.
    pub base: Base,
    /// CONFIG_DB: the addresses of its address rows, as they are spelled.
    pub address_rows: BTreeSet<String>,
    /// STATE_DB: the VRF that intfmgrd has bound it to.
    pub bound_vrf: Option<String>,
    /// STATE_DB: the addresses that intfmgrd has added, as they are spelled.
    pub bound_addresses: BTreeSet<String>,
}

/// One front-panel port's rows and facts. Names with `_rows` are CONFIG_DB's, names with `bound_` are what intfmgrd and vlanmgrd
/// report in STATE_DB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedPort {
    /// The `PORT` row; none if it is gone and something of the boot VRF is left.
    pub row: Option<PortRow>,
    /// STATE_DB: the port exists in the kernel (`PORT_TABLE` state ok).
    pub ready: bool,
    /// CONFIG_DB: the base `INTERFACE` row.
    pub base: Base,
    /// CONFIG_DB: address rows of the shape that leafboot writes.
    pub address_rows: BTreeSet<BootPrefix>,
    /// CONFIG_DB: all other address rows, as they are spelled.
    pub other_address_rows: BTreeSet<String>,
    /// CONFIG_DB: the VLANs that it is a member of.
    pub vlan_rows: BTreeSet<String>,
    /// STATE_DB: the VLANs in which vlanmgrd has the port.
    pub bound_vlans: BTreeSet<String>,
    /// CONFIG_DB: the LAG that it is a member of.
    pub lag: Option<String>,
    /// CONFIG_DB: the sub-interfaces on it.
    pub sub_interfaces: BTreeSet<String>,
    /// STATE_DB: the VRF that intfmgrd has bound it to, empty for the default VRF.
    pub bound_vrf: Option<String>,
    /// STATE_DB: the addresses of leafboot's shape that intfmgrd has added.
    pub bound_addresses: BTreeSet<BootPrefix>,
    /// STATE_DB: all other addresses that intfmgrd has added.
    pub other_bound_addresses: BTreeSet<String>,
    /// ASIC_DB: the port has a router interface.
    pub router_interface: bool,
    /// ASIC_DB: the port has the router interface of a sub-interface.
    pub sub_router_interface: bool,
    /// ASIC_DB: the port has a bridge port.
    pub bridge_port: bool,
    /// ASIC_DB: the ACL tables on its ingress.
    pub acl_tables: BTreeSet<String>,
}

/// The base row of a port or of the loopback: whether leafboot manages it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Base {
    /// There is no base row.
    #[default]
    Absent,
    /// The row names the boot VRF: leafboot manages it.
    Ours,
    /// The row names this other VRF; empty for the default VRF.
    Unmanaged(String),
}

/// One network device that carries a port's name, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of the device. It changes when swss recreates the port.
    pub ifindex: u32,
    /// The Ethernet address.
    pub mac: Mac,
    /// The MTU in bytes.
    pub mtu: u32,
    /// Administratively up and with a carrier.
    pub up: bool,
    /// Administratively up.
    pub admin_up: bool,
    /// With a carrier. The kernel knows of none while the device is administratively down.
    pub carrier: bool,
    /// How often the device has got a carrier. A loss of less than a second may show nowhere else (Linux
    /// `net/core/link_watch.c`).
    pub carrier_ups: u32,
    /// The name of the VRF device that is its master.
    pub vrf: Option<String>,
    /// The link-local address, once it is usable (not tentative).
    pub link_local: Option<Ipv6Addr>,
    /// The other IPv6 addresses that are usable: duplicate address detection has found no duplicate (RFC 4862 5.4).
    pub usable_addresses: BTreeSet<Ipv6Net>,
    /// All addresses of both families except link-local ones, usable or not.
    pub assigned_addresses: BTreeSet<IpNet>,
    /// The addresses that another station on the link has, too (duplicate address detection, RFC 4862 5.4).
    pub duplicate_addresses: BTreeSet<IpNet>,
}

/// The kernel's view of the ports and of the VRF devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// The devices of front-panel ports.
    pub ports: BTreeMap<PortName, Link>,
    /// The loopbacks.
    pub loopbacks: BTreeMap<LoopbackName, Link>,
    /// The VRF devices by name; true if the device is administratively up. The kernel routes nothing in a VRF that is down.
    pub vrfs: BTreeMap<String, bool>,
}

impl Links {
    /// A port's device.
    pub fn get(&self, port: &PortName) -> Option<&Link> {
        self.ports.get(port)
    }

    /// Whether the VRF's device is there and administratively up.
    pub fn is_vrf_up(&self, vrf: &VrfName) -> bool {
        self.vrfs.get(vrf.as_str()).copied().unwrap_or(false)
    }
}

impl Observed {
    /// Normalises a snapshot for the boot VRF, the boot ACL and the loopback that `settings` names.
    pub fn new(snapshot: &Snapshot, settings: &Settings) -> Self {
        let mut observed = Self { initialized: snapshot.initialized, ..Self::default() };
        for (port, row) in port_rows(&snapshot.config) {
            observed.ports.insert(port, ObservedPort { row: Some(row), ..ObservedPort::default() });
        }
        let names = Names::of(settings);
        observed.add_left_over(snapshot, names);
        for (key, fields) in &snapshot.config {
            observed.add_config(key, fields, names);
        }
        for (key, fields) in &snapshot.state {
            observed.add_state(key, fields, names);
        }
        observed.add_asic(&snapshot.asic, &snapshot.port_objects);
        observed.add_acl_entries(&snapshot.asic, &rows::rules_by_counter(&snapshot.rule_counters, names.acl));
        observed
    }

    /// The `PORT` rows.
    pub fn port_rows(&self) -> PortRows {
        self.ports.iter().filter_map(|(name, port)| Some((name.clone(), port.row.clone()?))).collect()
    }

    /// Adds the ports whose `PORT` row is gone, and that boot VRF or boot ACL still has. portsorch keeps a port that something
    /// refers to (`orchagent/portsorch.cpp: PortsOrch::doPortTask`).
    fn add_left_over(&mut self, snapshot: &Snapshot, names: Names<'_>) {
        let mut add = |name: &str| {
            if let Ok(port) = name.parse() {
                self.ports.entry(port).or_default();
            }
        };
        for (key, fields) in &snapshot.config {
            match Row::parse(key) {
                Some(Row::Interface(name)) if rows::configured_vrf(fields) == names.vrf => add(name),
                Some(Row::AclTable(name)) if name == names.acl && rows::is_our_acl_table(fields) => {
                    rows::acl_table_ports(fields).iter().for_each(|port| add(port));
                }
                Some(_) | None => {}
            }
        }
        for (key, fields) in &snapshot.state {
            match Row::parse(key) {
                Some(Row::Interface(name)) if rows::bound_vrf(fields) == names.vrf => add(name),
                Some(_) | None => {}
            }
        }
    }

    /// The keys of the unmanaged rows of CONFIG_DB. leafboot changes none of them, except those on a pushed port.
    pub fn unmanaged<'a>(&self, snapshot: &'a Snapshot, settings: &Settings) -> Vec<&'a str> {
        let names = Names::of(settings);
        let is_our_loopback = |name: &str| name == names.loopback && self.loopback.base == Base::Ours;
        let is_ours = |name: &str| {
            let port = name.parse::<PortName>().ok().and_then(|name| self.ports.get(&name));
            port.is_some_and(|port| port.base == Base::Ours)
        };
        let is_unmanaged = |key: &&str| match Row::parse(key) {
            Some(Row::Vrf(name)) => name != names.vrf,
            Some(Row::AclTable(name) | Row::AclRule(name, _)) => name != names.acl,
            Some(Row::Loopback(name) | Row::LoopbackAddress(name, _)) => !is_our_loopback(name),
            Some(Row::Interface(name)) => !is_ours(name),
            Some(Row::Address(name, address)) => !is_ours(name) || rows::gateway_row(address).is_none(),
            Some(Row::VlanMember(..) | Row::LagMember(..) | Row::SubInterface(..)) => true,
            Some(
                Row::Port(_)
                | Row::PortState(_)
                | Row::VrfState(_)
                | Row::VrfObject(_)
                | Row::BgpNeighbour(_),
            )
            | None => false,
        };
        snapshot.config.keys().map(String::as_str).filter(is_unmanaged).collect()
    }

    fn with_port(&mut self, name: &str, update: impl FnOnce(&mut ObservedPort)) {
        if let Ok(name) = name.parse::<PortName>()
            && let Some(port) = self.ports.get_mut(&name)
        {
            update(port);
        }
    }

    fn add_config(&mut self, key: &str, fields: &Fields, names: Names<'_>) {
        match Row::parse(key) {
            Some(Row::Vrf(name)) if name == names.vrf => self.vrf.row = true,
            Some(Row::AclTable(name)) if name == names.acl => self.acl.table = Some(fields.clone()),
            Some(Row::AclRule(table, rule)) if table == names.acl => {
                self.acl.rules.insert(rule.to_owned(), fields.clone());
            }
            Some(Row::Interface(name)) => {
                self.with_port(name, |port| port.base = Base::of(fields, names.vrf));
            }
            Some(Row::Loopback(name)) if name == names.loopback => {
                self.loopback.base = Base::of(fields, names.vrf);
            }
            Some(Row::LoopbackAddress(name, address)) if name == names.loopback => {
                self.loopback.address_rows.insert(address.to_owned());
            }
            Some(Row::Address(name, address)) => {
                if !rows::is_address(address) {
                    self.unreadable.get_or_insert_with(|| key.to_owned());
                }
                self.with_port(name, |port| {
                    match rows::gateway_row(address) {
                        Some(prefix) => port.address_rows.insert(prefix),
                        None => port.other_address_rows.insert(address.to_owned()),
                    };
                });
            }
            Some(Row::VlanMember(vlan, name)) => self.with_port(name, |port| {
                port.vlan_rows.insert(vlan.to_owned());
            }),
            Some(Row::SubInterface(port, name)) => self.with_port(&port, |port| {
                port.sub_interfaces.insert(name.to_owned());
            }),
            Some(Row::LagMember(lag, name)) => self.with_port(name, |port| port.lag = Some(lag.to_owned())),
            Some(_) | None => {}
        }
    }

    fn add_state(&mut self, key: &str, fields: &Fields, names: Names<'_>) {
        match Row::parse(key) {
            Some(Row::VrfState(name)) if name == names.vrf => self.vrf.in_kernel = rows::is_ok(fields),
            Some(Row::VrfObject(name)) if name == names.vrf => self.vrf.in_asic = rows::is_ok(fields),
            Some(Row::AclTable(name)) if name == names.acl => self.acl.table_active = rows::is_active(fields),
            Some(Row::AclRule(table, rule)) if table == names.acl => {
                if rows::is_active(fields) {
                    self.acl.active_rules.insert(rule.to_owned());
                } else if rows::is_refused(fields) {
                    self.acl.refused_rules.insert(rule.to_owned());
                }
            }
            Some(Row::Interface(name)) if name == names.loopback => {
                self.loopback.bound_vrf = Some(rows::bound_vrf(fields).to_owned());
            }
            Some(Row::Address(name, address)) if name == names.loopback => {
                self.loopback.bound_addresses.insert(address.to_owned());
            }
            Some(Row::BgpNeighbour(name)) if rows::is_established(fields) => {
                self.bgp_neighbours.insert(name.to_owned());
            }
            Some(Row::PortState(name)) => self.with_port(name, |port| port.ready = rows::is_ok(fields)),
            Some(Row::Interface(name)) => {
                self.with_port(name, |port| port.bound_vrf = Some(rows::bound_vrf(fields).to_owned()));
            }
            Some(Row::Address(name, address)) => self.with_port(name, |port| {
                match rows::gateway_row(address) {
                    Some(prefix) => port.bound_addresses.insert(prefix),
                    None => port.other_bound_addresses.insert(address.to_owned()),
                };
            }),
            Some(Row::VlanMember(vlan, name)) => self.with_port(name, |port| {
                port.bound_vlans.insert(vlan.to_owned());
            }),
            Some(_) | None => {}
        }
    }

    fn add_asic(&mut self, asic: &Rows, port_objects: &Fields) {
        let mut members: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let seen: Vec<AsicRow<'_>> =
            asic.iter().filter_map(|(key, fields)| AsicRow::parse(key, fields)).collect();
        for row in &seen {
            if let AsicRow::GroupMember(group, table) = row {
                members.entry(group).or_default().insert((*table).to_owned());
            }
        }
        let names: BTreeMap<&str, &str> =
            port_objects.iter().map(|(name, object)| (object.as_str(), name.as_str())).collect();
        let name = |object: &str| names.get(object).copied().unwrap_or_default();
        for row in seen {
            match row {
                AsicRow::RouterInterface(object) => {
                    self.with_port(name(object), |port| port.router_interface = true);
                }
                AsicRow::SubInterface(object) => {
                    self.with_port(name(object), |port| port.sub_router_interface = true);
                }
                AsicRow::BridgePort(object) => self.with_port(name(object), |port| port.bridge_port = true),
                AsicRow::Port(object, group) => {
                    self.acl.asic_has_ports |= names.contains_key(object);
                    let tables = group.and_then(|group| members.get(group)).into_iter().flatten();
                    self.with_port(name(object), |port| port.acl_tables.extend(tables.cloned()));
                }
                AsicRow::GroupMember(..) | AsicRow::AclEntry { .. } => {}
            }
        }
    }

    fn add_acl_entries(&mut self, asic: &Rows, rules: &BTreeMap<&str, &str>) {
        for (key, fields) in asic {
            if let Some(AsicRow::AclEntry { table, counter: Some(counter), .. }) = AsicRow::parse(key, fields)
                && let Some(rule) = rules.get(counter)
            {
                self.acl.asic_entries.insert((*rule).to_owned(), table.to_owned());
            }
        }
    }
}

/// The front-panel ports among CONFIG_DB's rows.
pub fn port_rows(config: &Rows) -> PortRows {
    let row = |(key, fields): (&String, &Fields)| match Row::parse(key) {
        Some(Row::Port(name)) => {
            let row = PortRow { alias: rows::alias(fields).cloned(), index: rows::index(fields) };
            Some((name.parse().ok()?, row))
        }
        _ => None,
    };
    config.iter().filter_map(row).collect()
}

/// The names of boot VRF, boot ACL and loopback.
#[derive(Clone, Copy)]
struct Names<'a> {
    vrf: &'a str,
    acl: &'a str,
    loopback: &'a str,
}

impl<'a> Names<'a> {
    fn of(settings: &'a Settings) -> Self {
        let boot = &settings.boot;
        Self { vrf: boot.vrf.as_str(), acl: settings.acl.table.as_str(), loopback: boot.loopback.as_str() }
    }
}

impl Base {
    fn of(row: &Fields, boot_vrf: &str) -> Self {
        match rows::configured_vrf(row) {
            vrf if vrf == boot_vrf => Self::Ours,
            other => Self::Unmanaged(other.to_owned()),
        }
    }
}
