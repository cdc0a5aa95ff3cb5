//! The requirements on a router that advertises, one case each, on a port of its own, for any daemon on the other end.

use std::net::Ipv6Addr;
use std::thread::sleep;
use std::time::Duration;

use leafboot_core::nd::frame::Envelope;
use leafboot_core::nd::message::Advertisement;
use leafboot_core::nd::options::NdOption;
use leafboot_core::nd::options::Preference;

use crate::support::panel::prefix;
use crate::support::solicitor::{Fragments, Seen, Solicitation, Solicitor};

/// The result of a case: no error, or its reason.
pub type Verdict = Result<(), String>;

/// One requirement.
pub struct Case {
    /// The RFC's section.
    pub section: &'static str,
    /// The IPv6 Ready (v6LC) case that checks the same, where there is one.
    pub v6lc: &'static str,
    /// What is required.
    pub what: &'static str,
    /// The check, on the port with this number.
    pub check: fn(&Solicitor, usize) -> Verdict,
}

/// A solicited answer comes in this time, and a daemon that discards stays silent for it (MAX_RA_DELAY_TIME and a
/// margin).
const SOON: Duration = Duration::from_millis(700);
/// MIN_DELAY_BETWEEN_RAS, less what two clocks may differ.
const APART: Duration = Duration::from_millis(2990);

macro_rules! case {
    ($section:literal, $v6lc:literal, $what:literal, $check:expr) => {
        Case { section: $section, v6lc: $v6lc, what: $what, check: $check }
    };
}

