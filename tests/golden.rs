//! The planner's golden cases. Each directory of `tests/golden` has a desired document, the state of SONiC and the kernel, and
//! the exact plan. `UPDATE_GOLDEN=1 cargo test --test golden` writes the plans again; review the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use leafboot_core::acl;
use leafboot_core::desired::{self, CheckedEntries, Desired, Document, PortRows, Provenance};
use leafboot_core::names::{BootPrefix, Mac, PortName};
use leafboot_core::observed::{Link, Links, Observed, Snapshot};
use leafboot_core::plan::{self, Facts, Plan, Remedies, Subject};
use leafboot_core::port_role::{RaState, RaStates};
use leafboot_core::rows::{self, Fields, Rows};
use leafboot_core::settings::Settings;
use leafboot_core::uplinks::{KernelRoute, Uplinks};
use serde::Deserialize;

/// leafboot's settings, with an anycast address or without.
fn settings(anycast: Option<&str>) -> Settings {
    let anycast = anycast.map(|anycast| format!("anycast = {anycast:?}\n")).unwrap_or_default();
    let text = r#"leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = ["Ethernet120"]
ANYCAST
[relay.boot_service]
origins = ["http://[2001:db8:ffff::80]:8080"]
[relay.cache]
name = "http://images.metal-stack.io"
"#;
    Settings::parse(&text.replace("ANYCAST", &anycast)).unwrap()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DesiredCase {
    provenance: String,
    #[serde(default)]
    ports: BTreeMap<PortName, BootPrefix>,
    /// The body of a push, as metal-core sends it. `ports` are the ports of the document before it then.
    push: Option<serde_json::Value>,
}

/// Database rows as Redis has them, and the kernel's links.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ObservedCase {
    initialized: bool,
    /// The setting `boot.anycast`.
    anycast: Option<String>,
    config: Rows,
    state: Rows,
    /// ASIC_DB: the ports with a router interface.
    router_interfaces: Vec<String>,
    /// ASIC_DB: the ports with a sub-interface's router interface.
    #[serde(default)]
    sub_router_interfaces: Vec<String>,
    /// ASIC_DB: the ports with a bridge port.
    bridge_ports: Vec<String>,
    /// ASIC_DB has been flushed: SONiC is starting.
    #[serde(default)]
    asic_flushed: bool,
    /// The boot ACL; none if no database has anything of it.
    acl: Option<AclCase>,
    links: BTreeMap<PortName, LinkCase>,
    /// The kernel's routes in the default VRF: prefix to the devices of its next hops.
    #[serde(default)]
    routes: BTreeMap<ipnet::IpNet, BTreeSet<String>>,
    /// Ports that advertise or have ceased.
    ra: BTreeMap<PortName, String>,
    /// What to repair in this pass.
    #[serde(default)]
    remedies: RemediesCase,
    /// The boot VRF's device is down.
    #[serde(default)]
    vrf_down: bool,
}

/// Subjects are spelled `vrf`, `table`, `loopback`, `rule <name>` or by the port's name.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemediesCase {
    #[serde(default)]
    rewrite: Vec<String>,
    #[serde(default)]
    recreate: Vec<String>,
    #[serde(default)]
    attempts: BTreeMap<String, u32>,
    #[serde(default)]
    evict_ports: bool,
}

fn subject(text: &str) -> Subject {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("vrf", "") => Subject::Vrf,
        ("table", "") => Subject::AclTable,
        ("loopback", "") => Subject::Loopback,
        ("rule", name) => Subject::AclRule(name.to_owned()),
        _ => Subject::Port(text.parse().unwrap()),
    }
}

fn remedies(case: &RemediesCase) -> Remedies {
    Remedies {
        rewrite: case.rewrite.iter().map(|text| subject(text)).collect(),
        recreate: case.recreate.iter().map(|text| subject(text)).collect(),
        attempts: case.attempts.iter().map(|(text, attempts)| (subject(text), *attempts)).collect(),
        evict_ports: case.evict_ports,
    }
}

impl ObservedCase {
    /// The longest route that matches an address.
    fn route(&self, address: IpAddr) -> Option<KernelRoute> {
        let found = self.routes.iter().filter(|(prefix, _)| prefix.contains(&address));
        let (prefix, devices) = found.max_by_key(|(prefix, _)| prefix.prefix_len())?;
        Some(KernelRoute { prefix: *prefix, devices: devices.clone() })
    }
}

