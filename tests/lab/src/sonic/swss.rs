//! SONiC on one switch: start, run step by step, restart, reload and query it.
//!
//! Owns: the switch, the daemons that run on it, and their events.
//! Must never: end because SONiC is restarted, or sleep in [`Swss::run_until_idle`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use redis::Msg;

use super::behaviour::Behaviour;
use super::by_hand::ByHand;
use super::caclmgrd::HostFirewall;
use super::daemons::Daemons;
use super::database::Databases;
use super::events::{CONTROL, Events};
use super::isolation::{Gap, Watch};
use super::kernel::{Kernel, Link, Paper};
use super::neighbours::Neighbours;
use super::reload;
use super::switch::Switch;
use super::{Args, Error, WhichKernel};

/// The longest sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

const POLL_CONFIG_DB: Duration = Duration::from_millis(100);

/// The time of a replay after a start: by then every daemon has retried its pending tasks twice.
const REPLAY: Duration = Duration::from_millis(2000);

/// SONiC on one switch.
pub struct Swss {
    databases: Databases,
    delay: Duration,
    switch: Switch,
    events: Events,
    /// None while swss is stopped and waits for CONFIG_DB.
    daemons: Option<Daemons>,
    booted: Instant,
}

impl Swss {
    /// A switch with power on. The daemons start as soon as CONFIG_DB_INITIALIZED is "1": at once, or in a later run.
    pub fn start(args: &Args) -> Result<Self, Error> {
        let databases = Databases::read(&args.database_config)?;
        let kernel = match args.kernel {
            WhichKernel::Real => Kernel::Real,
            WhichKernel::Paper => Kernel::Paper(Paper::default()),
        };
        let switch = Switch::open(&databases, kernel, args.behaviour)?;
        let events = Events::start(&databases, Vec::new())?;
        let delay = Duration::from_millis(args.delay_ms);
        let mut swss = Self { databases, delay, switch, events, daemons: None, booted: Instant::now() };
        if !swss.boot()? {
            eprintln!("swss: waiting for CONFIG_DB_INITIALIZED");
        }
        Ok(swss)
    }

    /// Runs the daemons whose time has come, then waits for the next event, but not longer than this.
    pub fn run_once(&mut self, timeout: Duration) -> Result<(), Error> {
        let mut until = Instant::now() + timeout;
        if self.boot()? {
            until = until.min(self.let_time_pass()?);
            if let Some(daemons) = &mut self.daemons {
                daemons.run_due(&mut self.switch)?;
                until = daemons.due().map_or(until, |due| until.min(due));
            }
        } else {
            until = until.min(Instant::now() + POLL_CONFIG_DB);
        }
        self.switch.isolation.replaying &= self.booted.elapsed() < REPLAY;
        // Events that arrive together are handled together: a daemon reads all that its socket has.
        // sonic-swss-common common/pubsub.cpp: PubSub::readData
        while let Some(message) = self.events.next(until)? {
            self.deliver(&message)?;
            until = Instant::now();
        }
        Ok(())
    }

    /// Runs until nothing is left that can be done: every event is there, and every retry, every answer of syncd and
    /// every timer of orchagent is due now. Nothing sleeps. Only neighbours keep their own time.
    pub fn run_until_idle(&mut self) -> Result<(), Error> {
        loop {
            self.boot()?;
            self.switch.hurries = true;
            self.switch.interfaces_late = false;
            Neighbours::expire(&mut self.switch, Instant::now())?;
            let arrived = self.events.arrived()?;
            let mut progress = !arrived.is_empty();
            for message in &arrived {
                self.deliver(message)?;
            }
            if let Some(daemons) = &mut self.daemons {
                progress |= daemons.run_all(&mut self.switch)?;
            }
            if !progress {
                self.switch.isolation.replaying = false;
                return Ok(());
            }
        }
    }

    /// Does the work whose time has come, and returns when more is due.
    fn let_time_pass(&mut self) -> Result<Instant, Error> {
        let now = Instant::now();
        self.switch.hurries = false;
        Neighbours::expire(&mut self.switch, now)?;
        let due = self.booted + self.switch.behaviour.interfaces_after();
        let late = now < due;
        self.switch.news_for_orchagent |= self.switch.interfaces_late && !late;
        self.switch.interfaces_late = late;
        let others = self.switch.neighbours.due().into_iter().chain(late.then_some(due));
        Ok(others.min().unwrap_or(now + LONGEST_SLEEP))
    }

