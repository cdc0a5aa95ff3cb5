//! The rules of attempts, boot by boot.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::super::stage::RequestRecord;
use super::super::{Outcome, UpstreamProblem};
use super::*;
use crate::names::Mac;

const MAC: Mac = Mac([0x52, 0x54, 0, 0xb0, 7, 0]);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfeb0, 0x700);
const SCRIPT: &[u8] =
    b"#!ipxe\nkernel http://cache/kernel console=ttyS0\ninitrd /metal-hammer/initrd.img.lz4\nboot\n";

/// A port's history and its clock, which goes on by a second with each event.
#[derive(Default)]
struct Port {
    history: PortHistory,
    seconds: u64,
}

impl Port {
    fn now(&mut self) -> Now {
        self.seconds += 1;
        Now { moment: Moment(self.seconds * 1_000_000), unix_ms: self.seconds * 1000 }
    }

    fn sees(&mut self, event: &Event) -> Changes {
        let now = self.now();
        self.history.apply(event, now, u128::from(self.seconds) << 64)
    }

    fn last(&self) -> Now {
        Now { moment: Moment(self.seconds * 1_000_000), unix_ms: self.seconds * 1000 }
    }

    fn carrier(&mut self, carriers: u32) -> Changes {
        self.sees(&Event::Link { carrier: true, carriers })
    }

    fn solicits(&mut self, from: Ipv6Addr) -> Changes {
        let changes = self.sees(&Event::Solicitation { from, mac: MAC });
        self.history.apply(&Event::SolicitationAnswered { us: 100 }, self.last(), 0);
        changes
    }

    fn asks(&mut self, kind: Kind, path: &str, outcome: Outcome) -> Changes {
        let now = self.now();
        let (_, mut changes) = self.history.begin_request(kind, now, u128::from(self.seconds) << 64);
        let images = (kind == Kind::Script && outcome.is_success()).then(|| ScriptImages::of(SCRIPT));
        let record = RequestRecord { request: Text::new("1"), path: Text::new(path), ms: 4, outcome };
        let answered = self.sees(&Event::Request(RequestEvent { kind, record, images }));
        changes.reached = changes.reached.or(answered.reached);
        changes
    }

    fn script(&mut self) -> Changes {
        self.asks(Kind::Script, "/boot.ipxe", Outcome::Answered { status: 200 })
    }

    fn image(&mut self, path: &str) -> Option<Stage> {
        self.asks(Kind::Image, path, Outcome::Redirected).reached
    }

    fn stages(&self) -> Vec<Stage> {
        self.history.attempts().last().unwrap().stages.iter().map(|record| record.stage).collect()
    }

    /// iPXE, from its solicitation to the initrd.
    fn boots_linux(&mut self) {
        self.solicits(LINK_LOCAL);
        self.script();
        self.image("/kernel");
        self.image("/metal-hammer/initrd.img.lz4");
        self.solicits(LINK_LOCAL);
    }
}

#[test]
fn a_boot_goes_through_its_stages() {
    let mut port = Port::default();
    assert!(port.carrier(1).has_begun);
    assert_eq!(port.solicits(Ipv6Addr::UNSPECIFIED).reached, Some(Stage::Solicitation));
    port.solicits(LINK_LOCAL);
    port.sees(&Event::Address { address: "2001:db8:b007::c0de".parse().unwrap(), mac: Some(MAC) });
    assert_eq!(port.script().reached, Some(Stage::Script));
    assert_eq!(port.image("/kernel"), Some(Stage::Kernel));
    assert_eq!(port.image("/metal-hammer/initrd.img.lz4"), Some(Stage::Initrd));
    assert_eq!(port.solicits(LINK_LOCAL).reached, Some(Stage::Linux));
    assert_eq!(port.sees(&Event::Lldp(Text::new("machine"))).reached, Some(Stage::Lldp));
    port.asks(Kind::Token, "/config/x", Outcome::Answered { status: 200 });
    assert_eq!(port.image("/metal-os/debian.tar.lz4"), Some(Stage::Image));
    assert_eq!(port.sees(&Event::Released).ended, Some(AttemptEnd::Released));
    assert_eq!(port.stages(), Stage::ALL);
    assert_eq!(port.history.total(), 1);
    assert_eq!(port.history.attempts().last().unwrap().mac, Some(MAC));
}

