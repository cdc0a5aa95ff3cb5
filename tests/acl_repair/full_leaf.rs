//! A leaf with 63 ports in boot, with the real reconciler and the model of SONiC each in a thread of its own.
//!
//! Owns: both threads, and what is measured. Must never: say what a test does to the leaf.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leafboot::internals::Metrics;
use leafboot::internals::reconcile::{self, ReconcilerInputs, ReconcilerOutputs};
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::{BootPrefix, Mac};
use leafboot_core::observed::{Link, Links};
use leafboot_core::port_role::RaStates;
use leafboot_core::settings::Settings;
use leafboot_core::status::Status;
use leafboot_lab::sonic::behaviour::{Behaviour, SonicRelease};
use leafboot_lab::sonic::isolation::Watch;
use leafboot_lab::sonic::{Args, Swss, WhichKernel, kernel};
use tokio::sync::watch;

use super::support;
use super::support::switch::{CONFIG_DB, Switch};

/// How many ports boot.
pub const PORTS: u32 = 63;
/// How long a SAI call takes.
pub const SAI_CALL: Duration = Duration::from_millis(5);
/// The limit of one wait: the model makes each SAI call one by one, on a computer that may be busy.
const LIMIT: Duration = Duration::from_secs(60);

/// The leaf.
pub struct FullLeaf {
    switch: Switch,
    status: watch::Receiver<Status>,
    gaps: watch::Receiver<Vec<Absence>>,
    events: Child,
    ends: Arc<AtomicBool>,
    model: Option<JoinHandle<()>>,
    _desired: watch::Sender<Option<Desired>>,
    _ra: watch::Sender<RaStates>,
}

/// A time in which a port was open without a denying rule, as the model's observer saw it.
#[derive(Debug, Clone)]
pub struct Absence {
    at: Instant,
    closed_at: Option<Instant>,
    /// How many steps of the model it lasted.
    pub steps: u64,
    /// How long it lasted on this computer.
    pub milliseconds: u128,
}

/// A moment of a test: the events and gaps before it.
pub struct Mark<'a> {
    at: Instant,
    events: usize,
    leaf: &'a FullLeaf,
}

