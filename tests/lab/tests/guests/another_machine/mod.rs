//! Another machine on a port's cable: a network namespace of this computer, in which programs of Linux run.
//!
//! This file only plugs the machine in and out; each test decides what runs there.

use std::time::Duration;

use leafboot_lab::host::process::run;
use leafboot_lab::host::{Error, network, until};
use leafboot_lab::site::Port;
use nix::unistd::gettid;

/// The limit for events that come at once, on a busy computer.
pub const SOON: Duration = Duration::from_secs(20);
/// The command that shows the default route of a Linux.
pub const DEFAULT_ROUTE: [&str; 5] = ["ip", "-6", "route", "show", "default"];

/// The network in which the laboratory's cables are.
pub struct Network(String);

impl Network {
    /// The network namespace of the calling thread.
    pub fn of_this_thread() -> Network {
        Network(format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), gettid()))
    }

    fn run(&self, words: &str) -> Result<String, Error> {
        let argv: Vec<&str> = ["nsenter", &self.0].into_iter().chain(words.split(' ')).collect();
        run(&argv)
    }
}

/// Waits until a command prints this.
pub fn shows(words: &[&str], wanted: &str) -> Result<(), Error> {
    until(wanted, SOON, || Ok(run(words)?.contains(wanted).then_some(())))
}

/// Does something as another machine on a port's cable, whose device `client` is still down.
pub fn plugged_in(
    lab: &Network,
    port: Port,
    work: impl FnOnce() -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let (near, far) = (format!("client{}", port.number()), format!("cable{}c", port.number()));
    lab.run(&format!("ip link add {near} type veth peer name {far}"))?;
    lab.run(&format!("ip link set {far} mtu 9100 master cable{} up", port.number()))?;
    network::in_own_network(|| {
        lab.run(&format!("ip link set {near} netns {}", gettid()))?;
        run(&["ip", "link", "set", &near, "name", "client"])?;
        run(&["ip", "link", "set", "lo", "up"])?;
        work()
    })?;
    // The cable goes with its namespace, a little later.
    until("it is unplugged", SOON, || Ok(lab.run(&format!("ip link show {far}")).is_err().then_some(())))
}