    /// `systemctl restart swss`: VRF devices, masters, addresses and every fact are gone, ports come with new indexes,
    /// and CONFIG_DB is replayed in the runs that follow.
    // sonic-buildimage files/scripts/swss.sh: stop, start
    pub fn restart(&mut self) -> Result<(), Error> {
        eprintln!("swss: restarted");
        self.daemons = None;
        self.boot().map(drop)
    }

    /// `config reload`: CONFIG_DB is emptied without events, filled with these rows, and SONiC starts again.
    pub fn reload(&mut self, rows: &str) -> Result<(), Error> {
        let commands = reload::commands(rows)?;
        self.empty_config()?;
        self.fill_config(&commands)
    }

    /// The first half of [`Self::reload`]: CONFIG_DB is empty and CONFIG_DB_INITIALIZED is "0"; swss is stopped.
    // sonic-utilities config/main.py: reload, flush_configdb
    pub fn empty_config(&mut self) -> Result<(), Error> {
        self.daemons = None;
        reload::empty(&mut self.switch.config)
    }

    /// `config reload -n`: CONFIG_DB is emptied without events and filled with these rows, one event each. SONiC is not
    /// restarted: the daemons keep everything that they have made, and get no event for a row that is gone. They take
    /// the rows in the runs that follow.
    // sonic-utilities config/main.py: reload (no_service_restart), flush_configdb
    pub fn reload_without_restart(&mut self, rows: &str) -> Result<(), Error> {
        let commands = reload::commands(rows)?;
        self.flush_config()?;
        reload::fill(&mut self.switch.config, &commands)
    }

    /// From now on the switch behaves like this.
    pub fn behave(&mut self, behaviour: Behaviour) {
        self.switch.behaviour = behaviour;
    }

    /// The first half of [`Self::reload_without_restart`]: CONFIG_DB is empty, CONFIG_DB_INITIALIZED is gone with it, and
    /// the daemons run on.
    pub fn flush_config(&mut self) -> Result<(), Error> {
        Ok(self.switch.config.flush()?)
    }

    /// Changes the kernel as an operator does by hand. No daemon notices it, and no database changes. A command that
    /// the kernel refuses (an address that exists already, a device that does not) is an error, and changes nothing.
    pub fn meddle_kernel(&mut self, by_hand: &ByHand) -> Result<(), Error> {
        self.switch.kernel.meddle(by_hand)?;
        self.switch.look(&format!("by hand: {by_hand:?}"))
    }

    fn fill_config(&mut self, commands: &[Vec<String>]) -> Result<(), Error> {
        reload::fill(&mut self.switch.config, commands)?;
        self.restart()
    }

    /// The kernel's devices, by name.
    pub fn links(&mut self) -> Result<BTreeMap<String, Link>, Error> {
        Ok(self.switch.kernel.links()?)
    }

    /// The rules that the ASIC enforces on a port now, by table. A table without rules lets everything pass.
    pub fn rules_on(&self, port: &str) -> BTreeMap<String, BTreeSet<String>> {
        self.switch.asic.enforced().remove(port).unwrap_or_default()
    }

    /// From now on orchagent does not come to its ACL consumers, or comes to them again: its select gives it one event
    /// at a time, and those of ACLs need not come before those of interfaces.
    pub fn let_acls_wait(&mut self, wait: bool) {
        self.switch.acls_wait = wait;
    }

    /// From now on orchagent does not come to INTF_TABLE, or comes to it again: router interfaces and their addresses stay
    /// as they are, while the kernel, ACLs and VRFs go on. After a restart of swss it is like that for seconds
    /// ([`Behaviour::interfaces_after_ms`] does the same by time, but for [`Self::run_until_idle`]).
    pub fn let_interfaces_wait(&mut self, wait: bool) {
        self.switch.interfaces_wait = wait;
        self.switch.news_for_orchagent |= !wait;
    }

    /// The switch has learnt a neighbour on a port. As long as it is known, and the port had a router interface when it
    /// was learnt, that router interface stays, whatever CONFIG_DB says. It goes by itself after `stays`, or when
    /// [`Self::remove_neighbour`] is called, or with a restart. (The kernel's neighbours are not touched.)
    pub fn add_neighbour(
        &mut self,
        port: &str,
        address: IpAddr,
        stays: Option<Duration>,
    ) -> Result<(), Error> {
        Neighbours::add(&mut self.switch, port, address, stays)
    }

    /// Removes a neighbour, if it is known: the work that it blocked is done in the runs that follow.
    pub fn remove_neighbour(&mut self, port: &str, address: IpAddr) -> Result<(), Error> {
        Neighbours::remove(&mut self.switch, port, address)
    }

