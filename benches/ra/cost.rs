//! Measures the cost of the advertisements: in a flood, over time, and in memory.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Peer;
use crate::agent;
use crate::report::{LONG, Measurement, apart, ask, machines, quantile, row, settled, table};
use crate::support::panel::Panel;
use crate::support::solicitor::Solicitor;

/// In the tables' order.
pub const ALL: [Measurement; 2] = [("flood", flood), ("idle", idle)];

struct Flooded {
    unanswered: usize,
    latency: Vec<f64>,
    cpu: f64,
    grown: u64,
    answers: usize,
}

/// Sends 20,000 solicitations/s to one of 64 ports for 5 s, and meanwhile solicits on 32 other ports.
fn flood() {
    let all: Vec<(Peer, Flooded)> =
        Peer::ALL.into_iter().take(5).map(|peer| (peer, apart(move || flooded(peer)))).collect();
    let cell = |of: fn(&Flooded) -> String| {
        let all = &all;
        move |peer| all.iter().find(|(of, _)| *of == peer).map(|(_, flooded)| of(flooded))
    };
    let own = &all[0].1;
    table("20,000 RS/s for 5 s on 1 of 64 ports");
    row("of 32 others unanswered", cell(|f| f.unanswered.to_string()), "0", own.unanswered == 0);
    let latency =
        |f: &Flooded| format!("{:.2} / {:.1}", quantile(&f.latency, 0.5), quantile(&f.latency, 1.0));
    row("others' RS→RA, ms: median / worst", cell(latency), "", own.unanswered == 0);
    row("CPU, s", cell(|f| format!("{:.2}", f.cpu)), "≤ 0.5", own.cpu <= 0.5);
    row("RSS growth, kB", cell(|f| f.grown.to_string()), "0", own.grown == 0);
    let answers = |f: &Flooded| format!("{}{}", if f.answers > 150 { "≥ " } else { "" }, f.answers);
    row("answers on the flooded port", cell(answers), "20 and 10/s", (50..=80).contains(&own.answers));
}

fn flooded(peer: Peer) -> Flooded {
    let panel = Panel::plug(64);
    let machines = machines(&panel);
    let daemon = settled(peer, &panel, &machines, LONG);
    let pid = daemon.0.id();
    let (flooding, others) = machines.split_first().unwrap();
    // One answer before the flood sets up all that later answers need.
    for machine in others {
        ask(machine, Duration::from_secs(1));
    }
    let (cpu, memory) = (cpu(pid), rss(pid));
    let latency: Vec<f64> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (solicitation, begun) = (flooding.good(), Instant::now());
            for i in 1..=5000u32 {
                for _ in 0..20 {
                    flooding.send(&solicitation);
                }
                let next = begun + Duration::from_millis(i.into());
                sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        let asked = others.iter().take(32).filter_map(|machine| {
            sleep(Duration::from_millis(140));
            ask(machine, Duration::from_secs(1))
        });
        asked.collect()
    });
    Flooded {
        unanswered: 32 - latency.len(),
        latency,
        cpu: cpu_since(pid, cpu),
        grown: rss(pid).saturating_sub(memory),
        answers: flooding.advertisements(Duration::from_millis(500)).len(),
    }
}

/// 256 ports that advertise every 4 to 10 s, all peers side by side for 30 s; and the whole agent's memory.
fn idle() {
    let all: Vec<(Peer, f64, u64)> = std::thread::scope(|scope| {
        let start = |peer: Peer| scope.spawn(move || idle_of(peer));
        let running: Vec<_> = Peer::ALL.into_iter().map(start).collect();
        running.into_iter().map(|peer| peer.join().unwrap()).collect()
    });
    let of = |wanted: Peer| all.iter().find(|(peer, ..)| *peer == wanted).unwrap();
    table("256 ports, every 4–10 s");
    let cpu = of(Peer::Leafboot).1;
    row("CPU s per 1000 RAs", |peer| Some(format!("{:.3}", of(peer).1)), "≤ 0.05", cpu <= 0.05);
    let megabytes = |kilobytes: u64| format!("{:.1}", kilobytes as f64 / 1024.0);
    let tasks = |peer| (peer != Peer::Bare).then(|| megabytes(of(peer).2));
    row("RSS, MB", tasks, "≤ 12", of(Peer::Leafboot).2 <= 12 * 1024);
    let whole = apart(agent::memory);
    let whole_cell = |peer| (peer == Peer::Leafboot).then(|| megabytes(whole));
    row("RSS of the whole agent, MB", whole_cell, "≤ 12", whole <= 12 * 1024);
}

fn idle_of(peer: Peer) -> (Peer, f64, u64) {
    let panel = Panel::plug(256);
    let machines = machines(&panel);
    let daemon = settled(peer, &panel, &machines, (4, 10));
    let pid = daemon.0.id();
    machines.iter().for_each(Solicitor::drain);
    let cpu = cpu(pid);
    sleep(Duration::from_secs(30));
    let spent = cpu_since(pid, cpu);
    let memory = rss(pid);
    let seen = |machine: &Solicitor| machine.advertisements(Duration::from_millis(1)).len();
    let count: usize = machines.iter().map(seen).sum();
    (peer, spent * 1000.0 / count as f64, memory)
}

/// Nanoseconds on a CPU of all threads (`/proc/PID/task/*/schedstat`).
fn cpu(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    threads.map(of).sum()
}

fn cpu_since(pid: u32, before: u64) -> f64 {
    (cpu(pid) - before) as f64 / 1e9
}

/// Resident memory in kB, counted anew: `VmRSS` is off by some pages for each thread (proc(5)).
pub fn rss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}
