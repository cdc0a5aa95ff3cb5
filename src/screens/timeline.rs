//! `leafboot timeline`: one attempt to boot, stage by stage.
//!
//! Must never: show a time that is not the leaf's.

use std::collections::BTreeMap;

use super::answers::{Attempt, Attempts, Stage, Verdict};
use super::layout::{Style, Tone, hanging, padded};
use super::status::stage_name;
use super::time::{between, offset};

/// The columns of a stage's name.
const NAME: usize = 9;
/// The columns of an offset up to +999.9 s.
const OFFSET: usize = 6;

/// The attempt of this number, or the last one. Err: there is none.
pub fn chosen(attempts: &Attempts, number: Option<u64>) -> Result<&Attempt, String> {
    let (Some(first), Some(last)) = (attempts.attempts.first(), attempts.attempts.last()) else {
        return Err(format!("{}: no machine has tried to boot here yet", attempts.port));
    };
    let Some(number) = number else { return Ok(last) };
    attempts.attempts.iter().find(|attempt| attempt.number == number).ok_or_else(|| {
        let (first, last) = (first.number, last.number);
        format!("{}: attempt {number} is not kept: there are {first} to {last}", attempts.port)
    })
}

/// The screen of one attempt.
pub fn screen(attempts: &Attempts, attempt: &Attempt, style: Style) -> String {
    let mut text = head(attempts, attempt, style);
    for stage in &attempt.stages {
        text += &line(stage, stage.offset_ms, style);
        if stage.count > 1 {
            let times = stage.count - 1;
            let more = format!("{times} more until {}", offset(stage.last_offset_ms));
            text += &hanging(&margin(), &more, Tone::Plain, style);
        }
    }
    text += &alike(attempts, attempt).map(|text| text + "\n").unwrap_or_default();
    text + &attempt.verdict.as_ref().map(|found| verdict(found, style)).unwrap_or_default()
}

fn head(attempts: &Attempts, attempt: &Attempt, style: Style) -> String {
    let machine = match &attempt.machine {
        Some(machine) => format!(", machine {machine} (its own word)"),
        None => String::new(),
    };
    let head = format!("attempt {} of {} on {}{machine}", attempt.number, attempts.total, attempts.port);
    let mut text = hanging("", &head, Tone::Heading, style);
    let began = &attempt.began;
    let times = match &attempt.ended {
        None => format!("began {began}"),
        Some(ended) => {
            let lasted =
                between(began, ended).map_or(String::new(), |lasted| format!(" after {lasted:.1} s"));
            format!("began {began}, ended{lasted}{}", end(attempt.end.as_deref()))
        }
    };
    text += &hanging("", &times, Tone::Plain, style);
    text
}

/// Why an attempt has ended.
fn end(end: Option<&str>) -> String {
    let said = match end {
        None => return String::new(),
        Some("carrier") => "the carrier went",
        Some("released") => "the port was released",
        Some("next") => "the machine began again",
        Some("leaf-restarted") => "the leaf was restarted",
        Some(other) => other,
    };
    format!(": {said}")
}

fn line(stage: &Stage, at: f64, style: Style) -> String {
    let first = format!("  {:>OFFSET$}  {}  ", offset(at), padded(stage_name(&stage.stage), NAME));
    hanging(&first, &stage.message, Tone::Plain, style)
}

/// What stands before a text that goes on under a stage's message.
fn margin() -> String {
    " ".repeat(OFFSET + NAME + 6)
}

fn verdict(verdict: &Verdict, style: Style) -> String {
    let tone = if verdict.is_fault() { Tone::Bad } else { Tone::Plain };
    let said = format!("{} ({})", verdict.message, verdict.reason);
    let mut text = hanging("verdict: ", &said, tone, style);
    for evidence in &verdict.evidence {
        text += &hanging("  ", evidence, Tone::Plain, style);
    }
    text
}

/// What the attempts before this one have in common with it: a machine that begins again and again at the same stage.
fn alike(attempts: &Attempts, attempt: &Attempt) -> Option<String> {
    let last_stage = |attempt: &Attempt| attempt.stages.last().map(|stage| stage.stage.clone());
    let stage = last_stage(attempt)?;
    let before = attempts.attempts.iter().rev().skip_while(|other| other.number >= attempt.number);
    let like: Vec<&Attempt> = before
        .take_while(|other| {
            other.end.as_deref() == Some("next") && last_stage(other).as_ref() == Some(&stage)
        })
        .collect();
    let (newest, oldest) = (like.first()?, like.last()?);
    let which = match newest.number == oldest.number {
        true => format!("Attempt {} ended", newest.number),
        false => format!("Attempts {} to {} ended", oldest.number, newest.number),
    };
    #[expect(clippy::cast_precision_loss, reason = "at most 16 attempts are kept")]
    let count = like.len() as f64;
    let each =
        between(&oldest.began, &attempt.began).map(|seconds| format!(", {:.1} s apart", seconds / count));
    Some(format!("{which} at the same stage{}.", each.unwrap_or_default()))
}

/// Prints what is new each time it is asked.
#[derive(Debug, Default)]
pub struct Follower {
    number: Option<u64>,
    counts: BTreeMap<String, u64>,
    verdict: Option<Verdict>,
}

impl Follower {
    /// What is new in the last attempt since the last call.
    pub fn news(&mut self, attempts: &Attempts, style: Style) -> String {
        let Some(attempt) = attempts.attempts.last() else { return String::new() };
        let mut text = String::new();
        if self.number != Some(attempt.number) {
            *self = Self { number: Some(attempt.number), ..Self::default() };
            text += &head(attempts, attempt, style);
        }
        for stage in &attempt.stages {
            let seen = self.counts.insert(stage.stage.to_string(), stage.count);
            if seen.is_none_or(|seen| seen < stage.count) {
                let at = if seen.is_some() { stage.last_offset_ms } else { stage.offset_ms };
                text += &line(stage, at, style);
            }
        }
        if self.verdict != attempt.verdict {
            self.verdict.clone_from(&attempt.verdict);
            text += &attempt.verdict.as_ref().map(|found| verdict(found, style)).unwrap_or_default();
        }
        text
    }
}
