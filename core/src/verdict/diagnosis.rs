//! What is published of every port's machine.
//!
//! Must never: hold what only one reader needs.

use std::collections::BTreeMap;

use super::Verdict;
use crate::attempt::{AttemptId, Stage};
use crate::names::{Mac, PortName};

/// What is known of every port that leafboot manages.
pub type Diagnosis = BTreeMap<PortName, PortDiagnosis>;

/// What is known of one port's machine.
#[derive(Debug, Clone, PartialEq)]
pub struct PortDiagnosis {
    /// The attempt that goes on.
    pub attempt: Option<AttemptId>,
    /// The attempt's number.
    pub number: u64,
    /// The machine's Ethernet address: its own word.
    pub machine: Option<Mac>,
    /// The last stage that was reached.
    pub stage: Option<Stage>,
    /// The verdict.
    pub verdict: Verdict,
}
