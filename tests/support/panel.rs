//! A leaf's ports: the calling thread gets a network namespace of its own with `Ethernet0`, `Ethernet1` … in it, each
//! with its /64 as SONiC sets it up, and the other ends are `eth0`, `eth1` … in a namespace of a child process whose
//! kernel is silent: only what a test sends is on the wire. Both go with the test.

use nix::sched::{CloneFlags, setns};

use super::namespace::{self, Namespace, batch};
use super::{eventually, run};

/// The other ends of the calling thread's ports.
pub struct Panel {
    machines: Namespace,
    /// How many ports there are.
    pub ports: usize,
}

impl Panel {
    /// Makes both namespaces and plugs `ports` cables in.
    pub fn plug(ports: usize) -> Self {
        namespace::enter_leaf();
        let panel = Self { machines: Namespace::start(), ports };
        panel.machines.run("sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
        batch(&(0..ports).map(|port| panel.cable(port)).collect::<String>());
        panel.machines(&(0..ports).map(|port| format!("link set eth{port} up\n")).collect::<String>());
        batch(&(0..ports).map(address).collect::<String>());
        eventually("every port has its link-local address", || {
            run("ip", &["-6", "address", "show", "scope", "link"]).matches("fe80::").count() >= ports
        });
        panel
    }

    /// The ip(8) commands that plug a port in and bring the leaf's end up.
    pub fn cable(&self, port: usize) -> String {
        let (machines, mac) = (self.machines.pid(), machine_mac(port));
        let [a, b, c, d, e, f] = mac;
        format!(
            "link add Ethernet{port} type veth peer name eth{port} netns {machines} \
             address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\nlink set Ethernet{port} up\n"
        )
    }

    /// Unplugs a port, as swss does when it recreates it, and plugs another one in under the same name.
    pub fn replace(&self, port: usize) {
        run("ip", &["link", "delete", &format!("Ethernet{port}")]);
        batch(&self.cable(port));
        self.machines(&format!("link set eth{port} up\n"));
        batch(&address(port));
    }

    /// Takes a port's carrier away, or gives it back.
    pub fn carrier(&self, port: usize, up: bool) {
        self.machines(&format!("link set eth{port} {}\n", if up { "up" } else { "down" }));
    }

    /// Runs ip(8) commands on the machines' side.
    pub fn machines(&self, commands: &str) {
        self.machines.batch(commands);
    }

    /// Does something in the machines' namespace.
    pub fn inside<T: Send>(&self, doing: impl FnOnce() -> T + Send) -> T {
        let namespace = self.machines.file();
        let there = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            doing()
        };
        std::thread::scope(|scope| scope.spawn(there).join().unwrap())
    }

    /// The process whose network namespace is the machines'.
    pub fn pid(&self) -> String {
        self.machines.pid()
    }
}

/// The Ethernet address of a port's machine.
pub fn machine_mac(port: usize) -> [u8; 6] {
    let [high, low] = u16::try_from(port).unwrap().to_be_bytes();
    [0x52, 0x54, 0, 1, high, low]
}

/// A port's /64.
pub fn prefix(port: usize) -> String {
    format!("2001:db8:{port:x}::/64")
}

fn address(port: usize) -> String {
    format!("address add 2001:db8:{port:x}::1/64 dev Ethernet{port} nodad\n")
}
