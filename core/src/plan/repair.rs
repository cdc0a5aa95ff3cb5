//! Repairs of facts that are missing although their rows are there: how long each fact has been missing, and what to do.
//!
//! STATE_DB's «ok» says that a daemon has asked the kernel for something, not that the kernel has it (`cfgmgr/intfmgr.cpp:
//! IntfMgr::doIntfAddrTask`), and daemons miss the rows that FLUSHDB deletes. A fact that is missing for longer than
//! [`Waiting::lateness`] is repaired. First its row is written again, which makes the daemon do the same work again. If that
//! does not help, and the kernel or the ASIC contradicts a daemon, the thing is recreated: its rows are deleted in SONiC's
//! order and written again.
//!
//! Must never: repair in a tight loop. The pause doubles with each attempt, because another program may be writing, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use super::{Plan, Waiting};
use crate::names::PortName;

/// The pause after the first attempt. It doubles with each further attempt.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A subject's attempts are forgotten when it has had all its facts for this long.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// The shortest time to the next pass, for a repair that became due during this one.
const NEXT_PASS_MIN: Duration = Duration::from_millis(100);
/// How long a denying rule of the boot ACL may be missing before all ports leave the boot VRF. orchagent creates a rule again
/// within a second; if it does not, the ports must not stay in the VRF without isolation.
const DENIAL_MISSING_MAX: Duration = Duration::from_secs(10);

/// What is repaired.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The boot VRF.
    Vrf,
    /// The boot ACL's table.
    AclTable,
    /// All denying rules of the boot ACL. While one is missing, machines may reach too much.
    AclDenials,
    /// One rule of the boot ACL.
    AclRule(String),
    /// The loopback of the anycast address.
    Loopback,
    /// A port.
    Port(PortName),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vrf => f.write_str("the boot VRF"),
            Self::AclTable => f.write_str("the boot ACL's table"),
            Self::AclDenials => f.write_str("the boot ACL's denying rules"),
            Self::AclRule(rule) => write!(f, "the boot ACL's rule {rule}"),
            Self::Loopback => f.write_str("the anycast address's loopback"),
            Self::Port(port) => port.fmt(f),
        }
    }
}

/// What to repair in this pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remedies {
    /// Write the row of the missing fact of these again.
    pub rewrite: BTreeSet<Subject>,
    /// Recreate these: delete their rows, then write them again.
    pub recreate: BTreeSet<Subject>,
    /// The number of attempts so far at what is being repaired.
    pub attempts: BTreeMap<Subject, u32>,
    /// A denying rule has been missing for too long: take all ports out of the boot VRF.
    pub evict_ports: bool,
}

/// An attempt that has begun, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairAttempt {
    /// The repaired subject.
    pub subject: Subject,
    /// The number of the attempt, from 1.
    pub number: u32,
    /// The missing fact; none if it has just come.
    pub fact: Option<Waiting>,
    /// True: the subject is recreated. False: its row is written again.
    pub is_recreation: bool,
}

/// The missing facts of all subjects, and the attempts at each.
#[derive(Debug, Default)]
pub struct Repairs(BTreeMap<Subject, Repair>);

#[derive(Debug)]
struct Repair {
    /// The missing fact; none if all are there.
    fact: Option<Waiting>,
    /// Since when `fact` has its value.
    since: Instant,
    attempts: u32,
    tried_at: Option<Instant>,
    /// The row was written again while the fact was missing, and that did not help.
    is_rewritten: bool,
    /// The subject is being removed, to be written again.
    is_recreating: bool,
}

impl Repairs {
    /// What to do now. `may_begin` must be false while Redis refuses writes: what is removed could not be written again.
    pub fn remedies(&self, now: Instant, may_begin: bool) -> Remedies {
        let mut remedies = Remedies::default();
        for (subject, repair) in &self.0 {
            if repair.is_being_repaired() {
                remedies.attempts.insert(subject.clone(), repair.attempts);
            }
            if repair.is_recreating {
                remedies.recreate.insert(subject.clone());
            }
            if may_begin && repair.due_at().is_some_and(|at| at <= now) {
                let remedy = if repair.recreates() { &mut remedies.recreate } else { &mut remedies.rewrite };
                remedy.insert(subject.clone());
            }
            let is_denial_missing = *subject == Subject::AclDenials && repair.fact.is_some();
            remedies.evict_ports |=
                is_denial_missing && now.saturating_duration_since(repair.since) >= DENIAL_MISSING_MAX;
        }
        remedies
    }

