//! The resource limits of the process (getrlimit(2)).
//!
//! Must never: keep the process from starting.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of file descriptors to the hard limit. A boot port takes up to three descriptors (one RA socket,
/// one or two listeners of the relay), and the usual soft limit is 1024. Where the limit cannot be raised, the ports
/// beyond it log an error and retry.
pub fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
