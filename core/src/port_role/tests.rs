//! The role of a port: each fact that it needs, and the role after a fact is lost.

use super::*;
use std::collections::BTreeSet;
use std::time::Instant;

fn prefix(text: &str) -> BootPrefix {
    text.parse().unwrap()
}

fn link() -> Link {
    Link {
        ifindex: 7,
        mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
        mtu: 9100,
        up: true,
        admin_up: true,
        carrier: true,
        carrier_ups: 1,
        vrf: Some("Vrfboot".to_owned()),
        link_local: Some("fe80::5054:ff:fe00:1".parse().unwrap()),
        usable_addresses: BTreeSet::from([prefix("2001:db8:b007::/64").gateway_net()]),
        assigned_addresses: BTreeSet::from([prefix("2001:db8:b007::/64").gateway_net().into()]),
        duplicate_addresses: BTreeSet::new(),
    }
}

fn links(link: &Link) -> Links {
    Links {
        ports: BTreeMap::from([("Ethernet0".parse().unwrap(), link.clone())]),
        loopbacks: BTreeMap::new(),
        vrfs: BTreeMap::from([("Vrfboot".to_owned(), true)]),
    }
}

fn desired(provenance: Provenance, ports: &[(&str, &str)]) -> Desired {
    let ports = ports.iter().map(|(port, net)| (port.parse().unwrap(), prefix(net).into())).collect();
    Desired { generation: 1, provenance, ports, old: Default::default(), rejected: Default::default() }
}

fn role(desired: &Desired, link: &Link) -> Option<&'static str> {
    name_of_role(port_roles(Some(desired), &links(link), &BTreeSet::new(), &"Vrfboot".parse().unwrap()))
}

/// The name of Ethernet0's role.
fn name_of_role(roles: BTreeMap<PortName, PortRole>) -> Option<&'static str> {
    match roles.get(&"Ethernet0".parse().unwrap())? {
        PortRole::Serve(_) => Some("serve"),
        PortRole::Cease(_) => Some("cease"),
    }
}

#[test]
fn a_port_serves_only_while_the_kernel_shows_every_fact() {
    let boot = desired(Provenance::Pushed, &[("Ethernet0", "2001:db8:b007::/64")]);
    assert_eq!(role(&boot, &link()), Some("serve"));
    assert_eq!(role(&boot, &Link { up: false, ..link() }), None);
    assert_eq!(role(&boot, &Link { vrf: None, ..link() }), None);
    assert_eq!(role(&boot, &Link { vrf: Some("Vrf7".to_owned()), ..link() }), None);
    assert_eq!(role(&boot, &Link { link_local: None, ..link() }), None);
    assert_eq!(role(&boot, &Link { usable_addresses: BTreeSet::new(), ..link() }), None);
}

#[test]
fn a_pushed_document_releases_a_port_and_a_restored_one_does_not() {
    assert_eq!(role(&desired(Provenance::Pushed, &[]), &link()), Some("cease"));
    assert_eq!(role(&desired(Provenance::Restored, &[]), &link()), None);
    let no_gateway = Link { usable_addresses: BTreeSet::new(), ..link() };
    assert_eq!(role(&desired(Provenance::Pushed, &[]), &no_gateway), None);
}

#[test]
fn a_port_ceases_until_the_gateway_of_its_new_prefix_exists() {
    let renumbered = desired(Provenance::Pushed, &[("Ethernet0", "2001:db8:b007:9::/64")]);
    assert_eq!(role(&renumbered, &link()), Some("cease"));
    let both = Link {
        usable_addresses: BTreeSet::from([
            prefix("2001:db8:b007::/64").gateway_net(),
            prefix("2001:db8:b007:9::/64").gateway_net(),
        ]),
        ..link()
    };
    assert_eq!(role(&renumbered, &both), Some("serve"));
}

#[test]
fn an_old_prefix_is_withdrawn_beside_the_new_one_and_only_once() {
    let (port, vrf) = ("Ethernet0".parse().unwrap(), "Vrfboot".parse().unwrap());
    let had = desired(Provenance::Pushed, &[("Ethernet0", "2001:db8:b007::/64")]);
    let renumbered: BTreeMap<PortName, BootPrefix> =
        [("Ethernet0".parse().unwrap(), prefix("2001:db8:b007:9::/64"))].into();
    let now = Instant::now();
    let desired = Desired::after(Some(&had), renumbered, now);
    let withdrawn =
        |link: &Link| match port_role(Some(&desired), &port, &links(link), &BTreeSet::new(), &vrf).unwrap() {
            PortRole::Serve(serving) | PortRole::Cease(serving) => {
                (serving.prefix, serving.old.iter().map(|old| old.prefix).collect::<Vec<_>>())
            }
        };
    assert_eq!(withdrawn(&link()), (prefix("2001:db8:b007::/64"), vec![]), "it ceases");
    let new = Link { usable_addresses: [prefix("2001:db8:b007:9::/64").gateway_net()].into(), ..link() };
    assert_eq!(withdrawn(&new), (prefix("2001:db8:b007:9::/64"), vec![prefix("2001:db8:b007::/64")]));
}

#[test]
fn without_a_document_every_port_is_silent() {
    let vrf = "Vrfboot".parse().unwrap();
    assert_eq!(port_role(None, &"Ethernet0".parse().unwrap(), &links(&link()), &BTreeSet::new(), &vrf), None);
}

#[test]
fn a_port_does_not_serve_in_a_vrf_that_is_down_or_before_the_asic_routes_for_it() {
    let boot = desired(Provenance::Pushed, &[("Ethernet0", "2001:db8:b007::/64")]);
    let vrf = "Vrfboot".parse().unwrap();
    for vrfs in [BTreeMap::new(), BTreeMap::from([("Vrfboot".to_owned(), false)])] {
        let down = Links { vrfs, ..links(&link()) };
        assert_eq!(name_of_role(port_roles(Some(&boot), &down, &BTreeSet::new(), &vrf)), None);
    }
    let unrouted = BTreeSet::from(["Ethernet0".parse().unwrap()]);
    assert_eq!(name_of_role(port_roles(Some(&boot), &links(&link()), &unrouted, &vrf)), None);
    let empty = desired(Provenance::Pushed, &[]);
    assert_eq!(name_of_role(port_roles(Some(&empty), &links(&link()), &unrouted, &vrf)), Some("cease"));
}
