//! What the kernel says of this process in `/proc` (proc(5)).
//!
//! Must never: fail. What the kernel does not say is none.

use std::fs;
use std::time::Duration;

/// The unit of CPU times and start times in `/proc`: USER_HZ is 100 on x86 and ARM (time(7)).
const TICKS_PER_SECOND: u64 = 100;
const KIB: u64 = 1024;

/// What the process uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of resident memory.
    pub resident: Option<u64>,
    /// Bytes of virtual memory.
    pub virtual_memory: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// User and system CPU time.
    pub cpu: Option<Duration>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit of open file descriptors.
    pub max_fds: Option<u64>,
    /// When the process started, since the Unix epoch.
    pub started: Option<Duration>,
}

/// What this process uses now.
pub fn usage() -> Usage {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let (status, stat, limits) =
        (read("/proc/self/status"), read("/proc/self/stat"), read("/proc/self/limits"));
    let boot = number(&read("/proc/stat"), "btime ");
    // The name in brackets may have spaces and brackets. Field 3 follows it.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).map(duration);
    Usage {
        resident: number(&status, "VmRSS:").map(|kib| kib * KIB),
        virtual_memory: number(&status, "VmSize:").map(|kib| kib * KIB),
        threads: number(&status, "Threads:"),
        cpu: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
        // One of them is the directory that is being read.
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|open| (open.count() as u64).saturating_sub(1)),
        max_fds: number(&limits, "Max open files"),
        started: boot.zip(ticks(22)).map(|(boot, after)| Duration::from_secs(boot) + after),
    }
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// The number that follows `name` at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_kernel_says_what_this_process_uses() {
        let usage = usage();
        assert!(usage.resident.unwrap() > 1_000_000 && usage.virtual_memory > usage.resident, "{usage:?}");
        assert!(usage.threads.unwrap() >= 1 && usage.cpu.is_some(), "{usage:?}");
        assert!(usage.open_fds.unwrap() >= 3 && usage.max_fds > usage.open_fds, "{usage:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let started = usage.started.unwrap();
        assert!(started < now + Duration::from_secs(2), "{started:?} {now:?}");
        assert!(started + Duration::from_secs(3600) > now, "{started:?} {now:?}");
    }
}
