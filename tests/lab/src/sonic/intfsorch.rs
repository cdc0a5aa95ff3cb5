//! IntfsOrch: APPL_DB INTF_TABLE rows become router interfaces and routes to the switch itself.
//!
//! Owns: the router interfaces of ASIC_DB and their IP2me routes.
//! Must never: move a router interface. Its virtual router is given at its creation and stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::asic::{PORT_OF_ROUTER_INTERFACE, ROUTER_INTERFACE};
use super::database::Fields;
use super::kernel::LOOPBACK;
use super::queue::{Task, Verdict};
use super::switch::Switch;
use super::vrforch::{DEFAULT_VIRTUAL_ROUTER, VrfOrch};
use super::{Error, fields, parse_prefix, throw};

const ROUTE: &str = "SAI_OBJECT_TYPE_ROUTE_ENTRY";
const FIRST_OID: u64 = 0x6_0000_0000_0600;
const NAMES: &str = "COUNTERS_RIF_NAME_MAP";
const TYPES: &str = "COUNTERS_RIF_TYPE_MAP";
const TYPE_PORT: &str = "SAI_ROUTER_INTERFACE_TYPE_PORT";

/// The interval of the timer that names new router interfaces in COUNTERS_DB.
// sonic-swss orchagent/intfsorch.cpp: UPDATE_MAPS_SEC
const UPDATE_MAPS: Duration = Duration::from_secs(1);

/// The router interfaces by port, and the loopbacks, which have addresses but no such object.
#[derive(Debug, Default)]
pub struct IntfsOrch {
    interfaces: BTreeMap<String, Interface>,
    /// The router interfaces without a name in COUNTERS_DB, and since when.
    nameless: BTreeMap<String, Instant>,
    created: u64,
}

#[derive(Debug)]
struct Interface {
    oid: Option<String>,
    virtual_router: String,
    addresses: BTreeSet<IpNet>,
}

impl IntfsOrch {
    /// How many router interfaces and loopbacks a virtual router has.
    pub fn count_in(&self, virtual_router: &str) -> usize {
        self.interfaces.values().filter(|interface| interface.virtual_router == virtual_router).count()
    }

    /// Names the router interfaces that were made a while ago, and returns whether there were any.
    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::doTask (SelectableTimer), addRifToFlexCounter
    pub fn name_new(&mut self, switch: &mut Switch, now: Instant) -> Result<bool, Error> {
        let is_due = |since: &Instant| switch.hurries || now.duration_since(*since) >= UPDATE_MAPS;
        let due: Vec<String> =
            self.nameless.iter().filter(|(_, since)| is_due(since)).map(|(port, _)| port.clone()).collect();
        for port in &due {
            self.nameless.remove(port);
            if let Some(oid) = self.interfaces.get(port).and_then(|interface| interface.oid.as_ref()) {
                switch.counters.set(NAMES, "", &fields(&[(port, oid)]))?;
                switch.counters.set(TYPES, "", &fields(&[(oid, TYPE_PORT)]))?;
            }
        }
        Ok(!due.is_empty())
    }

