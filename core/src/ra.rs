//! Router Advertisements: what they say, and when and to whom they are sent.
//!
//! Must never: know how a packet is sent.

pub mod advertisement;
pub mod engine;
pub mod variables;
pub mod withdrawn;