    /// Records a pass: the facts that it has found missing, and the remedies that it has applied. Returns the attempts that have
    /// begun.
    pub fn record(&mut self, plan: &Plan, remedies: &Remedies, now: Instant) -> Vec<RepairAttempt> {
        let mut begun = Vec::new();
        if self.is_daemon_at_work(plan) {
            // The daemon works through its queue. A row that it has not reached yet is not late.
            let waits = |repair: &&mut Repair| repair.attempts == 0 && repair.waits_for_daemon();
            self.0.values_mut().filter(waits).for_each(|repair| repair.since = now);
        }
        for (subject, fact) in &plan.missing {
            let repair = self.0.entry(subject.clone()).or_insert_with(|| Repair::of(fact, now));
            if repair.fact.as_ref() != Some(fact) {
                (repair.fact, repair.since) = (Some(fact.clone()), now);
            }
        }
        for (subject, repair) in &mut self.0 {
            if remedies.rewrite.contains(subject) && plan.missing.contains_key(subject) {
                repair.is_rewritten = true;
                begun.push(repair.begin(subject, false, now));
            } else if remedies.recreate.contains(subject) && !repair.is_recreating {
                repair.is_recreating = true;
                begun.push(repair.begin(subject, true, now));
            }
            if !plan.missing.contains_key(subject) && repair.fact.take().is_some() {
                repair.since = now;
                // A subject that is being recreated is not repaired yet.
                repair.is_rewritten &= repair.is_recreating;
            }
            repair.is_recreating &= !plan.removed.contains(subject);
        }
        let is_finished = |repair: &Repair| {
            let is_forgotten =
                repair.attempts == 0 || now.saturating_duration_since(repair.since) >= FORGET_AFTER;
            repair.fact.is_none() && !repair.is_recreating && is_forgotten
        };
        self.0.retain(|_, repair| !is_finished(repair));
        begun
    }

    /// Whether a fact that a daemon is responsible for has come or changed since the last pass.
    fn is_daemon_at_work(&self, plan: &Plan) -> bool {
        self.0.iter().any(|(subject, repair)| {
            repair.waits_for_daemon() && plan.missing.get(subject) != repair.fact.as_ref()
        })
    }

    /// When [`Self::remedies`] changes next if no fact changes; after `now`.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let eviction = |subject: &Subject, repair: &Repair| {
            (*subject == Subject::AclDenials && repair.fact.is_some())
                .then(|| repair.since + DENIAL_MISSING_MAX)
        };
        let due = self.0.values().filter_map(Repair::due_at).map(|at| at.max(now + NEXT_PASS_MIN));
        let evictions = self.0.iter().filter_map(|(subject, repair)| eviction(subject, repair));
        due.chain(evictions.filter(|at| *at > now)).min()
    }
}

impl Repair {
    fn of(fact: &Waiting, now: Instant) -> Self {
        let fact = Some(fact.clone());
        Self { fact, since: now, attempts: 0, tried_at: None, is_rewritten: false, is_recreating: false }
    }

    fn begin(&mut self, subject: &Subject, is_recreation: bool, now: Instant) -> RepairAttempt {
        (self.attempts, self.tried_at) = (self.attempts.saturating_add(1), Some(now));
        RepairAttempt {
            subject: subject.clone(),
            number: self.attempts,
            fact: self.fact.clone(),
            is_recreation,
        }
    }

    /// When the next attempt is due.
    fn due_at(&self) -> Option<Instant> {
        let late = self.since + self.fact.as_ref()?.lateness()?;
        let doublings = self.attempts.saturating_sub(1).min(u32::BITS - 1);
        let pause = PAUSE.saturating_mul(1 << doublings.min(16)).min(PAUSE_MAX);
        Some(self.tried_at.map_or(late, |at| late.max(at + pause)))
    }

    /// Whether a repair is under way, or was tried since the fact is missing.
    fn is_being_repaired(&self) -> bool {
        self.is_recreating || (self.fact.is_some() && self.tried_at.is_some_and(|at| at >= self.since))
    }

    fn waits_for_daemon(&self) -> bool {
        self.fact.as_ref().is_some_and(|fact| !fact.is_contradiction() && fact.lateness().is_some())
    }

    /// Whether the next attempt recreates the subject.
    fn recreates(&self) -> bool {
        self.is_rewritten && self.fact.as_ref().is_some_and(Waiting::is_contradiction)
    }
}

#[cfg(test)]
mod tests;
