//! A boot port's share of the log: some lines a second, and a line about how many were left out.
//!
//! Must never: let one port's machines fill the log. journald would then drop lines of all ports.

use std::sync::Arc;
use std::time::Duration;

use leafboot_core::names::PortName;
use leafboot_core::rate_limit::RateLimiter;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::guarded::Guarded;
use crate::metrics::Counter;

/// Lines that a port may have at once. A boot has some ten.
const BURST: u32 = 30;
/// After a burst, a port may log one line per period. journald takes 10,000 in 30 s (`RateLimitBurst=` of
/// journald.conf) from all ports together.
const PERIOD: Duration = Duration::from_millis(500);
/// The number of lines that were left out is logged after this time.
const REPORT_AFTER: Duration = Duration::from_secs(5);

/// One port's share of the log.
#[derive(Clone)]
pub struct PortLog(Arc<Inner>);

struct Inner {
    port: PortName,
    lines: Guarded<Lines>,
    /// Counts the lines that are left out.
    left_out: Counter,
}

struct Lines {
    limiter: RateLimiter,
    /// Lines that were left out since that was last reported.
    left_out: u64,
}

impl PortLog {
    /// A port's share. `left_out` counts the lines that are left out.
    pub fn new(port: PortName, left_out: Counter) -> Self {
        let lines = Guarded::new(Lines { limiter: RateLimiter::new(PERIOD * BURST), left_out: 0 });
        Self(Arc::new(Inner { port, lines, left_out }))
    }

    /// The port.
    pub fn port(&self) -> &PortName {
        &self.0.port
    }

    /// Whether one more line may be logged now; if not, it is counted as left out. Needs a runtime.
    pub fn has_room(&self) -> bool {
        let (has_room, is_first) = self.0.lines.with(|lines| {
            let has_room = lines.limiter.try_charge(PERIOD, Instant::now().into());
            lines.left_out += u64::from(!has_room);
            (has_room, lines.left_out == 1)
        });
        if !has_room {
            self.0.left_out.inc();
            if is_first {
                tokio::spawn(self.clone().report());
            }
        }
        has_room
    }

    async fn report(self) {
        sleep(REPORT_AFTER).await;
        let lines = self.0.lines.with(|lines| std::mem::take(&mut lines.left_out));
        warn!(port = %self.0.port, lines, "log lines about the port's machines were left out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_has_some_lines_and_then_some_each_second() {
        let left_out = Counter::default();
        let log = PortLog::new("Ethernet0".parse().unwrap(), left_out.clone());
        let logged = (0..1000).filter(|_| log.has_room()).count();
        assert!((30..=31).contains(&logged), "{logged}");
        assert_eq!(left_out.get(), 1000 - logged as u64);
        // Reported once, and then anew.
        let unreported = || log.0.lines.with(|lines| lines.left_out);
        assert_eq!(unreported(), left_out.get());
        sleep(REPORT_AFTER * 2).await;
        assert_eq!(unreported(), 0);
    }
}
