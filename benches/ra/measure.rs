//! The measurements. Each makes its namespaces in a thread of its own.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::advertiser::Daemon;
use crate::support::panel::{Panel, prefix};
use crate::support::solicitor::{Seen, Solicitor};
use crate::{Ip, Peer};

const PEERS: [Peer; 3] = [Peer::Leafboot, Peer::Radvd, Peer::Bird];
/// Silent after the initial advertisements.
const LONG: (u32, u32) = (600, 1800);

/// Runs every measurement, or the one that is named.
pub fn all(only: Option<&str>) {
    let _neighbours = Neighbours::raise();
    let measurements: [(&str, fn()); 6] = [
        ("latency", latency),
        ("link", link),
        ("start", start),
        ("release", release),
        ("flood", flood),
        ("idle", idle),
    ];
    for (name, measurement) in measurements {
        if only.is_none_or(|only| only == name) {
            measurement();
        }
    }
}

/// The kernel's limit of neighbour entries is one for all namespaces; SONiC's is 4096.
struct Neighbours(Vec<(String, String)>);

impl Neighbours {
    fn raise() -> Self {
        let set = |i: u32, value: &str| {
            let path = format!("/proc/sys/net/ipv6/neigh/default/gc_thresh{i}");
            let before = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, value).unwrap();
            (path, before)
        };
        Self(vec![set(3, "16384"), set(2, "8192"), set(1, "4096")])
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for (path, before) in self.0.iter().rev() {
            let _ = std::fs::write(path, before);
        }
    }
}

/// Runs in a thread whose namespaces go with it.
fn apart<T: Send>(measurement: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(measurement).join().unwrap())
}

fn machines(panel: &Panel) -> Vec<Solicitor> {
    (0..panel.ports).map(|port| Solicitor::open(panel, port)).collect()
}

/// Milliseconds from `begun`.
fn ms(begun: SystemTime, seen: &Seen) -> f64 {
    seen.at.duration_since(begun).unwrap_or_default().as_secs_f64() * 1000.0
}

/// The value that `part` of the figures do not exceed.
fn quantile(figures: &mut [f64], part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    figures.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

fn median_p99(mut figures: Vec<f64>) -> String {
    format!("{:.3} / {:.3} ({})", quantile(&mut figures, 0.5), quantile(&mut figures, 0.99), figures.len())
}

/// Waits for every port's first advertisement; returns the milliseconds from `begun` of each.
fn first_on_all(machines: &[Solicitor], begun: SystemTime, wanted: impl Fn(&Seen) -> bool) -> Vec<f64> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let first = |machine: &Solicitor| {
        while Instant::now() < deadline {
            if let Some(seen) = machine.advertisement(Duration::from_secs(5))
                && wanted(&seen)
            {
                return Some(ms(begun, &seen));
            }
        }
        None
    };
    machines.iter().filter_map(first).collect()
}

fn settled(peer: Peer, panel: &Panel, machines: &[Solicitor], interval: (u32, u32)) -> Daemon {
    let daemon = peer.start(panel.ports, interval);
    if peer == Peer::Echo {
        sleep(Duration::from_millis(500));
    } else {
        first_on_all(machines, SystemTime::now(), |_| true);
        sleep(Duration::from_secs(4));
    }
    daemon
}

/// From the solicitation's way into the cable to the answer's arrival. 5 answers/s at most on one port.
fn latency() {
    println!("\n| RS→RA, ms: median / p99 (answers) | 1 port | 256 ports | 512 ports |\n|---|---|---|---|");
    for peer in [Peer::Echo, Peer::Leafboot, Peer::Radvd, Peer::Bird] {
        let figures = [(1, 100, 200), (256, 512, 12), (512, 512, 8)].map(|(ports, probes, pace)| {
            apart(move || {
                let panel = Panel::plug(ports);
                let machines = machines(&panel);
                let _daemon = settled(peer, &panel, &machines, LONG);
                let mut figures = Vec::new();
                for probe in 0..probes {
                    let machine = &machines[probe % ports];
                    machine.drain();
                    let sent = machine.send(&machine.good());
                    if let Some(seen) = machine.advertisement(Duration::from_secs(1)) {
                        figures.push(ms(sent, &seen));
                    }
                    sleep(Duration::from_millis(pace));
                }
                median_p99(figures)
            })
        });
        println!("| {peer:?} | {} | {} | {} |", figures[0], figures[1], figures[2]);
    }
}

