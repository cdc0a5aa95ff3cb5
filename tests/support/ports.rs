//! Several ports of a leaf in the calling thread's namespace, each with a machine; the machines have one namespace together.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use super::eventually;
use super::namespace::{self, Namespace};

/// The ports and their machines; they go with the test.
pub struct Ports {
    machines: Namespace,
    count: usize,
}

/// The name of a port.
pub fn name(port: usize) -> String {
    format!("Ethernet{}", port * 4)
}

/// Where the relay of a port listens for its machine.
pub fn gateway(port: usize, tcp_port: u16) -> SocketAddr {
    format!("[2001:db8:b007:{port:x}::1]:{tcp_port}").parse().unwrap()
}

impl Ports {
    /// Gives the calling thread a namespace of its own with so many ports in it.
    pub fn plug(count: usize) -> Self {
        namespace::enter_leaf();
        let machines = Namespace::start();
        machines.run("sysctl", &["-qw", "net.ipv6.conf.default.accept_dad=0"]);
        let (mut leaf, mut theirs) = (String::new(), String::new());
        for port in 0..count {
            let (name, pid) = (name(port), machines.pid());
            leaf.push_str(&format!(
                "link add {name} type veth peer name eth{port} netns {pid}\nlink set {name} up\n\
                 address add 2001:db8:b007:{port:x}::1/64 dev {name} nodad\n"
            ));
            theirs.push_str(&format!(
                "link set eth{port} up\naddress add 2001:db8:b007:{port:x}::7/64 dev eth{port} nodad\n"
            ));
        }
        namespace::batch(&leaf);
        machines.batch(&theirs);
        Self { machines, count }
    }

    /// All ports' names.
    pub fn names(&self) -> Vec<String> {
        (0..self.count).map(name).collect()
    }

    /// Does something in the machines' namespace, on a thread of its own.
    pub fn inside<T: Send + 'static>(&self, doing: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.machines.inside(doing)
    }

    /// Waits until every port's relay answers its machine.
    pub fn wait(&self, tcp_port: u16) {
        let count = self.count;
        let waiting = self.inside(move || {
            for port in 0..count {
                let to = gateway(port, tcp_port);
                eventually(&format!("{to} listens"), || std::net::TcpStream::connect(to).is_ok());
            }
        });
        waiting.join().unwrap();
    }
}
