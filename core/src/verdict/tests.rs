//! A case for each verdict: what was seen on a port, and the line that an operator reads.

use std::collections::BTreeSet;
use std::time::Duration;

use strum::VariantNames;

use super::*;
use crate::attempt::{
    Event, Limit, Moment, Now, Outcome, PortHistory, RequestEvent, RequestRecord, Text, UpstreamProblem,
};
use crate::counters::PortCounters;
use crate::names::Mac;
use crate::observed::Link;
use crate::probe::{Probe, ProbeProblem, ProbeResults, Probed};
use crate::relay::kinds::Kind;
use crate::status::{AgentReason, Condition, PortState, PortStatus};

const MAC: Mac = Mac([0x52, 0x54, 0, 0xb0, 7, 0]);
const KERNEL: &str = "/metal-stack/kernel/1.0/metal-kernel";
const IMAGE: &str = "/metal-os/debian.tar.lz4";

/// A port, its machine, and all that the leaf knows. The clock goes on by a second with each event.
struct World {
    history: PortHistory,
    seconds: u64,
    status: PortStatus,
    link: Link,
    counters: Option<PortCounters>,
    probes: ProbeResults,
    leaf: LeafFacts,
    others: Vec<f64>,
}

/// A port in boot with a carrier, and no machine that was heard.
fn port() -> World {
    let link = Link {
        ifindex: 3,
        mac: MAC,
        mtu: 9100,
        up: true,
        admin_up: true,
        carrier: true,
        carrier_ups: 1,
        vrf: Some("Vrfboot".to_owned()),
        link_local: None,
        usable_addresses: BTreeSet::new(),
        assigned_addresses: BTreeSet::new(),
        duplicate_addresses: BTreeSet::new(),
    };
    let leaf = LeafFacts {
        leaf: "leaf01".to_owned(),
        cache: "http://images.metal-stack.io".to_owned(),
        is_redirected: true,
        resolvers: vec!["2001:db8:ffff::53".parse().unwrap()],
    };
    let status = PortStatus {
        state: PortState::Boot,
        prefix: Some("2001:db8:b007::/64".parse().unwrap()),
        ..PortStatus::RELEASED
    };
    let (history, probes) = (PortHistory::default(), ProbeResults::default());
    let (counters, others) = (None, Vec::new());
    World { history, seconds: 0, status, link, counters, probes, leaf, others }
        .sees(Event::Link { carrier: true, carriers: 1 })
}

impl World {
    fn sees(mut self, event: Event) -> Self {
        self.seconds += 1;
        let now = Now { moment: Moment(self.seconds * 1_000_000), unix_ms: self.seconds * 1000 };
        self.history.apply(&event, now, u128::from(self.seconds) << 64);
        self
    }

    fn firmware(self) -> Self {
        self.sees(Event::Solicitation { from: "::".parse().unwrap(), mac: MAC })
            .sees(Event::SolicitationAnswered { us: 100 })
    }

    fn solicits(self) -> Self {
        self.sees(Event::Solicitation { from: "fe80::1".parse().unwrap(), mac: MAC })
            .sees(Event::SolicitationAnswered { us: 100 })
    }

    fn asks(mut self, kind: Kind, path: &str, outcome: Outcome) -> Self {
        self.seconds += 1;
        let now = Now { moment: Moment(self.seconds * 1_000_000), unix_ms: self.seconds * 1000 };
        self.history.begin_request(kind, now, u128::from(self.seconds) << 64);
        let record = RequestRecord { request: Text::new("1"), path: Text::new(path), ms: 4, outcome };
        self.sees(Event::Request(RequestEvent { kind, record, images: None }))
    }

    fn script(self, outcome: Outcome) -> Self {
        self.solicits().asks(Kind::Script, "/boot.ipxe", outcome)
    }

    /// The boot script came, and the machine was sent to the cache for its kernel.
    fn kernel(self) -> Self {
        self.script(Outcome::Answered { status: 200 }).asks(Kind::Image, KERNEL, Outcome::Redirected)
    }

    fn linux(self) -> Self {
        self.kernel().solicits()
    }

    fn token(self, outcome: Outcome) -> Self {
        self.linux().asks(Kind::Token, "/certs", outcome)
    }

