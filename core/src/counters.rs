//! What the ASIC has sent to each machine, and what the boot ACL has matched: from what SONiC counts.
//!
//! Must never: take a counter that began anew for a large number.

use std::collections::{BTreeMap, VecDeque};

use crate::attempt::{AttemptId, Moment, PortHistory, Stage};
use crate::names::PortName;

/// One reading of SONiC's counters. What SONiC does not have is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Bytes that the ASIC has sent out of each port since SONiC started. SONiC updates them every second.
    pub out_octets: BTreeMap<PortName, u64>,
    /// Packets that matched each rule of the boot ACL since the rule was created. SONiC updates them every 10 s.
    pub rule_packets: BTreeMap<String, u64>,
    /// The system name that LLDP has heard on each port.
    pub lldp: BTreeMap<PortName, String>,
}

/// What was counted on one port during the current attempt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortCounters {
    /// Bytes per second out of the port, over the last seconds.
    pub rate: f64,
    /// Bytes out of the port since the last image request was answered; none: no image was asked for.
    pub since_image: Option<u64>,
    /// Packets that matched each rule of the boot ACL since the attempt began. A rule that all ports share counts all ports'
    /// packets. Rules without a packet are left out.
    pub rule_packets: BTreeMap<String, u64>,
}

/// The readings of all ports with machines that boot.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    ports: BTreeMap<PortName, PortReadings>,
}

/// The readings of one port in one attempt.
#[derive(Debug, Clone)]
struct PortReadings {
    attempt: AttemptId,
    /// The last readings of the bytes out, the oldest first.
    octets: VecDeque<(Moment, u64)>,
    /// When the last image request was answered, and the bytes out at that time, if they were read then.
    image: Option<(Moment, Option<u64>)>,
    /// Each rule's packets when the attempt was first read.
    first_packets: BTreeMap<String, u64>,
}

/// A rate is taken over so many readings, which are a second apart.
const READINGS: usize = 6;
/// In microseconds. If an image request is older than this when the port is first read, the bytes before it are unknown.
const REQUEST_AGE_MAX: u64 = 3_000_000;

impl Readings {
    /// Adds a reading, and returns what was counted on each port of `histories` with an attempt that goes on.
    pub fn add(
        &mut self,
        reading: &Reading,
        histories: &BTreeMap<PortName, PortHistory>,
        now: Moment,
    ) -> BTreeMap<PortName, PortCounters> {
        let is_open =
            |port: &PortName| histories.get(port).is_some_and(|history| history.current().is_some());
        self.ports.retain(|port, _| is_open(port));
        let mut all = BTreeMap::new();
        for (port, history) in histories {
            let Some(attempt) = history.current() else { continue };
            let readings =
                self.ports.entry(port.clone()).or_insert_with(|| PortReadings::new(attempt.id, reading));
            if readings.attempt != attempt.id {
                *readings = PortReadings::new(attempt.id, reading);
            }
            let images = [Stage::Kernel, Stage::Initrd, Stage::Image];
            let image =
                images.into_iter().filter_map(|stage| attempt.stage(stage)).map(|record| record.last).max();
            readings.add(reading.out_octets.get(port).copied(), image, now);
            all.insert(port.clone(), readings.counters(reading));
        }
        all
    }
}

impl PortReadings {
    fn new(attempt: AttemptId, reading: &Reading) -> Self {
        let first_packets = reading.rule_packets.clone();
        Self { attempt, octets: VecDeque::new(), image: None, first_packets }
    }

    fn add(&mut self, octets: Option<u64>, image: Option<Moment>, now: Moment) {
        let Some(octets) = octets else { return self.octets.clear() };
        if self.octets.back().is_some_and(|(_, last)| octets < *last) {
            // SONiC was restarted: the counter began anew.
            self.octets.clear();
            self.image = self.image.map(|(at, _)| (at, None));
        }
        if let Some(at) = image
            && self.image.is_none_or(|(before, _)| before != at)
        {
            // Bytes since the reading before the request: some of them may be older, by a second at most.
            let before = self.octets.back().map(|(_, last)| *last);
            let is_new = now.since(at) < REQUEST_AGE_MAX;
            self.image = Some((at, before.or(is_new.then_some(octets))));
        }
        if self.octets.len() >= READINGS {
            self.octets.pop_front();
        }
        self.octets.push_back((now, octets));
    }

    fn counters(&self, reading: &Reading) -> PortCounters {
        let last = self.octets.back().map_or(0, |(_, octets)| *octets);
        let packets = reading.rule_packets.iter().map(|(rule, packets)| {
            let first = self.first_packets.get(rule).copied().unwrap_or_default();
            // A rule that was written again counts anew.
            (rule.clone(), if *packets < first { *packets } else { packets - first })
        });
        PortCounters {
            rate: self.rate(),
            since_image: self.image.and_then(|(_, octets)| Some(last.saturating_sub(octets?))),
            rule_packets: packets.filter(|(_, packets)| *packets > 0).collect(),
        }
    }

    fn rate(&self) -> f64 {
        let (Some((first, from)), Some((last, to))) = (self.octets.front(), self.octets.back()) else {
            return 0.0;
        };
        let micros = last.since(*first);
        if micros == 0 { 0.0 } else { to.saturating_sub(*from) as f64 * 1e6 / micros as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::{Event, Now, Outcome, RequestEvent, RequestRecord, Text};
    use crate::relay::kinds::Kind;

    fn seconds(seconds: u64) -> Now {
        Now { moment: Moment(seconds * 1_000_000), unix_ms: seconds * 1000 }
    }

    fn reading(octets: u64, packets: u64) -> Reading {
        Reading {
            out_octets: [("Ethernet0".parse().unwrap(), octets)].into(),
            rule_packets: [("DENY_MACHINES".to_owned(), packets)].into(),
            lldp: BTreeMap::new(),
        }
    }

    #[test]
    fn bytes_and_packets_are_counted_from_the_request_and_the_attempt_on() {
        let port: PortName = "Ethernet0".parse().unwrap();
        let mut histories = BTreeMap::from([(port.clone(), PortHistory::default())]);
        let mut readings = Readings::default();
        assert!(readings.add(&reading(7, 0), &histories, seconds(1).moment).is_empty(), "no attempt");
        let history = histories.get_mut(&port).unwrap();
        history.apply(&Event::Link { carrier: true, carriers: 1 }, seconds(1), 1);
        let counted = readings.add(&reading(1000, 5), &histories, seconds(2).moment);
        assert_eq!(counted[&port], PortCounters::default());
        let history = histories.get_mut(&port).unwrap();
        let record = RequestRecord {
            request: Text::new("1"),
            path: Text::new("/kernel"),
            ms: 1,
            outcome: Outcome::Redirected,
        };
        let request = RequestEvent { kind: Kind::Image, record, images: None };
        history.apply(&Event::Request(request), seconds(2), 2);
        let counted = readings.add(&reading(5000, 9), &histories, seconds(4).moment);
        assert_eq!((counted[&port].rate, counted[&port].since_image), (2000.0, Some(4000)));
        assert_eq!(counted[&port].rule_packets["DENY_MACHINES"], 4);
        // SONiC was restarted.
        let counted = readings.add(&reading(10, 0), &histories, seconds(5).moment);
        assert_eq!((counted[&port].rate, counted[&port].since_image), (0.0, None));
        assert!(counted[&port].rule_packets.is_empty());
    }
}
