//! Measures how much the machine of another port is slowed while machines on eight ports flood the relay, over 16
//! connections each. It prints its own table.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::measure::quantile;
use crate::peer::{PORT, Peer, Running, TLS_PORT, UPSTREAM};
use crate::support::flood::{Kind, flood};
use crate::support::origin::{Image, Origin};
use crate::support::ports::{Ports, gateway};
use crate::support::run;

/// Ports that are flooded.
const FLOODED: usize = 8;
/// Connections that flood each port.
const CONNECTIONS: usize = 16;
/// Ports whose machines boot, in turn, so that none of them comes to its limit.
const QUIET: usize = 4;
/// How long each flood is measured.
const TIME: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(4);

/// What the quiet machines saw: median and 99th percentile in ms, and how many had no answer.
struct Seen {
    median: f64,
    late: f64,
    lost: usize,
}

pub fn all() {
    let ports = Ports::plug(FLOODED + QUIET);
    let origin = Origin::start(UPSTREAM);
    origin.put("/boot.ipxe", Image::instead("200 OK", &format!("#!ipxe\n{}", "#".repeat(993))));
    origin.put("/certs", Image::instead("503 Service Unavailable", "not now\n"));
    println!(
        "| 16 connections on each of 8 ports | answers/s | another port's script, ms: median / p99 | right before | times | relay's CPU |"
    );
    println!("|---|---|---|---|---|---|");
    for peer in [Peer::Limited, Peer::Unlimited] {
        let limits = if peer == Peer::Limited { "" } else { ", without limits" };
        for kind in Kind::ALL {
            // No port is muted yet.
            let running = start(peer, &ports);
            // The computer's load changes, so the quiet ports are measured right before.
            let idle = boot(&ports, Instant::now() + TIME / 2);
            let (before, ends) = (running.cpu(), Instant::now() + TIME);
            let floods: Vec<_> = (0..FLOODED)
                .flat_map(|port| (0..CONNECTIONS).map(move |_| port))
                .map(|port| ports.inside(move || flood(kind, to(port, kind), ends)))
                .collect();
            let seen = boot(&ports, ends);
            let cpu = (running.cpu() - before) / TIME.as_secs_f64() * 100.0;
            let answers: u64 = floods.into_iter().map(|one| one.join().unwrap()).sum();
            println!(
                "| {kind:?}{limits} | {:.0} | {:.2} / {:.2}{} | {:.2} / {:.2} | {:.1}× / {:.1}× | {cpu:.0} % |",
                answers as f64 / TIME.as_secs_f64(),
                seen.median,
                seen.late,
                if seen.lost > 0 { format!(", {} had none", seen.lost) } else { String::new() },
                idle.median,
                idle.late,
                seen.median / idle.median,
                seen.late / idle.late,
            );
        }
    }
}

/// Starts the relay on all ports, with priority over other programs on its CPU.
fn start(peer: Peer, ports: &Ports) -> Running {
    let running = peer.start(None, "[::1]", &ports.names().join(" "));
    running.prefer();
    ports.wait(PORT);
    running
}

fn to(port: usize, kind: Kind) -> SocketAddr {
    gateway(port, if kind == Kind::Handshake { TLS_PORT } else { PORT })
}

/// Asks for scripts from the machines on the quiet ports in turn, until `ends`.
fn boot(ports: &Ports, ends: Instant) -> Seen {
    let asking = ports.inside(move || {
        // The machine itself does not wait for a CPU.
        run("chrt", &["--fifo", "--pid", "50", &nix::unistd::gettid().to_string()]);
        let connect = |port: usize| Client::connect(&gateway(port, PORT).to_string(), 0);
        let mut machines: Vec<Client> = (FLOODED..FLOODED + QUIET).map(connect).collect();
        let (mut times, mut lost) = (Vec::new(), 0);
        for machine in (0..QUIET).cycle() {
            if Instant::now() >= ends {
                break;
            }
            let begun = Instant::now();
            match machines[machine].small("/boot.ipxe") {
                Some(200) => times.push(begun.elapsed().as_secs_f64() * 1000.0),
                _ => {
                    lost += 1;
                    machines[machine] = connect(FLOODED + machine);
                }
            }
            std::thread::sleep(PAUSE);
        }
        Seen { median: quantile(&mut times, 0.5), late: quantile(&mut times, 0.99), lost }
    });
    asking.join().unwrap()
}
