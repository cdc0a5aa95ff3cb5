//! Real breakages and the verdicts on them: a machine in a network namespace, leafboot's tasks, a boot service and a partition
//! cache that the test breaks. There is no SONiC: the port is in the boot VRF from the beginning, and nothing is counted.
//! A device with the boot VRF's name leads to the cache, for this computer's kernel may have no VRF.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leafboot::internals::diagnosis::{self, AttemptInputs, AttemptsFile, DiagnosisInputs, EvidenceOutputs};
use leafboot::internals::ra::thread;
use leafboot::internals::relay::task::{self, RelayInputs};
use leafboot::internals::{Guarded, Inherited, Recorder};
use leafboot_core::desired::Desired;
use leafboot_core::names::PortName;
use leafboot_core::settings::Settings;
use leafboot_core::status::{PortState, PortStatus, Status};
use leafboot_core::verdict::{Diagnosis, LeafFacts, Level, PortDiagnosis, VerdictReason};
use support::advertiser::{in_boot_vrf, roles, wish};
use support::cable::{Cable, GATEWAY};
use support::namespace::{self, Namespace};
use tokio::sync::watch;

const PREFIX: &str = "2001:db8:b007::/64";
const KERNEL: &str = "/metal-stack/kernel/metal-kernel";
const SCRIPT: &str = "#!ipxe\nkernel /metal-stack/kernel/metal-kernel\nboot\n";
/// A verdict names a fault within 10 s. This computer may be busy.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server that gives the same answer to every request, until it is told another.
#[derive(Clone)]
struct Server(Arc<Guarded<Vec<u8>>>);

impl Server {
    fn at(listener: TcpListener, status: &str, body: &str) -> Self {
        let server = Self(Arc::default());
        server.says(status, body);
        let answer = Arc::clone(&server.0);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut head, mut byte) = (stream.unwrap(), Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let _ = stream.write_all(&answer.with(|answer| answer.clone()));
            }
        });
        server
    }

    fn says(&self, status: &str, body: &str) {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.with(|now| *now = answer.into_bytes());
    }
}

/// A leaf with one port, its machine, and the partition behind the leaf.
struct World {
    cable: Cable,
    partition: Namespace,
    boot_service: Server,
    status: watch::Sender<Status>,
    desired: watch::Sender<Option<Desired>>,
    diagnosis: watch::Receiver<Arc<Diagnosis>>,
    _directory: tempfile::TempDir,
}

impl World {
    /// The boot service gives a script, and nobody listens at the cache. The machine is off.
    fn start() -> Self {
        let cable = Cable::plug();
        let partition = Namespace::start();
        let pid = partition.pid();
        namespace::batch(&format!(
            "link add Vrfboot type veth peer name up0 netns {pid}\nlink set Vrfboot up\n\
             address add 2001:db8:ffff::1/64 dev Vrfboot nodad\n"
        ));
        partition.batch("link set lo up\nlink set up0 up\naddress add 2001:db8:ffff::90/64 dev up0 nodad\n");
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let origin = listener.local_addr().unwrap();
        let boot_service = Server::at(listener, "200 OK", SCRIPT);
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "leaf = \"leaf01\"\n[sonic]\ndatabase_config = \"{0}/none.json\"\n[state]\ndirectory = \"{0}\"\n\
             [boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n\
             [relay.boot_service]\norigins = [\"http://{origin}\"]\n\
             [relay.cache]\nname = \"http://[2001:db8:ffff::90]\"\n",
            directory.path().display()
        );
        let settings = Arc::new(Settings::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")));
        let (status, status_in) = watch::channel(port_in(PortState::Boot));
        let (desired, desired_in) = watch::channel(wish([(0, PREFIX.to_owned())].into_iter()));
        let (diagnosis_out, diagnosis) = watch::channel(Arc::default());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(settings, status_in, desired_in, diagnosis_out));
        });
        Self { cable, partition, boot_service, status, desired, diagnosis, _directory: directory }
    }

    fn diagnosis(&self) -> Option<PortDiagnosis> {
        let port: PortName = "Ethernet0".parse().unwrap();
        self.diagnosis.borrow().get(&port).cloned()
    }

    /// Waits for a verdict with these words; returns its evidence.
    fn expect(&self, reason: VerdictReason, words: &str) -> String {
        self.expect_while(reason, words, || {})
    }

    /// The same, while the machine does something again and again.
    fn expect_while(&self, reason: VerdictReason, words: &str, mut doing: impl FnMut()) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.diagnosis();
            if let Some(PortDiagnosis { verdict, .. }) = &now
                && verdict.reason == reason
                && verdict.message.contains(words)
            {
                return verdict.evidence.join("\n");
            }
            assert!(Instant::now() < end, "no {reason:?} with {words:?}, but {now:?}");
            doing();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The machine is switched on: its kernel solicits as iPXE does, and has an address when this returns.
    fn switch_on(&self) {
        self.cable.boot();
        support::eventually("the machine has an address", || {
            self.cable
                .machine("ip", &["-6", "address", "show", "dev", "eth0", "scope", "global"])
                .contains("b007")
        });
    }

    /// What iPXE gets from the leaf.
    fn asks(&self, path: &str) -> String {
        let url = format!("http://[2001:db8:b007::1]{path}");
        self.cable.machine("curl", &["-sSi", "-m", "5", "-g", "-A", "iPXE/1.21.1+", &url])
    }

    /// A server at the cache's address.
    fn cache(&self, status: &'static str) -> Server {
        let listen = || TcpListener::bind("[::]:80").unwrap();
        Server::at(self.partition.inside(listen).join().unwrap(), status, "")
    }
}

