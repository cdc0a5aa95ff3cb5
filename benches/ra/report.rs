//! Shared parts of the measurements: namespaces, quantiles and tables.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::Peer;
use crate::support::advertiser::Daemon;
use crate::support::panel::Panel;
use crate::support::solicitor::{Seen, Solicitor};

/// A measurement and its name.
pub type Measurement = (&'static str, fn());
/// An interval in seconds that keeps a daemon silent after its initial advertisements.
pub const LONG: (u32, u32) = (600, 1800);

/// The kernel's raised limit of neighbour entries. It is one for all namespaces; SONiC's is 4096.
pub struct Neighbours(Vec<(String, String)>);

impl Neighbours {
    /// Raises the limit until the value is dropped.
    pub fn raise() -> Self {
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

/// Runs a measurement in its own thread, whose namespaces end with the thread.
pub fn apart<T: Send>(measurement: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(measurement).join().unwrap())
}

/// Every port's machine.
pub fn machines(panel: &Panel) -> Vec<Solicitor> {
    (0..panel.ports).map(|port| Solicitor::open(panel, port)).collect()
}

/// Milliseconds from `begun`.
pub fn ms(begun: SystemTime, seen: &Seen) -> f64 {
    seen.at.duration_since(begun).unwrap_or_default().as_secs_f64() * 1000.0
}

/// Sends a solicitation and returns the milliseconds until the next advertisement, if one comes in time.
pub fn ask(machine: &Solicitor, within: Duration) -> Option<f64> {
    machine.drain();
    let sent = machine.send(&machine.good());
    // An advertisement that was already on its way is no answer.
    let later = |seen: &Seen| seen.at >= sent;
    let deadline = Instant::now() + within;
    let next = || machine.advertisement(deadline.saturating_duration_since(Instant::now()));
    std::iter::from_fn(next).find(later).map(|seen| ms(sent, &seen))
}

/// Waits at most 3 s for an advertisement that is `wanted` on every port; milliseconds from `begun` of each.
pub fn first_on_all(machines: &[Solicitor], begun: SystemTime, wanted: impl Fn(&Seen) -> bool) -> Vec<f64> {
    let deadline = Instant::now() + Duration::from_secs(3);
    let first = |machine: &Solicitor| {
        while let Some(seen) = machine.advertisement(deadline.saturating_duration_since(Instant::now())) {
            if wanted(&seen) {
                return Some(ms(begun, &seen));
            }
        }
        None
    };
    machines.iter().filter_map(first).collect()
}

/// Starts a peer and waits until it has sent its first advertisements and may send the next multicast one.
pub fn settled(peer: Peer, panel: &Panel, machines: &[Solicitor], interval: (u32, u32)) -> Daemon {
    let daemon = peer.start(panel.ports, interval);
    if peer == Peer::Bare {
        sleep(Duration::from_millis(300));
    } else {
        first_on_all(machines, SystemTime::now(), |_| true);
        sleep(Duration::from_millis(3200));
    }
    daemon
}

/// The value that `part` of the figures do not exceed; not a number if there are none.
pub fn quantile(figures: &[f64], part: f64) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    figures.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Prints the head of a table whose columns are the peers.
pub fn table(title: &str) {
    println!("\n| {title} | leafboot | radvd | BIRD | FRR | dnsmasq | bare | goal | met |");
    println!("|---|---|---|---|---|---|---|---|---|");
}

/// Prints a row of the table: a cell per peer, empty where there is nothing to measure.
pub fn row(what: &str, cells: impl Fn(Peer) -> Option<String>, goal: &str, met: bool) {
    let cells: Vec<String> =
        Peer::ALL.into_iter().map(|peer| cells(peer).unwrap_or("—".to_owned())).collect();
    println!("| {what} | {} | {goal} | {} |", cells.join(" | "), if met { "yes" } else { "no" });
}

/// A peer's figures, and how many were expected.
pub struct Figures {
    /// The peer.
    pub peer: Peer,
    /// Milliseconds.
    pub seen: Vec<f64>,
    /// The expected number of figures.
    pub wanted: usize,
}

impl Figures {
    /// Formats `median / p99 (or worst)`, and the number of missing figures.
    pub fn cell(&self, part: f64) -> String {
        if self.seen.is_empty() {
            return "never".to_owned();
        }
        let short = |figure: f64| {
            let digits = if figure < 1.0 {
                3
            } else if figure < 100.0 {
                1
            } else {
                0
            };
            format!("{figure:.digits$}")
        };
        let missing = match self.wanted - self.seen.len() {
            0 => String::new(),
            missing => format!(", {missing} of {} never", self.wanted),
        };
        format!("{} / {}{missing}", short(quantile(&self.seen, 0.5)), short(quantile(&self.seen, part)))
    }
}

/// A row of figures; `met` judges leafboot's own and the bare loop's.
pub fn figures_row(what: &str, all: &[Figures], part: f64, goal: &str, met: impl Fn(&Figures) -> bool) {
    let of = |peer: Peer| all.iter().find(|figures| figures.peer == peer);
    let own = of(Peer::Leafboot);
    row(
        what,
        |peer| of(peer).map(|figures| figures.cell(part)),
        goal,
        own.is_some_and(|own| own.seen.len() == own.wanted && met(own)),
    );
}
