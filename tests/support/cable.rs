//! A cable between a leaf's port and a machine: the calling thread gets a network namespace of its own with
//! `Ethernet0` in it, and the other end is `eth0` in a namespace of a child process. Both go with the test.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use leafboot::net::Mac;
use leafboot::observed::Link;
use nix::sched::{CloneFlags, setns, unshare};

use super::{eventually, run};

/// The leaf's address on the port.
pub const GATEWAY: &str = "2001:db8:b007::1/64";

/// A machine at the other end of the calling thread's `Ethernet0`.
pub struct Cable {
    machine: Child,
}

impl Cable {
    /// Makes both namespaces and plugs the cable in; the leaf's end is set up as SONiC does it.
    pub fn plug() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root: run the tests as root");
        let machine = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare is in Debian's util-linux");
        let cable = Self { machine };
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", cable.machine.id());
        eventually("the machine has its own namespace", || {
            std::fs::read_link(&theirs).is_ok_and(|theirs| theirs != own)
        });
        // SONiC's sysctls: a leaf forwards, and its addresses are never tentative.
        run("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0"]);
        cable.machine("sysctl", &["-qw", "net.ipv6.conf.default.accept_dad=0"]);
        let pid = cable.pid();
        run("ip", &["link", "add", "Ethernet0", "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["link", "set", "Ethernet0", "up"]);
        run("ip", &["address", "add", GATEWAY, "dev", "Ethernet0", "nodad"]);
        cable
    }

    /// The process whose network namespace is the machine's.
    pub fn pid(&self) -> String {
        self.machine.id().to_string()
    }

    /// The machine's network namespace, for `setns`.
    pub fn namespace(&self) -> std::fs::File {
        std::fs::File::open(format!("/proc/{}/ns/net", self.machine.id())).unwrap()
    }

    /// Runs a program on the machine's side; returns what it printed, whether it succeeded or not.
    pub fn machine(&self, program: &str, arguments: &[&str]) -> String {
        let pid = self.pid();
        let mut all = vec!["--net", "--target", &pid, program];
        all.extend(arguments);
        let output = super::output("nsenter", &all);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// Does something in the machine's namespace, on a thread of its own.
    pub fn inside<T: Send + 'static>(&self, doing: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        std::thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            doing()
        })
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
            carriers: 1,
            vrf: Some("Vrfboot".to_owned()),
            link_local: Some(link_local["local"].as_str().unwrap().parse().unwrap()),
            addresses: [GATEWAY.parse().unwrap()].into(),
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}
