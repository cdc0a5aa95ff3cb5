//! Request ids and the W3C trace context: which trace a request belongs to.
//!
//! Must never: send on a trace context that is not well-formed.

use std::fmt;

/// Header with the request's id, the one in leafboot's log; the answer to the machine has it too.
pub const REQUEST: &str = "leafboot-request";
/// W3C Trace Context 3.2.
pub const TRACEPARENT: &str = "traceparent";
/// W3C Trace Context 3.3.
pub const TRACESTATE: &str = "tracestate";
/// W3C Trace Context 3.3.1.5: what must be passed on at least.
const TRACESTATE_MAX: usize = 512;

/// A request's id: 16 hex digits, not all zero. A trace that starts here has it for its span (W3C Trace Context 3.2.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// An id of random bits, all but the last, which is set.
    pub fn new(random: u64) -> Self {
        Self(random | 1)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The trace that a request belongs to: the machine's own, where it is well-formed, or one that starts here, which begins
/// with `random` and ends with the request's id: that is its span, too. And the machine's `tracestate`, whose fields mean
/// something only with its trace, and are only then asked for. (W3C Trace Context 3.2.2, 3.3, 4.3)
pub fn trace<'a>(
    parents: &[&str],
    states: impl FnOnce() -> Vec<&'a str>,
    id: &RequestId,
    random: u64,
) -> (String, Option<String>) {
    if let [parent] = parents
        && is_traceparent(parent)
    {
        let state =
            Some(states().join(",")).filter(|state| !state.is_empty() && state.len() <= TRACESTATE_MAX);
        return ((*parent).to_owned(), state);
    }
    (format!("00-{random:016x}{id}-{id}-00"), None)
}

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, in lower case, ids not zero; a later version may have more.
fn is_traceparent(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let hex = |field: &str, length: usize| {
        field.len() == length && field.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_id = |field: &str, length: usize| hex(field, length) && field.bytes().any(|b| b != b'0');
    match fields.as_slice() {
        [version, trace, span, flags, more @ ..] => {
            hex(version, 2)
                && *version != "ff"
                && is_id(trace, 32)
                && is_id(span, 16)
                && hex(flags, 2)
                && (more.is_empty() || *version != "00")
                && text.len() <= 256
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_request_id_has_16_digits_and_is_not_zero() {
        assert_eq!(RequestId::new(0xfedc_ba98_7654_3210).to_string(), "fedcba9876543211");
        assert_eq!(RequestId::new(0).to_string(), "0000000000000001", "a span's may not be zero");
    }

    #[test]
    fn a_trace_is_passed_on_or_started() {
        let id = RequestId::new(4);
        let trace = |parents: &[&str], states: &[&str]| trace(parents, || states.to_vec(), &id, 1);
        assert_eq!(trace(&[PARENT], &["a=1", "b=2"]), (PARENT.to_owned(), Some("a=1,b=2".to_owned())));
        for bad in [&[][..], &["a".repeat(TRACESTATE_MAX + 1).as_str()]] {
            assert_eq!(trace(&[PARENT], bad), (PARENT.to_owned(), None));
        }
        let started = "00-00000000000000010000000000000005-0000000000000005-00";
        for bad in [
            &[][..],
            &[PARENT, PARENT],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["x"],
        ] {
            assert_eq!(trace(bad, &["a=1"]), (started.to_owned(), None), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_started_trace_is_well_formed(id: u64, random: u64) {
            prop_assert!(is_traceparent(&trace(&[], Vec::new, &RequestId::new(id), random).0));
        }
    }
}
