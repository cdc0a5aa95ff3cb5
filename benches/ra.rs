//! How fast, how cheap: leafboot's Router Advertisements beside radvd's and BIRD's, in the same run and namespaces.
//!
//! `tests/bench/ra` runs it; it needs root, radvd and bird2. Prints Markdown. Judges nothing: a computer is noisy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that cannot go on ends")]

#[path = "ra/measure.rs"]
mod measure;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::libc;
use support::advertiser::{Daemon, Settings, leafboot, leafboot_settings, wish};
use support::panel::prefix;

/// What stands on the leaf's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A raw socket and a loop, nothing else: as fast as it can be.
    Echo,
    /// leafboot's tasks: the kernel's view and the advertisements.
    Leafboot,
    /// Debian's radvd.
    Radvd,
    /// Debian's BIRD, `solicited ra unicast yes`.
    Bird,
}

impl Peer {
    /// Starts it on `ports` ports of the calling thread's namespace.
    pub fn start(self, ports: usize, interval: (u32, u32)) -> Daemon {
        let settings = Settings { interval };
        let directory = std::env::temp_dir().join(format!("leafboot-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let own = |mode: &str| {
            let (min, max) = interval;
            let arguments = [mode.to_owned(), ports.to_string(), min.to_string(), max.to_string()];
            Daemon::start(Command::new(std::env::current_exe().unwrap()).args(arguments))
        };
        match self {
            Self::Echo => own("echo"),
            Self::Leafboot => own("serve"),
            Self::Radvd => Daemon::radvd(&directory, settings, ports),
            Self::Bird => Daemon::bird(&directory, settings, ports),
        }
    }
}

/// ip(8) that waits for commands: what it does begins when it is told, not when a process has started.
pub struct Ip(Child);

impl Ip {
    /// In the namespace of the process `pid`, or in one's own.
    pub fn wait(pid: Option<u32>) -> Self {
        let mut command = Command::new("nsenter");
        if let Some(pid) = pid {
            command.args(["--net", "--target", &pid.to_string()]);
        }
        let child = command.args(["ip", "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        Self(child)
    }

    /// Does one thing.
    pub fn tell(&mut self, line: &str) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(line.as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
    }
}

impl Drop for Ip {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// leafboot's tasks on `ports` ports; SIGTERM releases them all.
fn serve(ports: usize, interval: (u32, u32)) {
    leafboot::ra::socket::raise_descriptor_limit();
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
        let settings = leafboot_settings(Settings { interval });
        tokio::select! {
            () = leafboot(&settings, desired_in, states) => {}
            () = release => {}
        }
    });
}

/// Answers each solicitation with 16 bytes of advertisement.
fn echo() {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_ICMPV6))).unwrap();
    socket.set_unicast_hops_v6(255).unwrap();
    let socket = std::net::UdpSocket::from(std::os::fd::OwnedFd::from(socket));
    let mut message = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut message).unwrap();
        if length >= 8 && message[0] == 133 {
            let _ = socket.send_to(&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0], from);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |i: usize| arguments.get(i).and_then(|text| text.parse().ok()).unwrap_or(1u32);
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(usize::try_from(number(1)).unwrap(), (number(2), number(3))),
        Some("echo") => echo(),
        only => {
            leafboot::ra::socket::raise_descriptor_limit();
            measure::all(only);
        }
    }
}
