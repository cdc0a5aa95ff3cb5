//! `leafboot status`: the leaf in a few lines, and a line for each port.
//!
//! Must never: leave out a port that has a fault.

use std::time::SystemTime;

use super::answers::{Leaf, Port, Text, Upstream};
use super::layout::{Style, Tone, WIDTH, beside, hanging, padded, shortened, width};
use super::time::{duration, milliseconds, since};

/// The columns before the verdict.
const HEADINGS: [&str; 7] = ["PORT", "STATE", "LINK", "RA", "MACHINE", "STAGE", "FOR"];
/// The longest name of a kernel's device. A pushed name that is no port's may be longer.
const NAME_MAX: usize = 15;
/// The heading of what is the matter.
const VERDICT: &str = "VERDICT";
/// What stands between two columns.
const GAP: &str = "  ";
/// What stands where nothing is known.
const NONE: &str = "-";

/// The screen. `ports` are shown in this order. `left_out` ports are released and not among them.
pub fn screen(leaf: &Leaf, ports: &[Port], left_out: usize, now: SystemTime, style: Style) -> String {
    let mut text = head(leaf, style);
    text += &table(ports, now, style);
    if left_out > 0 {
        let are = if left_out == 1 { "port is" } else { "ports are" };
        text += &format!("{left_out} released {are} not shown.\n");
    }
    text
}

/// Whether an operator has to act on a port.
pub fn has_fault(port: &Port) -> bool {
    &*port.state == "rejected" || port.verdict.as_ref().is_some_and(super::answers::Verdict::is_fault)
}

/// A stage as the screens call it.
pub fn stage_name(stage: &str) -> &str {
    match stage {
        "solicitation" => "RS",
        "script" => "boot.ipxe",
        other => other,
    }
}

fn head(leaf: &Leaf, style: Style) -> String {
    let settled = format!("settled {} of {}", leaf.ports.settled, leaf.ports.all);
    let up = duration(leaf.uptime_seconds);
    let first = format!("{}{GAP}leafboot {}{GAP}up {up}{GAP}{settled}", leaf.leaf, leaf.version);
    let pushed = match (leaf.pushed_seconds_ago, leaf.generation) {
        (Some(seconds), Some(generation)) => {
            (Tone::Plain, format!("pushed {} ago, generation {generation}", duration(seconds)))
        }
        (_, Some(generation)) => {
            (Tone::Waiting, format!("no push since the start, remembered generation {generation}"))
        }
        (_, None) => (Tone::Waiting, "no push yet".to_owned()),
    };
    let sonic = match &leaf.sonic {
        Some(condition) => (Tone::Bad, format!("{} ({})", condition.message, condition.reason)),
        None if leaf.acl_bound => (Tone::Plain, "loaded, ACL bound".to_owned()),
        None => (Tone::Waiting, "loaded, ACL not bound".to_owned()),
    };
    let named = |name: &str, (tone, text): (Tone, String)| (tone, format!("{name}{GAP}{text}"));
    let mut things = vec![named("metal-core", pushed), named("SONiC", sonic)];
    let text = beside(&[(Tone::Heading, first)], style) + &beside(&things, style);
    things = leaf.upstreams.iter().map(upstream).collect();
    things.extend(leaf.probes.iter().map(|probe| {
        let took = probe.milliseconds.map(milliseconds);
        let (tone, said) = match (probe.ok, &probe.message) {
            (true, _) => (Tone::Plain, took.map_or("ok".to_owned(), |took| format!("ok {took}"))),
            (false, Some(message)) => (Tone::Bad, message.to_string()),
            (false, None) => (Tone::Bad, "fails".to_owned()),
        };
        named(&format!("{} {}", plain(&probe.probe), probe.target), (tone, said))
    }));
    text + &beside(&things, style)
}

fn upstream(upstream: &Upstream) -> (Tone, String) {
    let origin = upstream.origin.strip_prefix("http://").unwrap_or(&upstream.origin);
    let (tone, said) = match (upstream.up, upstream.milliseconds, &upstream.error) {
        (true, Some(took), _) => (Tone::Plain, format!("up {}", milliseconds(took))),
        (true, None, _) => (Tone::Plain, "up, not asked yet".to_owned()),
        (false, _, Some(error)) => (Tone::Bad, format!("down: {error}")),
        (false, _, None) => (Tone::Bad, "down".to_owned()),
    };
    (tone, format!("{} {origin}{GAP}{said}", plain(&upstream.upstream)))
}

/// An identifier as words.
fn plain(name: &str) -> String {
    name.replace('_', " ")
}

fn table(ports: &[Port], now: SystemTime, style: Style) -> String {
    if ports.is_empty() {
        return "No port boots.\n".to_owned();
    }
    let rows: Vec<[String; 7]> = ports.iter().map(|port| cells(port, now)).collect();
    let column = |at: usize| {
        let cells = rows.iter().map(|row| width(&row[at]));
        cells.chain([width(HEADINGS[at])]).max().unwrap_or_default()
    };
    let columns: [usize; 7] = std::array::from_fn(column);
    let line = |cells: [&str; 7]| -> String {
        cells.iter().zip(columns).map(|(cell, columns)| padded(cell, columns) + GAP).collect()
    };
    let headings = line(HEADINGS);
    // Where no verdict has room beside its port, verdicts stand in lines of their own.
    let begin = width(&headings);
    let has_room = |columns: usize| begin + columns <= WIDTH;
    let is_beside = ports.iter().any(|port| has_room(width(verdict(port).1)) && !verdict(port).1.is_empty());
    let last = if is_beside && has_room(VERDICT.len()) { VERDICT } else { "" };
    let mut text = format!("{}\n", style.paint(Tone::Heading, (headings + last).trim_end()));
    for (row, port) in rows.iter().zip(ports) {
        let (tone, said) = verdict(port);
        text += &hanging(&line(row.each_ref().map(String::as_str)), said, tone, style);
    }
    text
}

fn cells(port: &Port, now: SystemTime) -> [String; 7] {
    let link = match &port.link {
        None => NONE,
        Some(link) if !link.admin_up => "off",
        Some(link) if link.carrier => "up",
        Some(_) => "down",
    };
    let or_none = |text: Option<&Text>| text.map_or(NONE, |text| text).to_owned();
    let time = port.since.as_ref().and_then(|time| since(time, now));
    [
        shortened(&port.name, NAME_MAX),
        port.state.to_string(),
        link.to_owned(),
        if port.advertising { "on" } else { "off" }.to_owned(),
        or_none(port.machine.as_ref()),
        stage_name(&or_none(port.stage.as_ref())).to_owned(),
        time.unwrap_or(NONE.to_owned()),
    ]
}

/// What is the matter with a port, in one line.
fn verdict(port: &Port) -> (Tone, &str) {
    if let Some(verdict) = &port.verdict {
        let tone = match verdict.level.to_ascii_lowercase().as_str() {
            "ok" => Tone::Good,
            "fault" => Tone::Bad,
            _ => Tone::Waiting,
        };
        return (tone, &verdict.message);
    }
    match (&port.message, &port.waiting) {
        (Some(message), _) => (Tone::Bad, message),
        (None, Some(waiting)) => (Tone::Waiting, &waiting.message),
        (None, None) => (Tone::Plain, ""),
    }
}
