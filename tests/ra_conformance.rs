//! Conformance of Router Advertisements: a case per requirement, over veth, with whole frames. Other daemons run
//! against the same cases, which tests the suite itself. Each test prints its table (`cargo test -- --nocapture`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "ra_conformance/cases.rs"]
mod cases;
#[path = "ra_conformance/lifecycle.rs"]
mod lifecycle;
#[path = "ra_conformance/neighbours.rs"]
mod neighbours;
#[path = "ra_conformance/settings.rs"]
mod settings;
mod support;

use std::time::Duration;

use cases::{CASES, Verdict, gaps};
use support::advertiser::{Daemon, Interval, Leafboot, leafboot_settings};
use support::panel::Panel;
use support::solicitor::Solicitor;

/// A daemon with this interval is silent after the initial advertisements.
const LONG: Interval = Interval { interval: (600, 1800) };
/// As short as RFC 4861 6.2.1 allows.
const SHORT: Interval = Interval { interval: (3, 4) };
/// Until every daemon has sent its first advertisement on every port, and may send another multicast.
const SETTLE: Duration = Duration::from_millis(5500);

/// Runs every case on a port of its own, prints the table, and returns what failed.
fn judge(daemon: &str, panel: &Panel) -> Vec<&'static str> {
    let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
        let run = |(port, case): (usize, &'static cases::Case)| {
            let solicitor = Solicitor::open(panel, port);
            scope.spawn(move || {
                let initial = case.v6lc == "2.2.7 B";
                if !initial {
                    std::thread::sleep(SETTLE);
                }
                (case.check)(&solicitor, port)
            })
        };
        let running: Vec<_> = CASES.iter().enumerate().map(run).collect();
        running.into_iter().map(|case| case.join().unwrap()).collect()
    });
    let mut table = format!("\n| RFC | v6LC | requirement | {daemon} |\n|---|---|---|---|\n");
    for (case, verdict) in CASES.iter().zip(&verdicts) {
        let said = verdict.as_ref().map_or_else(|reason| format!("FAIL: {reason}"), |()| "pass".to_owned());
        table.push_str(&format!("| {} | {} | {} | {said} |\n", case.section, case.v6lc, case.what));
    }
    println!("{table}");
    let failed = CASES.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_err());
    failed.map(|(case, _)| case.what).collect()
}

#[test]
fn leafboot_meets_every_requirement() {
    let panel = Panel::plug(CASES.len());
    let _leafboot = Leafboot::start(leafboot_settings(LONG), 0..panel.ports);
    assert_eq!(judge("leafboot", &panel), Vec::<&str>::new());
}

#[test]
fn radvd_fails_the_fragments_only_so_the_suite_is_fair() {
    let panel = Panel::plug(CASES.len());
    let directory = tempfile::tempdir().unwrap();
    let _radvd = Daemon::radvd(directory.path(), LONG, panel.ports);
    assert_eq!(judge("radvd", &panel), ["an atomic fragment is discarded", "fragments are discarded"]);
}

#[test]
fn bird_fails_what_it_does_not_check() {
    let panel = Panel::plug(CASES.len());
    let directory = tempfile::tempdir().unwrap();
    let _bird = Daemon::bird(directory.path(), LONG, panel.ports);
    let failed = judge("BIRD", &panel);
    for known in
        ["hop limit 254 is discarded", "an option of length 0 is discarded", "fragments are discarded"]
    {
        assert!(failed.contains(&known), "{known}: {failed:?}");
    }
}

/// RFC 4861 6.2.4, v6LC 2.2.7 A: uniform in [MinRtrAdvInterval, MaxRtrAdvInterval].
#[test]
fn unsolicited_ones_are_random_within_the_interval() {
    let panel = Panel::plug(12);
    let _leafboot = Leafboot::start(leafboot_settings(SHORT), 0..panel.ports);
    let gaps: Vec<f64> = std::thread::scope(|scope| {
        let listen = |port| {
            let solicitor = Solicitor::open(&panel, port);
            scope.spawn(move || gaps(&solicitor.advertisements(Duration::from_secs(18))))
        };
        let ports: Vec<_> = (0..panel.ports).map(listen).collect();
        ports.into_iter().flat_map(|port| port.join().unwrap()).collect()
    });
    assert!(gaps.len() >= 36, "{gaps:?}");
    assert!(gaps.iter().all(|gap| (2.99..4.1).contains(gap)), "{gaps:?}");
    // Kolmogorov: with 36 samples the distance to the uniform distribution is below 0.32 but once in a thousand runs.
    let mut sorted = gaps;
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let distance = |(i, gap): (usize, &f64)| ((i as f64 + 0.5) / count - (gap - 3.0)).abs();
    let farthest = sorted.iter().enumerate().map(distance).fold(0.0, f64::max);
    assert!(farthest < 0.32, "{farthest}: {sorted:?}");
}

/// RFC 4861 6.2.2, v6LC 2.2.6: a port that is not to advertise is silent, and does not answer.
#[test]
fn other_ports_are_silent() {
    let panel = Panel::plug(2);
    support::namespace::batch("address del 2001:db8:1::1/64 dev Ethernet1\n");
    let _leafboot = Leafboot::start(leafboot_settings(SHORT), 0..1);
    let (served, other) = (Solicitor::open(&panel, 0), Solicitor::open(&panel, 1));
    assert!(served.advertisement(Duration::from_secs(4)).is_some());
    for solicitation in [other.good(), other.unspecified()] {
        other.send(&solicitation);
    }
    assert_eq!(other.advertisements(Duration::from_secs(4)).len(), 0);
}