/// The boot ACL with every static rule, and the gateway rules of these ports.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AclCase {
    /// CONFIG_DB: the ports that the table lists.
    ports: BTreeSet<PortName>,
    /// CONFIG_DB: the ports whose gateway rule stands.
    gateways: BTreeMap<PortName, BootPrefix>,
    /// STATE_DB: `status` of the table and of every rule; none if they have no row.
    status: Option<String>,
    /// STATE_DB: the rules that have no row although the others have.
    #[serde(default)]
    pending: BTreeSet<String>,
    /// CONFIG_DB: the table has no row although its rules have.
    #[serde(default)]
    table_gone: bool,
    /// CONFIG_DB: the rules that have no row although the others have.
    #[serde(default)]
    gone: BTreeSet<String>,
    /// STATE_DB: the rules that orchagent has refused.
    #[serde(default)]
    refused: BTreeSet<String>,
    /// ASIC_DB: the rules without an entry although STATE_DB reports them active; `*` for all rules.
    #[serde(default)]
    lost: BTreeSet<String>,
    /// ASIC_DB: the ports that the table is bound to.
    bound: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkCase {
    vrf: Option<String>,
    addresses: Vec<ipnet::Ipv6Net>,
    /// Assigned addresses that are not usable.
    #[serde(default)]
    tentative: Vec<ipnet::IpNet>,
    /// The tentative addresses that the machine has, too.
    #[serde(default)]
    duplicates: Vec<ipnet::IpNet>,
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn desired(case: &Path, rows: &PortRows, settings: &Settings) -> Option<Desired> {
    let case: DesiredCase = read::<Option<_>>(&case.join("desired.json"))?;
    let provenance = match case.provenance.as_str() {
        "pushed" => Provenance::Pushed,
        "restored" => Provenance::Restored,
        other => panic!("provenance {other}"),
    };
    let judged = match case.push {
        Some(body) => {
            let document = Document::parse(body.to_string().as_bytes()).unwrap();
            let before = Desired::after(None, case.ports, Instant::now());
            desired::check_entries(&document, rows, &settings.boot, Some(&before))
        }
        None => case.ports.into(),
    };
    let CheckedEntries { ports, rejected } = judged;
    Some(Desired { generation: 1, provenance, ports, old: Default::default(), rejected })
}

fn row(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn object(port: &str) -> String {
    format!("oid:0x1{port}")
}

fn snapshot(case: &ObservedCase) -> Snapshot {
    let without_null = |rows: &Rows| {
        let mut rows = rows.clone();
        for fields in rows.values_mut().filter(|fields| fields.len() == 1) {
            fields.remove("NULL");
        }
        rows
    };
    let mut snapshot = Snapshot {
        initialized: case.initialized,
        config: without_null(&case.config),
        state: without_null(&case.state),
        ..Snapshot::default()
    };
    for port in &case.router_interfaces {
        let fields = row(&[("SAI_ROUTER_INTERFACE_ATTR_PORT_ID", &object(port))]);
        snapshot.asic.insert(format!("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:{port}"), fields);
    }
    for port in &case.sub_router_interfaces {
        let fields = row(&[
            ("SAI_ROUTER_INTERFACE_ATTR_PORT_ID", &object(port)),
            ("SAI_ROUTER_INTERFACE_ATTR_TYPE", "SAI_ROUTER_INTERFACE_TYPE_SUB_PORT"),
        ]);
        snapshot.asic.insert(format!("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:{port}.10"), fields);
    }
    for port in &case.bridge_ports {
        let fields = row(&[("SAI_BRIDGE_PORT_ATTR_PORT_ID", &object(port))]);
        snapshot.asic.insert(format!("ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:{port}"), fields);
    }
    for port in ["Ethernet0", "Ethernet4"] {
        snapshot.port_objects.insert(port.to_owned(), object(port));
        snapshot.asic.insert(format!("ASIC_STATE:SAI_OBJECT_TYPE_PORT:{}", object(port)), Fields::new());
    }
    if let Some(acl) = &case.acl {
        add_acl(&mut snapshot, acl, &settings(case.anycast.as_deref()));
    }
    if case.asic_flushed {
        snapshot.asic.clear();
    }
    snapshot
}

fn add_acl(snapshot: &mut Snapshot, case: &AclCase, settings: &Settings) {
    let gateways =
        case.gateways.iter().flat_map(|(port, prefix)| acl::gateway_rules(settings, port, *prefix));
    let rules: Vec<_> = acl::rules(settings).into_iter().chain(gateways).collect();
    // Rows that the case has itself are kept.
    let config = &mut snapshot.config;
    let mut stand = |key: String, fields| {
        config.entry(key).or_insert(fields);
    };
    if !case.table_gone {
        stand("ACL_TABLE|LEAFBOOT".to_owned(), rows::acl_table_fields(&case.ports));
    }
    let status = case.status.as_deref().map(|status| row(&[("status", status)]));
    snapshot.state.extend(status.clone().map(|status| ("ACL_TABLE_TABLE|LEAFBOOT".to_owned(), status)));
    for rule in rules {
        let is_refused = case.refused.contains(&rule.name);
        let is_pending = case.pending.contains(&rule.name) || is_refused;
        let key = format!("ACL_RULE_TABLE|LEAFBOOT|{}", rule.name);
        if is_refused {
            snapshot.state.insert(key, row(&[("status", "Inactive")]));
        } else if !is_pending {
            snapshot.state.extend(status.clone().map(|status| (key, status)));
        }
        if !case.gone.contains(&rule.name) {
            stand(format!("ACL_RULE|LEAFBOOT|{}", rule.name), rows::acl_rule_fields(&rule));
        }
        let counter = format!("oid:0x9{}", rule.name);
        let entry = row(&[
            ("SAI_ACL_ENTRY_ATTR_TABLE_ID", "oid:0x7"),
            ("SAI_ACL_ENTRY_ATTR_PRIORITY", &rule.priority.to_string()),
            ("SAI_ACL_ENTRY_ATTR_ACTION_COUNTER", &counter),
        ]);
        if !is_pending && !case.lost.contains("*") && !case.lost.contains(&rule.name) {
            snapshot.asic.insert(format!("ASIC_STATE:SAI_OBJECT_TYPE_ACL_ENTRY:{}", rule.name), entry);
            snapshot.rule_counters.insert(format!("LEAFBOOT:{}", rule.name), counter);
        }
    }
    for port in &case.bound {
        let group = format!("oid:0xb{port}");
        let member = row(&[
            ("SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_GROUP_ID", &group),
            ("SAI_ACL_TABLE_GROUP_MEMBER_ATTR_ACL_TABLE_ID", "oid:0x7"),
        ]);
        snapshot.asic.insert(format!("ASIC_STATE:SAI_OBJECT_TYPE_ACL_TABLE_GROUP_MEMBER:{port}"), member);
        let fields = row(&[("SAI_PORT_ATTR_INGRESS_ACL", &group)]);
        snapshot.asic.insert(format!("ASIC_STATE:SAI_OBJECT_TYPE_PORT:{}", object(port)), fields);
    }
}

fn links(case: &ObservedCase) -> Links {
    let link = |case: &LinkCase| Link {
        ifindex: 7,
        mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
        mtu: 9100,
        up: true,
        admin_up: true,
        carrier: true,
        carrier_ups: 1,
        vrf: case.vrf.clone(),
        link_local: Some("fe80::5054:ff:fe00:1".parse().unwrap()),
        usable_addresses: case.addresses.iter().copied().collect(),
        assigned_addresses: case
            .addresses
            .iter()
            .map(|net| (*net).into())
            .chain(case.tentative.iter().copied())
            .collect(),
        duplicate_addresses: case.duplicates.iter().copied().collect(),
    };
    let ports = case.links.iter().map(|(port, case)| (port.clone(), link(case))).collect();
    // The kernel has the anycast address's loopback as STATE_DB describes it.
    let anycast = "Loopback64".parse().unwrap();
    let bound = case.state.get("INTERFACE_TABLE|Loopback64").and_then(|row| row.get("vrf")).cloned();
    let addresses = case.state.keys().filter_map(|key| key.strip_prefix("INTERFACE_TABLE|Loopback64|"));
    let loopback = LinkCase {
        vrf: bound,
        addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
        tentative: Vec::new(),
        duplicates: Vec::new(),
    };
    let loopbacks = BTreeMap::from([(anycast, link(&loopback))]);
    Links { ports, loopbacks, vrfs: BTreeMap::from([("Vrfboot".to_owned(), !case.vrf_down)]) }
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
        let settings = settings(observed.anycast.as_deref());
        let seen = Observed::new(&snapshot(&observed), &settings);
        let route = |address: IpAddr, _: Option<&str>| Ok::<_, String>(observed.route(address));
        let uplinks = Uplinks::default().update(&settings, &seen, route, Instant::now());
        let is_managed = |port: &PortName| {
            seen.ports.get(port).is_some_and(|port| plan::is_managed(port, &settings.boot.vrf))
        };
        let desired = desired(&case, &seen.port_rows(), &settings)
            .map(|desired| desired.reject_uplinks(&uplinks, is_managed));
        let (links, ra) = (links(&observed), advertisements(&observed));
        let remedies = remedies(&observed.remedies);
        let facts =
            Facts { desired: desired.as_ref(), observed: &seen, links: &links, ra: &ra, remedies: &remedies };
        let plan = Plan::new(facts, &settings);
        let rejected = desired.map(|desired| desired.rejected).unwrap_or_default();
        let said = format!("{plan}{rejected}");
        for step in &plan.steps {
            let ours = [" VRF|Vrfboot", " ACL_TABLE|LEAFBOOT", " ACL_RULE|LEAFBOOT|"];
            let of_a_port = [" INTERFACE|Ethernet", " VLAN_MEMBER|", " LOOPBACK_INTERFACE|Loopback64"];
            let is_ours = ours.iter().any(|row| step.to_string().contains(row))
                || of_a_port.iter().any(|row| step.to_string().contains(row));
            assert!(is_ours, "{}: a step on an unmanaged row: {step}", case.display());
        }
        let file = case.join("plan.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, &said).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            wrong += &format!("{}\nexpected:\n{expected}got:\n{said}\n", case.display());
        }
        assert!(case.join("about.md").exists(), "{} has no about.md", case.display());
    }
    assert!(wrong.is_empty(), "{wrong}");
}
