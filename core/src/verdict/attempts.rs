//! Machines that begin their boot again and again: which attempt is judged, and when the repetition itself is the verdict.
//!
//! Must never: let a verdict come and go with each new attempt of the same machine.

use super::{Level, Verdict, VerdictReason};
use crate::attempt::{Attempt, AttemptEnd, Moment, PortHistory, Stage};

/// So many attempts in a row with the same end are a loop.
const LOOP_MIN: usize = 3;
/// After this time, in microseconds, an attempt is judged by itself. iPXE is back within seconds, firmware within a minute.
const YOUNG_MAX: u64 = 60_000_000;

/// The attempt before, while the one that goes on is young and not as far: its fault still holds. A machine with another
/// address is another machine.
pub fn before(history: &PortHistory, now: Moment) -> Option<&Attempt> {
    let current = history.current()?;
    let before = history.attempts().rev().nth(1).filter(|before| is_reset(before))?;
    let is_other = current.mac.zip(before.mac).is_some_and(|(now, then)| now != then);
    let is_young = now.since(current.began) < YOUNG_MAX;
    (is_young && !is_other && last(current) < last(before)).then_some(before)
}

/// Turns a verdict that awaits something into one about the loop, if the machine is in one. A fault keeps its reason, and
/// says how often.
pub fn with_loop(verdict: Verdict, history: &PortHistory) -> Verdict {
    let Some((count, stage)) = repetition(history).filter(|(count, _)| *count >= LOOP_MIN) else {
        return verdict;
    };
    let line = format!("{count} attempts in a row ended at the stage {}", stage.as_str());
    match verdict.level {
        Level::Fault => verdict.with(line),
        Level::Ok | Level::Waiting => {
            let message = format!("reboot loop: {line}");
            Verdict::fault(VerdictReason::RebootLoop, message).with(verdict.message)
        }
    }
}

/// How many attempts before the current one have ended at the same stage, and at which.
fn repetition(history: &PortHistory) -> Option<(usize, Stage)> {
    let mut ended = history.attempts().rev().skip(1).take_while(|attempt| is_reset(attempt)).map(last);
    let stage = ended.next()??;
    Some((1 + ended.take_while(|other| *other == Some(stage)).count(), stage))
}

fn is_reset(attempt: &Attempt) -> bool {
    matches!(attempt.end, Some((_, AttemptEnd::Next | AttemptEnd::Carrier)))
}

fn last(attempt: &Attempt) -> Option<Stage> {
    attempt.last_stage().map(|record| record.stage)
}
