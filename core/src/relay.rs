//! The relay's policy: which requests are allowed, which headers upstreams get, and which limits hold.
//!
//! Must never: use a connection or the HTTP library.

pub mod addresses;
pub mod forwarded;
pub mod framing;
pub mod health;
pub mod identity;
pub mod ipxe;
pub mod kinds;
pub mod min_rate;
pub mod pattern;
pub mod port_limits;
pub mod ranges;
pub mod shaper;
pub mod stale_script;
pub mod trace;
pub mod validate;
pub mod validators;
