//! What leafboot decides: pure logic without I/O, clock and randomness. Time and random numbers are arguments.
//!
//! `Cargo.toml` has no runtime, socket, database or log library, and `clippy.toml` forbids those of the standard library:
//! the compiler keeps this package pure. The package `leafboot` does the I/O.
//!
//! | module | what it owns |
//! |---|---|
//! | [`names`], [`printable`] | checked names and addresses; text that is safe to print |
//! | [`settings`], [`warnings`] | the settings file: checked values, and what looks wrong when values are read together |
//! | [`desired`] | what metal-core pushes: which ports boot, and with which prefix |
//! | [`rows`], [`row_index`], [`scan_pace`] | SONiC's tables and keys; which keys are read, and how fast they are searched |
//! | [`observed`], [`uplinks`] | what SONiC's databases and the kernel show |
//! | [`acl`], [`plan`], [`refused_writes`] | the boot ACL; the next writes to CONFIG_DB, or what they wait for |
//! | [`port_role`], [`session`], [`status`] | what each port must do now; boot sessions; what is reported |
//! | [`attempt`], [`probe`] | boot attempts and their stages; what the leaf asks by itself |
//! | [`nd`], [`ra`] | the wire format of neighbour discovery; Router Advertisements, and when they are sent |
//! | [`rate_limit`], [`relay`] | rates; the relay's policy |
//!
//! Must never: do I/O, read a clock, draw a random number, or log.

// Nobody may allow in one file what `clippy.toml` forbids.
#![cfg_attr(
    not(test),
    forbid(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests need an instant to begin with"))]

pub mod acl;
pub mod attempt;
pub mod desired;
pub mod names;
pub mod nd;
pub mod observed;
pub mod plan;
pub mod port_role;
pub mod printable;
pub mod probe;
pub mod ra;
pub mod rate_limit;
pub mod refused_writes;
pub mod relay;
pub mod row_index;
pub mod rows;
pub mod scan_pace;
pub mod session;
pub mod settings;
pub mod status;
pub mod uplinks;
pub mod warnings;
