//! A switch that anything happens to: real redis, the model of SONiC, and leafboot's pass between them.
//!
//! Owns: what can stand and happen, and which isolation gaps are leafboot's. Must never: wait for time.

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

use super::support::{
    self,
    switch::{CONFIG_DB, Switch},
};

/// The ports that may boot.
pub const PORTS: [&str; 4] = ["Ethernet0", "Ethernet4", "Ethernet8", "Ethernet12"];

/// How far apart two passes are, as the agent counts time.
const PASS: Duration = Duration::from_secs(1);

/// More than any way in or out has waits: a plan that is not done by then never is.
const PASSES: usize = 120;

/// What stands on a port before leafboot comes.
#[derive(Debug, Clone, Copy)]
pub enum IngressIdentity {
    Nothing,
    Tenant,
    TenantAddress,
    AddressOnly,
    PxeVlan,
    OurBaseOnly,
    OursStale,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// metal-core pushes: for each port the number of its /64, or nothing.
    Push([Option<u8>; 4]),
    /// The agent looks once, and writes.
    Pass,
    /// The agent is killed and started again.
    Kill,
    /// SONiC does what it can.
    Sonic,
    /// SONiC does one thing.
    SonicStep,
    /// orchagent comes to its ACLs later than to all else, or no longer.
    AclsWait(bool),
    RestartSwss,
    /// `config save`.
    Save,
    /// `config reload` of what was saved last, or of what there is.
    Reload,
    /// Somebody deletes the base row, or the address rows, of a port or of the loopback.
    Delete(usize, bool),
    /// Somebody deletes the boot VRF's row.
    DeleteVrf,
    /// Somebody changes the boot ACL's rows, and SONiC follows.
    Meddle(Meddling),
    /// Somebody changes the kernel behind SONiC's back.
    Drift(Drift),
    /// `config reload -n` of what was saved last: no daemon hears of the rows that are not in it.
    ReloadWithoutRestart,
    /// Somebody makes a port a member of a LAG, or takes it out.
    Lag(usize, bool),
    /// The agent looks once, and Redis refuses some of its writes: those whose bit is set, of eight in turn.
    RefusedPass(u8),
}

/// What somebody does to the kernel.
#[derive(Debug, Clone, Copy)]
pub enum Drift {
    /// `ip link set PORT nomaster`.
    NoMaster(usize),
    /// `ip address del` of all that a port has.
    NoAddress(usize),
    /// `ip link set Vrfboot down`.
    VrfDown,
}

/// What somebody does to the boot ACL.
#[derive(Debug, Clone, Copy)]
pub enum Meddling {
    /// Changes the table's stage and changes it back.
    StageAndBack,
    /// Changes the table's type.
    OtherType,
    /// Puts a field into the table's row that it does not have.
    StrangeField,
    /// Deletes the table's row.
    TableGone,
    /// `acl-loader update full`: deletes every rule.
    RulesGone,
    /// Adds a match to the last rule.
    RuleNarrowed,
    /// Deletes half of a rule's row.
    RuleHalved,
    /// Writes a field that means nothing new into a rule's row: orchagent removes the rule and creates it again.
    RuleExtended,
}

/// The switch, and leafboot beside it.
pub struct World {
    pub switch: Switch,
    pub swss: Swss,
    runtime: Runtime,
    db: Db,
    pub config: Settings,
    pub desired: Option<Desired>,
    ra: RaStates,
    repairs: Repairs,
    /// Time goes on with each pass, and with nothing else.
    now: Instant,
    saved: String,
    pushed: BTreeSet<&'static str>,
    /// The isolation gaps that somebody's meddling has made.
    forgiven: BTreeSet<usize>,
    /// Ports that were open when somebody meddled: whoever mends their ACL leaves it open for a moment.
    meddled: BTreeSet<String>,
    /// Somebody has deleted the table under its rules, so caclmgrd may die of them.
    pub is_orphaned: bool,
}

