//! The planner's golden cases: each directory of `tests/golden` holds a desired document, what SONiC and the kernel
//! say, and the exact plan. `UPDATE_GOLDEN=1 cargo test --test golden` writes the plans anew; review the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use leafboot::desired::{Desired, Origin};
use leafboot::net::{BootPrefix, Mac, PortName};
use leafboot::observed::{Link, Links, Observed, Snapshot};
use leafboot::plan::Plan;
use leafboot::rows::Rows;
use leafboot::serving::{RaState, RaStates};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DesiredCase {
    origin: String,
    ports: BTreeMap<PortName, BootPrefix>,
}

/// Database rows as they stand in Redis, and the kernel's links.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ObservedCase {
    initialized: bool,
    config: Rows,
    state: Rows,
    /// ASIC_DB: ports that a router interface stands on.
    router_interfaces: Vec<String>,
    links: BTreeMap<PortName, LinkCase>,
    /// Ports that advertise or have ceased.
    ra: BTreeMap<PortName, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkCase {
    vrf: Option<String>,
    addresses: Vec<ipnet::Ipv6Net>,
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn desired(case: &Path) -> Option<Desired> {
    let case: Option<DesiredCase> = read(&case.join("desired.json"));
    let case = case?;
    let origin = match case.origin.as_str() {
        "pushed" => Origin::Pushed,
        "restored" => Origin::Restored,
        other => panic!("origin {other}"),
    };
    Some(Desired { generation: 1, origin, ports: case.ports })
}

fn snapshot(case: &ObservedCase) -> Snapshot {
    let without_null = |rows: &Rows| {
        let mut rows = rows.clone();
        rows.values_mut().for_each(|fields| drop(fields.remove("NULL")));
        rows
    };
    let object = |port: &String| format!("oid:0x1000000{}", port.len());
    let asic = case.router_interfaces.iter().map(|port| {
        let fields = BTreeMap::from([("SAI_ROUTER_INTERFACE_ATTR_PORT_ID".to_owned(), object(port))]);
        (format!("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:{port}"), fields)
    });
    Snapshot {
        initialized: case.initialized,
        config: without_null(&case.config),
        state: without_null(&case.state),
        asic: asic.collect(),
        port_objects: case.router_interfaces.iter().map(|port| (port.clone(), object(port))).collect(),
    }
}

fn links(case: &ObservedCase) -> Links {
    let link = |case: &LinkCase| Link {
        ifindex: 7,
        mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
        mtu: 9100,
        up: true,
        carriers: 1,
        vrf: case.vrf.clone(),
        link_local: Some("fe80::5054:ff:fe00:1".parse().unwrap()),
        addresses: case.addresses.iter().copied().collect(),
    };
    case.links.iter().map(|(port, case)| (port.clone(), link(case))).collect()
}

fn advertisements(case: &ObservedCase) -> RaStates {
    let state = |text: &String| match text.as_str() {
        "advertising" => RaState::Advertising,
        "ceased" => RaState::Ceased,
        other => panic!("ra {other}"),
    };
    case.ra.iter().map(|(port, text)| (port.clone(), state(text))).collect()
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_has_its_plan() {
    assert!(cases().len() >= 15);
    let mut wrong = String::new();
    for case in cases() {
        let observed: ObservedCase = read(&case.join("observed.json"));
        let vrf = "Vrfboot".parse().unwrap();
        let plan = Plan::new(
            desired(&case).as_ref(),
            &Observed::new(&snapshot(&observed), &vrf),
            &links(&observed),
            &advertisements(&observed),
            &vrf,
        );
        for step in &plan.steps {
            let ours = ["VRF|Vrfboot", "INTERFACE|Ethernet0", "INTERFACE|Ethernet4"];
            let is_ours = ours.iter().any(|row| step.to_string().contains(row));
            assert!(is_ours, "{}: a step on a foreign row: {step}", case.display());
        }
        let file = case.join("plan.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, plan.to_string()).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if plan.to_string() != expected {
            wrong += &format!("{}\nexpected:\n{expected}got:\n{plan}\n", case.display());
        }
        assert!(case.join("about.md").exists(), "{} says nothing about itself", case.display());
    }
    assert!(wrong.is_empty(), "{wrong}");
}
