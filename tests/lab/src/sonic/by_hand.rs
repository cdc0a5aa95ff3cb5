//! Commands by which an operator changes the switch's kernel by hand, without SONiC: those of `ip` and `sysctl`.
//!
//! Owns: which commands there are, and how they are spelt. Must never: touch a kernel; that is `kernel`'s part.

use std::str::FromStr;

use ipnet::IpNet;

/// A command that changes the kernel, which no daemon of SONiC notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByHand {
    /// `ip link set PORT master MASTER`, or `ip link set PORT nomaster`. Addresses stay, as `keep_addr_on_down` has it.
    SetMaster {
        /// The port.
        port: String,
        /// A VRF, the bridge, or nothing.
        master: Option<String>,
    },
    /// `ip link set DEVICE up`, or `down`: a port or a VRF. Masters and addresses stay.
    SetUp {
        /// The device.
        device: String,
        /// Up, and not down?
        up: bool,
    },
    /// `ip link del DEVICE`: a VRF, whose ports stay without a master, or a loopback.
    DeleteDevice {
        /// The device.
        device: String,
    },
    /// `ip link add VRF type vrf table TABLE`, and up. It has another index than one of that name had before.
    AddVrf {
        /// The VRF.
        vrf: String,
        /// Its routing table.
        table: u32,
    },
    /// `ip address add ADDRESS dev PORT`.
    AddAddress {
        /// The port.
        port: String,
        /// The address, with its prefix length.
        address: IpNet,
    },
    /// `ip address del ADDRESS dev PORT`.
    DeleteAddress {
        /// The port.
        port: String,
        /// The address, with its prefix length.
        address: IpNet,
    },
    /// `sysctl net.ipv6.conf.PORT.disable_ipv6=1`, and 0 again: every IPv6 address of the port is gone. An MTU below
    /// 1280 and back, or a flap with `keep_addr_on_down=0`, does the same.
    DisableIpv6 {
        /// The port.
        port: String,
    },
}

impl ByHand {
    /// `ip link set PORT nomaster`.
    pub fn no_master(port: &str) -> Self {
        Self::SetMaster { port: port.to_owned(), master: None }
    }

    /// `ip link set DEVICE down`.
    pub fn down(device: &str) -> Self {
        Self::SetUp { device: device.to_owned(), up: false }
    }

    /// `ip link set DEVICE up`.
    pub fn up(device: &str) -> Self {
        Self::SetUp { device: device.to_owned(), up: true }
    }
}

impl FromStr for ByHand {
    type Err = String;

    /// Reads the command line that the variants' comments give, as the model takes it on its channel of orders.
    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let text = str::to_owned;
        let address = |word: &str| word.parse::<IpNet>().map_err(|error| format!("{word}: {error}"));
        Ok(match words.as_slice() {
            ["ip", "link", "set", port, "nomaster"] => Self::no_master(port),
            ["ip", "link", "set", port, "master", master] => {
                Self::SetMaster { port: text(port), master: Some(text(master)) }
            }
            ["ip", "link", "set", device, "up"] => Self::up(device),
            ["ip", "link", "set", device, "down"] => Self::down(device),
            ["ip", "link", "del", device] => Self::DeleteDevice { device: text(device) },
            ["ip", "link", "add", vrf, "type", "vrf", "table", table] => Self::AddVrf {
                vrf: text(vrf),
                table: table.parse().map_err(|error| format!("{table}: {error}"))?,
            },
            ["ip", "address", "add", prefix, "dev", port] => {
                Self::AddAddress { port: text(port), address: address(prefix)? }
            }
            ["ip", "address", "del", prefix, "dev", port] => {
                Self::DeleteAddress { port: text(port), address: address(prefix)? }
            }
            ["sysctl", setting] => match setting
                .strip_prefix("net.ipv6.conf.")
                .and_then(|rest| rest.strip_suffix(".disable_ipv6=1"))
            {
                Some(port) => Self::DisableIpv6 { port: text(port) },
                None => return Err(format!("sysctl {setting}: not played")),
            },
            _ => return Err(format!("{line:?}: not played")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_says_what_its_variant_says() {
        let read = |line: &str| line.parse::<ByHand>().unwrap();
        assert_eq!(read("ip link set Ethernet0 nomaster"), ByHand::no_master("Ethernet0"));
        assert_eq!(read("ip link set Vrfboot down"), ByHand::down("Vrfboot"));
        assert_eq!(
            read("ip address del 2001:db8::1/64 dev Ethernet0"),
            ByHand::DeleteAddress {
                port: "Ethernet0".to_owned(),
                address: "2001:db8::1/64".parse().unwrap()
            }
        );
        assert_eq!(
            read("sysctl net.ipv6.conf.Ethernet0.disable_ipv6=1"),
            ByHand::DisableIpv6 { port: "Ethernet0".to_owned() }
        );
        assert!("ip address del nonsense dev Ethernet0".parse::<ByHand>().is_err());
        assert!("reboot".parse::<ByHand>().is_err());
    }
}
