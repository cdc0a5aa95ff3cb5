//! The kernel's view of a port, from a real kernel: as it comes, and after more came than was taken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use leafboot::links;
use leafboot::neighbours;
use leafboot::observed::{Link, Links};
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
async fn what_is_lost_on_the_way_is_looked_up() {
    let cable = Cable::plug();
    cable.boot();
    let (published, mut links) = watch::channel(Links::new());
    let story = async {
        shows(&mut links, "the port is up", |link| link.up && link.link_local.is_some()).await;
        // Nobody takes events while the thread that would is here. A socket holds some hundred of them.
        let mtus: String = (0..1000).map(|i| format!("link set lo mtu {}\n", 60_000 + i)).collect();
        namespace::batch(&format!("{mtus}link set Ethernet0 mtu 1400\n"));
        shows(&mut links, "the last change", |link| link.mtu == 1400).await;
        // What follows is heard too.
        run("ip", &["link", "set", "Ethernet0", "mtu", "1300"]);
        shows(&mut links, "another MTU", |link| link.mtu == 1300).await;
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
    assert_eq!(neighbours::mac(ifindex, address), None, "nobody has it");
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    // Whatever is to go there has the kernel ask for it first.
    std::net::UdpSocket::bind("[::]:0").unwrap().send_to(b"", (address, 9)).unwrap();
    let shown = cable.machine("ip", &["-o", "link", "show", "eth0"]);
    eventually("the machine's Ethernet address is known", || {
        neighbours::mac(ifindex, address).is_some_and(|mac| shown.contains(&mac.to_string()))
    });
    assert_eq!(neighbours::mac(ifindex + 1000, address), None, "there is no such device");
}
