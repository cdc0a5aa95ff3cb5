//! The parts that all daemons of the switch share: the databases, the kernel, the ASIC, and the tables between them.
//!
//! Owns: the connections, the clean slate of a cold start, and the isolation check after every step.
//! Must never: write CONFIG_DB, which belongs to the operator and to leafboot.

use std::collections::BTreeMap;

use super::Error;
use super::appl::ApplTable;
use super::asic::Asic;
use super::behaviour::Behaviour;
use super::caclmgrd::HostFirewall;
use super::database::{Database, Databases, Error as DatabaseError};
use super::isolation::Isolation;
use super::kernel::{Kernel, LOOPBACK, Link};
use super::neighbours::Neighbours;
use super::ports::Ports;

/// The rows of STATE_DB that a cold start deletes, of the tables that the model writes.
// sonic-buildimage files/scripts/swss.sh: start, clean_up_tables
const STATE_TABLES: [&str; 7] = [
    "PORT_TABLE",
    "INTERFACE_TABLE",
    "VRF_TABLE",
    "VRF_OBJECT_TABLE",
    "VLAN_TABLE",
    "VLAN_MEMBER_TABLE",
    "LAG_MEMBER_TABLE",
];
/// The tables that orchagent deletes, later.
// sonic-swss orchagent/aclorch.cpp: AclOrch::init
const ACL_STATE_TABLES: [&str; 2] = ["ACL_TABLE_TABLE", "ACL_RULE_TABLE"];

/// The databases, the kernel and the ASIC of one switch.
pub struct Switch {
    /// Which release it runs, and how slow it is.
    pub behaviour: Behaviour,
    /// CONFIG_DB, which the model only reads.
    pub config: Database,
    /// APPL_DB: from the managers to orchagent.
    pub appl: Database,
    /// ASIC_DB: the objects that orchagent has made.
    pub asic: Asic,
    /// COUNTERS_DB: names and ids.
    pub counters: Database,
    /// STATE_DB: the results of the daemons.
    pub state: Database,
    /// The kernel: VRF devices, masters, addresses.
    pub kernel: Kernel,
    /// The front panel.
    pub ports: Ports,
    /// APPL_DB VRF_TABLE.
    pub vrf_table: ApplTable,
    /// APPL_DB INTF_TABLE.
    pub intf_table: ApplTable,
    /// APPL_DB VLAN_MEMBER_TABLE.
    pub vlan_member_table: ApplTable,
    /// APPL_DB LAG_MEMBER_TABLE.
    pub lag_member_table: ApplTable,
    /// orchagent has not come to its ACL consumers yet.
    pub acls_wait: bool,
    /// orchagent has not come to INTF_TABLE yet.
    pub interfaces_wait: bool,
    /// orchagent has just started, and still works on the tables before INTF_TABLE.
    pub interfaces_late: bool,
    /// Work that waits for a timer is due now.
    pub hurries: bool,
    /// orchagent has a reason to retry its pending tasks.
    pub news_for_orchagent: bool,
    /// The neighbours on the ports.
    pub neighbours: Neighbours,
    /// The host's ip6tables.
    pub host_firewall: HostFirewall,
    /// The observer.
    pub isolation: Isolation,
    /// The kernel's devices as the observer saw them last.
    links: Option<BTreeMap<String, Link>>,
}

impl Switch {
    /// Connects to every database.
    pub fn open(databases: &Databases, kernel: Kernel, behaviour: Behaviour) -> Result<Self, DatabaseError> {
        Ok(Self {
            behaviour,
            config: databases.open("CONFIG_DB")?,
            appl: databases.open("APPL_DB")?,
            asic: Asic::new(databases.open("ASIC_DB")?),
            counters: databases.open("COUNTERS_DB")?,
            state: databases.open("STATE_DB")?,
            kernel,
            ports: Ports::default(),
            vrf_table: ApplTable::new("VRF_TABLE"),
            intf_table: ApplTable::new("INTF_TABLE"),
            vlan_member_table: ApplTable::new("VLAN_MEMBER_TABLE"),
            lag_member_table: ApplTable::new("LAG_MEMBER_TABLE"),
            acls_wait: false,
            interfaces_wait: false,
            interfaces_late: false,
            hurries: false,
            news_for_orchagent: false,
            neighbours: Neighbours::default(),
            host_firewall: HostFirewall::default(),
            isolation: Isolation::default(),
            links: None,
        })
    }

