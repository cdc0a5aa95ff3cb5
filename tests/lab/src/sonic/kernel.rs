//! The switch's kernel, as far as SONiC's managers change it: VRF devices, masters, addresses.
//!
//! Owns: every contact with the kernel, through the `ip` program as SONiC's managers do it.
//! Must never: use a shell, or decide anything. `Paper` stands in where the host's kernel has no VRF.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::process::Command;

use ipnet::IpNet;

use super::by_hand::ByHand;
pub use super::paper::Paper;

/// Errors of the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `ip` could not be started.
    #[error("cannot run ip: {0}")]
    Start(#[from] io::Error),
    /// `ip` ended with an error.
    #[error("ip {arguments}: {message}")]
    Refused {
        /// Its arguments.
        arguments: String,
        /// Its error output.
        message: String,
    },
}

/// A kernel to work on.
pub enum Kernel {
    /// The kernel that the model runs on.
    Real,
    /// A kernel on paper.
    Paper(Paper),
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its interface index. A device that is made anew gets a new one.
    pub index: u32,
    /// The VRF or bridge that it is in.
    pub master: Option<String>,
    /// Its addresses, but for IPv6 link-local ones.
    pub addresses: BTreeSet<IpNet>,
    /// Is it a port, and not a VRF or a loopback?
    pub is_port: bool,
    /// Is it administratively up? A VRF that is not routes nothing.
    pub up: bool,
}

/// The table of a VRF is looked up at preference 1000, and the local table must come after it.
// sonic-swss cfgmgr/vrfmgr.cpp: TABLE_LOCAL_PREF
const LOCAL_TABLE_PREFERENCE: &str = "1001";

/// The bridge that all VLANs share.
// sonic-swss cfgmgr/vlanmgr.cpp: DOT1Q_BRIDGE_NAME
pub const BRIDGE: &str = "Bridge";

/// What the name of a loopback begins with.
// sonic-swss cfgmgr/intfmgr.cpp: LOOPBACK_PREFIX
pub const LOOPBACK: &str = "Loopback";

impl Kernel {
    /// Moves the rule for the local table behind those of the VRFs, once.
    // sonic-swss cfgmgr/vrfmgr.cpp: VrfMgr::VrfMgr
    pub fn look_up_vrfs_first(&mut self) -> Result<(), Error> {
        let Self::Real = self else { return Ok(()) };
        if !ip(&["rule"])?.lines().any(|line| line.starts_with("0:")) {
            return Ok(());
        }
        for family in ["-4", "-6"] {
            ip(&[family, "rule", "add", "pref", LOCAL_TABLE_PREFERENCE, "table", "local"])?;
            ip(&[family, "rule", "del", "pref", "0"])?;
        }
        Ok(())
    }

    /// Makes the bridge for VLANs anew. On paper it is always there.
    // sonic-swss cfgmgr/vlanmgr.cpp: VlanMgr::VlanMgr
    pub fn renew_bridge(&mut self) -> Result<(), Error> {
        let Self::Real = self else { return Ok(()) };
        if ip(&["link", "show", BRIDGE]).is_ok() {
            ip(&["link", "del", BRIDGE])?;
        }
        ip(&["link", "add", BRIDGE, "up", "type", "bridge"]).map(drop)
    }

    /// The names of the VRF devices.
    pub fn vrfs(&mut self) -> Result<Vec<String>, Error> {
        match self {
            Self::Real => {
                let lines = ip(&["-o", "link", "show", "type", "vrf"])?;
                let name =
                    |line: &str| Some(line.split_whitespace().nth(1)?.trim_end_matches(':').to_owned());
                Ok(lines.lines().filter_map(name).collect())
            }
            Self::Paper(paper) => Ok(paper.vrfs()),
        }
    }

    /// Makes a VRF device for a routing table and brings it up.
    pub fn add_vrf(&mut self, name: &str, table: u32) -> Result<(), Error> {
        match self {
            Self::Real => {
                ip(&["link", "add", name, "type", "vrf", "table", &table.to_string()])?;
                ip(&["link", "set", name, "up"]).map(drop)
            }
            Self::Paper(paper) => paper.add_vrf(name, table),
        }
    }

    /// Deletes a VRF device. Its ports stay, without a master.
    pub fn delete_vrf(&mut self, name: &str) -> Result<(), Error> {
        self.delete_device(name)
    }

    fn delete_device(&mut self, name: &str) -> Result<(), Error> {
        match self {
            Self::Real => ip(&["link", "del", name]).map(drop),
            Self::Paper(paper) => paper.delete_device(name),
        }
    }

    /// Makes a loopback, unless it exists.
    // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::addLoopbackIntf
    pub fn add_loopback(&mut self, name: &str) -> Result<(), Error> {
        if self.links()?.contains_key(name) {
            return Ok(());
        }
        match self {
            Self::Real => {
                ip(&["link", "add", name, "mtu", "65536", "type", "dummy"])?;
                ip(&["link", "set", name, "up"])?;
            }
            Self::Paper(paper) => paper.renew(name),
        }
        Ok(())
    }

