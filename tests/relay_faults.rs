//! The relay while something goes wrong around it: upstreams that are killed, that come back, that are slow; a machine that
//! floods its port. curl is the machine; each upstream is a process of its own, so that it can be killed as one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leafboot::config::Config;
use leafboot::observed::Links;
use leafboot::relay::task;
use leafboot::systemd::Inherited;
use support::advertiser::{in_boot_vrf, wish};
use support::cable::Cable;
use support::front::{relays, settings};
use support::scripted::Scripted;
use support::wire::find;
use support::{eventually, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Names the TCP port and the log of the upstream that this program is to be.
const UPSTREAM: &str = "LEAFBOOT_TEST_UPSTREAM";

/// Names the settings of the relay that this program is to be.
const RELAY: &str = "LEAFBOOT_TEST_RELAY";

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
        eventually("the upstream listens", || std::net::TcpStream::connect(("::1", port)).is_ok());
        Self { process, port, log }
    }

    /// The paths that it was asked for, answered or not.
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

/// Not a test, but an upstream's process: writes each path that it is asked for to its log, and answers a little later.
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
    // What is no such line is curl's progress.
    let got = printed.lines().filter_map(|line| {
        let (status, url) = line.split_once(' ')?;
        Some((url.strip_prefix(&origin)?.to_owned(), status.to_owned()))
    });
    got.collect()
}

/// What did not get a status.
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
fn a_killed_upstream_costs_only_what_it_had_been_sent() {
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
    assert_eq!((images.len(), without("307", &images)), (600, BTreeSet::new()), "redirects ask nobody");
}

#[test]
fn an_upstream_that_died_before_it_was_asked_costs_nothing() {
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
    let got = std::thread::scope(|scope| {
        for number in 0..64 {
            let machine = cable.namespace();
            scope.spawn(move || {
                nix::sched::setns(machine, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                flood(number, ends);
            });
        }
        let mut got = Vec::new();
        while Instant::now() < ends {
            got.extend(ask(&cable, "2001:db8:b007:4::1", (0..4).map(token), 1));
        }
        got
    });
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
        let Ok(stream) = std::net::TcpStream::connect_timeout(&gateway, Duration::from_millis(500)) else {
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

/// leafboot's relay as a process, and what systemd does for it: it keeps the listeners (`FDSTORE=1`), and the next process
/// gets them (sd_listen_fds(3)). Both are this program again, for this computer's kernel may have no VRF.
struct Unit {
    settings: PathBuf,
    notify: UnixDatagram,
    kept: Vec<RawFd>,
    process: Child,
}

impl Unit {
    fn start(directory: &Path, settings: &str) -> Self {
        let file = directory.join("leafboot.toml");
        std::fs::write(&file, settings).unwrap();
        let notify = UnixDatagram::bind(directory.join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let process = Self::spawn(&file, &[]);
        Self { settings: file, notify, kept: Vec::new(), process }
    }

    fn spawn(settings: &Path, kept: &[RawFd]) -> Child {
        // What is handed on begins at descriptor 3, and is named by the process that gets it.
        let moved: String = kept.iter().zip(3..).map(|(from, to)| format!("exec {to}<&{from}; ")).collect();
        let script = format!("{moved} export LISTEN_PID=$$; exec \"$0\" --exact relay_process --nocapture");
        Command::new("bash")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(RELAY, settings)
            .env("NOTIFY_SOCKET", settings.with_file_name("notify"))
            .env("LISTEN_FDS", kept.len().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// `systemctl restart`: SIGTERM, and the next process when this one has ended.
    fn restart(&mut self) {
        self.receive();
        run("kill", &["-TERM", &self.process.id().to_string()]);
        assert!(self.process.wait().unwrap().success(), "it ends in peace");
        self.process = Self::spawn(&self.settings, &self.kept);
    }

    /// Takes what the process has given to keep.
    fn receive(&mut self) {
        let (mut text, mut space) = ([0; 256], nix::cmsg_space!([RawFd; 4]));
        loop {
            let mut pieces = [std::io::IoSliceMut::new(&mut text)];
            let flags = nix::sys::socket::MsgFlags::empty();
            let Ok(message) = nix::sys::socket::recvmsg::<()>(
                self.notify.as_raw_fd(),
                &mut pieces,
                Some(&mut space),
                flags,
            ) else {
                return;
            };
            if message.iovs().any(|text| find(text, b"FDSTOREREMOVE").is_some()) {
                self.kept.clear();
            }
            for control in message.cmsgs().unwrap() {
                if let nix::sys::socket::ControlMessageOwned::ScmRights(descriptors) = control {
                    self.kept = descriptors;
                }
            }
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test, but the relay's process: its task as `main` runs it, with Ethernet0 in boot.
#[test]
fn relay_process() {
    let Ok(settings) = std::env::var(RELAY) else { return };
    let config = Arc::new(Config::parse(&std::fs::read_to_string(settings).unwrap()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let wish = wish(std::iter::once((0, "2001:db8:b007::/64".to_owned())));
        let (_desired_out, desired) = watch::channel(wish);
        let (links_out, links) = watch::channel(Links::new());
        let (stop_out, stop) = watch::channel(false);
        let inputs = task::Inputs { desired, links, stop, inherited: Inherited::receive() };
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        tokio::select! {
            end = task::run(config, Arc::default(), inputs) => end.unwrap(),
            () = in_boot_vrf(links_out) => {}
            () = async {
                terminate.recv().await;
                stop_out.send_replace(true);
                std::future::pending().await
            } => {}
        }
    });
}

#[test]
fn a_restart_under_load_costs_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let cable = Cable::plug();
    let (first, second) = (Upstream::start(directory.path(), 0), Upstream::start(directory.path(), 0));
    let mut unit = Unit::start(directory.path(), &unlimited(&[&first, &second]));
    plugged(&cable);
    let tokens = std::thread::scope(|scope| {
        let tokens = scope.spawn(|| ask(&cable, GATEWAY, (0..2400).map(token), AT_ONCE));
        for asked in [300, 900, 1500] {
            eventually("the relay is under load", || first.asked().len() >= asked);
            unit.restart();
        }
        tokens.join().unwrap()
    });
    assert_eq!((tokens.len(), without("200", &tokens)), (2400, BTreeSet::new()));
    assert_eq!(unit.kept.len(), 1, "the listener was kept");
}