    /// Does one task.
    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::doTask
    pub fn handle(
        &mut self,
        switch: &mut Switch,
        vrfs: &VrfOrch,
        key: &str,
        task: &Task,
    ) -> Result<Verdict, Error> {
        let (port, prefix) = match key.split_once(':') {
            None => (key, None),
            Some((port, prefix)) => (port, Some(prefix)),
        };
        let address = match prefix.map(|prefix| (prefix, parse_prefix(prefix))) {
            None => None,
            Some((_, Some(address))) => Some(address),
            Some((prefix, None)) => {
                return throw(switch.behaviour.release, "orchagent", format!("{prefix} is no IP prefix"));
            }
        };
        match (task, address) {
            (Task::Set(row), None) => self.set_base(switch, vrfs, port, row),
            (Task::Set(_), Some(address)) => self.set_address(switch, port, address),
            (Task::Del, None) => self.delete_base(switch, port),
            (Task::Del, Some(address)) => self.delete_address(switch, port, address),
        }
    }

    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::setIntf
    fn set_base(
        &mut self,
        switch: &mut Switch,
        vrfs: &VrfOrch,
        port: &str,
        row: &Fields,
    ) -> Result<Verdict, Error> {
        let virtual_router = match row.get("vrf_name").map(String::as_str) {
            None | Some("") => DEFAULT_VIRTUAL_ROUTER,
            Some(vrf) => match vrfs.oid(vrf) {
                Some(oid) => oid,
                None => return Ok(Verdict::Retry(format!("{vrf} has no virtual router"))),
            },
        };
        let moves = port.starts_with(LOOPBACK) && switch.behaviour.release.moves_loopbacks();
        if let Some(interface) = self.interfaces.get_mut(port).filter(|_| moves) {
            if interface.virtual_router != virtual_router && !interface.addresses.is_empty() {
                return Ok(Verdict::Retry("addresses are left, the other VRF has to wait".to_owned()));
            }
            virtual_router.clone_into(&mut interface.virtual_router);
            return Ok(Verdict::Done);
        }
        // An interface that exists keeps its virtual router, whatever the row says now, without an error.
        // sonic-swss#4737; SAI_ROUTER_INTERFACE_ATTR_VIRTUAL_ROUTER_ID is create-only
        if self.interfaces.contains_key(port) {
            return Ok(Verdict::Done);
        }
        let oid = if port.starts_with(LOOPBACK) {
            None
        } else if let Some(port_oid) = switch.ports.oid(port).map(str::to_owned) {
            Some(self.create(switch, &port_oid, virtual_router)?)
        } else {
            return Ok(Verdict::Retry("no such port".to_owned()));
        };
        eprintln!("orchagent: {port}: router interface {oid:?} created in {virtual_router}");
        let virtual_router = virtual_router.to_owned();
        if oid.is_some() {
            self.nameless.insert(port.to_owned(), Instant::now());
        }
        self.interfaces
            .insert(port.to_owned(), Interface { oid, virtual_router, addresses: BTreeSet::new() });
        Ok(Verdict::Done)
    }

    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::addRouterIntfs (it does not ask for a bridge port on that port)
    fn create(&mut self, switch: &mut Switch, port_oid: &str, virtual_router: &str) -> Result<String, Error> {
        let oid = format!("oid:{:#x}", FIRST_OID + self.created);
        self.created += 1;
        let attributes = fields(&[
            (PORT_OF_ROUTER_INTERFACE, port_oid),
            ("SAI_ROUTER_INTERFACE_ATTR_TYPE", TYPE_PORT),
            ("SAI_ROUTER_INTERFACE_ATTR_VIRTUAL_ROUTER_ID", virtual_router),
        ]);
        switch.asic.set(ROUTER_INTERFACE, &oid, &attributes)?;
        Ok(oid)
    }

    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::setIntf
    fn set_address(&mut self, switch: &mut Switch, port: &str, address: IpNet) -> Result<Verdict, Error> {
        let Some(interface) = self.interfaces.get(port) else {
            return Ok(Verdict::Retry("no router interface".to_owned()));
        };
        if interface.addresses.contains(&address) {
            return Ok(Verdict::Done);
        }
        // No error row shows this: the address is on the port, and the ASIC never gets it. A loopback's own address is
        // not compared with other addresses.
        if interface.oid.is_some()
            && let Some(reason) = self.overlap(&interface.virtual_router, address)
        {
            return Ok(Verdict::Retry(reason));
        }
        switch.asic.set(
            ROUTE,
            &ip2me(&interface.virtual_router, address),
            &fields(&[("SAI_ROUTE_ENTRY_ATTR_PACKET_ACTION", "SAI_PACKET_ACTION_FORWARD")]),
        )?;
        eprintln!("orchagent: {port}: {address} added");
        if let Some(interface) = self.interfaces.get_mut(port) {
            interface.addresses.insert(address);
        }
        Ok(Verdict::Done)
    }

    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::removeIntf, IntfsOrch::removeRouterIntfs
    fn delete_base(&mut self, switch: &mut Switch, port: &str) -> Result<Verdict, Error> {
        let Some(interface) = self.interfaces.get(port) else {
            return Ok(Verdict::Done);
        };
        if !interface.addresses.is_empty() {
            return Ok(Verdict::Retry("addresses are left, cannot remove".to_owned()));
        }
        if switch.neighbours.hold(port) {
            return Ok(Verdict::Retry("the router interface is still referenced".to_owned()));
        }
        if let Some(oid) = &interface.oid {
            if self.nameless.remove(port).is_none() {
                switch.counters.delete_field(NAMES, "", port)?;
                switch.counters.delete_field(TYPES, "", oid)?;
            }
            switch.asic.delete(ROUTER_INTERFACE, oid)?;
        }
        eprintln!("orchagent: {port}: router interface {:?} removed", interface.oid);
        self.interfaces.remove(port);
        Ok(Verdict::Done)
    }

    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::removeIntf
    fn delete_address(&mut self, switch: &mut Switch, port: &str, address: IpNet) -> Result<Verdict, Error> {
        let Some(interface) = self.interfaces.get_mut(port) else {
            return Ok(Verdict::Done);
        };
        if interface.addresses.remove(&address) {
            switch.asic.delete(ROUTE, &ip2me(&interface.virtual_router, address))?;
            eprintln!("orchagent: {port}: {address} removed");
        }
        Ok(Verdict::Done)
    }

    /// Two prefixes in one virtual router overlap if one of them contains the other's address.
    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::setIntf
    fn overlap(&self, virtual_router: &str, address: IpNet) -> Option<String> {
        for (port, interface) in &self.interfaces {
            if interface.virtual_router != virtual_router {
                continue;
            }
            let overlaps =
                |other: &&IpNet| other.contains(&address.addr()) || address.contains(&other.addr());
            if let Some(other) = interface.addresses.iter().find(overlaps) {
                return Some(format!("NOTICE overlaps with {other} of {port}"));
            }
        }
        None
    }
}

/// The key of the route that brings packets for this address to the CPU.
// sonic-swss orchagent/intfsorch.cpp: IntfsOrch::addIp2MeRoute
fn ip2me(virtual_router: &str, address: IpNet) -> String {
    let destination = IpNet::from(address.addr());
    format!(r#"{{"dest":"{destination}","switch_id":"oid:0x21000000000000","vr":"{virtual_router}"}}"#)
}
