//! Machines that flood the relay on some ports, and a machine that boots on another one: each port's limits bound the
//! work and the log lines that its machines cause.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leafboot::internals::Metrics;
use leafboot::internals::ServiceState;
use leafboot_core::settings::Settings;
use support::flood::{Kind, flood};
use support::port;
use support::ports::{Ports, gateway};
use support::scripted::Scripted;
use support::wire::Wire;

/// Connections that flood each port.
const CONNECTIONS: usize = 16;
/// `relay.requests`, as it is by default.
const REQUESTS: u64 = 100;

/// Ports with machines, their relays, and a boot service that has scripts and must never get a token request.
struct Leaf {
    ports: Ports,
    metrics: Arc<Metrics>,
    log: Receiver<String>,
    _boot_service: Scripted,
}

impl Leaf {
    /// So many ports; `further` are keys of `[relay]`. With `mode = "proxy"` there is no cache.
    fn start(count: usize, further: &str, mode: &str) -> Self {
        let ports = Ports::plug(count);
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let boot_service = Scripted::play(&listener, |conversation| {
            while let Some(request) = conversation.request() {
                // A token request gets no valid HTTP answer, so the relay answers 503.
                let is_script = request.contains("/boot.ipxe");
                let script: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n#!ipxe\n";
                conversation.send(if is_script { script } else { b"what?\r\n\r\n" });
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let tls = certificate(directory.path());
        let text = format!(
            "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\n{further}{tls}\
             [relay.boot_service]\norigins = [\"{origin}\"]\n[relay.cache]\nname = \"http://images.metal-stack.io\"\n\
             origins = [\"http://[::1]:9\"]\nmode = \"{mode}\"\n"
        );
        let (log_out, log) = channel();
        let metrics = Arc::new(Metrics::default());
        let (names, counted) = (ports.names(), Arc::clone(&metrics));
        std::thread::spawn(move || relays(&text, &names, &counted, log_out));
        ports.wait(80);
        ports.wait(443);
        drop(directory);
        Self { ports, metrics, log, _boot_service: boot_service }
    }

    /// Floods a port over all connections until `ends`. Each thread returns the number of its answers.
    fn flood(&self, port: usize, kind: Kind, ends: Instant) -> Vec<JoinHandle<u64>> {
        let to = gateway(port, if kind == Kind::Handshake { 443 } else { 80 });
        (0..CONNECTIONS).map(|_| self.ports.inside(move || flood(kind, to, ends))).collect()
    }

    /// A machine on a port asks for its boot script until then, over one connection: how long each took, in ms.
    fn scripts(&self, port: usize, ends: Instant) -> Vec<f64> {
        let asking = self.ports.inside(move || {
            let mut machine = Wire::connect(gateway(port, 80));
            let mut times = Vec::new();
            while Instant::now() < ends {
                let begun = Instant::now();
                machine.send(b"GET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\nUser-Agent: iPXE/1\r\n\r\n");
                let answer = machine.answer().expect("an answer");
                assert_eq!((answer.status, &*answer.body), (200, b"#!ipxe\n".as_slice()));
                times.push(begun.elapsed().as_secs_f64() * 1000.0);
                // A port may do some 100 things a second, however quick the computer is.
                std::thread::sleep(Duration::from_millis(20));
            }
            times.sort_by(f64::total_cmp);
            times
        });
        asking.join().unwrap()
    }

    /// A counter of a port.
    fn counted(&self, name: &str, port: usize) -> f64 {
        let start = format!("leafboot_relay_{name}_total{{port=\"{}\"}} ", support::ports::name(port));
        let text = self.metrics.text();
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0.0)
    }

    /// The new lines of the log since the last call.
    fn said(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }
}

fn of(port: usize, lines: &[String]) -> usize {
    let port = format!("port={} ", support::ports::name(port));
    lines.iter().filter(|line| line.contains(&port)).count()
}

/// The setting of a certificate that was made for the test.
fn certificate(directory: &std::path::Path) -> String {
    let made = rcgen::generate_simple_self_signed(["leaf.example".to_owned()]).unwrap();
    let (certificate, key) = (directory.join("relay.crt"), directory.join("relay.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n")
}

/// A relay on every port, in this thread and its namespace, with a log as an operator has it.
fn relays(settings: &str, ports: &[String], metrics: &Arc<Metrics>, log: Sender<String>) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || Log(log.clone()))
        .finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let settings = Settings::parse(settings).unwrap_or_else(|e| panic!("{e}\n{settings}")).relay;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shared = Arc::new(ServiceState::new(&settings, metrics, &Arc::default()).unwrap());
        let mut lifecycles = Vec::new();
        for name in ports {
            let lifecycle = port::lifecycle(name, "2001:db8:b007::/64");
            let service = port::relay_port(&shared, lifecycle.subscribe());
            tokio::spawn(port::serve(Arc::clone(&service), 80, false));
            tokio::spawn(port::serve(service, 443, true));
            lifecycles.push(lifecycle);
        }
        std::future::pending::<()>().await;
    });
}