/// Cases for a daemon with a long interval, which is silent after its initial advertisements.
pub const CASES: &[Case] = &[
    case!("4861 6.1.1", "2.2.4 A", "hop limit 254 is discarded", |s, _| discarded(s, |rs| rs.hop_limit =
        254)),
    case!("4861 6.1.1", "2.2.4 B", "a bad checksum is discarded", |s, _| discarded(s, |rs| rs.checksum =
        false)),
    case!("4861 6.1.1", "2.2.4 C", "code 1 is discarded", |s, _| discarded(s, |rs| rs.message[1] = 1)),
    case!("4861 6.1.1", "2.2.4 D", "6 bytes are discarded", |s, _| discarded(s, |rs| rs.message.truncate(6))),
    case!("4861 6.1.1", "2.2.4 E", "an option of length 0 is discarded", |s, _| discarded(s, |rs| rs
        .message[9] =
        0)),
    case!("4861 6.1.1", "2.2.4 F", "a source link-layer option from :: is discarded", |s, _| {
        discarded(s, |rs| rs.from = Ipv6Addr::UNSPECIFIED)
    }),
    case!("4861 6.1.1", "", "an option past the end is discarded", |s, _| discarded(s, |rs| rs.message[9] =
        4)),
    case!("6980 5", "2.2.26 B", "an atomic fragment is discarded", |s, _| {
        discarded(s, |rs| rs.fragments = Fragments::Atomic)
    }),
    case!("6980 5", "2.2.27 B", "fragments are discarded", |s, _| discarded(s, |rs| rs.fragments =
        Fragments::Two)),
    case!("4861 6.1.1", "", "the reserved field is ignored", |s, _| {
        taken(s, |rs| rs.message[4..8].copy_from_slice(&[0xff; 4]))
    }),
    case!("4861 6.1.1", "", "unknown options are ignored", |s, _| {
        taken(s, |rs| rs.message.extend([253, 1, 0, 0, 0, 0, 0, 0, 14, 1, 1, 2, 3, 4, 5, 6]))
    }),
    case!("4861 6.1.1", "", "bad ones in a row stop nothing", |s, _| {
        (0..8).try_for_each(|_| discarded_one(s, Duration::from_millis(20), |rs| rs.hop_limit = 1))?;
        taken(s, |_| {})
    }),
    case!("4861 6.1.2", "2.2.5", "advertisements are valid", |s, _| answered(s).map(|_| ())),
    case!("4861 6.2.3", "2.2.7", "prefix, MTU and address are as configured", prefix_mtu_address),
    case!("4191 2.2", "2.2.20", "the router's preference is as configured", |s, _| {
        require(decoded(&answered(s)?)?.preference == Preference::High, "its preference is not high")
    }),
    case!("4191 2.3", "2.2.21 A-D", "routes of every length", routes),
    case!("8106 5.1", "2.2.24 A", "recursive DNS servers", |s, _| {
        has(s, |option| matches!(option, NdOption::Rdnss { lifetime: 1800.., .. }))
    }),
    case!("8106 5.2", "2.2.24 B", "the DNS search list", |s, _| {
        has(
            s,
            |option| matches!(option, NdOption::Dnssl { lifetime: 1800.., names } if names == &["boot.example"]),
        )
    }),
    case!("4861 6.2.6", "2.2.9 A", "two solicitations 3 s apart are both answered in 0.5 s", |s, _| {
        taken(s, |_| {})?;
        sleep(Duration::from_secs(3));
        taken(s, |_| {})
    }),
    case!("4861 6.2.6", "2.2.9 B", "from ::, 2 s apart: multicasts 3 s apart", |s, _| {
        let seen = multicasts(s, 4, Duration::from_secs(2));
        require(seen.len() >= 2, "fewer than two answers")?;
        spaced(&seen)
    }),
    case!("4861 6.2.6", "", "a burst of 20 from ::: one answer now, one 3 s later", |s, _| {
        let seen = multicasts(s, 20, Duration::from_millis(1));
        require((1..=2).contains(&seen.len()), &format!("{} answers", seen.len()))?;
        spaced(&seen)
    }),
    case!("4861 6.2.6", "", "a burst of 10 with addresses is answered", |s, _| {
        for _ in 0..10 {
            s.send(&s.good());
        }
        let seen = s.advertisements(SOON);
        require(!seen.is_empty(), "no answer")?;
        let multicasts: Vec<Seen> = seen.into_iter().filter(Seen::is_multicast).collect();
        spaced(&multicasts)
    }),
    case!("4861 6.2.3", "", "from a global address: the answer is from a link-local one", |s, port| {
        let mut global: Ipv6Addr = prefix(port).strip_suffix("/64").unwrap().parse().unwrap();
        global = Ipv6Addr::from_bits(global.to_bits() | 0x99);
        s.drain();
        s.send(&Solicitation { from: global, ..s.good() });
        valid(s.advertisement(Duration::from_secs(4)).ok_or("no answer")?).map(|_| ())
    }),
    case!("4861 6.2.4", "2.2.7 B", "the first three at most 16 s apart", |s, _| {
        let seen = s.advertisements(Duration::from_millis(33_500));
        require(seen.len() >= 2, &format!("{} advertisements in 33.5 s", seen.len()))?;
        let gaps: Vec<f64> = gaps(&seen);
        require(gaps.iter().all(|gap| *gap <= 16.2), &format!("gaps {gaps:?}"))
    }),
];

/// Sends a solicitation that `spoil` made bad between two good ones: after the first the leaf can reach the machine
/// without asking for its address, and without the answer to the second, silence proves nothing.
fn discarded(solicitor: &Solicitor, spoil: impl Fn(&mut Solicitation)) -> Verdict {
    taken(solicitor, |_| {})?;
    discarded_one(solicitor, SOON, spoil)?;
    taken(solicitor, |_| {})
}

fn discarded_one(solicitor: &Solicitor, silence: Duration, spoil: impl Fn(&mut Solicitation)) -> Verdict {
    let mut bad = solicitor.good();
    spoil(&mut bad);
    solicitor.drain();
    solicitor.send(&bad);
    require(solicitor.advertisement(silence).is_none(), "it was answered")
}

fn taken(solicitor: &Solicitor, change: impl Fn(&mut Solicitation)) -> Verdict {
    let mut good = solicitor.good();
    change(&mut good);
    solicitor.drain();
    solicitor.send(&good);
    valid(solicitor.advertisement(SOON).ok_or("a good one was not answered")?).map(|_| ())
}

