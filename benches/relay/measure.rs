//! The measurements. Each makes its namespaces in a thread of its own, and prints its rows of the table in `docs/benchmarks.md`.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

use crate::client::{Client, Got};
use crate::peer::{PORT, Peer, Running, UPSTREAM};
use crate::support::origin::{Image, Origin};
use crate::support::{agent, eventually, run, switch};

const MB: f64 = 1e6;
const IMAGE: &str = "/metal-os/stable/debian/12/img.tar.lz4";
const LENGTH: u64 = 64_000_000;
const LARGE: &str = "/metal-os/large";
const TOKEN: &str = "/config/00000000-0000-0000-0000-525400fea501";
const SCRIPT: &str = "/boot.ipxe";
const MACHINES: usize = 48;
/// The cost of a request differs between rounds by a third, which is more than between peers. So there are many short
/// rounds, after a warm-up.
const ROUNDS: usize = 40;
const ROUND: Duration = Duration::from_millis(600);
const WARM_UP: Duration = Duration::from_millis(100);
/// The CPU that a small request may cost, × nginx's. A boot has ten of them: simple code is worth more than microseconds.
const SMALL_MAX: f64 = 1.6;
/// Connections per client thread, so that the relay is the bottleneck and never the clients.
const TOGETHER: usize = 8;

/// Gives this process the second CPU, and as many descriptors as it may have.
pub fn settle() {
    leafboot::internals::raise_descriptor_limit();
    let mut second = CpuSet::new();
    second.set(1).unwrap();
    sched_setaffinity(Pid::from_raw(0), &second).expect("the bench needs two CPUs");
}

/// Runs every measurement, or the one that is named.
pub fn all(only: Option<&str>) {
    let measurements: [(&str, fn()); 10] = [
        ("flight", || flight(0, 3)),
        ("slow-upstream", || flight(8_000_000, 5)),
        ("policed", || policed(None)),
        ("policed-cubic", || policed(Some("cubic"))),
        ("bulk", bulk),
        ("token", token),
        ("readers", readers),
        ("small", small),
        ("redirect", redirect),
        ("memory", memory),
    ];
    println!(
        "| figure | leafboot | nginx 1.22 | HAProxy 2.6 | Varnish 7.1 | goal | met |\n|---|---|---|---|---|---|---|"
    );
    for (name, measurement) in measurements {
        if only.is_none_or(|only| only == name) {
            scope(|scope| scope.spawn(measurement).join().unwrap());
        }
    }
}

/// One row of the table; `figures` are leafboot's, nginx's, HAProxy's and Varnish's.
fn row(what: &str, figures: [String; 4], goal: &str, met: bool) {
    let met = if met { "yes" } else { "no" };
    println!("| {what} | {} | {goal} | {met} |", figures.join(" | "));
}

fn none() -> String {
    "—".to_owned()
}

/// The value that `part` of the figures do not exceed.
pub fn quantile(figures: &mut [f64], part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    figures.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    quantile(&mut figures.collect::<Vec<_>>(), 0.5)
}

/// Measures each peer `rounds` times in turn, so that a change of the computer's load affects all. Returns both
/// medians.
fn in_turn<const N: usize>(
    rounds: usize,
    peers: [Peer; N],
    measure: impl Fn(Peer) -> (f64, f64),
) -> [(f64, f64); N] {
    let mut figures = peers.map(|_| Vec::new());
    for _ in 0..rounds {
        for (peer, figures) in peers.iter().zip(&mut figures) {
            figures.push(measure(*peer));
        }
    }
    figures.map(|figures| {
        (median(figures.iter().map(|figure| figure.0)), median(figures.iter().map(|figure| figure.1)))
    })
}

/// Gives the thread its own namespace with an upstream in it.
fn site() -> Arc<Origin> {
    site_with(None)
}

