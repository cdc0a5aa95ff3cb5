//! The command line: commands, arguments and their help.
//!
//! The build script has this file, too: it makes the shells' completions and the manual pages of it.
//!
//! Must never: carry out a command, or use another module.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// The version, and the git revision of a release build: `0.1.0 (4a30f1e0c2d5)`.
pub const VERSION: &str = match option_env!("LEAFBOOT_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Where a package has its settings.
const CONFIG: &str = "/etc/leafboot/leafboot.toml";

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
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Check a settings file and the certificates that it names. Prints the first error with its key and line. Settings that
    /// can be used and look wrong are printed as `warning: machines may fail to boot: …` or `warning: open: …`. On the leaf,
    /// names of boot.protected that are no port's are warnings, too.
    ///
    /// Exit code 0: the settings can be used; 1: they cannot, or --strict is given and there are warnings.
    Check {
        /// The settings file.
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
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
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
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
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Remove the boot VRF, the boot ACL and the loopback of boot.anycast from a leaf that will boot no more machines. Every
    /// port must be released first.
    Retire {
        /// The settings file.
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
        /// How long to wait until SONiC has removed them.
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
        wait: Duration,
    },
    /// Show the leaf, and where each port's machine is in its boot. Asks the running agent.
    ///
    /// Exit code 0: no port that is shown has a fault; 2: one has; 1: the agent cannot be asked.
    Status {
        /// Only these ports, by name or alias. Without it: all that are not released.
        #[arg(value_name = "PORT")]
        ports: Vec<String>,
        /// Repeat each second.
        #[arg(long)]
        watch: bool,
        /// Print JSON: {"leaf": …, "ports": {…}} as GET /v1/leaf and GET /v1/ports have them.
        #[arg(long)]
        json: bool,
        /// The settings file. Only api.socket is read.
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Show a machine's last attempt to boot, stage by stage, with the verdict and how leafboot knows. Asks the running agent.
    ///
    /// Exit code 0: shown; 1: there is no such attempt, or the agent cannot be asked.
    Timeline {
        /// The port, by name or alias.
        #[arg(value_name = "PORT")]
        port: String,
        /// Keep running, and show what happens next, also in further attempts.
        #[arg(long, conflicts_with = "attempt")]
        follow: bool,
        /// Show the attempt with this number. leafboot keeps the last 16.
        #[arg(long, value_name = "N")]
        attempt: Option<u64>,
        /// Print JSON: the attempt as GET /v1/ports/<name>/attempts has it.
        #[arg(long)]
        json: bool,
        /// The settings file. Only api.socket is read.
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Explain a reason that a verdict or a port names, and what to do: what docs/operations.md says.
    ///
    /// Exit code 0: explained; 1: there is no such reason.
    Explain {
        /// The reason, such as BootServiceDown, in upper or lower case.
        #[arg(value_name = "REASON")]
        reason: String,
    },
    /// Have ports boot their machines while metal-core is down. All other ports stay as they are. metal-core's next push overrules
    /// it.
    ///
    /// Exit code 0: they are settled; 2: one is not yet; 1: one is rejected or unknown, or the agent cannot be asked.
    Boot {
        /// The ports, by name or alias.
        #[arg(value_name = "PORT", required = true)]
        ports: Vec<String>,
        /// The settings file. Only api.socket is read.
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Release ports while metal-core is down. All other ports stay as they are. metal-core's next push overrules it.
    ///
    /// Exit code 0: they are released; 2: one is not yet; 1: one is unknown, or the agent cannot be asked.
    Release {
        /// The ports, by name or alias.
        #[arg(value_name = "PORT", required = true)]
        ports: Vec<String>,
        /// The settings file. Only api.socket is read.
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Print a shell's completions.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print leafboot(1), or write all manual pages into a directory.
    #[command(hide = true)]
    Man {
        /// Where the pages go, such as /usr/share/man/man1.
        directory: Option<PathBuf>,
    },
}

/// A shell that there are completions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}