fn answered(solicitor: &Solicitor) -> Result<Seen, String> {
    solicitor.drain();
    solicitor.send(&solicitor.good());
    valid(solicitor.advertisement(SOON).ok_or("no answer")?)
}

/// RFC 4861 6.1.2.
fn valid(seen: Seen) -> Result<Seen, String> {
    require(seen.checksum, "bad checksum")?;
    require(seen.message.len() <= 1240, "longer than the smallest MTU")?;
    decoded(&seen)?;
    Ok(seen)
}

fn decoded(seen: &Seen) -> Result<Advertisement, String> {
    let envelope = Envelope { from: seen.sender(), hop_limit: seen.hop_limit };
    Advertisement::decode(&seen.message, &envelope).map_err(|invalid| invalid.to_string())
}

fn prefix_mtu_address(solicitor: &Solicitor, port: usize) -> Verdict {
    let seen = decoded(&answered(solicitor)?)?;
    let options = &seen.options;
    require((seen.hop_limit, seen.managed, seen.other) == (64, false, false), "hop limit, M or O")?;
    require(seen.router_lifetime == 1800, "router lifetime")?;
    require(options.contains(&NdOption::Mtu(1500)), "no MTU of 1500")?;
    let address = |option: &NdOption| matches!(option, NdOption::SourceLinkLayerAddress(_));
    require(options.iter().any(address), "no source link-layer address")?;
    let expected = prefix(port).parse().unwrap();
    let known = options.iter().any(|option| {
        matches!(option, NdOption::Prefix(prefix) if prefix.prefix == expected
            && prefix.on_link && prefix.autonomous && (prefix.valid, prefix.preferred) == (5400, 2700))
    });
    require(known, "no such prefix")
}

fn routes(solicitor: &Solicitor, _: usize) -> Verdict {
    let seen = decoded(&answered(solicitor)?)?;
    for (wanted, wanted_preference) in [
        ("2001:db8:aaaa::/64", Preference::Low),
        ("2001:db8:aaaa:b::/80", Preference::Medium),
        ("2001:db8::/32", Preference::Medium),
        ("::/0", Preference::Medium),
    ] {
        let wanted = wanted.parse().unwrap();
        let found = seen.options.iter().any(|option| {
            matches!(option, NdOption::Route { prefix, preference, lifetime: 1800 }
                if *prefix == wanted && *preference == wanted_preference)
        });
        require(found, &format!("no route to {wanted}"))?;
    }
    Ok(())
}

fn has(solicitor: &Solicitor, wanted: impl Fn(&NdOption) -> bool) -> Verdict {
    require(decoded(&answered(solicitor)?)?.options.iter().any(wanted), "no such option")
}

/// The multicasts from the first of some solicitations from `::` until 4 s after the last.
fn multicasts(solicitor: &Solicitor, count: u32, pause: Duration) -> Vec<Seen> {
    solicitor.drain();
    let mut seen = Vec::new();
    for _ in 0..count {
        solicitor.send(&solicitor.unspecified());
        seen.extend(solicitor.advertisements(pause));
    }
    seen.extend(solicitor.advertisements(Duration::from_secs(4)));
    seen.retain(Seen::is_multicast);
    seen
}

/// The seconds between one and the next.
pub fn gaps(seen: &[Seen]) -> Vec<f64> {
    seen.windows(2)
        .map(|pair| pair[1].at.duration_since(pair[0].at).unwrap_or_default().as_secs_f64())
        .collect()
}

/// RFC 4861 6.2.6, 10: at most one multicast per MIN_DELAY_BETWEEN_RAS.
pub fn spaced(seen: &[Seen]) -> Verdict {
    let gaps = gaps(seen);
    require(gaps.iter().all(|gap| *gap >= APART.as_secs_f64()), &format!("gaps {gaps:?}"))
}

/// Fails with `reason` unless `fact`.
pub fn require(fact: bool, reason: &str) -> Verdict {
    if fact { Ok(()) } else { Err(reason.to_owned()) }
}