    /// Deletes a loopback, with its addresses.
    pub fn delete_loopback(&mut self, name: &str) -> Result<(), Error> {
        self.delete_device(name)
    }

    /// Puts a port into a VRF or a bridge, or out of any. The port leaves its earlier master.
    pub fn set_master(&mut self, port: &str, vrf: Option<&str>) -> Result<(), Error> {
        match (self, vrf) {
            (Self::Real, Some(vrf)) => ip(&["link", "set", port, "master", vrf]).map(drop),
            (Self::Real, None) => ip(&["link", "set", port, "nomaster"]).map(drop),
            (Self::Paper(paper), master) => paper.set_master(port, master),
        }
    }

    /// The VRF, bridge or LAG that a port is in.
    pub fn master(&mut self, port: &str) -> Result<Option<String>, Error> {
        match self {
            Self::Real => Ok(read_link(port)?.master),
            Self::Paper(paper) => Ok(paper.master(port)),
        }
    }

    /// Gives a port an address. IPv6 may have been disabled on the port: the second try comes with it enabled.
    // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::setIntfIp
    pub fn add_address(&mut self, port: &str, address: IpNet) -> Result<(), Error> {
        match self {
            Self::Real => {
                let first = change_address("add", port, address);
                if first.is_err() && matches!(address, IpNet::V6(_)) {
                    std::fs::write(format!("/proc/sys/net/ipv6/conf/{port}/disable_ipv6"), "0")?;
                    return change_address("add", port, address);
                }
                first
            }
            Self::Paper(paper) => paper.add_address(port, address),
        }
    }

    /// Takes an address from a port.
    pub fn delete_address(&mut self, port: &str, address: IpNet) -> Result<(), Error> {
        match self {
            Self::Real => change_address("del", port, address),
            Self::Paper(paper) => paper.delete_address(port, address),
        }
    }

    /// All addresses of a port, but for IPv6 link-local ones.
    // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::getIntfIpCount
    pub fn addresses(&mut self, port: &str) -> Result<BTreeSet<IpNet>, Error> {
        let all: BTreeSet<IpNet> = match self {
            Self::Real => {
                let lines = ip(&["-o", "address", "show", "dev", port])?;
                let address = |line: &str| line.split_whitespace().nth(3)?.parse().ok();
                lines.lines().filter_map(address).collect()
            }
            Self::Paper(paper) => paper.addresses(port),
        };
        Ok(all.into_iter().filter(|address| !is_link_local(*address)).collect())
    }

    /// Resets a port: no master, no addresses, and another index if it can be made again. That holds on paper, and for
    /// a port that is a macvlan on its cable's device.
    pub fn renew_port(&mut self, port: &str) -> Result<(), Error> {
        match self {
            Self::Paper(paper) => paper.renew(port),
            Self::Real => {
                if let Some(lower) = lower_device(port)? {
                    ip(&["link", "del", port])?;
                    add_port(&lower, port)?;
                }
            }
        }
        for address in self.addresses(port)? {
            self.delete_address(port, address)?;
        }
        self.set_master(port, None)
    }

    /// Every device, by name.
    pub fn links(&mut self) -> Result<BTreeMap<String, Link>, Error> {
        match self {
            Self::Real => read_links(),
            Self::Paper(paper) => Ok(paper.links()),
        }
    }

    /// Runs a command that an operator runs by hand. No daemon notices it.
    pub fn meddle(&mut self, by_hand: &ByHand) -> Result<(), Error> {
        match by_hand {
            ByHand::SetMaster { port, master } => self.set_master(port, master.as_deref()),
            ByHand::SetUp { device, up } => self.set_up(device, *up),
            ByHand::DeleteDevice { device } => self.delete_device(device),
            ByHand::AddVrf { vrf, table } => self.add_vrf(vrf, *table),
            ByHand::AddAddress { port, address } => self.add_address(port, *address),
            ByHand::DeleteAddress { port, address } => self.delete_address(port, *address),
            ByHand::DisableIpv6 { port } => self.disable_ipv6(port),
        }
    }

    fn set_up(&mut self, device: &str, up: bool) -> Result<(), Error> {
        match self {
            Self::Real => ip(&["link", "set", device, if up { "up" } else { "down" }]).map(drop),
            Self::Paper(paper) => paper.set_up(device, up),
        }
    }

    /// Disables IPv6 on a port and enables it again.
    fn disable_ipv6(&mut self, port: &str) -> Result<(), Error> {
        match self {
            Self::Real => {
                for value in ["1", "0"] {
                    std::fs::write(format!("/proc/sys/net/ipv6/conf/{port}/disable_ipv6"), value)?;
                }
            }
            Self::Paper(paper) => paper.flush_ipv6(port),
        }
        Ok(())
    }

