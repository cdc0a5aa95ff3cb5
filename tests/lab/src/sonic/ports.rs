//! The ports: what portsyncd and PortsOrch publish about the front panel.
//!
//! Owns: the port rows of STATE_DB, APPL_DB and COUNTERS_DB, and which object id a port has.
//! Must never: change a port. (In SONiC, portmgrd sets admin status and MTU.)

use std::collections::BTreeMap;

use super::asic::PORT;
use super::daemons::Daemon;
use super::database::Fields;
use super::switch::Switch;
use super::{Error, fields};

const FIRST_PORT_OID: u64 = 0x1_0000_0000_0002;

/// The ports of the switch.
#[derive(Debug, Default)]
pub struct Ports {
    oids: BTreeMap<String, String>,
    /// The carrier state that was published last, by port.
    carriers: BTreeMap<String, &'static str>,
}

impl Ports {
    /// Creates every port of CONFIG_DB, and announces that all exist. Object ids follow the order of the port
    /// names, so that a restart with the same ports gives the same ids.
    // sonic-swss portsyncd/linksync.cpp; orchagent/portsorch.cpp: PortsOrch::doPortTask, PortInitDone
    pub fn create(switch: &mut Switch) -> Result<(), Error> {
        let mut oids = BTreeMap::new();
        let mut names = Fields::new();
        for (index, port) in (0..).zip(switch.config.keys("PORT")?) {
            // syncd makes the network devices anew: no address and no master survives.
            if let Err(error) = switch.kernel.renew_port(&port) {
                eprintln!("portsyncd: {port}: {error}");
            }
            let oid = format!("oid:{:#x}", FIRST_PORT_OID + index);
            switch.asic.set(PORT, &oid, &Fields::new())?;
            switch.asic.name(&oid, &port);
            names.insert(port.clone(), oid.clone());
            oids.insert(port, oid);
        }
        if !names.is_empty() {
            switch.counters.set("COUNTERS_PORT_NAME_MAP", "", &names)?;
        }
        for port in oids.keys() {
            let config = switch.config.row("PORT", port)?.unwrap_or_default();
            let admin_status = config.get("admin_status").map_or("down", String::as_str);
            let mtu = config.get("mtu").map_or("9100", String::as_str);
            let state = fields(&[("state", "ok"), ("admin_status", admin_status), ("mtu", mtu)]);
            switch.state.set("PORT_TABLE", port, &state)?;
            switch.appl.set("PORT_TABLE", port, &config)?;
        }
        switch.ports = Self { oids, carriers: BTreeMap::new() };
        Self::refresh(switch)?;
        switch.appl.set("PORT_TABLE", "PortInitDone", &fields(&[("lanes", "0")]))?;
        eprintln!("portsyncd: {} ports, PortInitDone", switch.ports.oids.len());
        Ok(())
    }

    /// Publishes the carrier of every port.
    // sonic-swss portsyncd/linksync.cpp: LinkSync::onMsg
    fn refresh(switch: &mut Switch) -> Result<(), Error> {
        let Switch { ports, kernel, state, appl, .. } = switch;
        for port in ports.oids.keys() {
            let status = kernel.oper_status(port);
            if ports.carriers.insert(port.clone(), status) == Some(status) {
                continue;
            }
            state.set("PORT_TABLE", port, &fields(&[("netdev_oper_status", status)]))?;
            appl.set("PORT_TABLE", port, &fields(&[("oper_status", status)]))?;
        }
        Ok(())
    }

    /// The object id of a port, if there is such a port.
    pub fn oid(&self, port: &str) -> Option<&str> {
        self.oids.get(port).map(String::as_str)
    }
}

/// The daemon that watches the carriers.
pub struct Portsyncd;

impl Daemon for Portsyncd {
    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        Ports::refresh(switch)?;
        Ok(false)
    }
}
