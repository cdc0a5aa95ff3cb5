//! A switch on which the events of the property test happen: a real redis-server, the model of SONiC, and leafboot's passes.
//!
//! Must never: wait for time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use leafboot::internals::Db;
use leafboot_core::acl;
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::{Mac, PortName};
use leafboot_core::observed::{Link, Links, Observed};
use leafboot_core::plan::{Facts, Plan, Repairs, Step};
use leafboot_core::port_role::{self, PortRole, RaState, RaStates};
use leafboot_core::settings::Settings;
use leafboot_lab::sonic::by_hand::ByHand;
use leafboot_lab::sonic::isolation::{Gap, Opening, Watch};
use leafboot_lab::sonic::kernel;
use leafboot_lab::sonic::{Args, Swss, WhichKernel};
use tokio::runtime::Runtime;

use super::event::{Before, Drift, Event, Meddling};
use super::rows::{config_save, write_before};
use super::support::{
    self,
    switch::{CONFIG_DB, Switch},
};

/// The ports that may boot.
pub const PORTS: [&str; 4] = ["Ethernet0", "Ethernet4", "Ethernet8", "Ethernet12"];

/// The time between two passes on the agent's clock.
const PASS: Duration = Duration::from_secs(1);

/// The most passes until a plan is done: more than any port waits on its way in or out.
const PASSES: usize = 120;

/// The switch, and leafboot beside it.
pub struct World {
    pub switch: Switch,
    pub swss: Swss,
    runtime: Runtime,
    db: Db,
    pub settings: Settings,
    pub desired: Option<Desired>,
    ra: RaStates,
    repairs: Repairs,
    /// The agent's clock. Only a pass advances it.
    now: Instant,
    saved: String,
    pushed: BTreeSet<&'static str>,
    /// The numbers of the isolation gaps that another program has made.
    forgiven: BTreeSet<usize>,
    /// The ports in the boot VRF when another program changed their ACL. Repairing it leaves a gap for a moment.
    meddled: BTreeSet<String>,
    /// Another program has deleted the ACL's table and left its rules, so caclmgrd may die of them.
    pub is_orphaned: bool,
}