impl World {
    pub fn new(claims: &[IngressIdentity; 4]) -> Self {
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
        for (port, claim) in PORTS.iter().zip(claims) {
            stand(&switch, port, *claim);
        }
        switch.cli(CONFIG_DB, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
        let database_config = switch.path("database_config.json");
        let args =
            Args { database_config: database_config.clone(), kernel: WhichKernel::Paper, ..Args::default() };
        let mut swss = Swss::start(&args).unwrap();
        swss.run_until_idle().unwrap();
        let settings = std::fs::read_to_string(support::agent::settings(&switch)).unwrap();
        let anycast = "anycast = \"2001:db8:ffff:1::1/127\"\nprotected";
        let config = Settings::parse(&settings.replace("protected", anycast)).unwrap();
        let denies = |rule: &acl::Rule| rule.action == acl::Action::Drop;
        let rules = acl::rules(&config).into_iter().filter(denies).map(|rule| rule.name).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let db = runtime.block_on(Db::connect(&database_config)).unwrap();
        let saved = saved(&switch);
        swss.watch_isolation(Watch { vrf: "Vrfboot".to_owned(), acl_table: "LEAFBOOT".to_owned(), rules });
        let (desired, ra, pushed) = (None, RaStates::new(), BTreeSet::new());
        let (repairs, now) = (Repairs::default(), Instant::now());
        let (forgiven, meddled, is_orphaned) = (BTreeSet::new(), BTreeSet::new(), false);
        Self {
            switch,
            swss,
            runtime,
            db,
            config,
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
            Event::Save => self.saved = saved(&self.switch),
            Event::Reload => {
                self.swss.empty_config().unwrap();
                self.pass();
                self.swss.reload(&self.saved.clone()).unwrap();
                // It may have been saved with what somebody has made of the ACL.
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
        let vrf = self.config.boot.vrf.to_string();
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

    /// The last push of all: something else, or what was pushed before.
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
        self.db = self.runtime.block_on(Db::connect(&self.config.database_config)).unwrap();
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
        let open = links.ports.iter().filter(|(_, link)| port_role::is_in(link, &self.config.boot.vrf));
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

    /// One pass, of which Redis refuses the writes whose bit is set, of eight in turn.
    fn pass_refused(&mut self, mask: u8) -> Plan {
        let links = self.links();
        let snapshot = self.runtime.block_on(self.db.snapshot()).unwrap();
        let observed = Observed::new(&snapshot, &self.config);
        self.now += PASS;
        let remedies = self.repairs.remedies(self.now, true);
        let facts = Facts {
            desired: self.desired.as_ref(),
            observed: &observed,
            links: &links,
            ra: &self.ra,
            remedies: &remedies,
        };
        let plan = Plan::new(facts, &self.config);
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
        let orders =
            port_role::port_roles(self.desired.as_ref(), &links, &BTreeSet::new(), &self.config.boot.vrf);
        let state = |order: &PortRole| match order {
            PortRole::Serve(_) => RaState::Advertising,
            PortRole::Cease(_) => RaState::Ceased,
        };
        self.ra = orders.iter().map(|(port, order)| (port.clone(), state(order))).collect();
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
                carriers: 0,
                vrf: link.master.clone(),
                link_local: Some("fe80::1".parse().unwrap()),
                addresses: addresses.collect(),
                assigned: link.addresses.clone(),
                duplicates: BTreeSet::new(),
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
            // Two times of three the interfaces come before the ACLs that were to guard them.
            self.swss.let_acls_wait(number % 3 != 0);
            self.swss.run_until_idle().unwrap();
        }
        panic!("not settled after {PASSES} passes: {last}\n{}", self.switch.dump(CONFIG_DB));
    }

    /// Every row that is nobody's on a pushed port and not leafboot's own.
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

/// The isolation gaps that leafboot answers for: not those that it found when it came, not those of SONiC's own replay of
/// CONFIG_DB, in which the order is SONiC's, and not those of somebody's meddling and of its mending, as long as no port
/// is opened.
pub fn own_gaps<'a>(world: &'a World, claims: &[IngressIdentity; 4]) -> Vec<&'a Gap> {
    let mut found = BTreeSet::new();
    for (port, claim) in PORTS.iter().zip(claims) {
        if matches!(claim, IngressIdentity::OurBaseOnly | IngressIdentity::OursStale) {
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

/// Puts a claim's rows on a port.
fn stand(switch: &Switch, port: &str, claim: IngressIdentity) {
    let base = format!("INTERFACE|{port}");
    let address = |text: &str| format!("INTERFACE|{port}|{text}");
    let stale = address("2001:db8:b007:7f::1/64");
    match claim {
        IngressIdentity::Nothing => {}
        IngressIdentity::Tenant => drop(switch.cli(CONFIG_DB, &["HSET", &base, "vrf_name", "VrfTenant"])),
        IngressIdentity::TenantAddress => {
            switch.cli(CONFIG_DB, &["HSET", &base, "vrf_name", "VrfTenant"]);
            let number = port.trim_start_matches("Ethernet");
            switch.cli(CONFIG_DB, &["HSET", &address(&format!("10.0.{number}.1/31")), "NULL", "NULL"]);
        }
        IngressIdentity::AddressOnly => {
            drop(switch.cli(CONFIG_DB, &["HSET", &address("10.9.9.1/31"), "NULL", "NULL"]))
        }
        IngressIdentity::PxeVlan => {
            switch.cli(CONFIG_DB, &["HSET", "VLAN|Vlan4000", "vlanid", "4000"]);
            switch.cli(
                CONFIG_DB,
                &["HSET", &format!("VLAN_MEMBER|Vlan4000|{port}"), "tagging_mode", "untagged"],
            );
        }
        IngressIdentity::OurBaseOnly => drop(switch.cli(CONFIG_DB, &["HSET", &base, "vrf_name", "Vrfboot"])),
        IngressIdentity::OursStale => {
            switch.cli(CONFIG_DB, &["HSET", "VRF|Vrfboot", "NULL", "NULL"]);
            switch.cli(CONFIG_DB, &["HSET", &base, "vrf_name", "Vrfboot"]);
            switch.cli(CONFIG_DB, &["HSET", &stale, "NULL", "NULL"]);
        }
    }
}

/// CONFIG_DB as `config save` writes it.
fn saved(switch: &Switch) -> String {
    let mut tables: BTreeMap<String, BTreeMap<String, serde_json::Value>> = BTreeMap::new();
    for (key, fields) in switch.config_rows() {
        let (table, name) = key.split_once('|').unwrap();
        let field = |(name, value): (String, String)| match name.strip_suffix('@') {
            Some(list) => (list.to_owned(), value.split(',').collect::<Vec<_>>().into()),
            None => (name, serde_json::Value::from(value)),
        };
        let fields: serde_json::Map<_, _> = fields.into_iter().map(field).collect();
        tables.entry(table.to_owned()).or_default().insert(name.to_owned(), fields.into());
    }
    serde_json::to_string(&tables).unwrap()
}
