//! The log: lines on standard error, which journald or Docker collects.
//!
//! Must never: let text from outside split a line, or make it longer than [`printable::line`] allows.

use std::io::{self, Stderr, Write};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use leafboot_core::printable;

/// systemd sets this variable for a unit whose standard error is a stream to journald (systemd.exec(5), `$JOURNAL_STREAM`).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Starts the log. `level` is the most detailed level that is written.
///
/// For journald each line begins with its priority (sd-daemon(3)), and has no time, because journald has it.
pub fn start(level: LevelFilter) {
    let is_journald = std::env::var_os(JOURNAL_STREAM).is_some_and(|stream| !stream.is_empty());
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(StandardError { has_priorities: is_journald })
        .with_ansi(false)
        .with_target(false);
    if is_journald {
        log.without_time().init();
    } else {
        log.init();
    }
}

/// Makes a writer for each event.
struct StandardError {
    has_priorities: bool,
}

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = LineWriter<Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { prefix: "", out: io::stderr() }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        let prefix = if self.has_priorities { priority(*event.level()) } else { "" };
        LineWriter { prefix, out: io::stderr() }
    }
}

/// The prefix by which journald knows a line's priority: that of syslog (RFC 5424 6.2.1).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Writes each event as one line. `tracing_subscriber` passes an event's whole text in one write.
struct LineWriter<W> {
    prefix: &'static str,
    out: W,
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = printable::line(text.strip_suffix('\n').unwrap_or(&text));
        self.out.write_all(format!("{}{line}\n", self.prefix).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_bounded_line_whatever_is_in_it() {
        let mut lines = LineWriter { prefix: priority(Level::WARN), out: Vec::new() };
        lines.write_all(b"WARN rejected port=\"Eth\n1 INFO took a document\"\n").unwrap();
        lines.write_all(format!("{}\n", "x".repeat(1 << 20)).as_bytes()).unwrap();
        let text = String::from_utf8(lines.out).unwrap();
        assert_eq!(text.lines().count(), 2, "{text:.200}");
        assert!(
            text.starts_with("<4>WARN rejected port=\"Eth\\n1 INFO took a document\"\n") && text.len() < 5000
        );
    }
}
