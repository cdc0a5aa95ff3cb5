//! The relay while something goes wrong around it: upstreams that are killed, that come back, that are slow; a machine that
//! floods its port, or is gone. curl is the machine; each upstream is a process of its own, so that it can be killed as one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use leafboot::internals::relay::listener;
use socket2::SockRef;
use support::cable::Cable;
use support::download::{EAGER, Habit, get};
use support::front::{relays, relays_on, settings};
use support::origin::{Image, Origin};
use support::scripted::Scripted;
use support::systemd::Systemd;
use support::{eventually, run};

/// The environment variable with the TCP port and the log of the upstream that this process is to be.
const UPSTREAM: &str = "LEAFBOOT_TEST_UPSTREAM";

/// An upstream's process: this program again, which then runs nothing but [`upstream_process`].
struct Upstream {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Upstream {
    /// Starts one in the calling thread's namespace; port 0 is any that is free.
    fn start(directory: &Path, port: u16) -> Self {
        let port = match port {
            0 => TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap().port(),
            port => port,
        };
        let log = directory.join(format!("{port}.log"));
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "upstream_process"])
            .env(UPSTREAM, format!("{port} {}", log.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the upstream listens", || TcpStream::connect(("::1", port)).is_ok());
        Self { process, port, log }
    }

    /// The paths of its requests, answered or not.
    fn asked(&self) -> BTreeSet<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// `kill -9`
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test, but an upstream's process: writes the path of each request to its log, and answers a little later.
#[test]
fn upstream_process() {
    let Ok(told) = std::env::var(UPSTREAM) else { return };
    let (port, log) = told.split_once(' ').unwrap();
    let listener = TcpListener::bind(("::1", port.parse().unwrap())).unwrap();
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let _origin = Scripted::play(&listener, move |conversation| {
        while let Some(request) = conversation.request() {
            let path = request.split(' ').nth(1).unwrap_or_default();
            (&log).write_all(format!("{path}\n").as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(5));
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ntoken\n");
        }
    });
    std::thread::sleep(Duration::from_secs(600));
}

/// The path of a machine's token request; each machine has a UUID of its own.
fn token(number: usize) -> String {
    format!("/config/00000000-0000-4000-8000-{number:012}")
}

/// A path and the status that it got; 000 is no answer.
type Got = (String, String);

/// Asks a gateway for every path from the machine's side, `at_once` at a time.
fn ask(cable: &Cable, gateway: &str, paths: impl IntoIterator<Item = String>, at_once: usize) -> Vec<Got> {
    let origin = format!("http://[{gateway}]");
    let url = |path: String| format!("url = \"{origin}{path}\"\noutput = /dev/null\n");
    let urls: String = paths.into_iter().map(url).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(urls.as_bytes()).unwrap();
    let (file, at_once) = (file.path().to_str().unwrap().to_owned(), at_once.to_string());
    let options = [
        "-s",
        "-g",
        "-Z",
        "--parallel-max",
        &at_once,
        "-m",
        "5",
        "-w",
        "%{http_code} %{url}\\n",
        "-K",
        &file,
    ];
    let printed = cable.machine("curl", &options);
    // Other lines are curl's progress.
    let got = printed.lines().filter_map(|line| {
        let (status, url) = line.split_once(' ')?;
        Some((url.strip_prefix(&origin)?.to_owned(), status.to_owned()))
    });
    got.collect()
}

/// The paths that did not get a status.
fn without(status: &str, got: &[Got]) -> BTreeSet<String> {
    got.iter().filter(|(_, code)| code != status).map(|(path, _)| path.clone()).collect()
}

/// The leaf's address on Ethernet0.
const GATEWAY: &str = "2001:db8:b007::1";
/// Requests at once; less than a port may have connections.
const AT_ONCE: usize = 8;

/// Settings without a limit of requests; images are redirected.
fn unlimited(upstreams: &[&Upstream]) -> String {
    let ports: Vec<u16> = upstreams.iter().map(|upstream| upstream.port).collect();
    settings(&ports).replace("proxy", "redirect") + "[relay]\nrequests = 0\n"
}

/// Runs a relay on Ethernet0, and waits until the machine reaches it.
fn leaf(upstreams: &[&Upstream], cable: &Cable) {
    relays(vec![("Ethernet0", 80, unlimited(upstreams))]);
    plugged(cable);
}

fn plugged(cable: &Cable) {
    cable.boot();
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    eventually("the machine reaches its gateway", || {
        ask(cable, GATEWAY, ["/".to_owned()], 1).iter().any(|(_, status)| status == "404")
    });
}

#[test]
fn a_killed_upstream_loses_only_requests_that_it_had_been_sent() {
    let directory = tempfile::tempdir().unwrap();
    let cable = Cable::plug();
    let (mut first, second) = (Upstream::start(directory.path(), 0), Upstream::start(directory.path(), 0));
    leaf(&[&first, &second], &cable);
    let (tokens, images) = std::thread::scope(|scope| {
        let tokens = scope.spawn(|| ask(&cable, GATEWAY, (0..600).map(token), AT_ONCE));
        let images = scope.spawn(|| ask(&cable, GATEWAY, (0..600).map(|n| format!("/metal-os/{n}/img")), 4));
        eventually("the first upstream is under load", || first.asked().len() >= 200);
        first.kill();
        (tokens.join().unwrap(), images.join().unwrap())
    });
    let lost = without("200", &tokens);
    println!("{} of {} tokens were lost", lost.len(), tokens.len());
    assert_eq!(tokens.len(), 600);
    // What was on its way to the upstream when it died may be lost: it could be what mints a token.
    assert!(lost.len() <= AT_ONCE, "more than were under way: {lost:?}");
    let twice: Vec<String> = first.asked().intersection(&second.asked()).cloned().collect();
    assert_eq!(twice, Vec::<String>::new(), "what was sent is not sent again: it mints a token");
    assert!(second.asked().len() + lost.len() + first.asked().len() >= 600, "the second took over");
    assert_eq!((images.len(), without("307", &images)), (600, BTreeSet::new()), "redirects need no upstream");
}

#[test]
fn an_upstream_that_died_before_a_request_loses_none() {
    let directory = tempfile::tempdir().unwrap();
    let cable = Cable::plug();
    let (mut first, second) = (Upstream::start(directory.path(), 0), Upstream::start(directory.path(), 0));
    leaf(&[&first, &second], &cable);
    assert_eq!(without("200", &ask(&cable, GATEWAY, (0..40).map(token), AT_ONCE)), BTreeSet::new());
    assert_eq!(second.asked().len(), 0, "the first in the list is well");
    first.kill();
    assert_eq!(without("200", &ask(&cable, GATEWAY, (40..80).map(token), AT_ONCE)), BTreeSet::new());
}

#[test]
fn machines_are_told_to_wait_while_no_upstream_is_there_and_served_when_one_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let cable = Cable::plug();
    let mut only = Upstream::start(directory.path(), 0);
    leaf(&[&only], &cable);
    assert_eq!(without("200", &ask(&cable, GATEWAY, (0..20).map(token), AT_ONCE)), BTreeSet::new());
    only.kill();
    assert_eq!(without("503", &ask(&cable, GATEWAY, (20..40).map(token), AT_ONCE)), BTreeSet::new());
    let _back = Upstream::start(directory.path(), only.port);
    let got = ask(&cable, GATEWAY, (40..60).map(token), AT_ONCE);
    assert_eq!(without("200", &got), BTreeSet::new(), "the next request finds it");
}

#[test]
fn a_machines_flood_leaves_other_ports_alone() {
    let directory = tempfile::tempdir().unwrap();
    let cable = Cable::plug();
    let pid = cable.pid();
    run("ip", &["link", "add", "Ethernet4", "type", "veth", "peer", "name", "eth4", "netns", &pid]);
    run("ip", &["link", "set", "Ethernet4", "up"]);
    run("ip", &["address", "add", "2001:db8:b007:4::1/64", "dev", "Ethernet4", "nodad"]);
    cable.machine("ip", &["link", "set", "eth4", "up"]);
    cable.machine("ip", &["address", "add", "2001:db8:b007:4::7/64", "dev", "eth4", "nodad"]);
    let upstream = Upstream::start(directory.path(), 0);
    let shared = settings(&[upstream.port]);
    relays(vec![("Ethernet0", 80, shared.clone()), ("Ethernet4", 80, shared)]);
    plugged(&cable);

    let ends = Instant::now() + Duration::from_secs(4);
    let floods: Vec<_> = (0..64).map(|number| cable.inside(move || flood(number, ends))).collect();
    let mut got = Vec::new();
    while Instant::now() < ends {
        got.extend(ask(&cable, "2001:db8:b007:4::1", (0..4).map(token), 1));
        // A port may ask 100 times a second, however quick the computer is.
        std::thread::sleep(Duration::from_millis(50));
    }
    for flood in floods {
        flood.join().unwrap();
    }
    println!("{} tokens on the other port", got.len());
    assert!(got.len() >= 20 && without("200", &got).is_empty(), "{got:?}");
    eventually("the flooded port answers again", || {
        without("200", &ask(&cable, GATEWAY, [token(1)], 1)).is_empty()
    });
}

/// One of a flood's connections, again and again: requests that are refused, that wait for the upstream, that never end.
fn flood(number: usize, ends: Instant) {
    let gateway = format!("[{GATEWAY}]:80").parse().unwrap();
    while Instant::now() < ends {
        let Ok(stream) = TcpStream::connect_timeout(&gateway, Duration::from_millis(500)) else {
            continue;
        };
        let request = match number % 4 {
            0 => "GET / HTTP/1.1\r\nHost: leaf\r\n\r\n".repeat(50),
            1 => format!("GET {} HTTP/1.1\r\nHost: leaf\r\n\r\n", token(number)).repeat(50),
            2 => "GET /boot.ipxe HTTP/1.1\r\nHost:".to_owned(),
            _ => "x".repeat(100_000),
        };
        let _ = (&stream).write_all(request.as_bytes());
        std::thread::sleep(Duration::from_millis(if number % 4 == 2 { 400 } else { 5 }));
    }
}

#[test]
fn a_connection_ends_when_its_machines_cable_is_gone() {
    let cable = Cable::plug();
    let origin = Origin::start(8080);
    origin.put("/metal-os/img", Image::new(1, 64_000_000));
    // Nothing but the kernel notices: no rate is too slow.
    let limits = "[relay]\nmin_rate = \"0\"\nconnections = 1\n";
    relays_on(vec![("Ethernet0", 80, settings(&[8080]) + limits)], |listener| {
        // As it is by default, this would take a minute.
        SockRef::from(listener).set_tcp_user_timeout(Some(Duration::from_secs(1))).unwrap();
    });
    plugged(&cable);
    let gateway = format!("[{GATEWAY}]:80");
    let reads = Habit { rate: 4_000_000, ..EAGER };
    let download = cable.inside(move || get(&gateway, "/metal-os/img", "", reads));
    let has_connection = || !run("ss", &["-Htn", "state", "established", "sport", "=", ":80"]).is_empty();
    eventually("the image is under way", || origin.answers.load(Ordering::Relaxed) == 1);
    let curl = ["-sg", "-m", "2", &format!("http://[{GATEWAY}]/")];
    assert_eq!(cable.machine("curl", &curl), "", "its place is taken");
    assert!(has_connection(), "a machine that reads is waited for");
    cable.machine("ip", &["link", "set", "eth0", "down"]);
    let begun = Instant::now();
    eventually("the kernel has given the connection up", || !has_connection());
    assert!(begun.elapsed() > Duration::from_millis(500), "the link alone ends nothing");
    plugged(&cable);
    // The test does not check whether the machine notices.
    drop(download);
}

#[test]
fn a_machines_connection_has_the_listeners_limits() {
    let cable = Cable::plug();
    let listener = listener::open(&"Ethernet0".parse().unwrap(), 80).unwrap();
    listener.set_nonblocking(false).unwrap();
    cable.boot();
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    let machine = cable.inside(|| TcpStream::connect((GATEWAY, 80)).unwrap());
    let (stream, _) = listener.accept().unwrap();
    let socket = SockRef::from(&stream);
    let seconds = Duration::from_secs;
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(60)), "for what is not acknowledged");
    assert!(socket.keepalive().unwrap(), "for a connection without a word");
    assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(30));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(10));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    // The kernel counts its own book-keeping, too.
    assert_eq!(socket.send_buffer_size().unwrap(), 2 * 128 * 1024);
    assert_eq!(socket.recv_buffer_size().unwrap(), 2 * 64 * 1024);
    drop(machine.join());
}

/// Not a test, but the relay's process.
#[test]
fn relay() {
    support::systemd::relay_process();
}

#[test]
fn restarts_under_load_cost_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let cable = Cable::plug();
    let (first, second) = (Upstream::start(directory.path(), 0), Upstream::start(directory.path(), 0));
    let mut systemd = Systemd::new(&unlimited(&[&first, &second]));
    let mut relay = systemd.start();
    plugged(&cable);
    let tokens = std::thread::scope(|scope| {
        let tokens = scope.spawn(|| ask(&cable, GATEWAY, (0..2400).map(token), AT_ONCE));
        for asked in [300, 900, 1500] {
            eventually("the relay is under load", || first.asked().len() >= asked);
            while !systemd.hear().contains("FDSTORE=1") {}
            relay.terminate("-TERM");
            relay = systemd.start();
        }
        tokens.join().unwrap()
    });
    assert_eq!((tokens.len(), without("200", &tokens)), (2400, BTreeSet::new()));
}
