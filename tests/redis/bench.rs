//! The switch of these tests: a real redis-server, the model of SONiC, and leafboot's passes.
//!
//! Must never: assert what a single test is about.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use leafboot::internals::Db;
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::{BootPrefix, PortName};
use leafboot_core::observed::Observed;
use leafboot_core::plan::{Facts, Plan, Repairs};
use leafboot_core::port_role::RaStates;
use leafboot_core::settings::Settings;
use leafboot_lab::sonic;
use tokio::runtime::Runtime;

use super::support::switch::{CONFIG_DB, Switch, links};
use super::support::{self, eventually};

/// A switch with the model of SONiC. The test starts each of leafboot's passes.
pub struct Bench {
    pub switch: Switch,
    pub runtime: Runtime,
    pub db: Db,
    pub settings: Settings,
    repairs: Repairs,
}

impl Bench {
    pub fn start() -> Self {
        Self::on(Switch::start())
    }

    pub fn on(switch: Switch) -> Self {
        switch.cli(CONFIG_DB, &["HSET", "VRF|VrfTenant", "NULL", "NULL"]);
        switch.cli(CONFIG_DB, &["HSET", "LOOPBACK_INTERFACE|Loopback0", "NULL", "NULL"]);
        let database_config = switch.path("database_config.json");
        let model = sonic::Args {
            database_config: database_config.clone(),
            kernel: sonic::WhichKernel::Paper,
            ..sonic::Args::default()
        };
        // The model ends with its redis-server.
        std::thread::spawn(move || sonic::run(model));
        eventually("SONiC has made its ports", || {
            switch.cli("6", &["HGET", "PORT_TABLE|Ethernet120", "state"]) == "ok\n"
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let db = runtime.block_on(Db::connect(&database_config)).unwrap();
        let text = std::fs::read_to_string(support::agent::settings(&switch)).unwrap();
        let settings = Settings::parse(&text).unwrap();
        Self { switch, runtime, db, settings, repairs: Repairs::default() }
    }

    pub fn observe(&mut self) -> Observed {
        let snapshot = self.runtime.block_on(self.db.snapshot()).unwrap();
        Observed::new(&snapshot, &self.settings)
    }

    /// One pass. The kernel's state comes from SONiC's databases, because the model's kernel is not a real one.
    pub fn pass(&mut self, desired: &Desired) -> (Plan, Observed) {
        let observed = self.observe();
        let links = links(&observed);
        // No port has a machine, so no port waits for its final Router Advertisement.
        let now = Instant::now();
        let (ra, remedies) = (RaStates::new(), self.repairs.remedies(now, true));
        let facts = Facts {
            desired: Some(desired),
            observed: &observed,
            links: &links,
            ra: &ra,
            remedies: &remedies,
        };
        let plan = Plan::new(facts, &self.settings);
        self.repairs.record(&plan, &remedies, now);
        self.runtime.block_on(self.db.apply(&plan.steps)).unwrap();
        (plan, observed)
    }

    /// Makes passes until nothing is left to do or to wait for, and returns all their steps.
    pub fn settle(&mut self, desired: &Desired) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut steps = Vec::new();
        loop {
            let (plan, _) = self.pass(desired);
            steps.extend(plan.steps.iter().map(ToString::to_string));
            if plan.steps.is_empty() && plan.waiting.is_empty() && plan.anycast.is_none() {
                return steps;
            }
            assert!(Instant::now() < deadline, "not settled after 10 s: {plan}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A document that metal-core has pushed: ports with their prefixes.
pub fn desired(ports: &[(&str, &str)]) -> Desired {
    let ports: BTreeMap<PortName, BootPrefix> =
        ports.iter().map(|(port, prefix)| (port.parse().unwrap(), prefix.parse().unwrap())).collect();
    Desired {
        generation: 1,
        provenance: Provenance::Pushed,
        ports: ports.into_iter().map(|(port, prefix)| (port, prefix.into())).collect(),
        old: Default::default(),
        rejected: Default::default(),
    }
}

pub const A: &str = "2001:db8:b007:1::/64";

pub const B: &str = "2001:db8:b007:2::/64";
