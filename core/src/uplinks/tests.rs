//! The facts that make a port an uplink, and how long it stays one.

use super::*;
use crate::observed::ObservedPort;

const SETTINGS: &str = r#"leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = []
[acl]
cache = ["2001:db8:ffff::90"]
[relay.boot_service]
origins = ["http://[2001:db8:ffff::80]:8080", "http://boot.example"]
[relay.cache]
name = "http://images.metal-stack.io"
"#;

/// A routing table: prefix and devices, longest first.
type Table<'a> = &'a [(&'a str, &'a [&'a str])];

fn lookup(table: Table<'_>, address: IpAddr) -> Result<Option<KernelRoute>, String> {
    let found = table.iter().find_map(|(prefix, devices)| {
        let prefix: IpNet = prefix.parse().unwrap();
        let devices = devices.iter().map(|device| (*device).to_owned()).collect();
        prefix.contains(&address).then_some(KernelRoute { prefix, devices })
    });
    Ok(found)
}

fn leaf() -> Observed {
    let mut observed = Observed::default();
    for port in ["Ethernet0", "Ethernet4", "Ethernet112", "Ethernet120"] {
        observed.ports.insert(port.parse().unwrap(), ObservedPort::default());
    }
    observed
}

/// The uplinks after an update, as port and message.
fn look(uplinks: &mut Uplinks, observed: &Observed, table: Table<'_>, now: Instant) -> Vec<(String, String)> {
    let settings = Settings::parse(SETTINGS).unwrap();
    let found = uplinks.update(&settings, observed, |address, _| lookup(table, address), now);
    found.into_iter().map(|(port, rejection)| (port.to_string(), rejection.message)).collect()
}

fn once(observed: &Observed, table: Table<'_>) -> Vec<(String, String)> {
    look(&mut Uplinks::default(), observed, table, Instant::now())
}

fn found(port: &str, message: &str) -> (String, String) {
    (port.to_owned(), message.to_owned())
}

#[test]
fn every_next_hop_of_a_needed_route_is_an_uplink() {
    let table: Table<'_> =
        &[("2001:db8:ffff::80/128", &["Ethernet112", "Ethernet120"]), ("2001:db8:ffff::/48", &["Ethernet4"])];
    let boot = "it carries the route to 2001:db8:ffff::80 (relay.boot_service)";
    assert_eq!(
        once(&leaf(), table),
        [
            found("Ethernet4", "it carries the route to 2001:db8:ffff::90 (acl.cache)"),
            found("Ethernet112", boot),
            found("Ethernet120", boot)
        ]
    );
}

#[test]
fn only_a_short_prefix_is_a_default_route() {
    let whole: Table<'_> = &[("0.0.0.0/0", &["Ethernet112"]), ("2000::/3", &["Ethernet120"])];
    let needed = "it carries the route to 2001:db8:ffff::80 (relay.boot_service)";
    assert_eq!(
        once(&leaf(), whole),
        [found("Ethernet112", "it carries the default route 0.0.0.0/0"), found("Ethernet120", needed)]
    );
    let specific: Table<'_> =
        &[("192.0.2.0/24", &["Ethernet0"]), ("100::/64", &["Ethernet0"]), ("3fff::/20", &["Ethernet0"])];
    assert_eq!(once(&leaf(), specific), []);
    let beside: Table<'_> = &[("192.0.2.0/24", &[]), ("0.0.0.0/0", &["Ethernet120"])];
    assert_eq!(once(&leaf(), beside), [found("Ethernet120", "it carries the default route 0.0.0.0/0")]);
}

#[test]
fn an_established_neighbour_is_found_by_interface_and_by_address() {
    let mut observed = leaf();
    observed.bgp_neighbours = ["Ethernet112", "10.0.0.1", "2001:db8::9", "Vlan7"].map(str::to_owned).into();
    let table: Table<'_> = &[("10.0.0.0/31", &["Ethernet120"])];
    assert_eq!(
        once(&observed, table),
        [
            found("Ethernet112", "it has the established BGP neighbour Ethernet112"),
            found("Ethernet120", "it has the established BGP neighbour 10.0.0.1")
        ]
    );
}

#[test]
fn the_ports_behind_a_lag_a_vlan_and_a_sub_interface_are_found() {
    let mut observed = leaf();
    let mut with = |port: &str, change: fn(&mut ObservedPort)| {
        change(observed.ports.get_mut(&port.parse().unwrap()).unwrap())
    };
    with("Ethernet0", |port| port.lag = Some("PortChannel1".to_owned()));
    with("Ethernet4", |port| port.vlan_rows = BTreeSet::from(["Vlan100".to_owned()]));
    for (device, port) in
        [("PortChannel1", "Ethernet0"), ("Vlan100", "Ethernet4"), ("Ethernet112.10", "Ethernet112")]
    {
        let devices = [device];
        let table: Table<'_> = &[("::/0", &devices)];
        let got: Vec<String> = once(&observed, table).into_iter().map(|(port, _)| port).collect();
        assert_eq!(got, [port], "{device}");
    }
    assert_eq!(once(&observed, &[("::/0", &["eth0"])]), []);
}

#[test]
fn a_port_stays_an_uplink_for_a_while() {
    let (mut uplinks, start) = (Uplinks::default(), Instant::now());
    let mut at = |seconds: u64, table: Table<'_>| {
        look(&mut uplinks, &leaf(), table, start + Duration::from_secs(seconds))
    };
    let table: Table<'_> = &[("::/0", &["Ethernet120"])];
    let fact = "it carries the route to 2001:db8:ffff::80 (relay.boot_service)";
    assert_eq!(at(0, table), [found("Ethernet120", fact)]);
    let quiet = [found("Ethernet120", &format!("{fact}, until less than 60 s ago"))];
    // The first look after two minutes: the time counts from then.
    assert_eq!(at(120, &[]), quiet);
    assert_eq!(at(179, &[]), quiet);
    assert_eq!(at(179, table), [found("Ethernet120", fact)], "it is back");
    assert_eq!(at(180, &[]), quiet, "and gone again");
    assert_eq!(at(239, &[]), quiet);
    assert_eq!(at(240, &[]), []);
}

#[test]
fn without_an_answer_of_the_kernel_every_port_is_an_uplink() {
    let settings = Settings::parse(SETTINGS).unwrap();
    let refuses = |_: IpAddr, _: Option<&str>| Err::<Option<KernelRoute>, _>("no buffer space");
    let found = Uplinks::default().update(&settings, &leaf(), refuses, Instant::now());
    assert_eq!(found.len(), 4);
    assert!(found.values().all(|rejection| rejection.message.ends_with(": no buffer space")));
}
