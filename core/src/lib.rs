//! leafboot's decisions: pure logic without I/O, clock and randomness. Time and random numbers are arguments.
//!
//! `Cargo.toml` has no runtime, socket, database or log library, and `clippy.toml` forbids those of the standard library:
//! the compiler keeps this package pure. The package `leafboot` does the I/O.
//!
//! | module | what it owns |
//! |---|---|
//! | [`names`], [`printable`] | checked names and addresses; other programs' text, made safe to print |
//! | [`settings`], [`warnings`] | the checked settings file; warnings about combinations of valid settings |
//! | [`desired`] | the pushed document: which ports boot, and with which prefix |
//! | [`rows`], [`row_index`], [`scan_pace`] | SONiC's tables and keys; the keys to read, and the pace of the scans that find them |
//! | [`observed`], [`uplinks`] | the state that SONiC's databases and the kernel show |
//! | [`acl`], [`plan`], [`refused_writes`] | the boot ACL; the next writes to CONFIG_DB, and the reasons to wait |
//! | [`port_role`], [`status`] | the role of each port; the reported status |
//! | [`attempt`], [`counters`], [`probe`] | boot attempts and their stages; what SONiC counts; the requests that the leaf sends by itself |
//! | [`verdict`] | what a port's machine waits for, or what is wrong |
//! | [`nd`], [`ra`] | the wire format of neighbour discovery; Router Advertisements, and when they are sent |
//! | [`otlp`] | the format in which OpenTelemetry collectors take traces |
//! | [`rate_limit`], [`relay`] | the rate limiter; the relay's policy |
//!
//! Must never: do I/O, read a clock, draw a random number, or log.

// `forbid`: no file can allow again what `clippy.toml` forbids.
#![cfg_attr(
    not(test),
    forbid(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests need an instant to begin with"))]

pub mod acl;
pub mod attempt;
pub mod counters;
pub mod desired;
pub mod names;
pub mod nd;
pub mod observed;
pub mod otlp;
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
pub mod settings;
pub mod status;
pub mod uplinks;
pub mod verdict;
pub mod warnings;