    /// Is CONFIG_DB filled? "0" means that it is not.
    // sonic-buildimage files/scripts/swss.sh: wait_for_database_service
    pub fn has_config(&mut self) -> Result<bool, DatabaseError> {
        Ok(self.config.text("CONFIG_DB_INITIALIZED")?.as_deref() == Some("1"))
    }

    /// Forgets everything that a former run left behind, and makes the ports anew.
    // sonic-buildimage files/scripts/swss.sh: start; sonic-swss cfgmgr/vrfmgr.cpp: VrfMgr::VrfMgr
    pub fn start_cold(&mut self) -> Result<(), Error> {
        self.appl.flush()?;
        self.asic.flush()?;
        self.counters.flush()?;
        for table in STATE_TABLES {
            self.state.delete_all(table)?;
        }
        for table in self.appl_tables() {
            table.forget();
        }
        self.neighbours = Neighbours::default();
        self.kernel.look_up_vrfs_first()?;
        if let Err(error) = self.kernel.renew_bridge() {
            eprintln!("vlanmgrd: no VLANs: {error}");
        }
        for vrf in self.kernel.vrfs()?.iter().filter(|vrf| *vrf != "mgmt") {
            eprintln!("vrfmgrd: {vrf}: left over, deleted");
            self.kernel.delete_vrf(vrf)?;
        }
        // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::flushLoopbackIntfs
        for name in self.kernel.links()?.keys().filter(|name| name.starts_with(LOOPBACK)) {
            self.kernel.delete_loopback(name)?;
        }
        for table in ACL_STATE_TABLES {
            self.state.delete_all(table)?;
        }
        Ports::create(self)?;
        self.isolation.replaying = true;
        self.look("the cold start")
    }

    /// Has a manager written anything that orchagent has not read yet?
    pub fn has_news_for_orchagent(&mut self) -> bool {
        let others = [&self.vrf_table, &self.vlan_member_table, &self.lag_member_table];
        self.news_for_orchagent
            || others.iter().any(|table| table.has_changed())
            || (self.comes_to_interfaces() && self.intf_table.has_changed())
    }

    /// Does orchagent come to INTF_TABLE now?
    pub fn comes_to_interfaces(&self) -> bool {
        !self.interfaces_wait && !self.interfaces_late
    }

    /// Checks the isolation of the ports after a manager's step.
    pub fn look(&mut self, done: &str) -> Result<(), Error> {
        self.links = None;
        self.look_at_asic(done)
    }

    /// Checks the isolation of the ports after a step of orchagent, which does not change the kernel.
    pub fn look_at_asic(&mut self, done: &str) -> Result<(), Error> {
        if self.isolation.is_watching() {
            let links = match self.links.take() {
                Some(links) => links,
                None => self.kernel.links()?,
            };
            self.isolation.look(&self.asic, &links, done);
            self.links = Some(links);
        }
        Ok(())
    }

    /// Does a manager consider this row of STATE_DB as ready?
    // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::isIntfStateOk
    pub fn is_ready(&mut self, table: &str, key: &str) -> Result<bool, DatabaseError> {
        Ok(self.state.field(table, key, "state")?.is_some())
    }

    fn appl_tables(&mut self) -> [&mut ApplTable; 4] {
        [&mut self.vrf_table, &mut self.intf_table, &mut self.vlan_member_table, &mut self.lag_member_table]
    }
}
