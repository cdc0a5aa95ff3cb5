//! What a verdict follows from.
//!
//! Must never: hold anything that a verdict does not use.

use std::net::Ipv6Addr;

use crate::attempt::{Moment, PortHistory};
use crate::counters::PortCounters;
use crate::observed::Link;
use crate::probe::{Probe, ProbeProblem, ProbeResults, Probed};
use crate::settings::Settings;
use crate::settings::relay::CacheMode;
use crate::status::PortStatus;

/// All that is known of a port.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The port's status.
    pub status: &'a PortStatus,
    /// The port's device; none: the kernel has none of that name.
    pub link: Option<&'a Link>,
    /// The port's attempts.
    pub history: &'a PortHistory,
    /// What was counted during the current attempt; none: SONiC counts nothing.
    pub counters: Option<&'a PortCounters>,
    /// What the leaf has asked by itself.
    pub probes: &'a ProbeResults,
    /// What is the same for all ports.
    pub leaf: &'a LeafFacts,
    /// The rates, in bytes per second, at which other machines receive OS images now.
    pub other_rates: &'a [f64],
    /// Now.
    pub now: Moment,
}

/// What is the same for all ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafFacts {
    /// The leaf's name.
    pub leaf: String,
    /// The partition cache's public name.
    pub cache: String,
    /// Whether machines are redirected to it.
    pub is_redirected: bool,
    /// The advertised resolvers.
    pub resolvers: Vec<Ipv6Addr>,
}

impl LeafFacts {
    /// The facts in the settings.
    pub fn of(settings: &Settings) -> Self {
        Self {
            leaf: settings.leaf.clone(),
            cache: settings.relay.cache.name.to_string(),
            is_redirected: settings.relay.cache.mode == CacheMode::Redirect,
            resolvers: settings.ra.dns.clone(),
        }
    }
}

impl Evidence<'_> {
    /// Bytes per second to the machine; 0: none, or not known.
    pub(super) fn rate(&self) -> f64 {
        self.counters.map_or(0.0, |counters| counters.rate)
    }

    /// Bytes to the machine since it last asked for an image; none: not known.
    pub(super) fn since_image(&self) -> Option<u64> {
        self.counters.and_then(|counters| counters.since_image)
    }

    /// The first of the probes that has failed.
    pub(super) fn failed(&self, is: impl Fn(&Probe) -> bool) -> Option<(&Probe, &ProbeProblem)> {
        self.probes.0.iter().filter(|(probe, _)| is(probe)).find_map(|(probe, probed)| {
            let Probed { result: Err(problem), .. } = probed else { return None };
            Some((probe, problem))
        })
    }

    /// A probe that has failed, as evidence.
    pub(super) fn asked(&self, probe: &Probe, problem: &ProbeProblem) -> String {
        format!("{} asked it itself: {probe}: {problem}", self.leaf.leaf)
    }

    /// The denying rules of the boot ACL that have matched during the attempt, with their packets, most packets first.
    pub(super) fn denied(&self) -> Vec<(&str, u64)> {
        let rules = self.counters.iter().flat_map(|counters| &counters.rule_packets);
        let is_denying = |rule: &&str| rule.starts_with("DENY") || *rule == "DEFAULT_RULE";
        let mut denied: Vec<(&str, u64)> = rules
            .map(|(rule, packets)| (rule.as_str(), *packets))
            .filter(|(rule, _)| is_denying(rule))
            .collect();
        denied.sort_by_key(|(_, packets)| std::cmp::Reverse(*packets));
        denied
    }
}
