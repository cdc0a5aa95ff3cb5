//! The wire format of neighbour discovery (RFC 4861): encodes and decodes messages. It knows neither settings nor ports.
//!
//! Must never: decide what is sent, or to whom.

pub mod frame;
pub mod invalid;
pub mod message;
pub mod options;