impl World {
    pub fn new(before: &[Before; 4]) -> Self {
        let switch = Switch::start_unloaded();
        for (index, port) in PORTS.iter().chain(&["Ethernet120"]).enumerate() {
            switch.cli(CONFIG_DB, &["HSET", &format!("PORT|{port}"), "index", &index.to_string()]);
        }
        for row in ["VRF|VrfTenant", "LOOPBACK_INTERFACE|Loopback0", "INTERFACE|Ethernet120"] {
            switch.cli(CONFIG_DB, &["HSET", row, "NULL", "NULL"]);
        }
        switch.cli(
            CONFIG_DB,
            &["HSET", "ACL_TABLE|DATA", "type", "L3", "stage", "ingress", "ports@", "Ethernet120"],
        );
        for (port, before) in PORTS.iter().zip(before) {
            write_before(&switch, port, *before);
        }
        switch.cli(CONFIG_DB, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
        let database_config = switch.path("database_config.json");
        let args =
            Args { database_config: database_config.clone(), kernel: WhichKernel::Paper, ..Args::default() };
        let mut swss = Swss::start(&args).unwrap();
        swss.run_until_idle().unwrap();
        let text = std::fs::read_to_string(support::agent::settings(&switch)).unwrap();
        let anycast = "anycast = \"2001:db8:ffff:1::1/127\"\nprotected";
        let settings = Settings::parse(&text.replace("protected", anycast)).unwrap();
        let denies = |rule: &acl::Rule| rule.action == acl::Action::Drop;
        let rules = acl::rules(&settings).into_iter().filter(denies).map(|rule| rule.name).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let db = runtime.block_on(Db::connect(&database_config)).unwrap();
        let saved = config_save(&switch);
        swss.watch_isolation(Watch { vrf: "Vrfboot".to_owned(), acl_table: "LEAFBOOT".to_owned(), rules });
        let (desired, ra, pushed) = (None, RaStates::new(), BTreeSet::new());
        let (repairs, now) = (Repairs::default(), Instant::now());
        let (forgiven, meddled, is_orphaned) = (BTreeSet::new(), BTreeSet::new(), false);
        Self {
            switch,
            swss,
            runtime,
            db,
            settings,
            desired,
            ra,
            repairs,
            now,
            saved,
            pushed,
            forgiven,
            meddled,
            is_orphaned,
        }
    }

    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Push(wishes) => self.push(wishes),
            Event::Pass => drop(self.pass()),
            Event::Kill => self.kill(),
            Event::Sonic => self.swss.run_until_idle().unwrap(),
            Event::SonicStep => self.swss.run_once(std::time::Duration::ZERO).unwrap(),
            Event::AclsWait(wait) => self.swss.let_acls_wait(*wait),
            Event::RestartSwss => self.swss.restart().unwrap(),
            Event::Save => self.saved = config_save(&self.switch),
            Event::Reload => {
                self.swss.empty_config().unwrap();
                self.pass();
                self.swss.reload(&self.saved.clone()).unwrap();
                // The save may contain another program's changes to the ACL.
                if !self.meddled.is_empty() {
                    self.meddled.extend(PORTS.map(str::to_owned));
                }
            }
            Event::Delete(port, base) => match PORTS.get(*port) {
                Some(port) => self.delete(&format!("INTERFACE|{port}"), *base),
                None => self.delete("LOOPBACK_INTERFACE|Loopback64", *base),
            },
            Event::DeleteVrf => drop(self.switch.cli(CONFIG_DB, &["DEL", "VRF|Vrfboot"])),
            Event::Meddle(meddling) => self.meddle(*meddling),
            Event::Drift(drift) => self.drift(*drift),
            Event::ReloadWithoutRestart => self.reload_without_restart(),
            Event::Lag(port, joins) => self.set_lag(PORTS[*port], *joins),
            Event::RefusedPass(mask) => drop(self.pass_refused(*mask)),
        }
    }

    fn drift(&mut self, drift: Drift) {
        let vrf = self.settings.boot.vrf.to_string();
        let commands: Vec<ByHand> = match drift {
            Drift::NoMaster(port) => vec![ByHand::no_master(PORTS[port])],
            Drift::NoAddress(port) => {
                let links = self.swss.links().unwrap();
                let addresses = links.get(PORTS[port]).into_iter().flat_map(|link| &link.addresses);
                let delete =
                    |net: &IpNet| ByHand::DeleteAddress { port: PORTS[port].to_owned(), address: *net };
                addresses.map(delete).collect()
            }
            Drift::VrfDown => vec![ByHand::down(&vrf)],
        };
        let before = self.swss.isolation_gaps().len();
        for command in commands {
            // There may be no such device yet.
            let _ = self.swss.meddle_kernel(&command);
        }
        self.forgiven.extend(before..self.swss.isolation_gaps().len());
    }

    fn reload_without_restart(&mut self) {
        self.swss.let_acls_wait(false);
        self.swss.run_until_idle().unwrap();
        let before = self.swss.isolation_gaps().len();
        self.swss.flush_config().unwrap();
        self.pass();
        self.swss.reload_without_restart(&self.saved.clone()).unwrap();
        self.swss.run_until_idle().unwrap();
        // An older save may list other ports in the ACL than are in the boot VRF.
        self.forgiven.extend(before..self.swss.isolation_gaps().len());
        self.meddled.extend(PORTS.map(str::to_owned));
        self.is_orphaned = true;
    }

    fn set_lag(&mut self, port: &str, joins: bool) {
        let row = format!("PORTCHANNEL_MEMBER|PortChannel1|{port}");
        match joins {
            true => self.switch.cli(CONFIG_DB, &["HSET", &row, "NULL", "NULL"]),
            false => self.switch.cli(CONFIG_DB, &["DEL", &row]),
        };
        // The ASIC hands the port's packets to the LAG.
        self.meddled.insert(port.to_owned());
    }

    /// The last push: `wishes`, or the document that was pushed before.
    pub fn push_again(&mut self, wishes: Option<&[Option<u8>; 4]>) {
        PORTS.iter().for_each(|port| self.set_lag(port, false));
        match (wishes, &mut self.desired) {
            (None, Some(desired)) => desired.provenance = Provenance::Pushed,
            (wishes, _) => self.push(wishes.unwrap_or(&[Some(1), None, Some(2), None])),
        }
    }

    pub fn push(&mut self, wishes: &[Option<u8>; 4]) {
        let wish = |(port, number): (&&'static str, &Option<u8>)| {
            let prefix = format!("2001:db8:b007:{}::/64", (*number)?).parse().unwrap();
            Some((port.parse::<PortName>().unwrap(), prefix))
        };
        let mut ports: BTreeMap<PortName, leafboot_core::names::BootPrefix> = BTreeMap::new();
        for (port, prefix) in PORTS.iter().zip(wishes).filter_map(wish) {
            // A document in which two ports have one prefix is refused before it comes here.
            if !ports.values().any(|taken| *taken == prefix) {
                self.pushed.extend(PORTS.iter().find(|name| **name == port.as_str()));
                ports.insert(port, prefix);
            }
        }
        let generation = self.desired.as_ref().map_or(0, |desired| desired.generation) + 1;
        self.desired = Some(Desired {
            generation,
            provenance: Provenance::Pushed,
            ports: ports.into_iter().map(|(port, prefix)| (port, prefix.into())).collect(),
            old: Default::default(),
            rejected: Default::default(),
        });
    }

    fn kill(&mut self) {
        self.ra.clear();
        self.repairs = Repairs::default();
        if let Some(desired) = &mut self.desired {
            desired.provenance = Provenance::Restored;
        }
        self.db = self.runtime.block_on(Db::connect(&self.settings.database_config)).unwrap();
    }

    fn delete(&self, row: &str, base: bool) {
        for key in self.switch.config_rows().keys() {
            if (base && key == row) || (!base && key.starts_with(&format!("{row}|"))) {
                self.switch.cli(CONFIG_DB, &["DEL", key]);
            }
        }
    }

    fn meddle(&mut self, meddling: Meddling) {
        self.swss.let_acls_wait(false);
        self.swss.run_until_idle().unwrap();
        let (table, rule) = ("ACL_TABLE|LEAFBOOT", |name: &str| format!("ACL_RULE|LEAFBOOT|{name}"));
        let rows = self.switch.config_rows();
        if !rows.contains_key(table) || !rows.contains_key(&rule("DEFAULT_RULE")) {
            return;
        }
        let links = self.links();
        let open = links.ports.iter().filter(|(_, link)| port_role::is_in(link, &self.settings.boot.vrf));
        self.meddled.extend(open.map(|(port, _)| port.to_string()));
        let before = self.swss.isolation_gaps().len();
        let rules = rows.keys().filter(|key| key.starts_with(&rule(""))).map(String::as_str);
        self.is_orphaned |= matches!(meddling, Meddling::TableGone);
        let commands: Vec<Vec<&str>> = match meddling {
            Meddling::StageAndBack => {
                vec![vec!["HSET", table, "stage", "egress"], vec!["HSET", table, "stage", "ingress"]]
            }
            Meddling::OtherType => vec![vec!["HSET", table, "type", "L3"]],
            Meddling::RuleExtended => {
                vec![vec!["HSET", "ACL_RULE|LEAFBOOT|DEFAULT_RULE", "PACKET_ACTION", "DROP"]]
            }
            Meddling::StrangeField => vec![vec!["HSET", table, "owner", "me"]],
            Meddling::TableGone => vec![vec!["DEL", table]],
            Meddling::RulesGone => vec![["DEL"].into_iter().chain(rules).collect()],
            Meddling::RuleNarrowed => {
                vec![vec!["HSET", "ACL_RULE|LEAFBOOT|DEFAULT_RULE", "L4_DST_PORT", "9"]]
            }
            Meddling::RuleHalved => {
                vec![vec!["HDEL", "ACL_RULE|LEAFBOOT|DENY_MACHINES", "DST_IPV6", "IP_TYPE"]]
            }
        };
        for command in commands {
            self.switch.cli(CONFIG_DB, &command);
            self.swss.run_until_idle().unwrap();
        }
        self.forgiven.extend(before..self.swss.isolation_gaps().len());
    }

    /// One pass of the reconciler, with a kernel and advertisements that follow at once.
    pub fn pass(&mut self) -> Plan {
        self.pass_refused(0)
    }

    /// One pass. Redis refuses its write number n if bit n % 8 is set in `mask`.
    fn pass_refused(&mut self, mask: u8) -> Plan {
        let links = self.links();
        let snapshot = self.runtime.block_on(self.db.snapshot()).unwrap();
        let observed = Observed::new(&snapshot, &self.settings);
        self.now += PASS;
        let remedies = self.repairs.remedies(self.now, true);
        let facts = Facts {
            desired: self.desired.as_ref(),
            observed: &observed,
            links: &links,
            ra: &self.ra,
            remedies: &remedies,
        };
        let plan = Plan::new(facts, &self.settings);
        self.repairs.record(&plan, &remedies, self.now);
        let is_refused = |number: usize| mask & (1 << (number % 8)) != 0;
        let (refused, taken): (Vec<_>, Vec<_>) =
            plan.steps.iter().cloned().enumerate().partition(|(number, _)| is_refused(*number));
        // A row that needs a refused one is not written.
        let lacks = |step: &Step| {
            step.needs().is_some_and(|needed| refused.iter().any(|(_, step)| *step.key() == needed))
        };
        let taken: Vec<Step> = taken.into_iter().map(|(_, step)| step).filter(|step| !lacks(step)).collect();
        self.runtime.block_on(self.db.apply(&taken)).unwrap();
        let roles =
            port_role::port_roles(self.desired.as_ref(), &links, &BTreeSet::new(), &self.settings.boot.vrf);
        let state = |role: &PortRole| match role {
            PortRole::Serve(_) => RaState::Advertising,
            PortRole::Cease(_) => RaState::Ceased,
        };
        self.ra = roles.iter().map(|(port, role)| (port.clone(), state(role))).collect();
        plan
    }

    pub fn links(&mut self) -> Links {
        let link = |link: &kernel::Link| {
            let addresses = link.addresses.iter().filter_map(|net| match net {
                ipnet::IpNet::V6(net) => Some(*net),
                ipnet::IpNet::V4(_) => None,
            });
            Link {
                ifindex: link.index,
                mac: Mac([2, 0, 0, 0, 0, 1]),
                mtu: 9100,
                up: true,
                admin_up: true,
                carrier: true,
                carrier_ups: 0,
                vrf: link.master.clone(),
                link_local: Some("fe80::1".parse().unwrap()),
                usable_addresses: addresses.collect(),
                assigned_addresses: link.addresses.clone(),
                duplicate_addresses: BTreeSet::new(),
            }
        };
        let seen = self.swss.links().unwrap();
        let is_vrf = |(name, _): &(&String, &kernel::Link)| name.starts_with("Vrf");
        let vrfs = seen.iter().filter(is_vrf).map(|(name, link)| (name.clone(), link.up)).collect();
        Links {
            ports: seen.iter().filter_map(|(name, seen)| Some((name.parse().ok()?, link(seen)))).collect(),
            loopbacks: seen
                .iter()
                .filter_map(|(name, seen)| Some((name.parse().ok()?, link(seen))))
                .collect(),
            vrfs,
        }
    }

    /// Passes until nothing is left to do or to wait for.
    pub fn settle(&mut self) {
        let mut last = Plan::default();
        for number in 0..PASSES {
            last = self.pass();
            if last.steps.is_empty() && last.waiting.is_empty() && last.anycast.is_none() {
                return;
            }
            // In two of three passes orchagent makes the interfaces before their ACLs.
            self.swss.let_acls_wait(number % 3 != 0);
            self.swss.run_until_idle().unwrap();
        }
        panic!("not settled after {PASSES} passes: {last}\n{}", self.switch.dump(CONFIG_DB));
    }

    /// Every row that is neither leafboot's nor on a pushed port.
    pub fn unmanaged(&self) -> BTreeSet<String> {
        let dump = self.switch.dump(CONFIG_DB);
        let is_ours = |row: &str| {
            let shared = ["VRF|Vrfboot", "LOOPBACK_INTERFACE|Loopback64"];
            row.contains("LEAFBOOT") || shared.iter().any(|ours| row.starts_with(ours))
        };
        let of_pushed = |row: &str| {
            let mut ports = self.pushed.iter();
            ports.any(|port| {
                row.starts_with(&format!("VLAN_MEMBER|Vlan4000|{port}:"))
                    || row.starts_with(&format!("INTERFACE|{port}:"))
                    || row.starts_with(&format!("INTERFACE|{port}|"))
            })
        };
        // A base row that names the boot VRF is ours on any port.
        let in_boot = |row: &str| row.contains("vrf_name Vrfboot") || row.contains("2001:db8:b007:");
        dump.lines()
            .filter(|row| !is_ours(row) && !of_pushed(row) && !in_boot(row))
            .map(str::to_owned)
            .collect()
    }
}

/// The isolation gaps that leafboot has made. These are not its own: gaps from before its start, gaps while SONiC replays
/// CONFIG_DB in its own order, and gaps from another program's change to the ACL and from its repair, as long as the change
/// opens no port.
pub fn own_gaps<'a>(world: &'a World, before: &[Before; 4]) -> Vec<&'a Gap> {
    let mut found = BTreeSet::new();
    for (port, before) in PORTS.iter().zip(before) {
        if matches!(before, Before::OurBaseOnly | Before::OursStale) {
            found.extend([(*port, Opening::KernelAddress), (*port, Opening::RouterInterface)]);
        }
    }
    let of_mending = |gap: &Gap| world.meddled.contains(&gap.port) && gap.after.contains("ACL_");
    let gaps = world.swss.isolation_gaps().iter().enumerate();
    let gaps = gaps.filter(|(number, _)| !world.forgiven.contains(number)).map(|(_, gap)| gap);
    let mut own = gaps.filter(|gap| !gap.in_replay && !of_mending(gap)).collect::<Vec<_>>();
    own.retain(|gap| !found.remove(&(gap.port.as_str(), gap.opening)));
    own
}
