//! The switch's kernel, as far as SONiC's managers change it: VRF devices, masters, addresses.
//!
//! Owns: every contact with the kernel, through the `ip` program as SONiC's managers do it.
//! Must never: use a shell, or decide anything. `Paper` stands in where the host's kernel has no VRF.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::process::Command;

use ipnet::IpNet;

/// The kernel refused.
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
        /// What it had to say.
        message: String,
    },
}

/// A kernel to work on.
pub enum Kernel {
    /// The one we run on.
    Real,
    /// One on paper.
    Paper(Paper),
}

/// A kernel on paper. A port exists as soon as it is named.
#[derive(Debug, Default)]
pub struct Paper {
    vrfs: BTreeMap<String, u32>,
    masters: BTreeMap<String, String>,
    addresses: BTreeMap<String, BTreeSet<IpNet>>,
    indexes: BTreeMap<String, u32>,
    last_index: u32,
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
}

/// VRF device names are interface names: at most 15 characters.
// linux include/uapi/linux/if.h: IFNAMSIZ; net/core/dev.c: dev_valid_name
const LONGEST_DEVICE_NAME: usize = 15;

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

    /// The names of the VRF devices.
    pub fn vrfs(&mut self) -> Result<Vec<String>, Error> {
        match self {
            Self::Real => {
                let lines = ip(&["-o", "link", "show", "type", "vrf"])?;
                let name =
                    |line: &str| Some(line.split_whitespace().nth(1)?.trim_end_matches(':').to_owned());
                Ok(lines.lines().filter_map(name).collect())
            }
            Self::Paper(paper) => Ok(paper.vrfs.keys().cloned().collect()),
        }
    }

    /// Makes a VRF device for a routing table and brings it up.
    pub fn add_vrf(&mut self, name: &str, table: u32) -> Result<(), Error> {
        match self {
            Self::Real => {
                ip(&["link", "add", name, "type", "vrf", "table", &table.to_string()])?;
                ip(&["link", "set", name, "up"])?;
            }
            Self::Paper(paper) => {
                let invalid = name.is_empty()
                    || name.len() > LONGEST_DEVICE_NAME
                    || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
                if invalid || paper.vrfs.contains_key(name) {
                    return Err(refused(
                        &["link", "add", name, "type", "vrf"],
                        "not a valid new device name",
                    ));
                }
                paper.vrfs.insert(name.to_owned(), table);
                paper.renew(name);
            }
        }
        Ok(())
    }

    /// Deletes a VRF device. Its ports stay, without a master.
    pub fn delete_vrf(&mut self, name: &str) -> Result<(), Error> {
        match self {
            Self::Real => ip(&["link", "del", name]).map(drop),
            Self::Paper(paper) => {
                paper.masters.retain(|_, master| master != name);
                paper.indexes.remove(name);
                match paper.vrfs.remove(name) {
                    Some(_) => Ok(()),
                    None => Err(refused(&["link", "del", name], "cannot find device")),
                }
            }
        }
    }

    /// Makes a loopback, unless it is there.
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

    /// Deletes a loopback, with what it has.
    pub fn delete_loopback(&mut self, name: &str) -> Result<(), Error> {
        match self {
            Self::Real => ip(&["link", "del", name]).map(drop),
            Self::Paper(paper) => {
                paper.masters.remove(name);
                paper.addresses.remove(name);
                match paper.indexes.remove(name) {
                    Some(_) => Ok(()),
                    None => Err(refused(&["link", "del", name], "cannot find device")),
                }
            }
        }
    }

    /// Puts a port into a VRF or a bridge, out of whatever it was in, or out of any.
    pub fn set_master(&mut self, port: &str, vrf: Option<&str>) -> Result<(), Error> {
        match (self, vrf) {
            (Self::Real, Some(vrf)) => ip(&["link", "set", port, "master", vrf]).map(drop),
            (Self::Real, None) => ip(&["link", "set", port, "nomaster"]).map(drop),
            (Self::Paper(paper), None) => {
                paper.masters.remove(port);
                Ok(())
            }
            (Self::Paper(paper), Some(vrf)) if paper.can_hold_ports(vrf) => {
                paper.masters.insert(port.to_owned(), vrf.to_owned());
                Ok(())
            }
            (Self::Paper(_), Some(vrf)) => {
                Err(refused(&["link", "set", port, "master", vrf], "cannot find device"))
            }
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
            Self::Paper(paper) => {
                if paper.addresses.entry(port.to_owned()).or_default().insert(address) {
                    Ok(())
                } else {
                    Err(refused(&["address", "add", &address.to_string(), "dev", port], "File exists"))
                }
            }
        }
    }

    /// Takes an address from a port.
    pub fn delete_address(&mut self, port: &str, address: IpNet) -> Result<(), Error> {
        match self {
            Self::Real => change_address("del", port, address),
            Self::Paper(paper) => {
                if paper.addresses.entry(port.to_owned()).or_default().remove(&address) {
                    Ok(())
                } else {
                    Err(refused(&["address", "del", &address.to_string(), "dev", port], "no such address"))
                }
            }
        }
    }

    /// The addresses of a port, whoever gave them, but for IPv6 link-local ones.
    // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::getIntfIpCount
    pub fn addresses(&mut self, port: &str) -> Result<BTreeSet<IpNet>, Error> {
        let all: BTreeSet<IpNet> = match self {
            Self::Real => {
                let lines = ip(&["-o", "address", "show", "dev", port])?;
                let address = |line: &str| line.split_whitespace().nth(3)?.parse().ok();
                lines.lines().filter_map(address).collect()
            }
            Self::Paper(paper) => paper.addresses.get(port).cloned().unwrap_or_default(),
        };
        Ok(all.into_iter().filter(|address| !is_link_local(*address)).collect())
    }

    /// Makes a port as good as new: no master, no addresses, and another index where it can be made again: on paper, and
    /// where it is a macvlan on the device that its cable hangs on.
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

    /// Does the port have a carrier? `up` or `down`. On paper it always has.
    pub fn oper_status(&mut self, port: &str) -> &'static str {
        match self {
            Self::Real => {
                let state = std::fs::read_to_string(Path::new("/sys/class/net").join(port).join("operstate"));
                // dummy devices have no carrier to speak of: "unknown".
                if state.is_ok_and(|state| matches!(state.trim(), "up" | "unknown")) { "up" } else { "down" }
            }
            Self::Paper(_) => "up",
        }
    }
}