/// A port whose other end waits already comes up on the leaf, and gets its gateway address.
fn link() {
    const TIMES: usize = 10;
    println!(
        "\n| first RA, ms: median / worst (seen) | new port | carrier returns | device recreated |\n|---|---|---|---|"
    );
    for peer in PEERS {
        let figures = apart(move || {
            let panel = Panel::plug(TIMES);
            let machines = machines(&panel);
            let mut leaf = Ip::wait(None);
            let mut far = Ip::wait(Some(panel.pid()));
            let carrier = {
                let _daemon = settled(peer, &panel, &machines, LONG);
                let mut figures = Vec::new();
                for (port, machine) in machines.iter().enumerate() {
                    far.tell(&format!("link set eth{port} down"));
                    sleep(Duration::from_millis(1200));
                    machine.drain();
                    let begun = SystemTime::now();
                    far.tell(&format!("link set eth{port} up"));
                    figures
                        .extend(machine.advertisement(Duration::from_secs(3)).map(|seen| ms(begun, &seen)));
                }
                figures
            };
            let mut appear = |port: usize| {
                leaf.tell(&panel.cable(port).replace(&format!("\nlink set Ethernet{port} up\n"), ""));
                sleep(Duration::from_millis(50));
                panel.carrier(port, true);
                let machine = Solicitor::open(&panel, port);
                let begun = SystemTime::now();
                leaf.tell(&format!(
                    "link set Ethernet{port} up\naddress add {}1/64 dev Ethernet{port} nodad",
                    prefix(port).trim_end_matches("/64")
                ));
                let seen = machine.advertisement(Duration::from_secs(5));
                leaf.tell(&format!("link delete Ethernet{port}"));
                seen.map(|seen| ms(begun, &seen))
            };
            for port in 0..TIMES {
                crate::support::run("ip", &["link", "delete", &format!("Ethernet{port}")]);
            }
            let _daemon = peer.start(TIMES, LONG);
            sleep(Duration::from_secs(1));
            let mut turn = || {
                (0..TIMES)
                    .filter_map(|port| {
                        let seen = appear(port);
                        sleep(Duration::from_millis(200));
                        seen
                    })
                    .collect::<Vec<f64>>()
            };
            let new = turn();
            [new, carrier, turn()]
        });
        let cells = figures.map(|mut figures| {
            let worst = quantile(&mut figures, 1.0);
            format!("{:.2} / {worst:.2} ({})", quantile(&mut figures, 0.5), figures.len())
        });
        println!("| {peer:?} | {} | {} | {} |", cells[0], cells[1], cells[2]);
    }
}

/// From the process's start to the last of 256 ports' first advertisement.
fn start() {
    println!("\n| start of 256 ports, ms: last port's first RA | median of 5 | each |\n|---|---|---|");
    for peer in PEERS {
        let mut figures: Vec<f64> = apart(move || {
            let panel = Panel::plug(256);
            let machines = machines(&panel);
            let one = |_| {
                machines.iter().for_each(Solicitor::drain);
                let begun = SystemTime::now();
                let _daemon = peer.start(256, LONG);
                first_on_all(&machines, begun, |_| true).into_iter().fold(0.0, f64::max)
            };
            (0..5).map(one).collect()
        });
        println!("| {peer:?} | {:.1} | {figures:.1?} |", quantile(&mut figures.clone(), 0.5));
        figures.clear();
    }
}

