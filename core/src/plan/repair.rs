//! Facts that stay away although their rows are there: how long each has been missing, and what is to be done about it.
//!
//! STATE_DB's «ok» means that a daemon has asked for a thing, not that the thing is there (`cfgmgr/intfmgr.cpp:
//! IntfMgr::doIntfAddrTask`), and a daemon hears of no row that FLUSHDB took away. A fact that is missing for longer than it
//! may take ([`Waiting::lateness`]) is repaired: first its row is written again, for a daemon that reads the same row again
//! does the same work again; if that does not help, the thing is taken out in SONiC's order and written anew.
//!
//! Must never: repair in a tight loop: the pause doubles with each attempt, and somebody else may be writing too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use super::{Plan, Waiting};
use crate::names::PortName;

/// The pause after the first attempt; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A subject that has had all its facts for this long starts from the first pause again.
const QUIET: Duration = Duration::from_secs(60);
/// What has become due while a pass was made is done after this time.
const SOON: Duration = Duration::from_millis(100);
/// A denying rule of the boot ACL may be missing for this long before the ports leave the boot VRF. orchagent makes a rule
/// again within a second; a port must not stay open because it does not.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// What a repair is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The boot VRF.
    Vrf,
    /// The boot ACL's table.
    AclTable,
    /// All rules of the boot ACL that deny: while one is missing, machines may reach too much.
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

/// What is to be repaired in this pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remedies {
    /// These have the row of their missing fact written again.
    pub rewrite: BTreeSet<Subject>,
    /// These go out and come again.
    pub renew: BTreeSet<Subject>,
    /// How many attempts were made at what is being repaired.
    pub attempts: BTreeMap<Subject, u32>,
    /// A denying rule has been missing for too long: no port stays in the boot VRF.
    pub is_shut: bool,
}

/// An attempt that has begun: for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What is repaired.
    pub subject: Subject,
    /// From 1.
    pub number: u32,
    /// The fact that is missing; none: it has just come.
    pub fact: Option<Waiting>,
    /// The subject goes out and comes again; else its row is written again.
    pub is_renewal: bool,
}

/// The missing facts of all subjects, and what was tried.
#[derive(Debug, Default)]
pub struct Repairs(BTreeMap<Subject, Repair>);

#[derive(Debug)]
struct Repair {
    /// The missing fact; none: all are there.
    fact: Option<Waiting>,
    /// Since when that is so.
    since: Instant,
    attempts: u32,
    tried_at: Option<Instant>,
    /// The row was written again since a fact is missing, and that did not help.
    is_rewritten: bool,
    /// It is on its way out, to come again.
    is_renewing: bool,
}

impl Repairs {
    /// What is to be done now. `may_begin`: no repair begins while Redis refuses writes, for what goes could not come again.
    pub fn remedies(&self, now: Instant, may_begin: bool) -> Remedies {
        let mut remedies = Remedies::default();
        for (subject, repair) in &self.0 {
            if repair.is_being_repaired() {
                remedies.attempts.insert(subject.clone(), repair.attempts);
            }
            if repair.is_renewing {
                remedies.renew.insert(subject.clone());
            }
            if may_begin && repair.due_at().is_some_and(|at| at <= now) {
                let remedy = if repair.renews() { &mut remedies.renew } else { &mut remedies.rewrite };
                remedy.insert(subject.clone());
            }
            let is_open = *subject == Subject::AclDenials && repair.fact.is_some();
            remedies.is_shut |= is_open && now.saturating_duration_since(repair.since) >= OPEN_MAX;
        }
        remedies
    }

    /// Takes in what a pass has found missing, and which remedies it has applied. Returns the attempts that it has begun.
    pub fn follow(&mut self, plan: &Plan, remedies: &Remedies, now: Instant) -> Vec<Attempt> {
        let mut begun = Vec::new();
        if self.is_daemon_at_work(plan) {
            // It comes to everything in turn: what it has not come to yet is not late.
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
            } else if remedies.renew.contains(subject) && !repair.is_renewing {
                repair.is_renewing = true;
                begun.push(repair.begin(subject, true, now));
            }
            if !plan.missing.contains_key(subject) && repair.fact.take().is_some() {
                repair.since = now;
                // What goes out and comes again is not mended yet.
                repair.is_rewritten &= repair.is_renewing;
            }
            repair.is_renewing &= !plan.renewed.contains(subject);
        }
        let is_over = |repair: &Repair| {
            let is_forgotten = repair.attempts == 0 || now.saturating_duration_since(repair.since) >= QUIET;
            repair.fact.is_none() && !repair.is_renewing && is_forgotten
        };
        self.0.retain(|_, repair| !is_over(repair));
        begun
    }

    /// Whether a fact has come since the last pass that a daemon had to see to.
    fn is_daemon_at_work(&self, plan: &Plan) -> bool {
        self.0.iter().any(|(subject, repair)| {
            repair.waits_for_daemon() && plan.missing.get(subject) != repair.fact.as_ref()
        })
    }

    /// When [`Self::remedies`] says something else, if no fact changes: not before `now`.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let shut = |subject: &Subject, repair: &Repair| {
            (*subject == Subject::AclDenials && repair.fact.is_some()).then(|| repair.since + OPEN_MAX)
        };
        let due = self.0.values().filter_map(Repair::due_at).map(|at| at.max(now + SOON));
        let shut = self.0.iter().filter_map(|(subject, repair)| shut(subject, repair)).filter(|at| *at > now);
        due.chain(shut).min()
    }
}

impl Repair {
    fn of(fact: &Waiting, now: Instant) -> Self {
        let fact = Some(fact.clone());
        Self { fact, since: now, attempts: 0, tried_at: None, is_rewritten: false, is_renewing: false }
    }

    fn begin(&mut self, subject: &Subject, is_renewal: bool, now: Instant) -> Attempt {
        (self.attempts, self.tried_at) = (self.attempts.saturating_add(1), Some(now));
        Attempt { subject: subject.clone(), number: self.attempts, fact: self.fact.clone(), is_renewal }
    }

    /// When the next attempt is due.
    fn due_at(&self) -> Option<Instant> {
        let late = self.since + self.fact.as_ref()?.lateness()?;
        let doublings = self.attempts.saturating_sub(1).min(u32::BITS - 1);
        let pause = PAUSE.saturating_mul(1 << doublings.min(16)).min(PAUSE_MAX);
        Some(self.tried_at.map_or(late, |at| late.max(at + pause)))
    }

    /// Whether something was tried since the fact is missing, or is under way.
    fn is_being_repaired(&self) -> bool {
        self.is_renewing || (self.fact.is_some() && self.tried_at.is_some_and(|at| at >= self.since))
    }

    fn waits_for_daemon(&self) -> bool {
        self.fact.as_ref().is_some_and(|fact| !fact.is_contradiction() && fact.lateness().is_some())
    }

    /// Whether the next attempt takes the subject out.
    fn renews(&self) -> bool {
        self.is_rewritten && self.fact.as_ref().is_some_and(Waiting::is_contradiction)
    }
}

#[cfg(test)]
mod tests;