impl Paper {
    /// Bridge and LAGs are there when they are named; VRFs are not.
    fn can_hold_ports(&self, name: &str) -> bool {
        self.vrfs.contains_key(name) || name == BRIDGE || name.starts_with("PortChannel")
    }

    fn renew(&mut self, name: &str) {
        self.last_index += 1;
        self.indexes.insert(name.to_owned(), self.last_index);
    }

    fn links(&self) -> BTreeMap<String, Link> {
        let link = |(name, index): (&String, &u32)| {
            let addresses = self.addresses.get(name).into_iter().flatten().copied();
            let link = Link {
                index: *index,
                master: self.masters.get(name).cloned(),
                addresses: addresses.filter(|address| !is_link_local(*address)).collect(),
                is_port: !self.vrfs.contains_key(name) && !name.starts_with(LOOPBACK),
            };
            (name.clone(), link)
        };
        self.indexes.iter().map(link).collect()
    }
}

/// Makes a port on the device that its cable hangs on. A device cannot be given another index, and this one can go.
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

/// What `ip` says of every device.
fn read_links() -> Result<BTreeMap<String, Link>, Error> {
    let mut links = BTreeMap::new();
    for line in ip(&["-o", "link", "show"])?.lines() {
        // 7: Ethernet0@if6: <UP> mtu 9100 master Vrfboot state UP …
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(index), Some(name)) = (words.first(), words.get(1)) else { continue };
        let name = name.trim_end_matches(':').split('@').next().unwrap_or_default();
        let master = words.iter().position(|word| *word == "master").and_then(|at| words.get(at + 1));
        let link = Link {
            index: index.trim_end_matches(':').parse().unwrap_or_default(),
            master: master.map(|master| (*master).to_owned()),
            addresses: BTreeSet::new(),
            is_port: name.starts_with("Ethernet"),
        };
        links.insert(name.to_owned(), link);
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

fn is_link_local(address: IpNet) -> bool {
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

fn refused(arguments: &[&str], message: &str) -> Error {
    Error::Refused { arguments: arguments.join(" "), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paper_vrf_needs_a_device_name_and_keeps_its_ports_until_it_goes() {
        let mut kernel = Kernel::Paper(Paper::default());
        assert!(kernel.add_vrf("Vrf1234567890123", 1001).is_err());
        assert!(kernel.set_master("Ethernet0", Some("Vrfboot")).is_err());
        assert!(kernel.add_vrf("Vrfboot", 1001).is_ok());
        assert!(kernel.set_master("Ethernet0", Some("Vrfboot")).is_ok());
        assert!(kernel.delete_vrf("Vrfboot").is_ok());
        assert!(kernel.delete_vrf("Vrfboot").is_err());
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
