//! Router Advertisements: how a machine on a boot port gets its address, its router and its resolver.
//!
//! | module | what it owns |
//! |---|---|
//! | `leafboot_core::nd` | the wire format |
//! | `leafboot_core::ra` | what is advertised, when and to whom |
//! | [`thread`] | the thread that serves all ports |
//! | [`poller`] | its wait for all sockets |
//! | [`port`], [`socket`] | one port, and its packet socket |
//! | [`memory`] | the file with what was advertised, for the next run |
//!
//! Must never: advertise a router on a port that is not served. The final advertisement withdraws it.

pub mod memory;
pub mod poller;
pub mod port;
pub mod socket;
pub mod thread;