    /// metal-hammer was sent to the cache for an image of 100 MB, and this much came at this rate.
    fn image(self, came: u64, rate: f64) -> Self {
        let mut world = self
            .token(Outcome::Answered { status: 200 })
            .asks(Kind::Image, IMAGE, Outcome::Redirected)
            .counts(came, rate, &[]);
        let probed = Probed { result: Ok(Duration::ZERO), at: Duration::ZERO, size: Some(100_000_000) };
        world.probes.0.insert(Probe::Image(IMAGE.to_owned()), probed);
        world
    }

    fn counts(mut self, came: u64, rate: f64, rules: &[(&str, u64)]) -> Self {
        let rule_packets = rules.iter().map(|(rule, packets)| ((*rule).to_owned(), *packets)).collect();
        self.counters = Some(PortCounters { rate, since_image: Some(came), rule_packets });
        self
    }

    fn probed(mut self, probe: Probe, problem: ProbeProblem) -> Self {
        let probed = Probed { result: Err(problem), at: Duration::ZERO, size: None };
        self.probes.0.insert(probe, probed);
        self
    }

    fn cache(self, problem: ProbeProblem) -> Self {
        self.probed(Probe::Image(KERNEL.to_owned()), problem)
    }

    /// The verdict so many seconds after the last event.
    fn after(&self, seconds: u64) -> Verdict {
        verdict(&Evidence {
            status: &self.status,
            link: Some(&self.link),
            history: &self.history,
            counters: self.counters.as_ref(),
            probes: &self.probes,
            leaf: &self.leaf,
            other_rates: &self.others,
            now: Moment((self.seconds + seconds) * 1_000_000),
        })
    }
}

fn failed(problem: UpstreamProblem, reason: &str) -> Outcome {
    Outcome::Failed { problem, reason: Text::new(reason) }
}

fn name() -> Probe {
    Probe::Name { server: "2001:db8:ffff::53".parse().unwrap(), name: "images.metal-stack.io".to_owned() }
}

