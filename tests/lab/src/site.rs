//! The site: every name and address of the laboratory, in one place.
//!
//! Only constants and what follows from them; nothing here touches the computer.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;

/// The leaf's name.
pub const LEAF: &str = "leaf01";
/// The MAC address that all front-panel ports share, as on a SONiC switch.
pub const SYSTEM_MAC: &str = "52:54:00:1e:af:01";
/// The boot VRF that leafboot is configured with.
pub const BOOT_VRF: &str = "Vrfboot";
/// The boot ACL's name, which is leafboot's default.
pub const BOOT_ACL: &str = "LEAFBOOT";
/// The address space of all booting machines in the partition.
pub const BOOT_SUPERNET: &str = "2001:db8:b000::/36";
/// This leaf's part of [`BOOT_SUPERNET`].
pub const LEAF_PREFIX: &str = "2001:db8:b007::/57";

/// The address of all leaves' relays, where a leaf is configured with it.
pub const RELAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 1, 0, 0, 0, 1);
/// The name of [`RELAY`].
pub const RELAY_NAME: &str = "boot.metal-stack.io";

/// A VRF of the leaf that has nothing to do with booting.
pub const TENANT_VRF: &str = "VrfTenant";

/// The leaf's port towards the partition, in its default VRF.
pub const UPLINK: &str = "Ethernet120";
/// The network on the uplink.
pub const UPLINK_NETWORK: &str = "2001:db8:ffff::/64";
/// The leaf's address on the uplink: a row of its CONFIG_DB.
pub const UPLINK_LEAF: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// The partition's resolver.
pub const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x53);
/// The partition's boot service.
pub const BOOT_SERVICE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x80);
/// The port of the partition's boot service.
pub const BOOT_SERVICE_PORT: u16 = 8080;
/// The partition's image cache.
pub const CACHE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x90);
/// The name under which machines know the image cache.
pub const CACHE_NAME: &str = "images.metal-stack.io";

/// The computer's address on the management link.
pub const MANAGEMENT_HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The leaf's address on the management link.
pub const MANAGEMENT_LEAF: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Where the leaf's control server listens.
pub const CONTROL_PORT: u16 = 7000;

/// The kernel that boot.ipxe names.
pub const KERNEL: &str = "/metal-stack/kernel/releases/download/6.1.0/metal-kernel";
/// The initramfs that boot.ipxe names; its name is metal-hammer's, its content is a gzip file here.
pub const INITRD: &str = "/metal-stack/metal-hammer/releases/download/v0.14.0/metal-hammer-initrd.img.lz4";
/// An operating system image.
pub const IMAGE: &str = "/metal-os/stable/debian/12/img.tar.lz4";

/// Where SONiC describes its databases.
pub const DATABASE_CONFIG: &str = "/var/run/redis/sonic-db/database_config.json";
/// redis-server's socket.
pub const REDIS_SOCKET: &str = "/var/run/redis/redis.sock";
/// leafboot's API socket.
pub const API_SOCKET: &str = "/run/leafboot/leafboot.sock";
/// leafboot's state directory.
pub const STATE_DIRECTORY: &str = "/run/leafboot/state";

/// A port of the leaf with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Port {
    /// The first one.
    #[value(name = "Ethernet0")]
    Ethernet0,
    /// The second one.
    #[value(name = "Ethernet4")]
    Ethernet4,
}

impl Port {
    /// All of them.
    pub const ALL: [Port; 2] = [Port::Ethernet0, Port::Ethernet4];

    /// SONiC's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Port::Ethernet0 => "Ethernet0",
            Port::Ethernet4 => "Ethernet4",
        }
    }

    /// 0 for the first port, 1 for the second.
    pub fn number(self) -> u16 {
        match self {
            Port::Ethernet0 => 0,
            Port::Ethernet4 => 1,
        }
    }

    /// The port that is not this one.
    pub fn other(self) -> Port {
        match self {
            Port::Ethernet0 => Port::Ethernet4,
            Port::Ethernet4 => Port::Ethernet0,
        }
    }

    /// The first address of the port's own /64.
    pub fn network(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0xb007, self.number(), 0, 0, 0, 0)
    }

    /// The port's own /64, as it is pushed.
    pub fn prefix(self) -> String {
        format!("{}/64", self.network())
    }

    /// The leaf's address on the port.
    pub fn gateway(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.network().to_bits() | 1)
    }

    /// Whether an address lies in the port's /64.
    pub fn holds(self, address: Ipv6Addr) -> bool {
        address.to_bits() >> 64 == self.network().to_bits() >> 64
    }

    /// The MAC address of the machine on this port.
    pub fn machine_mac(self) -> String {
        format!("52:54:00:b0:07:{:02x}", self.number())
    }

    /// The UUID of the machine on this port, as its firmware has it.
    pub fn machine_uuid(self) -> String {
        format!("1eaf0000-0000-4000-8000-00000000000{}", self.number())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn each_port_has_its_own_prefix_within_the_leafs() {
        assert_eq!(Port::Ethernet0.prefix(), "2001:db8:b007::/64");
        assert_eq!(Port::Ethernet4.prefix(), "2001:db8:b007:1::/64");
        assert_eq!(Port::Ethernet4.gateway().to_string(), "2001:db8:b007:1::1");
        assert!(Port::Ethernet4.holds("2001:db8:b007:1::abcd".parse().unwrap()));
        assert!(!Port::Ethernet4.holds(Port::Ethernet0.gateway()));
    }
}
