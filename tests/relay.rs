//! The relay over a real cable: curl on the machine's side, a boot service behind it that writes down what it got.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use leafboot::config::Config;
use leafboot::relay::claim::Claim;
use leafboot::relay::server::{self, Phase, Service, Shared, Stage};
use leafboot::session::Session;
use support::cable::Cable;
use tokio::sync::watch;

/// A machine, its port's relay, and what the boot service is asked.
struct Relayed {
    cable: Cable,
    /// The boot service's TCP port.
    boot_service: u16,
    requests: Receiver<String>,
}

/// Starts a boot service that gives `answer` to every request, and the relay in front of it, in this thread's
/// network namespace.
fn start(answer: &'static [u8]) -> Relayed {
    let cable = Cable::plug();
    let listener = TcpListener::bind("[::]:0").unwrap();
    let boot_service = listener.local_addr().unwrap().port();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 16384];
            let length = stream.read(&mut head).unwrap();
            let _ = sender.send(String::from_utf8_lossy(&head[..length]).to_lowercase());
            let _ = stream.write_all(answer);
        }
    });
    relay(&format!("http://[::1]:{boot_service}"));
    cable.boot();
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    support::eventually("the machine reaches its gateway", || curl(&cable, &["/"]).starts_with("404"));
    Relayed { cable, boot_service, requests }
}

/// Runs a port's relay on a thread of its own, in this thread's network namespace.
fn relay(boot_service: &str) {
    let settings = format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\n\
         [relay.boot_service]\norigins = [\"{boot_service}\"]\n\
         [relay.cache]\nname = \"http://images.metal-stack.io\"\n"
    );
    let settings = Config::parse(&settings).unwrap().relay;
    let claim = Claim {
        leaf: "leaf01".to_owned(),
        port: "Ethernet0".parse().unwrap(),
        prefix: "2001:db8:b007::/64".parse().unwrap(),
        session: Session::begin(1, 0xabc).id(),
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shared = Arc::new(Shared::new(&settings, &Arc::default()).unwrap());
            let phase = watch::Sender::new(Phase { claim, stage: Stage::Serves });
            let ifindex = nix::net::if_::if_nametoindex("Ethernet0").unwrap();
            let service = Arc::new(Service::new(&shared, ifindex, phase.subscribe()));
            let listener = server::listen(&service.port, 80).unwrap();
            server::serve(listener, service, false).await
        })
    });
}

/// curl from the machine: status, headers and body as one text.
fn curl(cable: &Cable, arguments: &[&str]) -> String {
    let (path, options) = arguments.split_last().unwrap();
    let url = format!("http://[2001:db8:b007::1]{path}");
    let mut all = vec!["-sSi", "-m", "8", "--path-as-is", "-g"];
    all.extend(options);
    all.push(&url);
    cable.machine("curl", &all).replacen("HTTP/1.1 ", "", 1)
}

const SCRIPT: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\nX-Secret: 1\r\n\r\n#!ipxe\n";

#[test]
fn a_script_comes_through_with_the_ports_claim() {
    let relayed = start(SCRIPT);
    let answer = curl(&relayed.cable, &["/boot.ipxe?mac=1"]);
    assert!(answer.starts_with("200") && answer.ends_with("\r\n\r\n#!ipxe\n"), "{answer}");
    assert!(answer.contains("content-length: 7") && !answer.contains("secret"), "{answer}");
    let request = relayed.requests.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(request.starts_with("get /boot.ipxe?mac=1 http/1.1\r\n"), "{request}");
    for header in ["leafboot-leaf: leaf01", "leafboot-port: ethernet0", "leafboot-prefix: 2001:db8:b007::/64"]
    {
        assert!(request.contains(header), "no {header} in {request}");
    }
}

#[test]
fn what_a_machine_says_of_itself_does_not_come_through() {
    let relayed = start(SCRIPT);
    let forged = [
        "-H",
        "Leafboot-Port: Ethernet4",
        "-H",
        "leafboot-leaf: leaf99",
        "-H",
        "X-Forwarded-For: 2001:db8::1",
        "-H",
        "Forwarded: for=x",
        "-H",
        "Host: evil",
        "-H",
        "Connection: leafboot-port",
        "-H",
        "Cookie: a=b",
        "-H",
        "Authorization: Bearer x",
        "-A",
        "iPXE/1.0.0",
        "/boot.ipxe",
    ];
    assert!(curl(&relayed.cable, &forged).starts_with("200"));
    let request = relayed.requests.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(request.matches("leafboot-port: ").count(), 1, "{request}");
    assert!(
        request.contains("leafboot-port: ethernet0\r\n") && request.contains("user-agent: ipxe/1.0.0"),
        "{request}"
    );
    for lie in ["ethernet4", "leaf99", "2001:db8::1\r", "for=x", "evil", "cookie", "bearer"] {
        assert!(!request.contains(lie), "{lie} in {request}");
    }
}

