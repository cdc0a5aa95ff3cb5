//! Router Advertisements: how a machine on a boot port gets its address, its router and its resolver.
//!
//! `frame`, `packet` and `options` are the wire format, `engine` decides when and to whom, `socket` sends and receives,
//! `port` is one port of them, `task` drives all.

pub mod engine;
pub mod frame;
pub mod options;
pub mod packet;
pub mod port;
pub mod socket;
pub mod task;
