//! VRFOrch: APPL_DB VRF_TABLE rows become virtual routers.
//!
//! Owns: the virtual router objects of ASIC_DB, STATE_DB VRF_OBJECT_TABLE.
//! Must never: remove a virtual router that has a router interface.

use std::collections::BTreeMap;

use super::Error;
use super::database::Fields;
use super::fields;
use super::intfsorch::IntfsOrch;
use super::queue::{Task, Verdict};
use super::switch::Switch;

/// The virtual router that every switch has.
pub const DEFAULT_VIRTUAL_ROUTER: &str = "oid:0x3000000000022";

const OBJECT: &str = "SAI_OBJECT_TYPE_VIRTUAL_ROUTER";
const FIRST_OID: u64 = 0x3_0000_0000_0500;

/// The virtual routers.
#[derive(Debug)]
pub struct VrfOrch {
    oids: BTreeMap<String, String>,
    next_oid: u64,
}

impl VrfOrch {
    /// Makes the default virtual router.
    pub fn start(switch: &mut Switch) -> Result<Self, Error> {
        switch.asic.set(OBJECT, DEFAULT_VIRTUAL_ROUTER, &Fields::new())?;
        Ok(Self { oids: BTreeMap::new(), next_oid: FIRST_OID })
    }

    /// The virtual router of a VRF.
    pub fn oid(&self, vrf: &str) -> Option<&str> {
        self.oids.get(vrf).map(String::as_str)
    }

    /// Does one task.
    pub fn handle(
        &mut self,
        switch: &mut Switch,
        intfs: &IntfsOrch,
        vrf: &str,
        task: &Task,
    ) -> Result<Verdict, Error> {
        match task {
            Task::Set(row) => self.set(switch, vrf, row),
            Task::Del => self.delete(switch, intfs, vrf),
        }
    }

    // sonic-swss orchagent/vrforch.cpp: VRFOrch::addOperation
    fn set(&mut self, switch: &mut Switch, vrf: &str, row: &Fields) -> Result<Verdict, Error> {
        // Request::parse throws, and Orch2::doTask drops the row: the device exists, its object never will.
        // sonic-swss orchagent/request_parser.cpp: Request::parseAttrs; orchagent/orch.cpp: Orch2::doTask
        if let Some((field, value)) = row.iter().find(|(field, value)| !is_valid(field, value)) {
            eprintln!("orchagent: {vrf}: unknown or bad attribute {field}={value}, row dropped");
            return Ok(Verdict::Done);
        }
        if row.contains_key("fallback") {
            eprintln!("orchagent: {vrf}: Logic error: Unknown attribute: fallback");
        }
        if self.oids.contains_key(vrf) {
            eprintln!("orchagent: {vrf}: updated");
            return Ok(Verdict::Done);
        }
        let oid = format!("oid:{:#x}", self.next_oid);
        self.next_oid += 1;
        switch.asic.set(OBJECT, &oid, &Fields::new())?;
        switch.asic.name(&oid, vrf);
        switch.state.set("VRF_OBJECT_TABLE", vrf, &fields(&[("state", "ok")]))?;
        eprintln!("orchagent: {vrf}: added as {oid}");
        self.oids.insert(vrf.to_owned(), oid);
        Ok(Verdict::Done)
    }

    // sonic-swss orchagent/vrforch.cpp: VRFOrch::delOperation
    fn delete(&mut self, switch: &mut Switch, intfs: &IntfsOrch, vrf: &str) -> Result<Verdict, Error> {
        let Some(oid) = self.oids.get(vrf) else {
            eprintln!("orchagent: {vrf}: doesn't exist");
            return Ok(Verdict::Done);
        };
        let references = intfs.count_in(oid);
        if references != 0 {
            return Ok(Verdict::Retry(format!("{references} router interfaces are left, cannot delete")));
        }
        switch.asic.delete(OBJECT, oid)?;
        switch.state.delete("VRF_OBJECT_TABLE", vrf)?;
        self.oids.remove(vrf);
        eprintln!("orchagent: {vrf}: removed");
        Ok(Verdict::Done)
    }
}

// sonic-swss orchagent/vrforch.h: request_description
fn is_valid(field: &str, value: &str) -> bool {
    match field {
        "fallback" | "v4" | "v6" => matches!(value, "true" | "false"),
        "vni" => value.parse::<u32>().is_ok(),
        "src_mac" | "ttl_action" | "ip_opt_action" | "l3_mc_action" => true,
        _ => false,
    }
}
