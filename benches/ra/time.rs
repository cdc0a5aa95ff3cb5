//! Measures how long a machine waits for an answer, for the first advertisement and for the last one.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Peer;
use crate::report::{
    Figures, LONG, Measurement, apart, ask, figures_row, first_on_all, machines, ms, quantile, row, settled,
    table,
};
use crate::support::panel::{Panel, prefix};
use crate::support::run;
use crate::support::solicitor::{Seen, Solicitor};

/// In the table's order.
pub const ALL: [Measurement; 4] =
    [("latency", latency), ("link", link), ("start", start), ("release", release)];

/// The peers that advertise by themselves.
const DAEMONS: [Peer; 5] = [Peer::Leafboot, Peer::Radvd, Peer::Bird, Peer::Frr, Peer::Dnsmasq];

/// Measures from a solicitation's sending to its answer's arrival. One port gets at most 10 answers/s.
fn latency() {
    table("ms: median / p99 (or worst)");
    for (ports, probes, pace) in [(1, 50, 100), (256, 512, 5), (512, 512, 5)] {
        let all: Vec<Figures> = apart(move || {
            let panel = Panel::plug(ports);
            let machines = machines(&panel);
            let one = |peer: Peer| {
                let _daemon = settled(peer, &panel, &machines, LONG);
                machines.iter().for_each(Solicitor::drain);
                let asked = |probe: usize| {
                    let machine = &machines[probe % ports];
                    let answered = ask(machine, Duration::from_millis(300));
                    sleep(Duration::from_millis(pace));
                    answered
                };
                Figures { peer, seen: (0..probes).filter_map(asked).collect(), wanted: probes }
            };
            Peer::ALL.into_iter().map(one).collect()
        });
        let bare = all.last().map_or(f64::NAN, |bare| quantile(&bare.seen, 0.5));
        let s = if ports == 1 { "" } else { "s" };
        let (most, worst, goal) = if ports == 1 {
            (0.1, f64::INFINITY, "≤ 0.10, ≤ 3 × bare")
        } else {
            (0.25, 0.55, "≤ 0.25 / ≤ 0.55")
        };
        figures_row(&format!("RS→RA, {ports} port{s}"), &all, 0.99, goal, |own| {
            let median = quantile(&own.seen, 0.5);
            median <= most && median <= 3.0 * bare && quantile(&own.seen, 0.99) <= worst
        });
    }
}

/// A running ip(8) that reads commands from a pipe: a measured command does not include a process's start.
struct Ip(Child);

