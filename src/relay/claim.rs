//! Pure: what leafboot vouches for towards the boot service: *this request came in through that port of this leaf*.
//!
//! Must never: take anything that the machine sent.

use crate::net::{BootPrefix, PortName};

/// Header with the leaf's name.
pub const LEAF: &str = "leafboot-leaf";
/// Header with the port's SONiC name.
pub const PORT: &str = "leafboot-port";
/// Header with the port's /64.
pub const PREFIX: &str = "leafboot-prefix";

/// Where a request came in. It is made from the listener that took it, never from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The leaf's name.
    pub leaf: String,
    /// The port.
    pub port: PortName,
    /// The port's /64.
    pub prefix: BootPrefix,
}

impl Claim {
    /// The claim's headers. They are the only headers that say where a request comes from: of a machine's own
    /// headers only those in `passes` go on.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [(LEAF, self.leaf.clone()), (PORT, self.port.to_string()), (PREFIX, self.prefix.to_string())]
    }
}

/// Whether a machine's header goes on to the boot service. An allow-list: identity, forwarding, hop-by-hop and
/// authentication headers cannot be forgotten in it.
pub fn passes(header: &str) -> bool {
    matches!(header, "accept" | "accept-language" | "user-agent" | "traceparent" | "tracestate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_of_a_machine_can_be_taken_for_the_claim() {
        for name in
            [LEAF, PORT, PREFIX, "forwarded", "x-forwarded-for", "x-real-ip", "connection", "host", "via"]
        {
            assert!(!passes(name), "{name}");
        }
        assert!(passes("user-agent"));
    }
}
