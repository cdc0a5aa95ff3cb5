//! `lab demo`: prints the stages of one port's boot as they are reached.
//!
//! [`super::story`] and [`super::proof`] decide whether a stage is reached.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::lab::{Lab, Programs};
use super::machine::Character;
use super::story::{Boot, Stage};
use super::{Error, proof};
use crate::site::Port;

/// Runs and prints the demo; an error if a stage or a proof fails.
pub fn run(programs: &Programs, port: Port) -> Result<(), Error> {
    say(&format!("leaf, partition and {port}'s cable: starting"));
    let start = Instant::now();
    let summary = Lab::with(programs, |lab| {
        say(&format!("leaf and partition run after {}", seconds(start.elapsed())));
        boot_and_release(lab, port)
    })?;
    say(&summary);
    Ok(())
}

fn boot_and_release(lab: &mut Lab, port: Port) -> Result<String, Error> {
    lab.start_leafboot()?;
    say("leafboot runs");
    let before = proof::Rows::now(lab)?;
    let machine = lab.switch_on(port, Character::Honest)?;
    say(&format!("machine on {port} is switched on; now the push: {port} is to boot\n"));

    let mut boot = Boot::new(port, machine, lab.push(&[port])?);
    let last = Stage::Token;
    boot.reach(lab, last, &mut |mark| say(&line(mark.at, mark.stage.title(), &mark.what)))?;
    proof::boots(lab, port)?;

    for arguments in [vec!["status"], vec!["timeline", port.name()]] {
        say(&format!("\n$ leafboot {}\n{}", arguments.join(" "), lab.leafboot(&arguments)?.trim_end()));
    }

    say(&format!("\nnow the push: {port} is not to boot"));
    let released = lab.push(&[])?.at;
    lab.settled(port, "released")?;
    let released = released.elapsed();
    for proven in proof::released(lab, port, &before)? {
        say(&format!("  proven: {proven}"));
    }
    lab.retire()?;
    say(&format!(
        "\nleafboot retire: this leaf boots no machine any more\n  proven: {}",
        proof::retired(lab, &before)?
    ));
    Ok(summary(&boot, released))
}

/// The last lines: the port, the machine's address, when each stage was reached, and the release.
fn summary(boot: &Boot, released: Duration) -> String {
    let mut text = String::from("\n");
    let _ = writeln!(text, "port              {} of {}", boot.port, crate::site::LEAF);
    let _ = writeln!(text, "machine's address {}", boot.seen(Stage::LinuxAddress).unwrap_or("none"));
    for mark in &boot.marks {
        let _ = writeln!(text, "  {}", line(mark.at, mark.stage.title(), "").trim_end());
    }
    let _ = write!(text, "released          {} after the push that ends it", seconds(released));
    text
}

fn line(at: Duration, title: &str, what: &str) -> String {
    format!("{:>7}  {title:<14} {what}", seconds(at))
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A closed output does not stop the demo: the exit code has the result.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