#[test]
fn a_lost_carrier_ends_the_attempt() {
    let mut port = Port::default();
    port.carrier(1);
    let id = port.history.current().unwrap().id;
    assert_eq!(port.sees(&Event::Link { carrier: false, carriers: 1 }).ended, Some(AttemptEnd::Carrier));
    assert!(port.history.current().is_none());
    assert!(port.carrier(2).has_begun);
    assert_ne!(port.history.current().unwrap().id, id);
    // A loss of less than a second shows only in the count.
    let short = port.carrier(3);
    assert!(short.has_begun && short.ended == Some(AttemptEnd::Carrier));
    assert_eq!(port.carrier(3), Changes::default(), "nothing has changed");
}

#[test]
fn a_machine_may_be_faster_than_the_event_of_its_carrier() {
    let at = |ms: u64| Now { moment: Moment(ms * 1000), unix_ms: ms };
    let link = |carrier, carriers| Event::Link { carrier, carriers };
    let solicitation = Event::Solicitation { from: LINK_LOCAL, mac: MAC };
    for sees_loss in [true, false] {
        let mut history = PortHistory::default();
        history.apply(&link(true, 1), at(0), 1);
        if sees_loss {
            history.apply(&link(false, 1), at(5000), 2);
        }
        history.apply(&solicitation, at(8000), 3);
        history.apply(&link(true, 2), at(8050), 4);
        let stages: Vec<Vec<Stage>> = history
            .attempts()
            .map(|attempt| attempt.stages.iter().map(|record| record.stage).collect())
            .collect();
        assert_eq!(stages, [vec![Stage::Link], vec![Stage::Link, Stage::Solicitation]], "{sees_loss}");
        assert_eq!(history.current().unwrap().mac, Some(MAC));
        // One that is older came over the carrier before.
        history.apply(&link(true, 3), at(9100), 5);
        assert_eq!(history.current().unwrap().stages.len(), 1);
    }
}

#[test]
fn three_warm_resets_are_three_more_attempts() {
    for firmware in [true, false] {
        let mut port = Port::default();
        port.carrier(1);
        port.boots_linux();
        for reset in 2..=4 {
            if firmware {
                assert!(port.solicits(Ipv6Addr::UNSPECIFIED).has_begun);
            }
            // Without the firmware's solicitation, the script shows that it was not Linux that solicited.
            port.boots_linux();
            assert_eq!(port.history.total(), reset, "firmware: {firmware}");
            assert_eq!(
                port.stages(),
                [Stage::Solicitation, Stage::Script, Stage::Kernel, Stage::Initrd, Stage::Linux]
            );
        }
        let ends: Vec<_> = port.history.attempts().map(|attempt| attempt.end.map(|(_, end)| end)).collect();
        assert_eq!(ends, [Some(AttemptEnd::Next), Some(AttemptEnd::Next), Some(AttemptEnd::Next), None]);
        let first = port.history.attempts().next().unwrap();
        assert!(first.stage(Stage::Linux).is_some(), "Linux has solicited in the first attempt");
    }
}

#[test]
fn ipxe_that_asks_again_after_an_error_is_in_the_same_attempt() {
    let mut port = Port::default();
    port.carrier(1);
    port.solicits(LINK_LOCAL);
    let problem = UpstreamProblem::Unreachable;
    for _ in 0..20 {
        port.asks(Kind::Script, "/boot.ipxe", Outcome::Failed { problem, reason: Text::new("refused") });
        port.solicits(LINK_LOCAL);
    }
    assert_eq!(port.history.total(), 1);
    assert_eq!(port.history.current().unwrap().stage(Stage::Script).unwrap().count, 20);
    port.script();
    assert_eq!(port.history.total(), 1);
    // The CD's script begins anew: the boot script's kernel was never asked for.
    assert!(port.solicits(LINK_LOCAL).has_begun);
}

