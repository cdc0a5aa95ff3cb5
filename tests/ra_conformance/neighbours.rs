//! The leaf's neighbour cache after a solicitation (RFC 4861 6.2.6, v6LC 2.2.10): the kernel keeps it, and leafboot,
//! which does not use it, must not disturb it. The machine is answered in every state of the cache.

use std::net::{SocketAddrV6, UdpSocket};
use std::time::Duration;

use super::LONG;
use crate::support::advertiser::{Leafboot, leafboot_settings};
use crate::support::namespace::batch;
use crate::support::panel::Panel;
use crate::support::solicitor::Solicitor;
use crate::support::{eventually, run};

const OTHER: &str = "52:54:00:aa:aa:aa";

fn entry(machine: &Solicitor) -> String {
    run("ip", &["-6", "neighbour", "show", &machine.address.to_string(), "dev", "Ethernet0"])
}

#[test]
fn a_solicitation_updates_the_kernels_neighbour_and_is_answered() {
    let panel = Panel::plug(1);
    let machine = Solicitor::open(&panel, 0);
    let _leafboot = Leafboot::start(leafboot_settings(LONG), 0..1);
    let soon = Duration::from_secs(2);
    machine.advertisement(soon).expect("the first advertisement");
    let mac = "52:54:00:01:00:00";
    // (v6LC, what the cache holds before, what it must hold after a solicitation with the machine's address)
    let cases = [
        ("2.2.10 A: nothing", None, "STALE"),
        ("2.2.10 D: REACHABLE, another address", Some((OTHER, "reachable")), "STALE"),
        ("2.2.10 E: REACHABLE, the same", Some((mac, "reachable")), "REACHABLE"),
        ("2.2.10 F: STALE, another address", Some((OTHER, "stale")), "STALE"),
        ("2.2.10 G: STALE, the same", Some((mac, "stale")), "STALE"),
        ("2.2.10 H: PROBE, another address", Some((OTHER, "probe")), "STALE"),
        ("2.2.10 I: PROBE, the same", Some((mac, "probe")), "PROBE"),
    ];
    let address = machine.address;
    for (case, before, after) in cases {
        batch("neighbour flush dev Ethernet0\n");
        if let Some((mac, state)) = before {
            batch(&format!("neighbour replace {address} dev Ethernet0 lladdr {mac} nud {state}\n"));
        }
        machine.drain();
        machine.send(&machine.good());
        let answer = machine.advertisement(soon).unwrap_or_else(|| panic!("{case}: no answer"));
        assert_eq!(answer.ethernet.0, crate::support::panel::machine_mac(0), "{case}: to the machine itself");
        let found = entry(&machine);
        assert!(found.contains(mac) && found.contains(after) && !found.contains("router"), "{case}: {found}");
    }

    // 2.2.10 C: INCOMPLETE, because the leaf asks for the machine right now.
    batch("neighbour flush dev Ethernet0\n");
    let ifindex = nix::net::if_::if_nametoindex("Ethernet0").unwrap();
    let socket = UdpSocket::bind("[::]:0").unwrap();
    socket.send_to(b"x", SocketAddrV6::new(address, 9, 0, ifindex)).unwrap();
    eventually("the leaf asks for the machine", || entry(&machine).contains("INCOMPLETE"));
    machine.drain();
    machine.send(&machine.good());
    assert!(machine.advertisement(soon).is_some(), "INCOMPLETE: no answer");
    let found = entry(&machine);
    // What waited for the address was sent at once: then the entry is on its way to be checked.
    assert!(found.contains(mac) && (found.contains("STALE") || found.contains("DELAY")), "{found}");

    // 2.2.10 B: without an address in the message the kernel learns none, and the answer needs none.
    batch("neighbour flush dev Ethernet0\n");
    machine.drain();
    let mut without = machine.good();
    without.message.truncate(8);
    machine.send(&without);
    let answer = machine.advertisement(soon).expect("an answer to the frame's sender");
    assert!(!answer.is_multicast() && !entry(&machine).contains(mac), "{}", entry(&machine));
}
