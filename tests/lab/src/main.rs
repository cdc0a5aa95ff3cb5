//! The `lab` command: the demo for people; everything else is started by the laboratory itself.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use leafboot_lab::host::demo;
use leafboot_lab::host::lab::Programs;
use leafboot_lab::leaf::{control, init, routes};
use leafboot_lab::partition::{self, PartitionArgs};
use leafboot_lab::site::Port;
use leafboot_lab::sonic;

#[derive(Parser)]
#[command(about = "The laboratory: a leaf, a partition and machines on one computer", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows one port's boot: from the push to the machine's token, and the release.
    Demo {
        /// The agent under test; by default the one that was built with this program.
        #[arg(long)]
        leafboot: Option<PathBuf>,
        /// The port.
        #[arg(long, default_value = "Ethernet0")]
        port: Port,
    },
    /// In the leaf: its first process.
    LeafInit(init::InitArgs),
    /// In the leaf: runs the computer's commands.
    LeafControl,
    /// In the leaf: FRR's part.
    LeafRoutes,
    /// In the leaf: a model of SONiC's daemons.
    ///
    /// While it runs, it takes orders on a redis channel. `redis-cli PUBLISH sonic-model restart` restarts swss.
    /// `redis-cli PUBLISH sonic-model "reload PATH"` is a config reload from that file: a config_db.json, or redis
    /// commands, one a line; `"reload-n PATH"` is the same without a restart of swss, as `config reload -n` has it.
    /// `redis-cli PUBLISH sonic-model "watch VRF ACL RULE…"` has it log every isolation gap, and how long it was open.
    /// `redis-cli PUBLISH sonic-model "ip link set Ethernet0 nomaster"`, or another command of `ip`, changes its kernel;
    /// `"neighbour add Ethernet0 2001:db8::5 3000"` has a neighbour hold a router interface for 3000 ms, without a number
    /// until `"neighbour del Ethernet0 2001:db8::5"`. `"behave --sai-delay-ms 60"` changes its start arguments.
    SonicModel(sonic::Args),
    /// The partition's servers.
    Partition(PartitionArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Demo { leafboot, port } => {
            let mut programs = Programs::beside(&std::env::current_exe()?);
            if let Some(leafboot) = leafboot {
                programs.leafboot = std::path::absolute(leafboot)?;
            }
            Ok(demo::run(&programs, port)?)
        }
        Command::LeafInit(args) => Ok(init::run(&args)?),
        Command::LeafControl => Ok(control::run()?),
        Command::LeafRoutes => routes::run(),
        Command::SonicModel(args) => Ok(sonic::run(args)?),
        Command::Partition(args) => Ok(partition::run(args)?),
    }
}
