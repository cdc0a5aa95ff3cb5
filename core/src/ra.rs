//! Router Advertisements: their content, their schedule and their destinations.
//!
//! Must never: send a packet.

pub mod advertisement;
pub mod engine;
pub mod variables;
pub mod withdrawn;