impl FullLeaf {
    /// A leaf of a release, on which all ports have settled.
    pub fn settled(release: SonicRelease) -> Self {
        let switch = Switch::start_unloaded();
        for number in 0..PORTS {
            switch.cli(CONFIG_DB, &["HSET", &format!("PORT|{}", name(number)), "index", &number.to_string()]);
        }
        switch.cli(CONFIG_DB, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
        let log = File::create(switch.path("events")).unwrap();
        let events = Command::new("redis-cli")
            .arg("-s")
            .arg(switch.path("redis.sock"))
            .args(["psubscribe", "__keyspace@4__:*"])
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let settings = std::fs::read_to_string(support::agent::settings(&switch)).unwrap();
        let config = Settings::parse(&settings).unwrap();
        let (links, links_seen) = watch::channel(Links::default());
        let (gaps, gaps_seen) = watch::channel(Vec::new());
        let ends = Arc::new(AtomicBool::new(false));
        let behaviour =
            Behaviour { release, sai_delay_ms: SAI_CALL.as_millis() as u64, ..Behaviour::default() };
        let args = Args {
            database_config: config.database_config.clone(),
            kernel: WhichKernel::Paper,
            behaviour,
            ..Args::default()
        };
        let rules = leafboot_core::acl::rules(&config).into_iter();
        let denying =
            rules.filter(|rule| rule.action == leafboot_core::acl::Action::Drop).map(|rule| rule.name);
        let (denying, is_over) = (denying.collect(), ends.clone());
        let model = std::thread::spawn(move || play(&args, denying, &links, &gaps, &is_over));
        let (desired, desired_seen) = watch::channel(Some(all_ports()));
        let (ra, ra_seen) = watch::channel(RaStates::new());
        let (status, status_seen) = watch::channel(Status::default());
        let inputs = ReconcilerInputs { desired: desired_seen, links: links_seen, ra: ra_seen };
        std::thread::spawn(move || {
            let outputs = ReconcilerOutputs {
                status,
                ports: watch::channel(None).0,
                unrouted: watch::channel(BTreeSet::new()).0,
                metrics: Arc::new(Metrics::default()),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // The thread runs until the process ends.
            runtime.block_on(reconcile::run(&config, inputs, outputs));
        });
        let leaf = Self {
            switch,
            status: status_seen,
            gaps: gaps_seen,
            events,
            ends,
            model: Some(model),
            _desired: desired,
            _ra: ra,
        };
        leaf.settles();
        leaf
    }

    /// Runs redis-cli on CONFIG_DB.
    pub fn config(&self, command: &[&str]) -> String {
        self.switch.cli(CONFIG_DB, command)
    }

    /// Waits until a fact is there.
    pub fn until(&self, what: &str, mut fact: impl FnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !fact() {
            let waiting: Vec<_> =
                self.status.borrow().ports.values().filter_map(|port| port.waiting.clone()).collect();
            assert!(
                Instant::now() < deadline,
                "not after {LIMIT:?}: {what}; ports wait: {:?}",
                waiting.first()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether all ports boot and have settled, and no denying rule is away.
    pub fn is_settled(&self) -> bool {
        let status = self.status.borrow();
        let is_whole = self.gaps.borrow().iter().all(|gap| gap.closed_at.is_some());
        is_whole && status.ports.len() == PORTS as usize && status.is_settled()
    }

    /// Waits until [`Self::is_settled`] holds.
    pub fn settles(&self) {
        self.until("all ports have settled", || self.is_settled());
    }

    /// Marks this moment.
    pub fn mark(&self) -> Mark<'_> {
        Mark { at: Instant::now(), events: self.events_so_far().len(), leaf: self }
    }

    /// Each absence of a denying rule since the mark.
    pub fn gaps_since(&self, mark: &Mark<'_>) -> Vec<Absence> {
        self.gaps.borrow().iter().filter(|gap| gap.at >= mark.at).cloned().collect()
    }

    /// The events of CONFIG_DB, as the command and the key.
    fn events_so_far(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.switch.path("events")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // pmessage, pattern, channel, command: each on a line of its own.
        let events = lines.chunk_by(|_, next| *next != "pmessage");
        let event = |words: &[&str]| match words {
            ["pmessage", _, channel, command] => {
                Some(format!("{command} {}", channel.strip_prefix("__keyspace@4__:")?))
            }
            _ => None,
        };
        events.filter_map(event).collect()
    }
}

impl Mark<'_> {
    /// The writes to CONFIG_DB since the mark, in order.
    pub fn written(&self) -> Vec<String> {
        self.leaf.events_so_far().split_off(self.events)
    }
}

impl Drop for FullLeaf {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.model.take().map(JoinHandle::join);
        let _ = self.events.kill();
        let _ = self.events.wait();
    }
}

/// The number of absences: all ports see one absence together.
pub fn times(gaps: &[Absence]) -> usize {
    gaps.iter().map(|gap| gap.at).collect::<BTreeSet<Instant>>().len()
}

/// Plays SONiC, and publishes what its kernel and its observer show.
fn play(
    args: &Args,
    rules: BTreeSet<String>,
    links: &watch::Sender<Links>,
    gaps: &watch::Sender<Vec<Absence>>,
    is_over: &AtomicBool,
) {
    let mut swss = Swss::start(args).unwrap();
    swss.watch_isolation(Watch { vrf: "Vrfboot".to_owned(), acl_table: "LEAFBOOT".to_owned(), rules });
    while !is_over.load(Ordering::Relaxed) {
        swss.run_once(Duration::from_millis(50)).unwrap();
        let seen = swss.links().unwrap();
        let port = |(name, link): (&String, &kernel::Link)| Some((name.parse().ok()?, seen_as(link)));
        let vrfs = seen.iter().filter(|(name, _)| name.starts_with("Vrf"));
        let now = Links {
            ports: seen.iter().filter_map(port).collect(),
            vrfs: vrfs.map(|(name, link)| (name.clone(), link.up)).collect(),
            ..Links::default()
        };
        links.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        let absences: Vec<Absence> = swss
            .isolation_gaps()
            .iter()
            .map(|gap| Absence {
                at: gap.opened_at,
                closed_at: gap.closed_at,
                steps: gap.closed.unwrap_or(u64::MAX).saturating_sub(gap.step),
                milliseconds: gap.duration().as_millis(),
            })
            .collect();
        gaps.send_replace(absences);
    }
}

/// A link as leafboot's own view of the kernel has it.
fn seen_as(link: &kernel::Link) -> Link {
    let addresses = link.addresses.iter().filter_map(|net| match net {
        ipnet::IpNet::V6(net) => Some(*net),
        ipnet::IpNet::V4(_) => None,
    });
    Link {
        ifindex: link.index,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 9100,
        up: true,
        admin_up: true,
        carrier: true,
        carrier_ups: 0,
        vrf: link.master.clone(),
        link_local: Some("fe80::1".parse().unwrap()),
        usable_addresses: addresses.collect(),
        assigned_addresses: link.addresses.clone(),
        duplicate_addresses: BTreeSet::new(),
    }
}

fn name(number: u32) -> String {
    // Ethernet120 is protected.
    format!("Ethernet{}", 4 * (number + u32::from(number >= 30)))
}

/// The document by which all ports boot.
fn all_ports() -> Desired {
    let port = |number| {
        let prefix: BootPrefix = format!("2001:db8:b007:{number:x}::/64").parse().unwrap();
        (name(number).parse().unwrap(), prefix.into())
    };
    Desired {
        generation: 1,
        provenance: Provenance::Pushed,
        ports: (0..PORTS).map(port).collect(),
        old: Default::default(),
        rejected: Default::default(),
    }
}