#[test]
fn without_a_script_images_are_told_by_their_order() {
    let mut port = Port::default();
    port.carrier(1);
    assert_eq!(port.image("/a"), Some(Stage::Kernel));
    assert_eq!(port.image("/a"), None, "the same, again");
    assert_eq!(port.image("/b"), Some(Stage::Initrd));
}

#[test]
fn a_request_without_an_attempt_begins_one() {
    let mut port = Port::default();
    assert!(port.script().has_begun);
    port.sees(&Event::Released);
    assert!(port.history.current().is_none());
}

#[test]
fn an_attempt_has_at_most_a_kilobyte_and_a_half() {
    let mut port = Port::default();
    let long = "x".repeat(10_000);
    let failed =
        |text: &str| Outcome::Failed { problem: UpstreamProblem::Status(500), reason: Text::new(text) };
    for _ in 0..1000 {
        port.carrier(1);
        port.asks(Kind::Script, &long, failed(&long));
        port.image("/a");
        port.asks(Kind::Image, &long, failed(&long));
        port.solicits(LINK_LOCAL);
        port.asks(Kind::Token, &long, failed(&long));
        port.asks(Kind::Image, &long, failed(&long));
    }
    assert_eq!(port.history.attempts().len(), ATTEMPTS_MAX);
    assert_eq!(port.history.total(), 1000);
    let texts = |record: &StageRecord| {
        record.detail.request().map_or(0, |request| {
            let reason =
                if let Outcome::Failed { reason, .. } = &request.outcome { reason.as_str().len() } else { 0 };
            size_of::<RequestRecord>() + reason + request.path.as_str().len() + request.request.as_str().len()
        })
    };
    for attempt in port.history.attempts() {
        let stages: usize =
            attempt.stages.iter().map(|record| size_of::<StageRecord>() + texts(record)).sum();
        let bytes = size_of::<Attempt>() + stages;
        assert!(bytes <= 2048, "{bytes}");
    }
}

proptest! {
    #[test]
    fn an_open_attempt_is_the_last_one_and_stages_are_in_order(events in prop::collection::vec(0..9, 0..200)) {
        let mut port = Port::default();
        for event in events {
            match event {
                0 => drop(port.carrier(1)),
                1 => drop(port.sees(&Event::Link { carrier: false, carriers: 1 })),
                2 => drop(port.solicits(Ipv6Addr::UNSPECIFIED)),
                3 => drop(port.solicits(LINK_LOCAL)),
                4 => drop(port.script()),
                5 => drop(port.image("/kernel")),
                6 => drop(port.asks(Kind::Token, "/config/x", Outcome::Refused { status: 404 })),
                7 => drop(port.image("/c")),
                _ => drop(port.sees(&Event::Released)),
            }
            prop_assert!(port.history.attempts().rev().skip(1).all(|attempt| !attempt.is_open()));
            for attempt in port.history.attempts() {
                prop_assert!(attempt.stages.windows(2).all(|pair| pair[0].stage < pair[1].stage));
                prop_assert!(attempt.stages.iter().all(|record| record.first >= attempt.began));
            }
            let text = serde_json::to_string(&port.history).unwrap();
            prop_assert_eq!(&serde_json::from_str::<PortHistory>(&text).unwrap(), &port.history);
        }
    }
}

#[test]
fn the_machine_is_the_station_that_has_used_an_address() {
    let (mut port, other) = (Port::default(), Mac([0xba, 0x80, 0x24, 0xa1, 0x45, 0x10]));
    let machine = |port: &Port| port.history.current().and_then(|attempt| attempt.mac);
    port.carrier(1);
    port.sees(&Event::Solicitation { from: LINK_LOCAL, mac: other });
    assert_eq!(machine(&port), Some(other), "nobody else has shown itself");
    port.sees(&Event::Address { address: LINK_LOCAL, mac: Some(MAC) });
    assert_eq!(machine(&port), Some(MAC));
    port.sees(&Event::Solicitation { from: LINK_LOCAL, mac: other });
    assert_eq!(machine(&port), Some(MAC), "another station solicits as well");
}