/// From the signal to the last of 256 ports' first final advertisement.
fn release() {
    println!(
        "\n| release of 256 ports, ms: last port's first final RA | median of 5 | each | finals per port in 8 s |\n|---|---|---|---|"
    );
    for peer in PEERS {
        let (mut figures, finals) = apart(move || {
            let panel = Panel::plug(256);
            let machines = machines(&panel);
            let mut finals = 0;
            let mut figures = Vec::new();
            for turn in 0..5 {
                let daemon = peer.start(256, LONG);
                first_on_all(&machines, SystemTime::now(), |_| true);
                sleep(Duration::from_millis(500));
                machines.iter().for_each(Solicitor::drain);
                let pid = Pid::from_raw(i32::try_from(daemon.0.id()).unwrap());
                let begun = SystemTime::now();
                kill(pid, Signal::SIGTERM).unwrap();
                if turn == 4 {
                    sleep(Duration::from_secs(8));
                    let seen = machines[255].advertisements(Duration::from_millis(50));
                    finals = seen.iter().filter(|seen| seen.router_lifetime() == 0).count();
                } else {
                    let last = first_on_all(&machines, begun, |seen| seen.router_lifetime() == 0);
                    figures.push(if last.len() == 256 {
                        last.into_iter().fold(0.0, f64::max)
                    } else {
                        f64::NAN
                    });
                }
            }
            (figures, finals)
        });
        println!("| {peer:?} | {:.1} | {figures:.1?} | {finals} |", quantile(&mut figures, 0.5));
    }
}

/// 20,000 solicitations/s for 5 s on one port of 64; the others are asked meanwhile.
fn flood() {
    println!(
        "\n| flood on 1 of 64 ports | others unanswered of 32 | others, ms: median / p99 | CPU s | RSS before → after, kB | answers on the flooded port |\n|---|---|---|---|---|---|"
    );
    for peer in PEERS {
        let row = apart(move || {
            let panel = Panel::plug(64);
            let machines = machines(&panel);
            let daemon = settled(peer, &panel, &machines, LONG);
            let pid = daemon.0.id();
            let (cpu, memory) = (cpu(pid), rss(pid));
            let (flooding, others) = machines.split_first().unwrap();
            let figures = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (solicitation, begun) = (flooding.good(), Instant::now());
                    for i in 1..=5000u32 {
                        (0..20).for_each(|_| {
                            flooding.send(&solicitation);
                        });
                        sleep(
                            (begun + Duration::from_millis(i.into()))
                                .saturating_duration_since(Instant::now()),
                        );
                    }
                });
                let asked = others.iter().take(32).filter_map(|machine| {
                    sleep(Duration::from_millis(140));
                    let sent = machine.send(&machine.good());
                    machine.advertisement(Duration::from_secs(3)).map(|seen| ms(sent, &seen))
                });
                asked.collect::<Vec<f64>>()
            });
            let spent = cpu_since(pid, cpu);
            let answers = flooding.advertisements(Duration::from_millis(500)).len();
            let more = if answers > 200 { "≥ " } else { "" };
            let unanswered = 32 - figures.len();
            format!(
                "{unanswered} | {} | {spent:.2} | {memory} → {} | {more}{answers}",
                median_p99(figures),
                rss(pid)
            )
        });
        println!("| {peer:?} | {row} |");
    }
}

/// 256 ports that advertise every 4 to 10 s, for 60 s.
fn idle() {
    println!(
        "\n| idle, 256 ports, every 4–10 s | RAs in 60 s | CPU s per 1000 RAs | RSS, kB |\n|---|---|---|---|"
    );
    for peer in PEERS {
        let row = apart(move || {
            let panel = Panel::plug(256);
            let machines = machines(&panel);
            let daemon = settled(peer, &panel, &machines, (4, 10));
            let pid = daemon.0.id();
            machines.iter().for_each(Solicitor::drain);
            let cpu = cpu(pid);
            sleep(Duration::from_secs(60));
            let spent = cpu_since(pid, cpu);
            let count: usize =
                machines.iter().map(|m| m.advertisements(Duration::from_millis(1)).len()).sum();
            format!("{count} | {:.3} | {}", spent * 1000.0 / count as f64, rss(pid))
        });
        println!("| {peer:?} | {row} |");
    }
}

/// Nanoseconds on a CPU (`/proc/PID/schedstat`); all three have one thread that works.
fn cpu(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn cpu_since(pid: u32, before: u64) -> f64 {
    (cpu(pid) - before) as f64 / 1e9
}

fn rss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}
