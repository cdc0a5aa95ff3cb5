//! orchagent: APPL_DB rows become objects of the ASIC. This file is its loop; the rules are VRFOrch's and IntfsOrch's.
//!
//! Owns: the queues of both, and the order in which they are tried.
//! Must never: touch the kernel or CONFIG_DB. It knows only what the managers tell it.

use super::Error;
use super::intfsorch::IntfsOrch;
use super::ports::Ports;
use super::queue::Queue;
use super::switch::Switch;
use super::vrforch::VrfOrch;

/// The daemon.
#[derive(Debug)]
pub struct Orchagent {
    ports: Ports,
    vrf_queue: Queue,
    vrfs: VrfOrch,
    intf_queue: Queue,
    intfs: IntfsOrch,
}

impl Orchagent {
    /// An orchagent that knows the ports and has made the default virtual router.
    pub fn start(switch: &mut Switch, ports: Ports) -> Result<Self, Error> {
        Ok(Self {
            ports,
            vrf_queue: Queue::default(),
            vrfs: VrfOrch::start(switch)?,
            intf_queue: Queue::default(),
            intfs: IntfsOrch::default(),
        })
    }

    /// Takes what has changed, and tries everything that is pending. VRFs come twice: one may be needed by an interface,
    /// and one may be free to go because of an interface.
    // sonic-swss orchagent/orchdaemon.cpp: OrchDaemon::start (every orch is tried after every event)
    pub fn run(&mut self, switch: &mut Switch) -> Result<(), Error> {
        for (vrf, task) in switch.vrf_table.pop(&mut switch.appl)? {
            self.vrf_queue.add(&vrf, task);
        }
        for (key, task) in switch.intf_table.pop(&mut switch.appl)? {
            self.intf_queue.add(&key, task);
        }
        self.run_vrfs(switch)?;
        let Self { ports, vrfs, intfs, .. } = self;
        self.intf_queue.drain(
            |key, reason| eprintln!("orchagent: {key}: waiting: {reason}"),
            |key, task| intfs.handle(switch, ports, vrfs, key, task),
        )?;
        self.run_vrfs(switch)
    }

    /// Publishes the carrier of the ports.
    pub fn refresh_ports(&mut self, switch: &mut Switch) -> Result<(), Error> {
        self.ports.refresh(switch)
    }

    fn run_vrfs(&mut self, switch: &mut Switch) -> Result<(), Error> {
        let Self { vrfs, intfs, .. } = self;
        self.vrf_queue.drain(
            |vrf, reason| eprintln!("orchagent: {vrf}: waiting: {reason}"),
            |vrf, task| vrfs.handle(switch, intfs, vrf, task),
        )
    }
}
