//! The way to an origin: names that change, IPv4, and routes that work only with `device` or `source`.

use std::io::Write;
use std::net::TcpListener;

use nix::sched::{CloneFlags, unshare};

use super::partition::{Relayed, Server, boot_service_of, ok};
use super::support::cable::Cable;
use super::support::{eventually, run};

/// The answer that a machine gets from a boot service behind two veths, of which the one with the better route leads
/// nowhere. The answer names the boot service's client. `further`: keys of `[relay.boot_service]`.
fn asked(further: &str) -> String {
    let cable = Cable::plug();
    // The partition is in the machine's namespace, too: no packet takes another way for it.
    for way in ["astray", "well"] {
        let (near, far) = (format!("{way}0"), format!("{way}1"));
        run("ip", &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &cable.pid()]);
        run("ip", &["link", "set", &near, "up"]);
        cable.machine("ip", &["link", "set", &far, "up"]);
    }
    let ip = |words: &str| run("ip", &words.split(' ').collect::<Vec<_>>());
    ip("address add 2001:db8:1::1/64 dev astray0 nodad");
    ip("address add 2001:db8:2::1/64 dev well0 nodad");
    ip("address add 2001:db8:9::1/128 dev lo nodad");
    ip("-6 route add 2001:db8:80::/64 via 2001:db8:1::dead dev astray0 metric 10");
    ip("-6 route add 2001:db8:80::/64 via 2001:db8:2::2 dev well0 metric 20");
    ip("-6 rule add from 2001:db8:9::1 lookup 9");
    ip("-6 route add 2001:db8:80::/64 via 2001:db8:2::2 dev well0 table 9");
    let there = |words: &str| cable.machine("ip", &words.split(' ').collect::<Vec<_>>());
    there("link set lo up");
    there("address add 2001:db8:2::2/64 dev well1 nodad");
    there("address add 2001:db8:80::80/128 dev lo nodad");
    there("-6 route add 2001:db8:9::1 via 2001:db8:2::1 dev well1");
    let listener = cable.inside(|| TcpListener::bind("[2001:db8:80::80]:8080").unwrap()).join().unwrap();
    let _server = Server::start(listener, |mut stream, _| {
        let from = stream.peer_addr().unwrap().ip().to_string();
        let _ = stream.write_all(&ok(&format!("#!ipxe\n# {from}\n")));
    });
    let settings = format!("{}{further}", boot_service_of(&["http://[2001:db8:80::80]:8080"]));
    Relayed::with(cable, &settings).curl(&["/boot.ipxe"])
}

#[test]
fn routing_decides_without_device_and_source() {
    let answer = asked("");
    assert!(answer.starts_with("503") && answer.contains("cannot be reached"), "{answer}");
}

#[test]
fn connections_leave_through_the_device() {
    let answer = asked("device = \"well0\"\n");
    assert!(answer.contains("# 2001:db8:2::1"), "{answer}");
    let answer = asked("device = \"astray0\"\n");
    assert!(answer.starts_with("503"), "{answer}");
}

#[test]
fn connections_come_from_the_source_address() {
    let answer = asked("source = \"2001:db8:9::1\"\n");
    assert!(answer.contains("# 2001:db8:9::1"), "{answer}");
}

#[test]
fn a_machine_reaches_an_origin_that_has_ipv4_alone() {
    let cable = Cable::plug();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::start(listener, |mut stream, _| {
        let _ = stream.write_all(&ok("#!ipxe\n# IPv4\n"));
    });
    let settings = boot_service_of(&[&server.origin.replace("[::1]", "127.0.0.1")]);
    let answer = Relayed::with(cable, &settings).curl(&["/boot.ipxe"]);
    assert!(answer.contains("# IPv4"), "{answer}");
}

#[test]
fn a_name_is_looked_up_again() {
    let cable = Cable::plug();
    // The name stands in a hosts(5) file that only this test can see.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    run("mount", &["--make-rprivate", "/"]);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let points_to =
        |address: &str| std::fs::write(hosts.path(), format!("{address} boot.example\n")).unwrap();
    run("mount", &["--bind", hosts.path().to_str().unwrap(), "/etc/hosts"]);
    let _servers: Vec<Server> = ["2001:db8:80::1", "2001:db8:80::2"]
        .map(|address| {
            run("ip", &["address", "add", address, "dev", "lo", "nodad"]);
            Server::start(TcpListener::bind((address, 8080)).unwrap(), move |mut stream, _| {
                let _ = stream.write_all(&ok(&format!("#!ipxe\n# {address}\n")));
            })
        })
        .into();
    points_to("2001:db8:80::1");
    let relayed = Relayed::with(cable, &boot_service_of(&["http://boot.example:8080"]));
    let answer = relayed.curl(&["/boot.ipxe"]);
    assert!(answer.contains("# 2001:db8:80::1"), "{answer}");
    points_to("2001:db8:80::2");
    eventually("the new address is asked", || relayed.curl(&["/boot.ipxe"]).contains("# 2001:db8:80::2"));
}