    /// Does the port have a carrier? `up` or `down`. On paper it always has.
    pub fn oper_status(&mut self, port: &str) -> &'static str {
        match self {
            Self::Real => {
                let state = std::fs::read_to_string(Path::new("/sys/class/net").join(port).join("operstate"));
                // Dummy devices have no carrier state: "unknown".
                if state.is_ok_and(|state| matches!(state.trim(), "up" | "unknown")) { "up" } else { "down" }
            }
            Self::Paper(_) => "up",
        }
    }
}

/// Makes a port as a macvlan on its cable's device: it can be deleted and made again with another index.
pub fn add_port(lower: &str, port: &str) -> Result<(), Error> {
    ip(&["link", "add", "link", lower, "name", port, "type", "macvlan", "mode", "passthru"])?;
    ip(&["link", "set", port, "up"]).map(drop)
}

/// The device below a port that was made by [`add_port`].
fn lower_device(port: &str) -> Result<Option<String>, Error> {
    let lines = ip(&["-o", "link", "show", "type", "macvlan"])?;
    // 9: Ethernet0@vec2: <UP> mtu 9100 …
    let lower = |line: &str| {
        let (name, lower) = line.split_whitespace().nth(1)?.trim_end_matches(':').split_once('@')?;
        (name == port).then(|| lower.to_owned())
    };
    Ok(lines.lines().find_map(lower))
}

/// Reads every device from `ip`.
fn read_links() -> Result<BTreeMap<String, Link>, Error> {
    let mut links = BTreeMap::new();
    for line in ip(&["-o", "link", "show"])?.lines() {
        if let Some((name, link)) = parse_link(line) {
            links.insert(name, link);
        }
    }
    for line in ip(&["-o", "address", "show"])?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(address)) = (words.get(1), words.get(3)) else { continue };
        if let (Some(link), Ok(address)) = (links.get_mut(*name), address.parse())
            && !is_link_local(address)
        {
            link.addresses.insert(address);
        }
    }
    Ok(links)
}

/// Reads one device from `ip`, without its addresses.
fn read_link(name: &str) -> Result<Link, Error> {
    let lines = ip(&["-o", "link", "show", "dev", name])?;
    let link = lines.lines().find_map(parse_link).map(|(_, link)| link);
    link.ok_or_else(|| refused(&["link", "show", "dev", name], "no such line"))
}

fn parse_link(line: &str) -> Option<(String, Link)> {
    // 7: Ethernet0@if6: <BROADCAST,UP,LOWER_UP> mtu 9100 qdisc noqueue master Vrfboot state UP …
    let words: Vec<&str> = line.split_whitespace().collect();
    let [index, name, flags, rest @ ..] = words.as_slice() else { return None };
    let name = name.trim_end_matches(':').split('@').next().unwrap_or_default();
    let master = rest.iter().position(|word| *word == "master").and_then(|at| rest.get(at + 1));
    let link = Link {
        index: index.trim_end_matches(':').parse().ok()?,
        master: master.map(|master| (*master).to_owned()),
        addresses: BTreeSet::new(),
        is_port: name.starts_with("Ethernet"),
        up: flags.trim_matches(['<', '>']).split(',').any(|flag| flag == "UP"),
    };
    Some((name.to_owned(), link))
}

/// Is this a link-local address, which SONiC does not count?
pub fn is_link_local(address: IpNet) -> bool {
    matches!(address, IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}

fn change_address(what: &str, port: &str, address: IpNet) -> Result<(), Error> {
    let family = match address {
        IpNet::V4(_) => "-4",
        IpNet::V6(_) => "-6",
    };
    ip(&[family, "address", what, &address.to_string(), "dev", port]).map(drop)
}

fn ip(arguments: &[&str]) -> Result<String, Error> {
    let program = if Path::new("/sbin/ip").exists() { "/sbin/ip" } else { "ip" };
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(refused(arguments, String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// The error of a refusal.
pub fn refused(arguments: &[&str], message: &str) -> Error {
    Error::Refused { arguments: arguments.join(" "), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ip_is_read() {
        let line =
            "7: Ethernet0@if6: <BROADCAST,UP,LOWER_UP> mtu 9100 qdisc noqueue master Vrfboot state UP mode";
        let (name, link) = parse_link(line).unwrap();
        assert_eq!((name.as_str(), link.index, link.up), ("Ethernet0", 7, true));
        assert_eq!(link.master.as_deref(), Some("Vrfboot"));
        let (_, vrf) =
            parse_link("9: Vrfboot: <NOARP,MASTER> mtu 65575 qdisc noqueue state DOWN mode").unwrap();
        assert!(!vrf.up && !vrf.is_port && vrf.master.is_none());
    }

    #[test]
    fn link_local_addresses_do_not_count() {
        let mut kernel = Kernel::Paper(Paper::default());
        for address in ["fe80::1/64", "2001:db8::1/64", "192.0.2.1/24"] {
            assert!(kernel.add_address("Ethernet0", address.parse().unwrap()).is_ok());
        }
        let counted: Vec<String> =
            kernel.addresses("Ethernet0").unwrap().iter().map(IpNet::to_string).collect();
        assert_eq!(counted, ["192.0.2.1/24", "2001:db8::1/64"]);
    }
}