fn port_in(state: PortState) -> Status {
    let port = PortStatus { state, prefix: Some(PREFIX.parse().unwrap()), ..PortStatus::RELEASED };
    Status { ports: [("Ethernet0".parse().unwrap(), port)].into(), ..Status::default() }
}

/// leafboot's tasks but for the API and all that SONiC is needed for.
async fn run(
    settings: Arc<Settings>,
    status: watch::Receiver<Status>,
    desired: watch::Receiver<Option<Desired>>,
    published: watch::Sender<Arc<Diagnosis>>,
) {
    let recorder = Arc::new(Recorder::default());
    let (links_out, links) = watch::channel(Default::default());
    let roles = roles(&settings, desired, links.clone());
    let (counters_out, counters) = watch::channel(Default::default());
    let (wanted_out, wanted) = watch::channel(Default::default());
    let (probed, probes) = watch::channel(Default::default());
    let (_stop_out, stop) = watch::channel(false);
    let (states, _states) = watch::channel(Default::default());
    let attempts = Arc::clone(&recorder);
    let relay =
        RelayInputs { roles: roles.clone(), stop, inherited: Inherited::default(), attempts, wanted, probed };
    let evidence = EvidenceOutputs { counters: counters_out, wanted: wanted_out };
    let file = AttemptsFile::new(&settings.state_directory);
    let follows = AttemptInputs { roles: roles.clone(), links: links.clone(), events: Arc::default() };
    let inputs = DiagnosisInputs { status, links, counters, probes, events: Arc::default() };
    let (withdrawn, facts) = (Arc::default(), LeafFacts::of(&settings));
    tokio::select! {
        () = in_boot_vrf(links_out) => {}
        () = thread::run(Arc::clone(&settings), withdrawn, Arc::clone(&recorder), Arc::default(), roles, states) => {}
        end = task::run(Arc::clone(&settings), Arc::default(), relay) => end.unwrap(),
        never = diagnosis::follow_ports(Arc::clone(&recorder), file, follows) => match never {},
        never = diagnosis::collect(Arc::clone(&settings), Arc::clone(&recorder), evidence) => match never {},
        never = diagnosis::run(facts, recorder, Arc::default(), inputs, published) => match never {},
    }
}

