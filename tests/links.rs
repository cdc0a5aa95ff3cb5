//! Tests of the view of a port from a real kernel: its events, and a new list after lost events.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use leafboot::internals::links;
use leafboot::internals::neighbours;
use leafboot_core::observed::{Link, Links};
use support::cable::Cable;
use support::{eventually, namespace, run};
use tokio::sync::watch;

/// Waits, while the view is followed, until it shows the port as it should be.
async fn shows(links: &mut watch::Receiver<Links>, what: &str, fact: impl Fn(&Link) -> bool) {
    let port = "Ethernet0".parse().unwrap();
    let seen = links.wait_for(|links| links.get(&port).is_some_and(&fact));
    let in_time = tokio::time::timeout(Duration::from_secs(10), seen).await.is_ok();
    assert!(in_time, "not after 10 s: {what}: {:?}", links.borrow());
}

#[tokio::test]
async fn a_new_list_replaces_lost_events() {
    let cable = Cable::plug();
    cable.boot();
    let (published, mut links) = watch::channel(Links::default());
    let story = async {
        shows(&mut links, "the port is up", |link| link.up && link.link_local.is_some()).await;
        // The thread that reads the events is busy here. A socket holds some hundred of them.
        let mtus: String = (0..1000).map(|i| format!("link set lo mtu {}\n", 60_000 + i)).collect();
        namespace::batch(&format!("{mtus}link set Ethernet0 mtu 1400\n"));
        shows(&mut links, "the last change", |link| link.mtu == 1400).await;
        // Later events arrive too.
        run("ip", &["link", "set", "Ethernet0", "mtu", "1300"]);
        shows(&mut links, "another MTU", |link| link.mtu == 1300).await;
    };
    tokio::select! {
        end = links::run(published) => panic!("{end:?}"),
        () = story => {}
    }
}

/// Events and a new list show the same, whatever was done to the port.
#[tokio::test]
async fn a_list_shows_the_same_as_the_events() {
    let cable = Cable::plug();
    cable.boot();
    run("sysctl", &["-qw", "net.ipv6.conf.Ethernet0.keep_addr_on_down=1"]);
    let (published, mut links) = watch::channel(Links::default());
    let port = "Ethernet0".parse().unwrap();
    let story = async {
        let gateway: ipnet::IpNet = support::cable::GATEWAY.parse().unwrap();
        shows(&mut links, "the gateway", |link| link.up && !link.usable_addresses.is_empty()).await;
        run("ip", &["address", "add", "2001:db8:b007:6::1/64", "dev", "Ethernet0"]);
        shows(&mut links, "a second address", |link| link.usable_addresses.len() == 2).await;
        run("ip", &["link", "set", "Ethernet0", "down"]);
        shows(&mut links, "the port is down", |link| !link.up).await;
        let told = links.borrow().ports[&port].clone();
        assert_eq!(told, links::now().unwrap().ports[&port]);
        assert!(
            told.usable_addresses.is_empty() && told.assigned_addresses.contains(&gateway),
            "kept, not usable: {told:?}"
        );
        run("ip", &["link", "set", "Ethernet0", "up"]);
        shows(&mut links, "the gateway is usable again", |link| link.up && !link.usable_addresses.is_empty())
            .await;
        run("ip", &["address", "add", "192.0.2.1/31", "dev", "Ethernet0"]);
        let of_both: ipnet::IpNet = "192.0.2.1/31".parse().unwrap();
        shows(&mut links, "an IPv4 address", |link| link.assigned_addresses.contains(&of_both)).await;
        run("ip", &["address", "del", support::cable::GATEWAY, "dev", "Ethernet0"]);
        shows(&mut links, "no gateway", |link| !link.assigned_addresses.contains(&gateway)).await;
        assert_eq!(links.borrow().ports[&port], links::now().unwrap().ports[&port]);
    };
    tokio::select! {
        end = links::run(published) => panic!("{end:?}"),
        () = story => {}
    }
}

/// A machine on the port that has the gateway's address itself: the address is there and cannot be used.
#[tokio::test]
async fn an_address_that_the_machine_has_too_is_a_duplicate() {
    let cable = Cable::plug();
    cable.boot();
    cable.machine("ip", &["address", "add", "2001:db8:b007:5::1/64", "dev", "eth0", "nodad"]);
    let (published, mut links) = watch::channel(Links::default());
    let story = async {
        shows(&mut links, "the port is up", |link| link.up && link.link_local.is_some()).await;
        let duplicate: ipnet::IpNet = "2001:db8:b007:5::1/64".parse().unwrap();
        for setting in ["all", "Ethernet0"] {
            run("sysctl", &["-qw", &format!("net.ipv6.conf.{setting}.accept_dad=1")]);
        }
        run("ip", &["address", "add", "2001:db8:b007:5::1/64", "dev", "Ethernet0"]);
        shows(&mut links, "the duplicate", |link| link.duplicate_addresses.contains(&duplicate)).await;
        let port = "Ethernet0".parse().unwrap();
        assert_eq!(links.borrow().ports[&port], links::now().unwrap().ports[&port]);
    };
    tokio::select! {
        end = links::run(published) => panic!("{end:?}"),
        () = story => {}
    }
}

#[test]
fn the_kernel_is_asked_who_has_an_address() {
    let cable = Cable::plug();
    cable.boot();
    let ifindex = cable.link().ifindex;
    let address: std::net::Ipv6Addr = "2001:db8:b007::7".parse().unwrap();
    assert_eq!(neighbours::mac(ifindex, address), None, "no machine has it");
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    // A packet to the address makes the kernel resolve it.
    std::net::UdpSocket::bind("[::]:0").unwrap().send_to(b"", (address, 9)).unwrap();
    let shown = cable.machine("ip", &["-o", "link", "show", "eth0"]);
    eventually("the machine's Ethernet address is known", || {
        neighbours::mac(ifindex, address).is_some_and(|mac| shown.contains(&mac.to_string()))
    });
    assert_eq!(neighbours::mac(ifindex + 1000, address), None, "there is no such device");
}
