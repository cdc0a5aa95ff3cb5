//! The command line: commands, arguments and their help.
//!
//! Must never: carry out a command. `main` does.

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
    /// Run the agent until SIGTERM or SIGINT. Stopping it withdraws nothing: machines go on booting.
    Run {
        /// The settings file. sonic/leafboot.toml is an annotated example.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a settings file and the certificates that it names. Prints the first error with its key and line. Settings that
    /// can be used and look wrong are printed as `warning: machines may fail to boot: …` or `warning: open: …`. On the leaf,
    /// names of boot.protected that are no port's are warnings, too.
    ///
    /// Exit code 0: the settings can be used; 1: they cannot, or --strict is given and there are warnings.
    Check {
        /// The settings file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Treat warnings as errors.
        #[arg(long)]
        strict: bool,
    },
    /// Print what would be written into CONFIG_DB now, what ports wait for, which ports are rejected, and which rows are
    /// unmanaged (not leafboot's). Changes nothing.
    ///
    /// Exit code 0: nothing to write now; 2: there are steps; 1: error.
    Plan {
        /// The settings file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Plan for this document, as metal-core would push it. Without it: for the last accepted document.
        #[arg(long, value_name = "FILE")]
        desired: Option<PathBuf>,
        /// Print JSON: `Plan` in sonic/openapi.yaml describes it.
        #[arg(long)]
        json: bool,
    },
    /// Print the boot ACL's rules that all boot ports share, as a table. Each boot port has two more, or three with relay.tls:
    /// one permits ICMPv6 to its gateway, the others permit the relay's TCP ports on it.
    Acl {
        /// The settings file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Remove the boot VRF, the boot ACL and the loopback of boot.anycast from a leaf that will boot no more machines. Every
    /// port must be released first.
    Retire {
        /// The settings file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How long to wait until SONiC has removed them.
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
        wait: Duration,
    },
}