/// A situation, after how many seconds it is judged, and the reason and a part of the message that are expected.
type Situation = (World, u64, VerdictReason, Level, &'static str);

fn situations() -> Vec<Situation> {
    use Level::{Fault, Ok, Waiting};
    use VerdictReason as R;
    let ok = Outcome::Answered { status: 200 };
    let mut released = port();
    released.status.state = PortState::Released;
    let mut rejected = port();
    rejected.status.state = PortState::Rejected;
    rejected.status.message = Some("boot.protected names it".to_owned());
    let mut unsettled = port();
    (unsettled.status.settled, unsettled.status.waiting) =
        (false, Some(Condition::new(AgentReason::RowsPending, "the ASIC has not bound the ACL")));
    let (mut down, mut unplugged) = (port(), port());
    (down.link.admin_up, down.link.carrier, unplugged.link.carrier) = (false, false, false);
    let mut slow = port().image(20_000_000, 10e6);
    slow.others = vec![90e6, 110e6, 100e6];
    let unreachable = "the boot service: http://[2001:db8::80]:8080 cannot be reached: Connection refused";
    let unresolved = "the boot service: its name cannot be resolved: no such host";
    vec![
        (released, 0, R::NotBooting, Ok, "does not boot"),
        (rejected, 0, R::Rejected, Fault, "boot.protected names it"),
        (unsettled, 0, R::WaitingForSonic, Waiting, "the ASIC has not bound the ACL"),
        (down, 0, R::AdminDown, Fault, "administratively down"),
        (unplugged, 0, R::NoCarrier, Fault, "no carrier"),
        (port(), 10, R::NoSolicitation, Waiting, "link up for 10 s"),
        (port(), 3600, R::NoSolicitation, Fault, "firmware without IPv6"),
        (port().firmware(), 20, R::Booting, Waiting, "the firmware is at work"),
        (port().firmware(), 70, R::NoScriptRequest, Fault, "the firmware solicited, not the CD"),
        (port().solicits(), 2, R::Booting, Waiting, "gets its address"),
        (port().solicits(), 10, R::NoScriptRequest, Fault, "the CD's script does not ask the leaf"),
        (
            port().solicits().solicits().solicits().solicits(),
            1,
            R::NoScriptRequest,
            Fault,
            "does not accept the advertisement",
        ),
        (
            port().script(failed(UpstreamProblem::Unreachable, unresolved)),
            0,
            R::NameNotResolved,
            Fault,
            "cannot resolve the boot service",
        ),
        (
            port().script(failed(UpstreamProblem::Unreachable, unreachable)),
            0,
            R::BootServiceDown,
            Fault,
            "boot service down: http://[2001:db8::80]:8080 cannot be reached: Connection refused",
        ),
        (
            port().script(failed(UpstreamProblem::Silent, "the boot service: no answer")),
            0,
            R::BootServiceDown,
            Fault,
            "boot service down",
        ),
        (
            port().script(failed(UpstreamProblem::Status(404), "the boot service says 404 Not Found")),
            0,
            R::BootServiceRefuses,
            Fault,
            "status 404",
        ),
        (
            port().script(failed(UpstreamProblem::Unusable, "the boot service gives an empty script")),
            0,
            R::NoBootScript,
            Fault,
            "gives an empty script",
        ),
        (port().script(ok.clone()), 2, R::Booting, Waiting, "has its boot script"),
        (port().script(ok.clone()), 10, R::KernelNotFetched, Fault, "no kernel request"),
        (
            port().script(ok.clone()).probed(name(), ProbeProblem::TimedOut),
            10,
            R::NameNotResolved,
            Fault,
            "not resolved",
        ),
        (
            port().script(ok.clone()).counts(0, 0.0, &[("DEFAULT_RULE", 7)]),
            10,
            R::AclDrops,
            Fault,
            "DEFAULT_RULE dropped 7 packets",
        ),
        (port().kernel(), 2, R::Booting, Waiting, "kernel requested"),
        (port().kernel().cache(ProbeProblem::Refused), 2, R::CacheRefuses, Fault, "refuses connections"),
        (port().kernel().cache(ProbeProblem::Status(404)), 2, R::CacheNotFound, Fault, KERNEL),
        (port().kernel().cache(ProbeProblem::Status(503)), 2, R::CacheRefuses, Fault, "answers 503"),
        (port().kernel().cache(ProbeProblem::TimedOut), 2, R::CacheSilent, Fault, "does not answer"),
        (port().kernel().cache(ProbeProblem::NoRoute), 2, R::CacheNoRoute, Fault, "no route"),
        (
            port().kernel().cache(ProbeProblem::NoAddress("NXDOMAIN".to_owned())),
            2,
            R::NameNotResolved,
            Fault,
            "not resolved",
        ),
        (
            port().kernel().counts(0, 0.0, &[("DENY_MACHINES", 2), ("DEFAULT_RULE", 9)]),
            6,
            R::AclDrops,
            Fault,
            "DEFAULT_RULE dropped 9 packets",
        ),
        (port().kernel().counts(0, 0.0, &[]), 6, R::CacheSilent, Fault, "does not reach the cache"),
        (port().kernel().counts(9_000_000, 8e6, &[]), 2, R::ImageTransfer, Waiting, "kernel 8 MB/s"),
        (port().kernel().counts(9_000_000, 0.0, &[]), 70, R::LinuxSilent, Fault, "no driver"),
        (port().linux(), 5, R::Booting, Waiting, "Linux runs"),
        (port().linux(), 40, R::NoTokenRequest, Fault, "asked for no token"),
        (port().token(Outcome::Answered { status: 403 }), 0, R::TokenRefused, Fault, "status 403"),
        (port().token(ok), 5, R::Booting, Waiting, "has its token"),
        (port().image(0, 0.0), 1, R::ImageTransfer, Waiting, "image requested"),
        (port().image(61_000_000, 93e6), 1, R::ImageTransfer, Waiting, "93 MB/s, 61 %"),
        (slow, 3, R::SlowImage, Fault, "10 times slower"),
        (port().image(61_000_000, 0.0), 12, R::SlowImage, Fault, "stopped at 61 %"),
        (port().image(101_000_000, 0.0), 12, R::Installed, Ok, "waiting for release"),
        (
            port().sees(Event::HandshakeFailed(Text::new("unknown CA"))),
            1,
            R::TlsHandshake,
            Fault,
            "unknown CA",
        ),
        (
            port().solicits().sees(Event::RateLimited(Limit::Requests)),
            1,
            R::RateLimited,
            Fault,
            "relay.requests",
        ),
        (resets(port(), 4), 1, R::RebootLoop, Fault, "attempts in a row ended at the stage kernel"),
        (stale(), 1, R::StaleAddress, Fault, "2001:db8:dead::1"),
    ]
}

/// The machine gets as far as its kernel so many times, and begins anew.
fn resets(world: World, count: usize) -> World {
    (0..count).fold(world, |world, _| world.kernel()).solicits()
}

fn stale() -> World {
    port().solicits().sees(Event::Address { address: "2001:db8:dead::1".parse().unwrap(), mac: Some(MAC) })
}

#[test]
fn every_situation_has_its_verdict() {
    for (at, (world, seconds, reason, level, part)) in situations().into_iter().enumerate() {
        let found = world.after(seconds);
        let expected = (reason, level);
        assert_eq!((found.reason, found.level), expected, "situation {at}, {part:?}: {found:?}");
        assert!(found.message.contains(part), "situation {at}: {part:?} is not in {:?}", found.message);
        let lines = found.evidence.iter().chain([&found.message]);
        lines.for_each(|line| assert!(!line.contains('\n') && line.chars().count() <= 200, "{line}"));
    }
}

#[test]
fn every_verdict_has_a_situation() {
    let shown: BTreeSet<&str> = situations().iter().map(|(.., reason, _, _)| reason.as_str()).collect();
    let all: BTreeSet<&str> = VerdictReason::VARIANTS.iter().copied().collect();
    assert_eq!(shown, all);
}

#[test]
fn what_the_leaf_asked_itself_is_evidence() {
    let found = port().kernel().cache(ProbeProblem::Refused).after(2);
    assert_eq!(found.evidence, [format!("leaf01 asked it itself: {KERNEL}: connection refused")]);
    let expired = ProbeProblem::Tls("expired".to_owned());
    let found = port()
        .sees(Event::HandshakeFailed(Text::new("expired certificate")))
        .probed(Probe::Certificate("/etc/leafboot/relay.pem".to_owned()), expired)
        .after(1);
    assert_eq!(found.evidence, ["/etc/leafboot/relay.pem: TLS: expired"]);
}

#[test]
fn a_fault_stays_while_the_machine_begins_anew() {
    let world = resets(port(), 4).cache(ProbeProblem::Refused);
    let found = world.after(1);
    assert_eq!(found.reason, VerdictReason::CacheRefuses, "{found:?}");
    assert!(found.evidence.iter().any(|line| line.contains("attempts in a row")), "{found:?}");
}

#[test]
fn a_machine_that_was_further_before_is_judged_by_what_it_does_now() {
    // It had its token, was reset by hand, and now the boot service is down.
    let down = failed(UpstreamProblem::Unreachable, "the boot service: refused");
    let world = port().token(Outcome::Answered { status: 200 }).firmware().script(down);
    assert_eq!(world.after(0).reason, VerdictReason::BootServiceDown);
    let healthy = port().token(Outcome::Answered { status: 200 }).firmware();
    assert_eq!(healthy.after(1).message, "the firmware is at work");
}

#[test]
fn a_machine_that_has_waited_for_its_script_boots_like_any_other() {
    let down = failed(UpstreamProblem::Unreachable, "the boot service: refused");
    let ask = |world: World, outcome: &Outcome| world.asks(Kind::Script, "/boot.ipxe", outcome.clone());
    let waiting = (0..8).fold(port().solicits(), |world, _| ask(world, &down));
    let world = ask(waiting, &Outcome::Answered { status: 200 });
    assert_eq!(world.after(1).reason, VerdictReason::Booting);
    assert_eq!(world.after(3).reason, VerdictReason::KernelNotFetched);
    let ok = Outcome::Answered { status: 200 };
    let asking = (0..40).fold(port().solicits(), |world, _| ask(world, &ok));
    assert_eq!(asking.after(0).reason, VerdictReason::KernelNotFetched);
}

#[test]
fn a_cache_is_not_blamed_where_sonic_counts_nothing() {
    let mut world = port().kernel();
    world.counters = Some(PortCounters::default());
    assert_eq!(world.after(6).reason, VerdictReason::Booting);
}

#[test]
fn two_resets_are_no_loop() {
    assert_eq!(resets(port(), 2).after(1).level, Level::Waiting);
}

#[test]
fn a_long_message_is_cut() {
    let long = Verdict::fault(VerdictReason::Rejected, "é".repeat(300));
    assert_eq!(long.message.chars().count(), 200);
    let many = long.with_all((0..9).map(|count| count.to_string()));
    assert_eq!(many.evidence.len(), 3);
}
