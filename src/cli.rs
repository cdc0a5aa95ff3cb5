//! The command line.
//!
//! Must never: do anything: `main` does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// The version, and the git revision of a release build: `0.1.0 (4a30f1e0c2d5)`.
pub const VERSION: &str = env!("LEAFBOOT_VERSION");

/// The switch-side boot agent of a metal-stack partition.
#[derive(Debug, Parser)]
#[command(version = VERSION, max_term_width = 100, after_help = "LEAFBOOT_LOG=debug|trace logs more, warn|error less.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What leafboot can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until SIGTERM or SIGINT. Stopping it withdraws nothing: machines that boot go on booting.
    Run {
        /// The settings; sonic/leafboot.toml is an annotated example.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a settings file and the certificates that it names. Errors name key and line. Settings that can be used and
    /// look wrong get a line `warning: machines may fail to boot: …` or `warning: open: …`. On the leaf, also check that
    /// boot.protected names ports of it. Exit code 0: the settings can be used; 1: they cannot, or --strict and warnings.
    Check {
        /// The settings to check.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Fail if there is a warning.
        #[arg(long)]
        strict: bool,
    },
    /// Say what would be written into CONFIG_DB now, what is waited for, what is rejected, and what is foreign. Changes nothing.
    /// Exit code 0: nothing to write now; 2: steps; 1: error.
    Plan {
        /// The settings.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Plan for this document, as metal-core would push it; without it, for the last accepted one.
        #[arg(long, value_name = "FILE")]
        desired: Option<PathBuf>,
        /// As JSON: steps, waiting, unchanged, rejected, foreign.
        #[arg(long)]
        json: bool,
    },
    /// Print the boot ACL's rules as a table. Each boot port has two more, or three with relay.tls, all for its own
    /// gateway: one lets the machine ask it by ICMPv6, the others open the relay's TCP ports.
    Acl {
        /// The settings that the rules follow from.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Remove the boot VRF, the boot ACL and the anycast address's loopback from a leaf that is not to boot machines any more. Every port must be released before.
    Retire {
        /// The settings that name them.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How long to wait until SONiC has let go of them.
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
        wait: Duration,
    },
}
