//! Request ids, and the W3C trace context that upstreams get: a request is a span in the trace of its boot attempt.
//!
//! Must never: let a machine choose a trace.

use std::fmt;

use crate::attempt::AttemptId;

/// Header with the request's id, the one in leafboot's log; the answer to the machine has it too.
pub const REQUEST: &str = "leafboot-request";
/// W3C Trace Context 3.2.
pub const TRACEPARENT: &str = "traceparent";

/// A request's id: 16 hex digits, not all zero. It is the id of the request's span (W3C Trace Context 3.2.2.4).
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

/// The value of `traceparent`: the attempt is the trace, and the request is the parent of what an upstream does for it. The
/// trace is recorded (`01`), for its attempt is (W3C Trace Context 3.2.2.5).
pub fn traceparent(attempt: AttemptId, request: RequestId) -> String {
    format!("00-{attempt}-{request}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_has_16_digits_and_is_not_zero() {
        assert_eq!(RequestId::new(0xfedc_ba98_7654_3210).to_string(), "fedcba9876543211");
        assert_eq!(RequestId::new(0).to_string(), "0000000000000001", "a span's may not be zero");
    }

    #[test]
    fn the_trace_is_the_attempt() {
        assert_eq!(
            traceparent(AttemptId::new(0xabc), RequestId::new(4)),
            "00-00000000000000000000000000000abd-0000000000000005-01"
        );
    }
}
