//! A model of SONiC: vrfmgrd, intfmgrd and the part of orchagent whose facts leafboot reads, against a real redis.
//!
//! Where leafboot breaks a rule of SONiC, the model does what SONiC does: it drops the row, waits for ever, leaves a
//! router interface in the old VRF, or exits.
//!
//! Owns: the start of the model, and the errors that end it.
//! Must never: repair what a rule of SONiC breaks, or write CONFIG_DB, but for an operator's part (`config reload`,
//! `acl-loader`).
//!
//! It follows swss's source at e6b0c5b5d; [`behaviour::SonicRelease`] has the differences of other releases.
//!
//! Not modelled:
//!
//! * Rows: VLANs and LAGs beyond their members (a LAG exists as soon as it is named), VNETs, subports, EVPN (a `vni` is
//!   accepted as if there were a VTEP), ACL_TABLE_TYPE rows, ACLs from APPL_DB, ports that come or go later, warm start.
//! * The kernel: neighbours and routes; a port's carrier, MTU and speed; `disable_ipv6` that stays. A real kernel's ports
//!   keep their index over a restart unless they can be made again. teammgrd looks at a port's master, where SONiC's waits
//!   for an event about the port.
//! * orchagent: the SAI calls of an ACL table and its ports have all their effect at once, and take their time after it;
//!   those of VRFs and router interfaces take none. Next hops, and routes but for those to the switch itself, so that a virtual
//!   router is kept by addresses, loopbacks and neighbours' router interfaces alone. Refusals of SAI: a full TCAM, a
//!   platform without an attribute. A table that is still bound to a LAG member is `Pending removal` for ever.
//! * COUNTERS_DB: the values; only the maps of names are there. The ids of objects do not tell their type. In ASIC_DB an
//!   ACL entry's matches are spelt as CONFIG_DB has them; all else of it is as SAI has it.
//! * caclmgrd: its commands to ip6tables. It restarts with swss, where SONiC's is a service of its own.
//! * Redis: a refused write (`OOM`, `READONLY`, `WRONGTYPE`).

pub mod acl_loader;
mod acl_rows;
mod acl_table;
mod aclorch;
mod appl;
mod asic;
pub mod behaviour;
pub mod by_hand;
pub mod caclmgrd;
mod daemons;
pub mod database;
mod events;
mod intfmgrd;
mod intfsorch;
pub mod isolation;
pub mod kernel;
mod members;
mod neighbours;
mod orchagent;
mod paper;
mod ports;
mod queue;
mod reload;
mod subscription;
mod switch;
mod swss;
mod teammgrd;
mod vlanmgrd;
mod vrfmgrd;
mod vrforch;
mod wake;
pub mod yang;

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use self::behaviour::{Behaviour, SonicRelease};
use self::database::Fields;
use self::queue::Verdict;

pub use self::swss::Swss;

/// Every daemon's own timer is shorter.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How the model is started.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// SONiC's database_config.json
    #[arg(long, value_name = "PATH")]
    pub database_config: PathBuf,
    /// The kernel to work on
    #[arg(long, value_enum, default_value = "real")]
    pub kernel: WhichKernel,
    /// How long each daemon lets an event lie, to widen races
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub delay_ms: u64,
    /// What differs between switches
    #[command(flatten)]
    pub behaviour: Behaviour,
}

/// Which kernel the model works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum WhichKernel {
    /// The one it runs on; it needs VRF devices and the right to make them
    #[default]
    Real,
    /// None: masters and addresses are only remembered
    Paper,
}

/// Why the model ended. It never ends without an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The databases cannot be read or written.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The kernel refused what a start needs.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The rows for a `config reload` cannot be used; nothing was changed.
    #[error("config reload: {0}")]
    Reload(String),
    /// A daemon exited, as SONiC's does.
    #[error("{daemon} exits: {reason}")]
    Exit {
        /// The daemon.
        daemon: &'static str,
        /// The reason.
        reason: String,
    },
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        Self::Database(error.into())
    }
}

/// Plays SONiC, after a cold start, until a daemon exits or redis goes away.
pub fn run(args: Args) -> Result<(), Error> {
    let mut swss = Swss::start(&args)?;
    loop {
        swss.run_once(LONGEST_WAIT)?;
    }
}

/// A daemon's code has thrown in a task: the daemon exits, or tries the task again for ever.
fn throw(release: SonicRelease, daemon: &'static str, reason: String) -> Result<Verdict, Error> {
    if release.outlives_a_throwing_task() {
        Ok(Verdict::Throw(format!("exception caught: {reason}")))
    } else {
        Err(Error::Exit { daemon, reason })
    }
}

/// A row's fields.
fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
}

/// An IP prefix as SONiC reads one: without a length it is a host.
// sonic-swss-common common/ipprefix.cpp: IpPrefix::IpPrefix
fn parse_prefix(text: &str) -> Option<IpNet> {
    text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).ok()
}
