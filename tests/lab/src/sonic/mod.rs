//! A model of SONiC: vrfmgrd, intfmgrd and the part of orchagent whose facts leafboot reads, against a real redis.
//!
//! It is the examiner. Where leafboot breaks a rule of SONiC, the model does what SONiC does: drops the row, waits for
//! ever, leaves a router interface in the old VRF, or exits.
//!
//! Owns: the process: one loop that wakes each daemon on its events, or a second after its last run.
//! Must never: write CONFIG_DB, or repair what a rule of SONiC breaks.
//!
//! Not played: loopbacks, VLANs, LAGs, VNETs, subports, ACLs, neighbours and next hops (so nothing but addresses keeps
//! a router interface), EVPN (a `vni` is accepted as if there were a VTEP), warm start, ports that come later.

mod appl;
pub mod database;
mod intfmgrd;
mod intfsorch;
mod kernel;
mod orchagent;
mod ports;
mod queue;
mod subscription;
mod switch;
mod vrfmgrd;
mod vrforch;
mod wake;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use redis::{Msg, PubSub};

use self::database::{Databases, Fields};
use self::intfmgrd::Intfmgrd;
use self::kernel::{Kernel, Paper};
use self::orchagent::Orchagent;
use self::ports::Ports;
use self::subscription::Subscription;
use self::switch::Switch;
use self::vrfmgrd::Vrfmgrd;
use self::wake::Wake;

/// How the model is started.
#[derive(Debug, Clone, clap::Args)]
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
}

/// Which kernel the model works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WhichKernel {
    /// The one it runs on; it needs VRF devices and the right to make them
    Real,
    /// None: masters and addresses are only remembered
    Paper,
}

/// Why the model ended. It never ends well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The databases cannot be read or written.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The kernel refused what a start needs.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A daemon did what SONiC's does: it exited.
    #[error("{daemon} exits: {reason}")]
    Exit {
        /// The daemon.
        daemon: &'static str,
        /// What it could not stand.
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
    let databases = Databases::read(&args.database_config)?;
    let kernel = match args.kernel {
        WhichKernel::Real => Kernel::Real,
        WhichKernel::Paper => Kernel::Paper(Paper::default()),
    };
    let mut switch = Switch::open(&databases, kernel)?;
    switch.wait_for_config()?;
    switch.clean()?;
    let ports = Ports::create(&mut switch)?;
    let orchagent = Orchagent::start(&mut switch, ports)?;

    let mut listener = databases.open("CONFIG_DB")?;
    let mut events = listener.connection().as_pubsub();
    let vrfmgrd = Vrfmgrd::new(Subscription::start(&mut events, &mut switch.config, "VRF")?);
    let intfmgrd = Intfmgrd::new(Subscription::start(&mut events, &mut switch.config, "INTERFACE")?);
    eprintln!("swss: started");
    Daemons::new(vrfmgrd, intfmgrd, orchagent, Duration::from_millis(args.delay_ms))
        .run(&mut switch, &mut events)
}

/// The daemons, each with its own alarm clock.
struct Daemons {
    vrfmgrd: Vrfmgrd,
    vrfmgrd_wake: Wake,
    intfmgrd: Intfmgrd,
    intfmgrd_wake: Wake,
    orchagent: Orchagent,
    orchagent_wake: Wake,
    ports_wake: Wake,
}

impl Daemons {
    fn new(vrfmgrd: Vrfmgrd, intfmgrd: Intfmgrd, orchagent: Orchagent, delay: Duration) -> Self {
        let wake = || Wake::new(delay, Instant::now());
        Self {
            vrfmgrd,
            vrfmgrd_wake: wake(),
            intfmgrd,
            intfmgrd_wake: wake(),
            orchagent,
            orchagent_wake: wake(),
            ports_wake: wake(),
        }
    }

    fn run(mut self, switch: &mut Switch, events: &mut PubSub<'_>) -> Result<(), Error> {
        loop {
            if self.vrfmgrd_wake.rings(Instant::now()) {
                self.vrfmgrd.run(switch)?;
            }
            if self.intfmgrd_wake.rings(Instant::now()) {
                self.intfmgrd.run(switch)?;
            }
            if switch.vrf_table.has_changed() || switch.intf_table.has_changed() {
                self.orchagent_wake.event(Instant::now());
            }
            if self.orchagent_wake.rings(Instant::now()) {
                self.orchagent.run(switch)?;
            }
            if self.ports_wake.rings(Instant::now()) {
                self.orchagent.refresh_ports(switch)?;
            }
            if let Some(message) = next_event(events, self.next_due())? {
                self.deliver(&message)?;
            }
        }
    }

    fn deliver(&mut self, message: &Msg) -> Result<(), Error> {
        if self.vrfmgrd.subscription.offer(message)? {
            self.vrfmgrd_wake.event(Instant::now());
        } else if self.intfmgrd.subscription.offer(message)? {
            self.intfmgrd_wake.event(Instant::now());
        }
        Ok(())
    }

    fn next_due(&self) -> Instant {
        let [first, others @ ..] =
            [&self.vrfmgrd_wake, &self.intfmgrd_wake, &self.orchagent_wake, &self.ports_wake].map(Wake::due);
        others.into_iter().fold(first, Instant::min)
    }
}

/// The next keyspace event, or nothing if there is none until then.
fn next_event(events: &mut PubSub<'_>, until: Instant) -> Result<Option<Msg>, Error> {
    let patience = until.saturating_duration_since(Instant::now());
    if patience.is_zero() {
        return Ok(None);
    }
    events.set_read_timeout(Some(patience))?;
    match events.get_message() {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.is_timeout() => Ok(None),
        Err(error) => Err(error.into()),
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