impl Ip {
    /// Starts it in the namespace of the process `pid`, or in the caller's.
    fn start(pid: Option<&str>) -> Self {
        let mut command = Command::new("nsenter");
        if let Some(pid) = pid {
            command.args(["--net", "--target", pid]);
        }
        let child = command.args(["ip", "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        sleep(Duration::from_millis(100));
        Self(child)
    }

    fn run(&mut self, line: &str) {
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

/// Measures three events: a port comes up on the leaf while its machine waits, and gets its gateway address; a carrier
/// returns; a device is recreated.
fn link() {
    const TIMES: usize = 5;
    let measured = DAEMONS.into_iter().map(|peer| apart(move || link_of(peer, TIMES)));
    let rows = [
        ("first RA on a new port", "≤ 8", 8.0),
        ("first RA after carrier returns", "≤ 3, never missed", 3.0),
        ("device recreated", "≤ 10", 10.0),
    ];
    let mut columns: [Vec<Figures>; 3] = Default::default();
    for peer in measured {
        for (column, figures) in columns.iter_mut().zip(peer) {
            column.push(figures);
        }
    }
    for ((what, goal, most), all) in rows.into_iter().zip(columns) {
        figures_row(what, &all, 1.0, goal, |own| quantile(&own.seen, 0.5) <= most);
    }
}

/// Milliseconds from `begun` to the first advertisement after it, if one comes within 3 s. dnsmasq may send from a global
/// address, which no machine takes (RFC 4861 6.1.2).
fn first(machine: &Solicitor, begun: SystemTime) -> Option<f64> {
    let deadline = Instant::now() + Duration::from_secs(3);
    let next = || machine.advertisement(deadline.saturating_duration_since(Instant::now()));
    let counts = |seen: &Seen| seen.at >= begun && seen.from.is_unicast_link_local();
    std::iter::from_fn(next).find(counts).map(|seen| ms(begun, &seen))
}

fn link_of(peer: Peer, times: usize) -> [Figures; 3] {
    let panel = Panel::plug(times);
    let machines = machines(&panel);
    let (mut leaf, mut far) = (Ip::start(None), Ip::start(Some(&panel.pid())));
    let carrier = {
        let _daemon = settled(peer, &panel, &machines, LONG);
        // For a minute this peer advertises every 5 to 20 s whatever happens. An advertisement by chance is no answer
        // to a carrier.
        if peer == Peer::Dnsmasq {
            sleep(Duration::from_secs(80));
        }
        let returned = |(port, machine): (usize, &Solicitor)| {
            far.run(&format!("link set eth{port} down"));
            sleep(Duration::from_millis(1200));
            let begun = SystemTime::now();
            far.run(&format!("link set eth{port} up"));
            first(machine, begun)
        };
        machines.iter().enumerate().filter_map(returned).collect()
    };
    (0..times).for_each(|port| drop(run("ip", &["link", "delete", &format!("Ethernet{port}")])));
    let _daemon = peer.start(times, LONG);
    sleep(Duration::from_secs(1));
    let mut turn = || -> Vec<f64> {
        let appear = |port: usize| {
            leaf.run(&panel.cable(port).replace(&format!("\nlink set Ethernet{port} up\n"), ""));
            sleep(Duration::from_millis(50));
            panel.carrier(port, true);
            let machine = Solicitor::open(&panel, port);
            let begun = SystemTime::now();
            let gateway = prefix(port).replace("::/64", "::1/64");
            leaf.run(&format!("link set Ethernet{port} up\naddress add {gateway} dev Ethernet{port} nodad"));
            let seen = first(&machine, begun);
            leaf.run(&format!("link delete Ethernet{port}"));
            sleep(Duration::from_millis(100));
            seen
        };
        (0..times).filter_map(appear).collect()
    };
    [turn(), carrier, turn()].map(|seen| Figures { peer, seen, wanted: times })
}

/// From the process's start to the last of 256 ports' first advertisement.
fn start() {
    const TIMES: usize = 3;
    let all: Vec<Figures> = apart(|| {
        let panel = Panel::plug(256);
        let machines = machines(&panel);
        let one = |peer: Peer| {
            let seen = |_| {
                machines.iter().for_each(Solicitor::drain);
                let begun = SystemTime::now();
                let _daemon = peer.start(256, LONG);
                let first = first_on_all(&machines, begun, |_| true);
                (first.len() == 256).then(|| first.into_iter().fold(0.0, f64::max))
            };
            Figures { peer, seen: (0..TIMES).filter_map(seen).collect(), wanted: TIMES }
        };
        DAEMONS.into_iter().map(one).collect()
    });
    let met = |own: &Figures| quantile(&own.seen, 0.5) <= 60.0;
    figures_row("start, last of 256 ports' first RA", &all, 1.0, "≤ 60", met);
}

/// From the signal to the last of 256 ports' first final advertisement.
fn release() {
    const TIMES: usize = 3;
    let mut finals = Vec::new();
    let all: Vec<Figures> = apart(|| {
        let panel = Panel::plug(256);
        let machines = machines(&panel);
        let one = |peer: Peer| {
            let mut seen = Vec::new();
            for turn in 0..TIMES {
                let daemon = peer.start(256, LONG);
                first_on_all(&machines, SystemTime::now(), |_| true);
                sleep(Duration::from_millis(500));
                machines.iter().for_each(Solicitor::drain);
                let begun = SystemTime::now();
                kill(Pid::from_raw(i32::try_from(daemon.0.id()).unwrap()), Signal::SIGTERM).unwrap();
                let is_final = |lifetime: u16| lifetime == 0;
                let last = first_on_all(&machines, begun, |seen| is_final(seen.router_lifetime()));
                if last.len() == 256 {
                    seen.push(last.into_iter().fold(0.0, f64::max));
                }
                if turn == TIMES - 1 {
                    let more = machines[0].advertisements(Duration::from_millis(6500));
                    let more = more.iter().filter(|seen| is_final(seen.router_lifetime())).count();
                    finals.push((peer, more + usize::from(!seen.is_empty())));
                }
            }
            Figures { peer, seen, wanted: TIMES }
        };
        // dnsmasq sends none.
        DAEMONS.into_iter().take(4).map(one).collect()
    });
    let met = |own: &Figures| quantile(&own.seen, 0.5) <= 6.0;
    figures_row("release, last of 256 ports' first final RA", &all, 1.0, "≤ 6", met);
    let of = |peer| finals.iter().find(|(of, _)| *of == peer).map(|(_, count)| *count);
    let cell = |peer| of(peer).map(|count: usize| count.to_string());
    row("final RAs per port", cell, "up to 3", of(Peer::Leafboot) == Some(3));
}
