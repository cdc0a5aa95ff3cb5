//! The log: lines on standard error, which journald or Docker collects.
//!
//! Must never: let text from outside split a line, or make it longer than [`printable::line`] allows.

use std::io::{self, Write};

use tracing_subscriber::filter::LevelFilter;

use leafboot_core::printable;

/// Starts the log. `level` is the most detailed level that is written.
pub fn start(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| Lines(io::stderr()))
        .with_ansi(false)
        .with_target(false)
        .init();
}

/// Writes each event as one line. `tracing_subscriber` passes an event's whole text in one write.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = printable::line(text.strip_suffix('\n').unwrap_or(&text));
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_bounded_line_whatever_is_in_it() {
        let mut lines = Lines(Vec::new());
        lines.write_all(b"WARN rejected port=\"Eth\n1 INFO took a document\"\n").unwrap();
        lines.write_all(format!("{}\n", "x".repeat(1 << 20)).as_bytes()).unwrap();
        let text = String::from_utf8(lines.0).unwrap();
        assert_eq!(text.lines().count(), 2, "{text:.200}");
        assert!(
            text.starts_with("WARN rejected port=\"Eth\\n1 INFO took a document\"\n") && text.len() < 5000
        );
    }
}
