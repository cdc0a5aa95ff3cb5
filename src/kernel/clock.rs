//! The kernel's clocks.
//!
//! Must never: return a moment that can jump. Moments count from the leaf's boot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leafboot_core::attempt::{Moment, Now};
use nix::time::{ClockId, clock_gettime};

/// Now, on both clocks.
pub fn now() -> Now {
    // Linux has this clock, so it cannot fail.
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let whole = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
    Now { moment: Moment(whole(since_boot.as_micros())), unix_ms: whole(unix.as_millis()) }
}
