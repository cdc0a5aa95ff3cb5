//! What all daemons of the switch share: the databases, the kernel, and the tables between them.
//!
//! Owns: the connections, and the clean slate of a cold start.
//! Must never: write CONFIG_DB. That one belongs to the operator and to leafboot.

use std::time::Duration;

use super::appl::ApplTable;
use super::database::{self, Database, Databases};
use super::kernel::Kernel;
use super::{Error, database::Error as DatabaseError};

/// The rows of STATE_DB that a cold start deletes, of those that we write.
// sonic-buildimage files/scripts/swss.sh: start, clean_up_tables
const STATE_TABLES: [&str; 4] = ["PORT_TABLE", "INTERFACE_TABLE", "VRF_TABLE", "VRF_OBJECT_TABLE"];

const POLL_CONFIG_DB: Duration = Duration::from_millis(100);

/// The databases and the kernel of one switch.
pub struct Switch {
    /// What is wanted. Only read.
    pub config: Database,
    /// From the managers to orchagent.
    pub appl: Database,
    /// What orchagent has made.
    pub asic: Database,
    /// Names and ids.
    pub counters: Database,
    /// What the daemons say about their work.
    pub state: Database,
    /// VRF devices, masters, addresses.
    pub kernel: Kernel,
    /// APPL_DB VRF_TABLE.
    pub vrf_table: ApplTable,
    /// APPL_DB INTF_TABLE.
    pub intf_table: ApplTable,
}

impl Switch {
    /// Connects to every database.
    pub fn open(databases: &Databases, kernel: Kernel) -> Result<Self, DatabaseError> {
        Ok(Self {
            config: databases.open("CONFIG_DB")?,
            appl: databases.open("APPL_DB")?,
            asic: databases.open("ASIC_DB")?,
            counters: databases.open("COUNTERS_DB")?,
            state: databases.open("STATE_DB")?,
            kernel,
            vrf_table: ApplTable::new("VRF_TABLE"),
            intf_table: ApplTable::new("INTF_TABLE"),
        })
    }

    /// Waits until CONFIG_DB is filled: "0" means that it is not.
    // sonic-buildimage files/scripts/swss.sh: wait_for_database_service
    pub fn wait_for_config(&mut self) -> Result<(), DatabaseError> {
        let mut said = false;
        while self.config.text("CONFIG_DB_INITIALIZED")?.as_deref() != Some("1") {
            if !said {
                eprintln!("swss: waiting for CONFIG_DB_INITIALIZED");
                said = true;
            }
            std::thread::sleep(POLL_CONFIG_DB);
        }
        Ok(())
    }

    /// Forgets everything that a former run left behind.
    // sonic-buildimage files/scripts/swss.sh: start; sonic-swss cfgmgr/vrfmgr.cpp: VrfMgr::VrfMgr
    pub fn clean(&mut self) -> Result<(), Error> {
        self.appl.flush()?;
        self.asic.flush()?;
        self.counters.flush()?;
        for table in STATE_TABLES {
            self.state.delete_all(table)?;
        }
        self.kernel.look_up_vrfs_first()?;
        for vrf in self.kernel.vrfs()?.iter().filter(|vrf| *vrf != "mgmt") {
            eprintln!("vrfmgrd: {vrf}: left over, deleted");
            self.kernel.delete_vrf(vrf)?;
        }
        Ok(())
    }

    /// Does a manager consider this row of STATE_DB as ready?
    // sonic-swss cfgmgr/intfmgr.cpp: IntfMgr::isIntfStateOk
    pub fn is_ready(&mut self, table: &str, key: &str) -> Result<bool, database::Error> {
        Ok(self.state.field(table, key, "state")?.is_some())
    }
}
