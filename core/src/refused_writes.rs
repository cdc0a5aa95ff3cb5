//! The rows of CONFIG_DB that Redis refuses to write, with the reason and the time of the next try. Redis refuses a
//! write without breaking the connection when it is out of memory, while it is a replica, or when a key holds no hash.
//!
//! Must never: hold back a row that Redis takes, keep more than one reason for a row, or read a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use crate::names::PortName;
use crate::plan::Step;
use crate::rows::RowKey;

/// The pause before a refused row is tried again. It doubles each time that the row is refused again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// One write that Redis refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedWrite {
    /// The row.
    pub key: RowKey,
    /// Redis' answer: one line, at most 200 characters.
    pub reason: String,
}

/// Rows that were refused for the same reason, as one line for log and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalSummary {
    /// The first of them.
    pub first: RowKey,
    /// How many there are.
    pub rows: usize,
    /// Redis' answer.
    pub reason: String,
}

/// Every row that Redis refused at its last write and that the plan still has.
#[derive(Debug, Default)]
pub struct RefusedWrites(BTreeMap<RowKey, RefusedRow>);

#[derive(Debug)]
struct RefusedRow {
    reason: String,
    pause: Duration,
    again: Instant,
}

impl RefusedWrites {
    /// The steps of a plan that may be written now, in their order.
    pub fn due(&self, steps: &[Step], now: Instant) -> Vec<Step> {
        let is_paused = |step: &Step| self.0.get(step.key()).is_some_and(|row| now < row.again);
        // A row waits until the row that it needs is written, not only until that row may be tried again.
        let lacks = |step: &Step| step.needs().is_some_and(|key| self.0.contains_key(&key));
        steps.iter().filter(|step| !is_paused(step) && !lacks(step)).cloned().collect()
    }

    /// Records the outcome of a write: the steps that were tried, and the rows that were refused. Returns the refusals to log.
    /// A row's refusal is returned once, until the row is written or is refused for another reason.
    pub fn record(
        &mut self,
        tried: &[Step],
        refused: Vec<RefusedWrite>,
        now: Instant,
    ) -> Vec<RefusalSummary> {
        let refused: BTreeMap<RowKey, String> =
            refused.into_iter().map(|RefusedWrite { key, reason }| (key, reason)).collect();
        for step in tried.iter().filter(|step| !refused.contains_key(step.key())) {
            self.0.remove(step.key());
        }
        let mut news = Vec::new();
        for (key, reason) in refused {
            let before = self.0.get(&key);
            if before.is_none_or(|before| before.reason != reason) {
                news.push((key.clone(), reason.clone()));
            }
            let pause = before.map_or(FIRST_PAUSE, |before| LAST_PAUSE.min(before.pause * 2));
            self.0.insert(key, RefusedRow { reason, pause, again: now + pause });
        }
        summaries(news.iter().map(|(key, reason)| (key, reason.as_str())))
    }

    /// Whether no refused row is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next refused row may be tried again. A row that needs another refused row is tried after that row.
    pub fn next(&self) -> Option<Instant> {
        let is_free = |key: &RowKey| key.needs().is_none_or(|key| !self.0.contains_key(&key));
        self.0.iter().filter(|(key, _)| is_free(key)).map(|(_, row)| row.again).min()
    }

    /// Forgets the rows that the plan does not have any more, once their pause is over. Before that they are kept: a plan leaves
    /// rows out for a moment while CONFIG_DB is being loaded.
    pub fn forget(&mut self, steps: &[Step], now: Instant) {
        let planned: BTreeSet<&RowKey> = steps.iter().map(Step::key).collect();
        self.0.retain(|key, row| planned.contains(key) || now < row.again);
    }

    /// The refused rows that all ports share, one summary for each reason.
    pub fn shared(&self) -> Vec<RefusalSummary> {
        let shared = self.0.iter().filter(|(key, _)| key.port().is_none());
        summaries(shared.map(|(key, row)| (key, row.reason.as_str())))
    }

    /// The first refused row of each port that has one.
    pub fn of_ports(&self) -> BTreeMap<&PortName, RefusalSummary> {
        let mut ports = BTreeMap::new();
        for (key, row) in &self.0 {
            if let Some(port) = key.port() {
                let summary = RefusalSummary { first: key.clone(), rows: 1, reason: row.reason.clone() };
                ports.entry(port).or_insert(summary);
            }
        }
        ports
    }
}

/// One summary for each reason.
fn summaries<'a>(rows: impl Iterator<Item = (&'a RowKey, &'a str)>) -> Vec<RefusalSummary> {
    let mut found: BTreeMap<&str, (&RowKey, usize)> = BTreeMap::new();
    for (key, reason) in rows {
        found.entry(reason).or_insert((key, 0)).1 += 1;
    }
    let summary = |(reason, (first, rows)): (&str, (&RowKey, usize))| RefusalSummary {
        first: first.clone(),
        rows,
        reason: reason.to_owned(),
    };
    found.into_iter().map(summary).collect()
}

impl fmt::Display for RefusalSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis refuses to write {}", self.first)?;
        if self.rows > 1 {
            write!(f, " and {} more", self.rows - 1)?;
        }
        write!(f, ": {}", self.reason)
    }
}

#[cfg(test)]
mod tests;