/// Like [`site`], with this congestion control at the upstream.
fn site_with(congestion: Option<&str>) -> Arc<Origin> {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    // The loopback device has a port's name: the relay listens on ports.
    run("ip", &["link", "set", "lo", "name", "Ethernet0"]);
    run("ip", &["link", "set", "Ethernet0", "up"]);
    let origin = Origin::start_with(UPSTREAM, congestion);
    origin.put(IMAGE, Image::new(1, LENGTH));
    origin.put(LARGE, Image::new(1, 1 << 40));
    origin.put(TOKEN, Image::new(1, 2000));
    origin.put(SCRIPT, Image::instead("200 OK", &format!("#!ipxe\n{}", "#".repeat(993))));
    origin
}

fn start(peer: Peer) -> Running {
    peer.start(None, "[::1]", "Ethernet0")
}

fn here() -> String {
    format!("[::1]:{PORT}")
}

/// `count` machines ask for `path` at the same moment. Ends when all have it, or after `time`.
fn rush(to: &str, count: usize, path: &str, rate: u64, time: Option<Duration>) -> (Vec<Got>, f64) {
    let (stop, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let (together, buffer) = (Barrier::new(count + 1), if rate > 0 { 64 * 1024 } else { 0 });
    scope(|scope| {
        let machines: Vec<_> = (0..count)
            .map(|_| {
                // They connect one after the other: a port's listener has no room for hundreds at the same moment.
                let mut client = Client::connect(to, buffer);
                let (together, stop, total) = (&together, &stop, &total);
                scope.spawn(move || {
                    let mut bytes = vec![0; 256 * 1024];
                    together.wait();
                    client.download(path, rate, &mut bytes, (stop, total))
                })
            })
            .collect();
        together.wait();
        let begun = Instant::now();
        if let Some(time) = time {
            sleep(time);
            stop.store(true, Ordering::Relaxed);
        }
        let got = machines.into_iter().map(|machine| machine.join().unwrap()).collect();
        (got, begun.elapsed().as_secs_f64())
    })
}

/// Upstream's bytes per image, first byte's median in ms, seconds, CPU seconds per GB.
type Flight = [f64; 4];

fn one_flight(peer: Peer, origin: &Origin) -> Flight {
    let running = start(peer);
    origin.sent();
    let before = running.cpu();
    let (got, took) = rush(&here(), MACHINES, IMAGE, 0, None);
    assert!(got.iter().all(|got| got.whole), "{}: some copies are not whole", peer.name());
    let delivered = (MACHINES as u64 * LENGTH) as f64;
    let first = median(got.iter().map(|got| got.first * 1000.0));
    let cpu = running.cpu() - before;
    [origin.sent() as f64 / LENGTH as f64, first, took, cpu / (delivered / 1e9)]
}

fn flight(rate: u64, rounds: usize) {
    let origin = site();
    origin.rate.store(rate, Ordering::Relaxed);
    let peers = [Peer::Shared, Peer::NginxCache, Peer::Varnish];
    let mut flights = [vec![], vec![], vec![]];
    for _ in 0..rounds {
        for (peer, flights) in peers.iter().zip(&mut flights) {
            flights.push(one_flight(*peer, &origin));
        }
    }
    let middle = |i: usize| -> Flight {
        std::array::from_fn(|figure| median(flights[i].iter().map(|flight: &Flight| flight[figure])))
    };
    let [own, nginx, varnish] = [middle(0), middle(1), middle(2)];
    let show =
        |[sent, first, took, cpu]: Flight| format!("{sent:.2}× / {first:.1} ms / {took:.2} s / {cpu:.2}");
    let what = match rate {
        0 => "one 64 MB image, 48 machines, cold: bytes from upstream / first byte / all / CPU s per GB"
            .to_owned(),
        rate => format!("the same, upstream at {} MB/s a connection", rate / 1_000_000),
    };
    let met = own[0] <= 1.02 && own[1] <= 10.0 && own[2] <= varnish[2] * 1.005 && own[3] <= 0.25;
    let goal = "≤ 1.02× / ≤ 10 ms / ≤ Varnish / ≤ 0.25";
    row(&what, [show(own), show(nginx), none(), show(varnish)], goal, met);
}

/// A leaf's namespace behind a cable with MTU 1500 and no offloads, whose CPU gets 6000 packets per second. As on a
/// switch's CPU port, the kernel segments TCP's data itself.
struct Leaf(Child);

impl Leaf {
    fn plug() -> Self {
        let leaf = Self(
            Command::new("unshare").args(["--net", "sleep", "900"]).stdout(Stdio::null()).spawn().unwrap(),
        );
        let pid = leaf.0.id().to_string();
        let (own, theirs) =
            (std::fs::read_link("/proc/thread-self/ns/net").unwrap(), format!("/proc/{pid}/ns/net"));
        eventually("the leaf has its own namespace", || {
            std::fs::read_link(&theirs).is_ok_and(|theirs| theirs != own)
        });
        run("ip", &["link", "add", "world", "type", "veth", "peer", "name", "Ethernet0", "netns", &pid]);
        let inside = |arguments: &[&str]| {
            run("nsenter", &[&["--net", "--target", &pid], arguments].concat());
        };
        for (device, address, there) in [("world", "fd00::2/64", false), ("Ethernet0", "fd00::1/64", true)] {
            for arguments in [
                vec!["ip", "address", "add", address, "dev", device, "nodad"],
                vec!["ip", "link", "set", device, "up", "mtu", "1500"],
                vec!["ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off"],
            ] {
                if there { inside(&arguments) } else { drop(run(arguments[0], &arguments[1..])) }
            }
        }
        inside(&["nft", "add table netdev copp"]);
        inside(&[
            "nft",
            "add chain netdev copp in { type filter hook ingress device Ethernet0 priority 0; }",
        ]);
        inside(&[
            "nft",
            "add rule netdev copp in meta l4proto tcp limit rate over 6000/second burst 600 packets drop",
        ]);
        leaf
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `congestion`: the upstream's congestion control; none: the computer's own.
fn policed(congestion: Option<&str>) {
    let _origin = site_with(congestion);
    let own = || std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap();
    let congestion = congestion.map_or_else(own, str::to_owned);
    let leaf = Leaf::plug();
    let begin = |peer: Peer| peer.start(Some(leaf.0.id()), "[fd00::2]", "Ethernet0");
    let to = format!("[fd00::1]:{PORT}");
    let rate = |got: &[Got], took: f64| got.iter().map(|got| got.bytes as f64).sum::<f64>() / MB / took;
    let plain = |peer: Peer| {
        let _running = begin(peer);
        let (got, took) = rush(&to, MACHINES, LARGE, 0, Some(Duration::from_secs(10)));
        rate(&got, took)
    };
    let (own, haproxy) = (plain(Peer::Plain), plain(Peer::Haproxy));
    let _running = begin(Peer::Budgeted);
    let (got, took) = rush(&to, MACHINES, IMAGE, 0, Some(Duration::from_secs(60)));
    let took = got.iter().map(|got| got.took).fold(0.0, f64::max).min(took);
    let shared = rate(&got, took);
    let times: Vec<f64> = got.iter().map(|got| got.took).collect();
    let (fastest, slowest) =
        times.iter().fold((f64::MAX, 0.0f64), |(low, high), t| (low.min(*t), high.max(*t)));
    let fair = fastest / slowest;
    row(
        &format!(
            "through 6000 packets/s, MTU 1500, {} at the upstream: all 48 together; shared to plain; slowest to fastest",
            congestion.trim()
        ),
        [
            format!("{shared:.0} MB/s (plain {own:.1}); {:.1}×; {fair:.2}", shared / own),
            none(),
            format!("{haproxy:.1} MB/s"),
            none(),
        ],
        "≥ 14 × plain; ≥ 0.9",
        shared >= 14.0 * own && fair >= 0.9 && got.iter().all(|got| got.whole),
    );
}

fn bulk() {
    let _origin = site();
    let [own, nginx, haproxy] = in_turn(5, [Peer::Plain, Peer::NginxTuned, Peer::Haproxy], |peer| {
        let running = start(peer);
        let before = running.cpu();
        let (got, took) = rush(&here(), MACHINES, LARGE, 0, Some(Duration::from_secs(4)));
        let bytes: f64 = got.iter().map(|got| got.bytes as f64).sum();
        ((running.cpu() - before) / (bytes / 1e9), bytes / MB / took)
    });
    let show = |(cpu, rate): (f64, f64)| format!("{cpu:.2} ({rate:.0} MB/s)");
    let what = "bulk without sharing, 48 machines: CPU s per GB";
    row(what, [show(own), show(nginx), show(haproxy), none()], "≤ 0.85 × HAProxy", own.0 <= 0.85 * haproxy.0);
}

/// Asks for a token again and again until `stop`. Returns the milliseconds that each took.
fn ask(mut client: Client, stop: &AtomicBool) -> Vec<f64> {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        match client.small(TOKEN) {
            Some(200) => times.push(begun.elapsed().as_secs_f64() * 1000.0),
            Some(status) => panic!("{TOKEN}: {status}"),
            // A kept connection may have served its number of requests.
            None => client = Client::connect(&here(), 0),
        }
    }
    times
}

fn token() {
    let _origin = site();
    let measure = |peer: Peer| {
        let _running = start(peer);
        let stop = AtomicBool::new(false);
        scope(|scope| {
            let asking = scope.spawn(|| ask(Client::connect(&here(), 0), &stop));
            let (got, took) = rush(&here(), MACHINES, LARGE, 0, Some(Duration::from_secs(8)));
            stop.store(true, Ordering::Relaxed);
            let mut times = asking.join().unwrap();
            let rate = got.iter().map(|got| got.bytes as f64).sum::<f64>() / MB / took;
            (quantile(&mut times, 0.5), quantile(&mut times, 0.99), rate)
        })
    };
    let [own, nginx, haproxy] = [Peer::Plain, Peer::NginxTuned, Peer::Haproxy].map(measure);
    let show = |(p50, p99, rate): (f64, f64, f64)| format!("{p50:.1} / {p99:.1} ({rate:.0} MB/s)");
    let what = "token, ms median / p99, beside 48 bulk streams";
    let met = own.1 <= 12.0 && own.2 >= 1000.0;
    row(what, [show(own), show(nginx), show(haproxy), none()], "p99 ≤ 12 at ≥ 1000 MB/s", met);
}

fn readers() {
    const READERS: usize = 512;
    let _origin = site();
    let measure = |peer: Peer| {
        let running = start(peer);
        scope(|scope| {
            let reading =
                scope.spawn(|| rush(&here(), READERS, LARGE, 1_000_000, Some(Duration::from_secs(8))));
            sleep(Duration::from_secs(6));
            let (resident, buffers) = running.memory();
            let (got, _) = reading.join().unwrap();
            // Measured from this reader's start: with a thousand threads on one CPU, some begin seconds later.
            let least = got.iter().map(|got| got.bytes as f64 / MB / got.took).fold(f64::MAX, f64::min);
            (resident, buffers, running.files(), least)
        })
    };
    let [own, nginx, haproxy] = [Peer::Plain, Peer::NginxTuned, Peer::Haproxy].map(measure);
    let show = |(resident, buffers, files, least): (f64, f64, f64, f64)| {
        format!("{resident:.0} / {buffers:.0} / {files:.0} MB; {least:.2} MB/s")
    };
    row(
        "512 readers at 1 MB/s: memory / socket buffers / temporary files; the slowest's rate",
        [show(own), show(nginx), show(haproxy), none()],
        "≤ 64 / ≤ 256 / 0; 1 MB/s",
        own.0 <= 64.0 && own.1 <= 256.0 && own.2 < 0.1 && own.3 >= 0.99,
    );
}

/// Asks for a small answer over all of a thread's connections at once, again and again until `stop`, over the same
/// connections or each time over new ones. Counts the answers.
fn ask_together(clients: &mut [Client], (path, status, fresh): Small, stop: &AtomicBool, count: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        for client in clients.iter_mut() {
            // A kept connection may have served its number of requests.
            if fresh || client.ask(path).is_none() {
                *client = Client::connect(&here(), 0);
                client.ask(path).expect("a new connection takes a request");
            }
        }
        for client in clients.iter_mut() {
            if let Some(got) = client.answer() {
                assert_eq!(got, status, "{path}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The requested path, the expected status, and whether each request uses a new connection.
type Small = (&'static str, u16, bool);

/// CPU microseconds per request, and requests per second.
fn requests(peer: Peer, connections: usize, what: Small) -> (f64, f64) {
    let running = start(peer);
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut clients: Vec<Client> = (0..connections).map(|_| Client::connect(&here(), 0)).collect();
    let now = || (running.cpu(), count.load(Ordering::Relaxed), Instant::now());
    let (before, after) = scope(|scope| {
        for clients in clients.chunks_mut(TOGETHER) {
            scope.spawn(|| ask_together(clients, what, &stop, &count));
        }
        sleep(WARM_UP);
        let before = now();
        sleep(ROUND);
        let after = now();
        stop.store(true, Ordering::Relaxed);
        (before, after)
    });
    let (cpu, count) = (after.0 - before.0, (after.1 - before.1) as f64);
    (cpu * 1e6 / count, count / (after.2 - before.2).as_secs_f64())
}

fn small() {
    let _origin = site();
    let show = |(cpu, rate): (f64, f64)| format!("{cpu:.1} ({rate:.0}/s)");
    for (what, connections, fresh) in [
        ("boot script, 64 connections: CPU µs per request", 64, false),
        ("the same, 512 connections", 512, false),
        ("the same, 16 machines, a new connection each", 16, true),
    ] {
        let peers = [Peer::Redirect, Peer::NginxUnbuffered, Peer::NginxVouching, Peer::Haproxy];
        let [own, nginx, alike, haproxy] =
            in_turn(ROUNDS, peers, |peer| requests(peer, connections, (SCRIPT, 200, fresh)));
        let met = own.0 <= SMALL_MAX * nginx.0;
        let both = format!("{}; with the same headers {:.1}", show(nginx), alike.0);
        row(what, [show(own), both, show(haproxy), none()], &format!("≤ {SMALL_MAX} × nginx"), met);
    }
}

fn redirect() {
    let _origin = site();
    let peers = [Peer::Redirect, Peer::NginxRedirect, Peer::NginxRedirectWithId];
    let [own, nginx, alike] = in_turn(ROUNDS, peers, |peer| requests(peer, 64, (IMAGE, 307, false)));
    let show = |(cpu, rate): (f64, f64)| format!("{:.0}/s ({rate:.0}/s seen)", 1e6 / cpu);
    let what = "redirects a CPU second can answer, 64 connections";
    let both = format!("{}; with the same headers {:.0}/s", show(nginx), 1e6 / alike.0);
    let (goal, met) = (format!("≥ nginx / {SMALL_MAX}"), own.0 <= SMALL_MAX * nginx.0);
    row(what, [show(own), both, none(), none()], &goal, met);
}

fn memory() {
    let switch = switch::Switch::start();
    let agent = agent::Agent::start_ready(&switch);
    sleep(Duration::from_secs(2));
    let resident = agent.resident() as f64 / MB;
    let binary = std::fs::metadata(agent::LEAFBOOT).unwrap().len() as f64 / MB;
    let figure = format!("{resident:.1} MB; {binary:.1} MB");
    row(
        "the whole agent, idle: memory; binary",
        [figure, none(), none(), none()],
        "≤ 12; ≤ 8",
        resident <= 12.0 && binary <= 8.0,
    );
}
