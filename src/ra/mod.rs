//! Router Advertisements: how a machine on a boot port gets its address, its router and its resolver.
//!
//! `frame`, `packet` and `options` are the wire format, `engine` decides when and to whom, `socket` sends and receives,
//! `port` is one port of them, `thread` runs all ports on a thread of their own, which waits with its `ears`.
//! `told` is what earlier settings told machines, which `memory` keeps.

pub mod memory;
pub mod poller;
pub mod port;
pub mod socket;
pub mod thread;