#[test]
fn the_port_itself_and_a_machine_that_does_not_come() {
    let world = World::start();
    world.expect(VerdictReason::NoCarrier, "no carrier");
    support::run("ip", &["link", "set", "Ethernet0", "down"]);
    world.expect(VerdictReason::AdminDown, "administratively down");
    support::run("ip", &["link", "set", "Ethernet0", "up"]);
    // The kernel has deleted it. On a leaf, intfmgrd adds it again.
    support::run("ip", &["address", "add", GATEWAY, "dev", "Ethernet0", "nodad"]);
    world.cable.machine("sysctl", &["-qw", "net.ipv6.conf.eth0.router_solicitations=0"]);
    world.cable.machine("ip", &["link", "set", "eth0", "up"]);
    world.expect(VerdictReason::NoSolicitation, "no Router Solicitation");
    world.cable.machine("sysctl", &["-qw", "net.ipv6.conf.eth0.router_solicitations=3"]);
    world.cable.machine("ip", &["link", "set", "eth0", "down"]);
    world.cable.machine("ip", &["link", "set", "eth0", "up"]);
    world.expect(VerdictReason::Booting, "gets its address");
    world.expect(VerdictReason::NoScriptRequest, "the CD's script does not ask the leaf");
    world.status.send_replace(port_in(PortState::Released));
    world.expect(VerdictReason::NotBooting, "does not boot");
    world.desired.send_replace(wish([].into_iter()));
    support::eventually("the attempt ends", || world.diagnosis().unwrap().attempt.is_none());
}

#[test]
fn a_boot_service_that_fails() {
    let world = World::start();
    world.switch_on();
    for (status, body, reason, words) in [
        ("404 Not Found", "", VerdictReason::BootServiceRefuses, "status 404"),
        ("500 Internal Server Error", "", VerdictReason::BootServiceRefuses, "status 500"),
        ("200 OK", "<html>", VerdictReason::NoBootScript, "no iPXE script"),
        ("200 OK", "", VerdictReason::NoBootScript, "empty script"),
    ] {
        world.boot_service.says(status, body);
        let _ = world.asks("/boot.ipxe");
        world.expect(reason, words);
    }
    world.boot_service.0.with(|answer| answer.clear());
    let _ = world.asks("/boot.ipxe");
    world.expect(VerdictReason::BootServiceDown, "broke off");
    world.boot_service.says("200 OK", SCRIPT);
    let answer = world.asks("/boot.ipxe");
    assert!(answer.ends_with(SCRIPT), "{answer}");
    world.expect(VerdictReason::Booting, "has its boot script");
    world.expect(VerdictReason::KernelNotFetched, "no kernel request");
}

#[test]
fn a_cache_that_does_not_give_the_kernel() {
    let world = World::start();
    world.switch_on();
    let _ = world.asks("/boot.ipxe");
    let answer = world.asks(KERNEL);
    assert!(answer.contains(" 307 "), "{answer}");
    let evidence = world.expect(VerdictReason::CacheRefuses, "the cache refuses connections");
    assert!(evidence.contains("leaf01 asked it itself: /metal-stack/kernel/metal-kernel"), "{evidence}");
    let cache = world.cache("404 Not Found");
    world.expect(VerdictReason::CacheNotFound, KERNEL);
    cache.says("503 Service Unavailable", "");
    world.expect(VerdictReason::CacheRefuses, "answers 503");
    cache.says("200 OK", "");
    world.expect(VerdictReason::Booting, "Linux starts");
}

#[test]
fn no_route_to_the_cache() {
    let world = World::start();
    world.switch_on();
    support::run("ip", &["-6", "address", "flush", "dev", "Vrfboot"]);
    let _ = (world.asks("/boot.ipxe"), world.asks(KERNEL));
    world.expect(VerdictReason::CacheNoRoute, "no route from the boot VRF");
}

#[test]
fn a_machine_that_resets_again_and_again() {
    let world = World::start();
    world.switch_on();
    let _cache = world.cache("200 OK");
    for _ in 0..4 {
        let _ = (world.asks("/boot.ipxe"), world.asks(KERNEL));
    }
    let diagnosis = world.diagnosis().unwrap();
    assert!(diagnosis.machine.is_some() && diagnosis.stage.is_some(), "{diagnosis:?}");
    world.expect(VerdictReason::RebootLoop, "3 attempts in a row ended at the stage kernel");
}

#[test]
fn a_token_that_is_refused() {
    let world = World::start();
    world.switch_on();
    let _cache = world.cache("200 OK");
    let _ = (world.asks("/boot.ipxe"), world.asks(KERNEL));
    world.boot_service.says("403 Forbidden", "no");
    let _ = world.asks("/certs");
    world.expect(VerdictReason::TokenRefused, "status 403");
    assert_eq!(world.diagnosis().unwrap().verdict.level, Level::Fault);
    world.boot_service.says("200 OK", "{}");
    let _ = world.asks("/certs");
    world.expect(VerdictReason::Booting, "has its token");
}
