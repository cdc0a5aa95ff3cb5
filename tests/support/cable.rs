//! A cable between a leaf's port and a machine: the calling thread gets a network namespace of its own with
//! `Ethernet0` in it, and the other end is `eth0` in a namespace of a child process. Both go with the test.

use std::thread::JoinHandle;

use leafboot_core::names::Mac;
use leafboot_core::observed::Link;

use super::namespace::{self, Namespace};
use super::{eventually, run};

/// The leaf's address on the port.
pub const GATEWAY: &str = "2001:db8:b007::1/64";

/// A machine at the other end of the calling thread's `Ethernet0`.
pub struct Cable {
    machine: Namespace,
}

impl Cable {
    /// Makes both namespaces and plugs the cable in; the leaf's end is set up as SONiC does it.
    pub fn plug() -> Self {
        namespace::enter_leaf();
        let cable = Self { machine: Namespace::start() };
        cable.machine("sysctl", &["-qw", "net.ipv6.conf.default.accept_dad=0"]);
        cable.plug_port();
        cable
    }

    /// Makes `Ethernet0`, or makes it again.
    pub fn plug_port(&self) {
        let pid = self.pid();
        run("ip", &["link", "add", "Ethernet0", "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        run("ip", &["link", "set", "Ethernet0", "up"]);
        run("ip", &["address", "add", GATEWAY, "dev", "Ethernet0", "nodad"]);
    }

    /// Takes `Ethernet0` away and makes it again as it was `before`, with the same number, Ethernet address and link-local
    /// address: nothing in a list of the kernel's devices and addresses tells the two apart. The machine's end is up, too.
    pub fn replace_port(&self, before: &Link) {
        let ([a, b, c, d, e, f], pid) = (before.mac.0, self.pid());
        run("ip", &["link", "delete", "Ethernet0"]);
        namespace::batch(&format!(
            "link add Ethernet0 index {} address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} type veth peer name eth0 netns {pid}\n\
             link set Ethernet0 up\naddress add {GATEWAY} dev Ethernet0 nodad\n",
            before.ifindex
        ));
        self.boot();
        assert_eq!(&self.link(), before);
    }

    /// The process whose network namespace is the machine's.
    pub fn pid(&self) -> String {
        self.machine.pid()
    }

    /// Runs a program on the machine's side; returns what it printed, whether it succeeded or not.
    pub fn machine(&self, program: &str, arguments: &[&str]) -> String {
        self.machine.run(program, arguments)
    }

    /// A program on the machine's side, to be given arguments and started.
    pub fn command(&self, program: &str) -> std::process::Command {
        self.machine.command(program)
    }

    /// Does something in the machine's namespace, on a thread of its own.
    pub fn inside<T: Send + 'static>(&self, doing: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.machine.inside(doing)
    }

    /// Brings the machine's end up: its kernel solicits and forms an address. Returns when both ends have their
    /// link-local addresses.
    pub fn boot(&self) {
        self.machine("ip", &["link", "set", "eth0", "up"]);
        let ready = |addresses: String| addresses.contains("fe80") && !addresses.contains("tentative");
        eventually("both ends have their link-local addresses", || {
            ready(self.machine("ip", &["-6", "address", "show", "dev", "eth0", "scope", "link"]))
                && ready(run("ip", &["-6", "address", "show", "dev", "Ethernet0", "scope", "link"]))
        });
    }

    /// The port as the kernel has it, in a boot VRF that this host's kernel need not know.
    pub fn link(&self) -> Link {
        let json: serde_json::Value =
            serde_json::from_str(&run("ip", &["-j", "-6", "address", "show", "dev", "Ethernet0"])).unwrap();
        let link_local =
            json[0]["addr_info"].as_array().unwrap().iter().find(|a| a["scope"] == "link").unwrap();
        let link: serde_json::Value =
            serde_json::from_str(&run("ip", &["-j", "link", "show", "dev", "Ethernet0"])).unwrap();
        let mac: Vec<u8> = link[0]["address"]
            .as_str()
            .unwrap()
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        Link {
            ifindex: u32::try_from(link[0]["ifindex"].as_u64().unwrap()).unwrap(),
            mac: Mac(mac.try_into().unwrap()),
            mtu: u32::try_from(link[0]["mtu"].as_u64().unwrap()).unwrap(),
            up: true,
            admin_up: true,
            carrier: true,
            carrier_ups: 1,
            vrf: Some("Vrfboot".to_owned()),
            link_local: Some(link_local["local"].as_str().unwrap().parse().unwrap()),
            usable_addresses: [GATEWAY.parse().unwrap()].into(),
            assigned_addresses: [GATEWAY.parse().unwrap()].into(),
            duplicate_addresses: [].into(),
        }
    }
}