#[test]
fn images_are_redirected_and_everything_else_is_refused() {
    let relayed = start(SCRIPT);
    let image = "/metal-os/stable/debian/12/img.tar.lz4";
    let answer = curl(&relayed.cable, &[image]);
    assert!(answer.starts_with("307"), "{answer}");
    assert!(answer.contains(&format!("location: http://images.metal-stack.io{image}\r\n")), "{answer}");
    assert!(answer.contains("content-length: 0"), "{answer}");
    for (options, code) in [
        (vec!["/"], "404"),
        (vec!["/metal-os/../certs"], "404"),
        (vec!["/metal-os/%2e%2e/certs"], "404"),
        (vec!["-X", "POST", "-d", "x", "/boot.ipxe"], "405"),
        (vec!["-X", "DELETE", image], "405"),
    ] {
        let answer = curl(&relayed.cable, &options);
        assert!(answer.starts_with(code), "{options:?}: {answer}");
    }
    assert!(
        curl(&relayed.cable, &["/nothing"]).contains("leafboot relays /boot.ipxe"),
        "it says what it serves"
    );
    assert!(relayed.requests.try_recv().is_err(), "the boot service was never asked");
}

#[test]
fn a_boot_service_that_fails_is_said_with_a_time_to_come_back() {
    for (answer, reason) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n#!ipxe\n"[..], "broke off"),
        (b"", "broke off"),
        (b"\x00\x01\x02\r\n\r\n", "broke off"),
    ] {
        let relayed = start(answer);
        let answer = curl(&relayed.cable, &["/boot.ipxe"]);
        assert!(answer.starts_with("503") && answer.contains("retry-after: "), "{answer}");
        assert!(answer.contains("leafboot on leaf01 Ethernet0: ") && answer.contains(reason), "{answer}");
    }
}

#[test]
fn a_boot_service_that_is_away_is_said_too() {
    let cable = Cable::plug();
    relay("http://[::1]:9");
    cable.boot();
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    support::eventually("the machine reaches its gateway", || curl(&cable, &["/"]).starts_with("404"));
    let answer = curl(&cable, &["/config/00000000-0000-0000-0000-525400fea501"]);
    assert!(answer.starts_with("503") && answer.contains("http://[::1]:9 cannot be reached"), "{answer}");
}

#[test]
fn an_answer_that_is_no_script_is_bounded() {
    let body = vec![b'x'; 300 * 1024];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let relayed = start([head.into_bytes(), body].concat().leak());
    let answer = curl(&relayed.cable, &["/boot.ipxe"]);
    assert!(answer.starts_with("503") && answer.contains("longer than 262144 bytes"), "{answer}");
}

#[test]
fn a_machine_on_another_port_does_not_reach_this_ports_relay() {
    let relayed = start(SCRIPT);
    let pid = relayed.cable.pid();
    support::run("ip", &["link", "add", "Ethernet4", "type", "veth", "peer", "name", "eth4", "netns", &pid]);
    support::run("ip", &["link", "set", "Ethernet4", "up"]);
    support::run("ip", &["address", "add", "2001:db8:b007:4::1/64", "dev", "Ethernet4", "nodad"]);
    let machine = |arguments: &[&str]| relayed.cable.machine("ip", arguments);
    machine(&["link", "set", "eth4", "up"]);
    machine(&["address", "add", "2001:db8:b007:4::7/64", "dev", "eth4", "nodad"]);
    assert!(curl(&relayed.cable, &["/boot.ipxe"]).starts_with("200"), "through its own port");
    machine(&["address", "del", "2001:db8:b007::7/64", "dev", "eth0"]);
    machine(&["link", "set", "eth0", "down"]);
    machine(&["route", "add", "2001:db8:b007::1/128", "via", "2001:db8:b007:4::1", "dev", "eth4"]);
    let unbound = format!("http://[2001:db8:b007::1]:{}/", relayed.boot_service);
    let reached = relayed.cable.machine("curl", &["-sS", "-m", "8", "-g", &unbound]);
    assert_eq!(reached, "#!ipxe\n", "the leaf itself is reached through the other port");
    let answer = curl(&relayed.cable, &["/boot.ipxe"]);
    assert!(answer.contains("Failed to connect"), "answered on another device than its port: {answer}");
}
