//! Router Advertisements: how a machine on a boot port gets its address, its router and its resolver.
//!
//! `packet` and `options` are the wire format, `engine` decides when and to whom, `socket` sends and receives, `task`
//! drives them.

pub mod engine;
pub mod options;
pub mod packet;
pub mod socket;
pub mod task;
