//! The cables: bridges and taps in a network namespace of the laboratory's own.
//!
//! The computer takes no part in what happens on a boot port's cable: it has no address there and drops nothing.

use std::path::Path;

use nix::sched::{CloneFlags, unshare};

use super::process::{output, run};
use super::{Error, until};
use crate::site::{self, Port};

/// The tap of the leaf's management interface.
pub const MANAGEMENT_TAP: &str = "management";
/// The tap of the leaf's uplink.
pub const UPLINK_TAP: &str = "uplink";
/// SONiC's ports carry jumbo frames.
const MTU: &str = "9100";

/// Runs `work` in a thread with its own empty network namespace, which ends with the thread.
pub fn in_own_network<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(Error::Namespace)?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The tap of a port's leaf end.
pub fn leaf_tap(port: Port) -> String {
    format!("leaf{}", port.number())
}

/// The tap of a port's machine end.
pub fn machine_tap(port: Port) -> String {
    format!("machine{}", port.number())
}

/// An interface of the computer on a port's cable, for checks.
pub fn listener(port: Port) -> String {
    format!("listener{}", port.number())
}

/// Lays all cables, in the network of this thread.
pub fn lay_cables() -> Result<(), Error> {
    quiet("default")?;
    ip("link set lo up")?;
    for tap in [MANAGEMENT_TAP, UPLINK_TAP] {
        ip(&format!("tuntap add dev {tap} mode tap"))?;
    }
    ip(&format!("address add {}/30 dev {MANAGEMENT_TAP}", site::MANAGEMENT_HOST))?;
    ip(&format!("link set {MANAGEMENT_TAP} up"))?;
    set(UPLINK_TAP, "disable_ipv6", "0")?;
    // User-mode-linux drops what arrives as one big segment: the computer must send packets as they are on a wire.
    ip(&format!("link set {UPLINK_TAP} mtu {MTU} gso_max_segs 1 up"))?;
    for address in [site::RESOLVER, site::BOOT_SERVICE, site::CACHE] {
        ip(&format!("address add {address}/64 dev {UPLINK_TAP} nodad"))?;
    }
    ip(&format!("-6 route add {} via {} dev {UPLINK_TAP}", site::BOOT_SUPERNET, site::UPLINK_LEAF))?;
    Port::ALL.into_iter().try_for_each(lay_cable)
}

/// One boot port: the leaf's tap, the machine's tap and a listener, joined by a bridge without multicast snooping.
fn lay_cable(port: Port) -> Result<(), Error> {
    let bridge = format!("cable{}", port.number());
    ip(&format!("link add {bridge} type bridge mcast_snooping 0 forward_delay 0"))?;
    let far = format!("{}b", listener(port));
    ip(&format!("link add {} type veth peer name {far}", listener(port)))?;
    for tap in [leaf_tap(port), machine_tap(port)] {
        ip(&format!("tuntap add dev {tap} mode tap"))?;
    }
    for end in [leaf_tap(port), machine_tap(port), far] {
        ip(&format!("link set {end} mtu {MTU} master {bridge} up"))?;
    }
    ip(&format!("link set {bridge} up"))?;
    // rdisc6 needs a link-local source address. Advertisements must not change the interface.
    set(&listener(port), "accept_ra", "0")?;
    set(&listener(port), "accept_dad", "0")?;
    set(&listener(port), "disable_ipv6", "0")?;
    ip(&format!("link set {} up", listener(port)))
}

/// Sends a Router Solicitation on a port's cable, as any machine there could, and waits for one answer.
pub fn solicit(port: Port) -> Result<Option<String>, Error> {
    let listener = listener(port);
    until(&format!("{listener} has a link-local address"), std::time::Duration::from_secs(5), || {
        Ok(run(&["ip", "-6", "address", "show", "dev", &listener, "scope", "link"])?
            .contains("fe80")
            .then_some(()))
    })?;
    let asked = output(&["rdisc6", "-1", "-r", "2", "-w", "2000", &listener])?;
    // rdisc6 exits with 2 if there was no answer; every other exit code but 0 is an error.
    match asked.status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&asked.stdout).into_owned())),
        Some(2) => Ok(None),
        Some(_) | None => Err(Error::Wrong(format!("rdisc6 on {listener}: {asked:?}"))),
    }
}

fn ip(words: &str) -> Result<(), Error> {
    let argv: Vec<&str> = std::iter::once("ip").chain(words.split(' ')).collect();
    run(&argv).map(drop)
}

/// Disables IPv6 on a device, or with `default` on later devices: no address, router solicitation or listener report.
fn quiet(device: &str) -> Result<(), Error> {
    set(device, "disable_ipv6", "1")
}

fn set(device: &str, name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(device).join(name);
    std::fs::write(&path, value).map_err(Error::file(&path))
}
