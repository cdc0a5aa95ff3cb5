//! What the log says of one port's machines: some lines a second, and how many more there would have been.
//!
//! Must never: let one port's machines fill the log: journald drops everybody's lines then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::guarded::Guarded;
use crate::metrics::Counter;
use leafboot_core::names::PortName;
use leafboot_core::rate_limit::RateLimiter;

/// So many lines at once: a boot has some ten.
const AT_ONCE: u32 = 30;
/// And then one in this time: journald takes 10,000 in 30 s (`RateLimitBurst=` of journald.conf), from all ports together.
const LINE: Duration = Duration::from_millis(500);
/// Lines that were left out are told of after this time.
const TELL: Duration = Duration::from_secs(5);

/// One port's share of the log.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    port: PortName,
    lines: Guarded<Lines>,
    /// Counts the lines that were left out.
    left_out: Counter,
}

struct Lines {
    limiter: RateLimiter,
    /// Since the last that was told.
    left_out: u64,
}

impl Log {
    /// The log of a port. `left_out` counts the lines that it has no room for.
    pub fn new(port: PortName, left_out: Counter) -> Self {
        let lines = Guarded::new(Lines { limiter: RateLimiter::new(LINE * AT_ONCE), left_out: 0 });
        Self(Arc::new(Inner { port, lines, left_out }))
    }

    /// The port.
    pub fn port(&self) -> &PortName {
        &self.0.port
    }

    /// Whether one more line may be said. Those that may not are told of soon, by their number. Needs a runtime.
    pub fn has_room(&self) -> bool {
        let (has_room, is_first) = self.0.lines.with(|lines| {
            let has_room = lines.limiter.try_charge(LINE, Instant::now().into());
            lines.left_out += u64::from(!has_room);
            (has_room, lines.left_out == 1)
        });
        if !has_room {
            self.0.left_out.inc();
            if is_first {
                tokio::spawn(self.clone().tell());
            }
        }
        has_room
    }

    async fn tell(self) {
        sleep(TELL).await;
        let lines = self.0.lines.with(|lines| std::mem::take(&mut lines.left_out));
        warn!(port = %self.0.port, lines, "more lines about the port's machines are left out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_has_some_lines_and_then_some_each_second() {
        let left_out = Counter::default();
        let log = Log::new("Ethernet0".parse().unwrap(), left_out.clone());
        let said = (0..1000).filter(|_| log.has_room()).count();
        assert!((30..=31).contains(&said), "{said}");
        assert_eq!(left_out.get(), 1000 - said as u64);
        // Told of once, and then anew.
        let untold = || log.0.lines.with(|lines| lines.left_out);
        assert_eq!(untold(), left_out.get());
        sleep(TELL * 2).await;
        assert_eq!(untold(), 0);
    }
}
