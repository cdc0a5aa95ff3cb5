//! Times as people read them.
//!
//! Must never: show more precision than a reader needs.

use std::time::{Duration, SystemTime};

/// A duration in its largest unit: `12 s`, `3 min`, `5 h`, `3 d`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// How long ago a time of the API's is (RFC 3339); none: it is no time.
pub fn since(time: &str, now: SystemTime) -> Option<String> {
    let time = humantime::parse_rfc3339(time).ok()?;
    // The clock may have been set back meanwhile.
    Some(duration(now.duration_since(time).unwrap_or_default().as_secs()))
}

/// Milliseconds: `0.1 ms`, `4 ms`, `2.5 s`.
pub fn milliseconds(milliseconds: f64) -> String {
    match milliseconds {
        short if short < 9.95 => {
            let text = format!("{short:.1}");
            format!("{} ms", text.strip_suffix(".0").unwrap_or(&text))
        }
        middle if middle < 999.5 => format!("{middle:.0} ms"),
        long => format!("{:.1} s", long / 1000.0),
    }
}

/// The offset of a stage from its attempt's beginning: `+0.3 s`.
pub fn offset(milliseconds: f64) -> String {
    format!("+{:.1} s", milliseconds.max(0.0) / 1000.0)
}

/// The seconds between two times of the API's.
pub fn between(earlier: &str, later: &str) -> Option<f64> {
    let time = |text| humantime::parse_rfc3339(text).ok();
    Some(time(later)?.duration_since(time(earlier)?).unwrap_or(Duration::ZERO).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_their_largest_unit() {
        let shown = [0, 119, 120, 7200, 172_799, 172_800].map(duration);
        assert_eq!(shown, ["0 s", "119 s", "2 min", "2 h", "47 h", "2 d"]);
        let shown = [0.1, 2.0, 9.96, 40.4, 2500.0].map(milliseconds);
        assert_eq!(shown, ["0.1 ms", "2 ms", "10 ms", "40 ms", "2.5 s"]);
        assert_eq!(offset(1249.0), "+1.2 s");
    }

    #[test]
    fn a_time_is_some_time_ago() {
        let now = humantime::parse_rfc3339("2026-11-22T14:00:12.5Z").unwrap();
        assert_eq!(since("2026-11-22T14:00:00.100Z", now).as_deref(), Some("12 s"));
        assert_eq!(since("2026-11-22T15:00:00.000Z", now).as_deref(), Some("0 s"));
        assert_eq!(since("yesterday", now), None);
    }
}
