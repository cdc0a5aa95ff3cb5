//! Boot sessions. A session is one attempt of one machine on one port. It begins when the port begins to serve, and when
//! its carrier returns, because another machine may be on the port then. It ends with the carrier or with the port's service.
//!
//! Must never: let two machines share a session.

use std::fmt;

/// A boot session's identifier, in the relay's headers and in logs: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The boot session of a port that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    id: SessionId,
    carriers: u32,
}

impl Session {
    /// Begins a session. `carriers`: how often the port has got a carrier. `random`: the session's identifier.
    pub fn begin(carriers: u32, random: u64) -> Self {
        Self { id: SessionId(random), carriers }
    }

    /// The session's identifier.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Begins a new session if the port has got a carrier since this one began. Returns whether it did.
    pub fn update(&mut self, carriers: u32, random: u64) -> bool {
        let is_new = self.carriers != carriers;
        if is_new {
            *self = Self::begin(carriers, random);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_until_the_next_carrier() {
        let mut session = Session::begin(1, 7);
        assert_eq!(session.id().to_string(), "0000000000000007");
        assert!(!session.update(1, 8));
        assert_eq!(session.id(), SessionId(7));
        assert!(session.update(2, 9));
        assert_eq!(session.id(), SessionId(9));
    }
}