struct Log(Sender<String>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn floods_of_every_kind_are_limited_on_their_ports_and_leave_another_alone() {
    let leaf = Leaf::start(Kind::ALL.len() + 1, "", "redirect");
    let honest = Kind::ALL.len();
    let idle = leaf.scripts(honest, Instant::now() + Duration::from_secs(1));
    let (waited, seconds) = (leaf.counted("rate_limited_seconds", honest), 4);
    let ends = Instant::now() + Duration::from_secs(seconds);
    let floods: Vec<_> =
        Kind::ALL.iter().enumerate().map(|(port, kind)| (kind, leaf.flood(port, *kind, ends))).collect();
    let busy = leaf.scripts(honest, ends);
    let at = |times: &[f64], part: f64| times[((times.len() - 1) as f64 * part) as usize];
    for (what, times) in [("idle", &idle), ("busy", &busy)] {
        println!("{what}: {} scripts, {:.2} / {:.2} ms", times.len(), at(times, 0.5), at(times, 0.99));
    }
    assert!(busy.len() > 60, "{} scripts", busy.len());
    for (port, (kind, flood)) in floods.into_iter().enumerate() {
        let answers: u64 = flood.into_iter().map(|connection| connection.join().unwrap()).sum();
        println!("{kind:?}: {answers} answers, waited {:.1} s", leaf.counted("rate_limited_seconds", port));
        assert!(answers <= REQUESTS * (seconds + 1), "{kind:?}: {answers} answers in {seconds} s");
        assert!(leaf.counted("rate_limited_seconds", port) > 1.0, "{kind:?} waits");
    }
    assert_eq!(leaf.counted("rate_limited_seconds", honest), waited, "only what asks too much waits");
}

#[test]
fn a_port_that_goes_on_flooding_is_muted_and_its_machine_boots_soon_after() {
    let leaf = Leaf::start(1, "", "redirect");
    let ends = Instant::now() + Duration::from_secs(9);
    let answers: u64 = leaf.flood(0, Kind::NotFound, ends).into_iter().map(|one| one.join().unwrap()).sum();
    assert!(answers <= REQUESTS * 9, "{answers}");
    assert!(leaf.counted("muted_seconds", 0) >= 1.0);
    let said = leaf.said();
    let mutes = said.iter().filter(|line| line.contains(" muted") && line.contains("port=Ethernet0")).count();
    assert_eq!(mutes, 1, "said once: {said:?}");
    // The longest mute is 8 s, and connections of the flood in the backlog go first.
    let begun = Instant::now();
    let asking = leaf.ports.inside(|| {
        let mut machine = Wire::connect(gateway(0, 80)).patient(Duration::from_secs(12));
        machine.send(b"GET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n");
        machine.answer().unwrap().status
    });
    assert_eq!(asking.join().unwrap(), 200);
    println!("{answers} answers; a machine was served after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(12));
}

#[test]
fn a_port_has_its_share_of_the_log_and_no_more() {
    // As many requests as it likes: the log is bounded by itself.
    let leaf = Leaf::start(3, "requests = 0\n", "proxy");
    leaf.said();
    let ends = Instant::now() + Duration::from_secs(3);
    let floods = [(1, leaf.flood(1, Kind::Unavailable, ends)), (2, leaf.flood(2, Kind::Image, ends))];
    let scripts = leaf.scripts(0, ends).len();
    let mut said = leaf.said();
    for (port, flood) in floods {
        let answers: u64 = flood.into_iter().map(|one| one.join().unwrap()).sum();
        assert!(answers > 500, "{answers}");
        assert!(leaf.counted("log_lines_left_out", port) > 100.0);
        support::eventually("the log says how many lines it has left out", || {
            said.extend(leaf.said());
            said.iter().any(|line| {
                line.contains("left out")
                    && line.contains("lines=")
                    && of(port, std::slice::from_ref(line)) == 1
            })
        });
        println!("{answers} answers, {} lines", of(port, &said));
        assert!(of(port, &said) <= 60, "{} lines for {answers} answers", of(port, &said));
    }
    let unnamed = said.iter().filter(|line| !line.contains("port=") && line.contains("/metal-os/")).count();
    assert_eq!(unnamed, 0, "every line is some port's: {said:?}");
    assert!(of(0, &said) >= 30, "{scripts} scripts of the other port, {} lines", of(0, &said));
}
