//! The daemons: when each of them runs, and which events it gets.
//!
//! Owns: one timer for each daemon.
//! Must never: know the rules of a daemon.

use std::time::{Duration, Instant};

use redis::Msg;

use super::Error;
use super::aclorch::AclOrch;
use super::caclmgrd::Caclmgrd;
use super::database::{self, Database};
use super::intfmgrd::Intfmgrd;
use super::orchagent::Orchagent;
use super::ports::Portsyncd;
use super::subscription::Subscription;
use super::switch::Switch;
use super::teammgrd::Teammgrd;
use super::vlanmgrd::Vlanmgrd;
use super::vrfmgrd::Vrfmgrd;
use super::wake::Wake;

/// The tables of CONFIG_DB that any daemon reads.
const TABLES: [&str; 8] = [
    "VRF",
    "INTERFACE",
    "LOOPBACK_INTERFACE",
    "VLAN",
    "VLAN_MEMBER",
    "PORTCHANNEL_MEMBER",
    "ACL_TABLE",
    "ACL_RULE",
];

/// A process of SONiC.
pub trait Daemon: Send {
    /// Keeps an event if it is for this daemon, and returns whether it is.
    fn offer(&mut self, _message: &Msg) -> Result<bool, database::Error> {
        Ok(false)
    }

    /// Has another daemon written something for this one?
    fn has_news(&self, _switch: &mut Switch) -> bool {
        false
    }

    /// After a run: is it in the middle of something, and how long until it goes on? It looks at nothing else before.
    fn busy_for(&self, _switch: &Switch) -> Option<Duration> {
        None
    }

    /// Reads the changes, tries every pending task, and returns whether any was settled.
    fn run(&mut self, switch: &mut Switch) -> Result<bool, Error>;
}

/// All of them, in the order in which they run.
pub struct Daemons(Vec<(Box<dyn Daemon>, Wake)>);

impl Daemons {
    /// The patterns of the events that the daemons need.
    pub fn patterns(config: &Database) -> Vec<String> {
        TABLES.iter().map(|table| format!("{}*", config.keyspace(table))).collect()
    }

    /// Starts the daemons of swss on a switch without a past. Each lets an event lie for `delay`.
    pub fn start(switch: &mut Switch, delay: Duration) -> Result<Self, Error> {
        let config = &mut switch.config;
        let mut table = |name| Subscription::start(config, name);
        let vrfmgrd = Vrfmgrd::new(table("VRF")?);
        let intfmgrd = Intfmgrd::new(table("INTERFACE")?, table("LOOPBACK_INTERFACE")?);
        let vlanmgrd = Vlanmgrd::new(table("VLAN")?, table("VLAN_MEMBER")?);
        let teammgrd = Teammgrd::new(table("PORTCHANNEL_MEMBER")?);
        let acls = AclOrch::new(table("ACL_TABLE")?, table("ACL_RULE")?);
        let orchagent = Orchagent::start(switch, acls)?;
        let all: [Box<dyn Daemon>; 7] = [
            Box::new(vrfmgrd),
            Box::new(intfmgrd),
            Box::new(vlanmgrd),
            Box::new(teammgrd),
            Box::new(orchagent),
            Box::new(Caclmgrd::start(&mut switch.config)?),
            Box::new(Portsyncd),
        ];
        let now = Instant::now();
        Ok(Self(all.into_iter().map(|daemon| (daemon, Wake::new(delay, now))).collect()))
    }

    /// Gives an event to each daemon that it concerns.
    pub fn deliver(&mut self, message: &Msg) -> Result<(), Error> {
        for (daemon, wake) in &mut self.0 {
            if daemon.offer(message)? {
                wake.event(Instant::now());
            }
        }
        Ok(())
    }

    /// Runs the daemons that are due.
    pub fn run_due(&mut self, switch: &mut Switch) -> Result<(), Error> {
        for (daemon, wake) in &mut self.0 {
            if daemon.has_news(switch) {
                wake.event(Instant::now());
            }
            if wake.rings(Instant::now()) {
                daemon.run(switch)?;
                if let Some(delay) = daemon.busy_for(switch) {
                    wake.busy_until(Instant::now() + delay);
                }
            }
        }
        Ok(())
    }

    /// Runs all daemons as if they were due, and returns whether any task was settled.
    pub fn run_all(&mut self, switch: &mut Switch) -> Result<bool, Error> {
        let mut progress = false;
        for (daemon, wake) in &mut self.0 {
            progress |= daemon.has_news(switch);
            wake.rings(Instant::now());
            progress |= daemon.run(switch)?;
        }
        Ok(progress)
    }

    /// When the next daemon is due.
    pub fn due(&self) -> Option<Instant> {
        self.0.iter().map(|(_, wake)| wake.due()).min()
    }
}
