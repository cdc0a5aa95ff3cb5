//! A kernel on paper: masters, addresses and devices are only remembered. It stands in where the host has no VRF.
//!
//! Owns: the devices of such a kernel. It refuses the commands that a real one refuses.
//! Must never: know more than `ip` would show.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::kernel::{BRIDGE, Error, LOOPBACK, Link, is_link_local, refused};

/// VRF device names are interface names: at most 15 characters.
// linux include/uapi/linux/if.h: IFNAMSIZ; net/core/dev.c: dev_valid_name
const LONGEST_DEVICE_NAME: usize = 15;

/// A kernel on paper. A port exists as soon as it is named.
#[derive(Debug, Default)]
pub struct Paper {
    vrfs: BTreeMap<String, u32>,
    masters: BTreeMap<String, String>,
    addresses: BTreeMap<String, BTreeSet<IpNet>>,
    indexes: BTreeMap<String, u32>,
    down: BTreeSet<String>,
    last_index: u32,
}

impl Paper {
    /// The names of the VRF devices.
    pub fn vrfs(&self) -> Vec<String> {
        self.vrfs.keys().cloned().collect()
    }

    /// Makes a VRF device, up.
    pub fn add_vrf(&mut self, name: &str, table: u32) -> Result<(), Error> {
        let invalid = name.is_empty()
            || name.len() > LONGEST_DEVICE_NAME
            || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
        if invalid || self.indexes.contains_key(name) {
            return Err(refused(&["link", "add", name, "type", "vrf"], "not a valid new device name"));
        }
        self.vrfs.insert(name.to_owned(), table);
        self.renew(name);
        Ok(())
    }

    /// Deletes a device that is no port: a VRF, whose ports stay without a master, or a loopback.
    pub fn delete_device(&mut self, name: &str) -> Result<(), Error> {
        if self.indexes.remove(name).is_none() {
            return Err(refused(&["link", "del", name], "Cannot find device"));
        }
        self.vrfs.remove(name);
        self.masters.retain(|port, master| port != name && master != name);
        self.addresses.remove(name);
        self.down.remove(name);
        Ok(())
    }

    /// Makes a device anew, up and with another index.
    pub fn renew(&mut self, name: &str) {
        self.last_index += 1;
        self.indexes.insert(name.to_owned(), self.last_index);
        self.down.remove(name);
    }

    /// Puts a port into something, or out of everything.
    pub fn set_master(&mut self, port: &str, master: Option<&str>) -> Result<(), Error> {
        match master {
            None => drop(self.masters.remove(port)),
            Some(master) if self.can_hold_ports(master) => {
                self.masters.insert(port.to_owned(), master.to_owned());
            }
            Some(master) => {
                return Err(refused(&["link", "set", port, "master", master], "Device does not exist"));
            }
        }
        Ok(())
    }

    /// Brings a device up or down.
    pub fn set_up(&mut self, device: &str, up: bool) -> Result<(), Error> {
        if !self.indexes.contains_key(device) {
            let state = if up { "up" } else { "down" };
            return Err(refused(&["link", "set", device, state], "Cannot find device"));
        }
        if up {
            self.down.remove(device);
        } else {
            self.down.insert(device.to_owned());
        }
        Ok(())
    }

    /// Gives a port an address that it does not have.
    pub fn add_address(&mut self, port: &str, address: IpNet) -> Result<(), Error> {
        if self.addresses.entry(port.to_owned()).or_default().insert(address) {
            Ok(())
        } else {
            Err(refused(&["address", "add", &address.to_string(), "dev", port], "File exists"))
        }
    }

    /// Takes an address from a port.
    pub fn delete_address(&mut self, port: &str, address: IpNet) -> Result<(), Error> {
        if self.addresses.entry(port.to_owned()).or_default().remove(&address) {
            Ok(())
        } else {
            Err(refused(&["address", "del", &address.to_string(), "dev", port], "Cannot assign address"))
        }
    }

    /// Takes every IPv6 address from a port.
    pub fn flush_ipv6(&mut self, port: &str) {
        if let Some(addresses) = self.addresses.get_mut(port) {
            addresses.retain(|address| matches!(address, IpNet::V4(_)));
        }
    }

    /// The addresses of a port.
    pub fn addresses(&self, port: &str) -> BTreeSet<IpNet> {
        self.addresses.get(port).cloned().unwrap_or_default()
    }

    /// What a port is in.
    pub fn master(&self, port: &str) -> Option<String> {
        self.masters.get(port).cloned()
    }

    /// Every device, by name.
    pub fn links(&self) -> BTreeMap<String, Link> {
        let link = |(name, index): (&String, &u32)| {
            let addresses = self.addresses.get(name).into_iter().flatten().copied();
            let link = Link {
                index: *index,
                master: self.masters.get(name).cloned(),
                addresses: addresses.filter(|address| !is_link_local(*address)).collect(),
                is_port: !self.vrfs.contains_key(name) && !name.starts_with(LOOPBACK),
                up: !self.down.contains(name),
            };
            (name.clone(), link)
        };
        self.indexes.iter().map(link).collect()
    }

    /// The bridge and LAGs exist as soon as they are named; VRFs do not.
    fn can_hold_ports(&self, name: &str) -> bool {
        self.vrfs.contains_key(name) || name == BRIDGE || name.starts_with("PortChannel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vrf_needs_a_device_name_and_keeps_its_ports_until_it_goes() {
        let mut paper = Paper::default();
        assert!(paper.add_vrf("Vrf1234567890123", 1001).is_err());
        assert!(paper.set_master("Ethernet0", Some("Vrfboot")).is_err());
        assert!(paper.add_vrf("Vrfboot", 1001).is_ok());
        assert!(paper.add_vrf("Vrfboot", 1002).is_err());
        assert!(paper.set_master("Ethernet0", Some("Vrfboot")).is_ok());
        assert!(paper.delete_device("Vrfboot").is_ok());
        assert_eq!(paper.master("Ethernet0"), None);
        assert!(paper.delete_device("Vrfboot").is_err());
    }

    #[test]
    fn a_device_is_up_until_it_is_brought_down_and_again_when_it_is_made_anew() {
        let mut paper = Paper::default();
        assert!(paper.set_up("Vrfboot", false).is_err());
        assert!(paper.add_vrf("Vrfboot", 1001).is_ok());
        assert!(paper.links()["Vrfboot"].up);
        assert!(paper.set_up("Vrfboot", false).is_ok());
        assert!(!paper.links()["Vrfboot"].up);
        assert!(paper.delete_device("Vrfboot").is_ok() && paper.add_vrf("Vrfboot", 1001).is_ok());
        assert!(paper.links()["Vrfboot"].up);
    }
}