    /// Looks after every step from now on whether a port of the boot VRF is open without its ACL.
    pub fn watch_isolation(&mut self, watch: Watch) {
        self.switch.isolation.watch(watch);
    }

    /// Every isolation gap since the watch began, in the order in which they opened.
    pub fn isolation_gaps(&self) -> &[Gap] {
        self.switch.isolation.gaps()
    }

    /// How long the longest of them was. Only with [`Behaviour::sai_delay_ms`] and [`Self::run_once`] does time pass
    /// between the steps as it does on a switch.
    pub fn longest_gap(&self) -> Duration {
        self.isolation_gaps().iter().map(Gap::duration).max().unwrap_or_default()
    }

    /// caclmgrd's rebuilds of the host's firewall, and its crashes.
    pub fn host_firewall(&self) -> &HostFirewall {
        &self.switch.host_firewall
    }

    /// Starts the daemons if they are not running and CONFIG_DB is there, and returns whether they run.
    fn boot(&mut self) -> Result<bool, Error> {
        if self.daemons.is_some() {
            return Ok(true);
        }
        if !self.switch.has_config()? {
            return Ok(false);
        }
        self.switch.start_cold()?;
        // It subscribes first and then reads. Events for the earlier daemons are not for these.
        self.events = Events::start(&self.databases, Daemons::patterns(&self.switch.config))?;
        self.daemons = Some(Daemons::start(&mut self.switch, self.delay)?);
        self.booted = Instant::now();
        eprintln!("swss: started");
        Ok(true)
    }

    fn deliver(&mut self, message: &Msg) -> Result<(), Error> {
        if message.get_channel_name() == CONTROL {
            let order: String = message.get_payload()?;
            return self.obey(&order);
        }
        match &mut self.daemons {
            Some(daemons) => daemons.deliver(message),
            None => Ok(()),
        }
    }

    fn obey_about_neighbour(&mut self, words: &str) -> Result<(), Error> {
        let words: Vec<&str> = words.split(' ').collect();
        match words.as_slice() {
            ["add", port, address, rest @ ..] => match (address.parse(), rest.first().map(|ms| ms.parse())) {
                (Ok(address), None) => self.add_neighbour(port, address, None),
                (Ok(address), Some(Ok(ms))) => {
                    self.add_neighbour(port, address, Some(Duration::from_millis(ms)))
                }
                _ => refuse(&format!("neighbour {words:?}: not an address and milliseconds")),
            },
            ["del", port, address] => match address.parse() {
                Ok(address) => self.remove_neighbour(port, address),
                Err(error) => refuse(&error),
            },
            _ => refuse(&format!("neighbour {words:?}: not an order")),
        }
    }

    /// Runs an order from the channel [`CONTROL`].
    fn obey(&mut self, order: &str) -> Result<(), Error> {
        match order.split_once(' ').unwrap_or((order, "")) {
            ("restart", "") => self.restart(),
            ("watch", names) => {
                let names: Vec<&str> = names.split(' ').collect();
                if let [vrf, acl_table, rules @ ..] = names.as_slice() {
                    let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
                    let (vrf, acl_table) = ((*vrf).to_owned(), (*acl_table).to_owned());
                    self.watch_isolation(Watch { vrf, acl_table, rules });
                }
                Ok(())
            }
            ("reload", path) => match reload::read(Path::new(path)) {
                Ok(rows) => self.reload(&rows),
                Err(error) => refuse(&error),
            },
            ("reload-n", path) => match reload::read(Path::new(path)) {
                Ok(rows) => self.reload_without_restart(&rows),
                Err(error) => refuse(&error),
            },
            ("behave", words) => match Behaviour::from_words(words) {
                Ok(behaviour) => {
                    self.behave(behaviour);
                    Ok(())
                }
                Err(error) => refuse(&error),
            },
            ("neighbour", words) => self.obey_about_neighbour(words),
            ("ip" | "sysctl", _) => match order.parse() {
                Ok(by_hand) => self.meddle_kernel(&by_hand).or_else(|error| refuse(&error)),
                Err(error) => refuse(&error),
            },
            _ => {
                eprintln!("swss: {order:?}: not an order");
                Ok(())
            }
        }
    }
}

/// An order that cannot be followed does not end the model.
fn refuse(error: &impl std::fmt::Display) -> Result<(), Error> {
    eprintln!("swss: {error}; nothing changed");
    Ok(())
}
