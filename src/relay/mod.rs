//! The relay: boot script, token and image requests of the machines, port by port.
//!
//! `decide` says what becomes of a request, `claim` what leafboot vouches for, `server` listens on a port, `upstream`
//! asks the boot service, `task` runs a server on each port that serves a machine.

pub mod claim;
pub mod decide;
pub mod server;
pub mod task;
pub mod upstream;
