//! The benchmark of Router Advertisements: speed and cost of leafboot and of Debian's daemons, in the same run and
//! namespaces.
//!
//! `tests/bench/ra` runs it. It prints the tables of `docs/benchmarks.md`. A missed goal is no failure: a computer is
//! noisy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that cannot go on ends")]

#[path = "ra/agent.rs"]
mod agent;
#[path = "ra/cost.rs"]
mod cost;
#[path = "ra/report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "ra/time.rs"]
mod time;

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};
use support::advertiser::{Daemon, Interval, leafboot, leafboot_settings, wish};
use support::panel::prefix;

/// The program that advertises on the leaf's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// leafboot's tasks: the kernel's view and the advertisements.
    Leafboot,
    /// Debian's radvd.
    Radvd,
    /// Debian's BIRD, `solicited ra unicast yes`.
    Bird,
    /// Debian's FRR: zebra.
    Frr,
    /// Debian's dnsmasq.
    Dnsmasq,
    /// Raw ICMPv6 sockets and a loop, nothing else: the kernel's share of an advertisement's cost.
    Bare,
}

impl Peer {
    /// In the order of the tables' columns.
    pub const ALL: [Self; 6] =
        [Self::Leafboot, Self::Radvd, Self::Bird, Self::Frr, Self::Dnsmasq, Self::Bare];

    /// Starts it on `ports` ports of the calling thread's namespace.
    pub fn start(self, ports: usize, interval: (u32, u32)) -> Daemon {
        let settings = Interval { interval };
        let directory = std::env::temp_dir().join(format!("leafboot-bench-{}-{self:?}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let own = |mode: &str| {
            let (min, max) = interval;
            let arguments = [mode.to_owned(), ports.to_string(), min.to_string(), max.to_string()];
            Daemon::start(Command::new(std::env::current_exe().unwrap()).args(arguments))
        };
        match self {
            Self::Leafboot => own("serve"),
            Self::Radvd => Daemon::radvd(&directory, settings, ports),
            Self::Bird => Daemon::bird(&directory, settings, ports),
            Self::Frr => Daemon::frr(&directory, settings, ports),
            Self::Dnsmasq => Daemon::dnsmasq(&directory, settings),
            Self::Bare => own("bare"),
        }
    }
}

/// leafboot's tasks on `ports` ports; SIGTERM releases them all.
fn serve(ports: usize, interval: (u32, u32)) {
    leafboot::internals::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (desired, desired_in) =
            tokio::sync::watch::channel(wish((0..ports).map(|port| (port, prefix(port)))));
        let (states, _kept) = tokio::sync::watch::channel(Default::default());
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        let release = async {
            terminate.recv().await;
            desired.send_replace(wish(std::iter::empty()));
            std::future::pending::<()>().await;
        };
        let settings = leafboot_settings(Interval { interval });
        tokio::select! {
            () = leafboot(&settings, Default::default(), desired_in, states) => {}
            () = release => {}
        }
    });
}

/// Sends 200 bytes of advertisement to each port in turn, as often as a daemon would, and to each machine that
/// solicits.
fn bare(ports: usize, (min, max): (u32, u32)) {
    let socket = || {
        let socket =
            Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_ICMPV6))).unwrap();
        socket.set_unicast_hops_v6(255).unwrap();
        socket.set_multicast_hops_v6(255).unwrap();
        UdpSocket::from(OwnedFd::from(socket))
    };
    let mut advertisement = [0; 200];
    advertisement[..8].copy_from_slice(&[134, 0, 0, 0, 64, 0, 7, 8]);
    if max < 60 {
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let port = |port: usize| nix::net::if_::if_nametoindex(format!("Ethernet{port}").as_str()).unwrap();
        let ports: Vec<(UdpSocket, u32)> = (0..ports).map(|number| (socket(), port(number))).collect();
        let pause = Duration::from_secs((min + max).into()) / 2 / u32::try_from(ports.len()).unwrap();
        for (socket, ifindex) in ports.iter().cycle() {
            let _ = socket.send_to(&advertisement, SocketAddrV6::new(all, 0, 0, *ifindex));
            std::thread::sleep(pause);
        }
    }
    let socket = socket();
    let mut message = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut message).unwrap();
        if length >= 8 && message[0] == 133 {
            let _ = socket.send_to(&advertisement, from);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |i: usize| arguments.get(i).and_then(|text| text.parse().ok()).unwrap_or(1u32);
    let (ports, interval) = (usize::try_from(number(1)).unwrap(), (number(2), number(3)));
    let one = arguments.first().map(String::as_str);
    match one {
        Some("serve") => serve(ports, interval),
        Some("bare") => bare(ports, interval),
        Some("sonic") => agent::sonic(&arguments[1]),
        _ => {
            leafboot::internals::raise_descriptor_limit();
            let _neighbours = report::Neighbours::raise();
            for (name, measurement) in time::ALL.into_iter().chain(cost::ALL) {
                if one.is_none_or(|one| one == name) {
                    measurement();
                }
            }
        }
    }
}
