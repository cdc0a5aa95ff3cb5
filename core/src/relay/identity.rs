//! The ingress identity: the headers that tell upstreams through which port of which leaf a request came.
//!
//! Must never: take a value from a request.

use crate::attempt::AttemptId;
use crate::names::{BootPrefix, PortName};

/// Header with the leaf's name.
pub const LEAF: &str = "leafboot-leaf";
/// Header with the port's SONiC name.
pub const PORT: &str = "leafboot-port";
/// Header with the port's /64.
pub const PREFIX: &str = "leafboot-prefix";
/// Header with the boot attempt: 32 hexadecimal digits.
pub const SESSION: &str = "leafboot-session";
/// Header with the Ethernet address that the machine has given in neighbour discovery. It is not verified.
pub const MAC: &str = "leafboot-mac";

/// Where requests come in. It is made from the listener that accepted them, never from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressIdentity {
    /// The leaf's name.
    pub leaf: String,
    /// The port.
    pub port: PortName,
    /// The port's /64.
    pub prefix: BootPrefix,
    /// The boot attempt.
    pub attempt: AttemptId,
}

/// A header's name, in lower case, and its value: printable ASCII.
pub type Header = (&'static str, String);

impl IngressIdentity {
    /// The headers that say where requests come in.
    pub fn headers(&self) -> Vec<Header> {
        vec![
            (LEAF, self.leaf.clone()),
            (PORT, self.port.to_string()),
            (PREFIX, self.prefix.to_string()),
            (SESSION, self.attempt.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> IngressIdentity {
        IngressIdentity {
            leaf: "leaf01".to_owned(),
            port: "Ethernet0".parse().unwrap(),
            prefix: "2001:db8:b007::/64".parse().unwrap(),
            attempt: AttemptId::new(0xabd),
        }
    }

    #[test]
    fn the_headers_have_the_whole_identity() {
        let headers = identity().headers();
        for (name, value) in [
            (LEAF, "leaf01"),
            (PORT, "Ethernet0"),
            (PREFIX, "2001:db8:b007::/64"),
            (SESSION, "00000000000000000000000000000abd"),
        ] {
            assert!(headers.contains(&(name, value.to_owned())), "{name}: {value} in {headers:?}");
        }
    }
}
