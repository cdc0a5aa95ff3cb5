//! The relay: boot script, token and image requests of the machines, port by port.
//!
//! `route` and `decide` say what becomes of a request, `claim` what leafboot vouches for, `server` listens on a port,
//! `upstream` asks the servers behind, `image` serves images, `task` runs a server on each port that serves a machine.

pub mod body;
pub mod claim;
pub mod decide;
pub mod image;
pub mod route;
pub mod server;
pub mod task;
pub mod tls;
pub mod upstream;
