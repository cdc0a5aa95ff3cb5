//! The relay over a real cable: curl on the machine's side, and servers behind the relay that record their requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

#[path = "relay/dead_ends.rs"]
mod dead_ends;
#[path = "relay/grub.rs"]
mod grub;
#[path = "relay/partition.rs"]
mod partition;
#[path = "relay/tls.rs"]
mod tls;
#[path = "relay/upstreams.rs"]
mod upstreams;
#[path = "relay/ways.rs"]
mod ways;

use partition::{Relayed, Server, boot_service_of};
use support::cable::Cable;

/// A machine's token request.
const TOKEN: &str = "/config/00000000-0000-0000-0000-525400fea501";

/// A machine whose relay's boot service gives `answer` to every request.
fn start(answer: &[u8]) -> (Relayed, Server) {
    let cable = Cable::plug();
    let server = Server::says(answer);
    let relayed = Relayed::with(cable, &boot_service_of(&[&server.origin]));
    (relayed, server)
}

/// The value of a header in a request that the server has received.
fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(": ");
    request.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {request}"))
}

const SCRIPT: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\nX-Secret: 1\r\n\r\n#!ipxe\n";

#[test]
fn a_script_comes_through_with_the_ports_identity_headers() {
    let (relayed, server) = start(SCRIPT);
    let answer = relayed.curl(&["/boot.ipxe?mac=1"]);
    assert!(answer.starts_with("200") && answer.ends_with("\r\n\r\n#!ipxe\n"), "{answer}");
    assert!(answer.contains("Content-Length: 7") && !answer.contains("secret"), "{answer}");
    let request = server.asked();
    assert!(request.starts_with("get /boot.ipxe?mac=1 http/1.1\r\n"), "{request}");
    let session = header(&request, "leafboot-session");
    assert!(session.len() == 32 && session.bytes().all(|digit| digit.is_ascii_hexdigit()), "{session}");
    let link = relayed.cable.machine("ip", &["-br", "link", "show", "dev", "eth0"]);
    let mac = link.split_whitespace().nth(2).unwrap();
    for header in [
        "leafboot-leaf: leaf01",
        "leafboot-port: ethernet0",
        "leafboot-prefix: 2001:db8:b007::/64",
        &format!("leafboot-mac: {}", mac),
        "forwarded: for=\"[2001:db8:b007::7]\";proto=http",
    ] {
        assert!(request.contains(header), "no {header} in {request}");
    }
}

#[test]
fn headers_in_which_a_machine_describes_itself_are_not_passed_on() {
    let (relayed, server) = start(SCRIPT);
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
    assert!(relayed.curl(&forged).starts_with("200"));
    let request = server.asked();
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
    let (relayed, server) = start(SCRIPT);
    let image = "/metal-os/stable/debian/12/img.tar.lz4";
    for path in [image, &format!("{image}.md5")] {
        let answer = relayed.curl(&[path]);
        assert!(answer.starts_with("307"), "{answer}");
        assert!(answer.contains(&format!("Location: http://images.metal-stack.io{path}\r\n")), "{answer}");
        assert!(answer.contains("Content-Length: 0"), "{answer}");
    }
    for (options, code) in [
        (vec!["/"], "404"),
        (vec!["/metal-os/../certs"], "404"),
        (vec!["/metal-os/%2e%2e/certs"], "404"),
        (vec!["-X", "POST", "-d", "x", "/boot.ipxe"], "405"),
        (vec!["-X", "DELETE", image], "405"),
    ] {
        let answer = relayed.curl(&options);
        assert!(answer.starts_with(code), "{options:?}: {answer}");
    }
    assert!(relayed.curl(&["/nothing"]).contains("leafboot relays /boot.ipxe"), "it says what it serves");
    assert!(server.requests.try_recv().is_err(), "the boot service was never asked");
}

#[test]
fn an_answer_that_is_no_script_is_bounded() {
    let body = vec![b'x'; 300 * 1024];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let (relayed, _server) = start(&[head.into_bytes(), body].concat());
    let answer = relayed.curl(&["/boot.ipxe"]);
    assert!(answer.starts_with("503") && answer.contains("longer than 262144 bytes"), "{answer}");
}

#[test]
fn a_machine_on_another_port_does_not_reach_this_ports_relay() {
    let (relayed, server) = start(SCRIPT);
    let pid = relayed.cable.pid();
    support::run("ip", &["link", "add", "Ethernet4", "type", "veth", "peer", "name", "eth4", "netns", &pid]);
    support::run("ip", &["link", "set", "Ethernet4", "up"]);
    support::run("ip", &["address", "add", "2001:db8:b007:4::1/64", "dev", "Ethernet4", "nodad"]);
    let machine = |arguments: &[&str]| relayed.cable.machine("ip", arguments);
    machine(&["link", "set", "eth4", "up"]);
    machine(&["address", "add", "2001:db8:b007:4::7/64", "dev", "eth4", "nodad"]);
    assert!(relayed.curl(&["/boot.ipxe"]).starts_with("200"), "through its own port");
    machine(&["address", "del", "2001:db8:b007::7/64", "dev", "eth0"]);
    machine(&["link", "set", "eth0", "down"]);
    machine(&["route", "add", "2001:db8:b007::1/128", "via", "2001:db8:b007:4::1", "dev", "eth4"]);
    let unbound = server.origin.replace("[::1]", "[2001:db8:b007::1]");
    let reached = relayed.cable.machine("curl", &["-sS", "-m", "8", "-g", &unbound]);
    assert_eq!(reached, "#!ipxe\n", "the leaf itself is reached through the other port");
    let answer = relayed.curl(&["/boot.ipxe"]);
    assert!(answer.contains("Failed to connect"), "answered on another device than its port: {answer}");
}

#[test]
fn a_request_can_be_traced_and_its_secrets_are_in_no_log() {
    let (relayed, server) = start(&partition::ok("#!ipxe\n# s3cret-answer\n"));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = format!("traceparent: {parent}");
    let query = format!("{TOKEN}?key=s3cret-query");
    let own = ["-H", &traced, "-H", "tracestate: a=1", "-H", "Authorization: s3cret-header", &query];
    let answer = relayed.curl(&own);
    assert!(answer.contains("s3cret-answer"), "{answer}");
    let request = server.asked();
    let attempt = header(&request, "leafboot-session");
    assert!(!request.contains("4bf92f35") && !request.contains("tracestate"), "a machine's trace: {request}");
    let id_of = |answer: &str| {
        let id = answer.split_once("Leafboot-Request: ").and_then(|(_, rest)| rest.split_once("\r\n"));
        id.unwrap().0.to_owned()
    };
    let id = id_of(&answer);
    assert_eq!(header(&request, "leafboot-request"), id);
    assert_eq!(header(&request, "traceparent"), format!("00-{attempt}-{id}-01"));
    let answer = relayed.curl(&["/boot.ipxe?s3cret-query"]);
    assert!(answer.starts_with("200"), "{answer}");
    let (request, id_again) = (server.asked(), id_of(&answer));
    let next = header(&request, "leafboot-session");
    assert_ne!(next, attempt, "a machine that asks for the boot script after its token has begun anew");
    assert_eq!(header(&request, "traceparent"), format!("00-{next}-{id_again}-01"));
    relayed.curl(&["-H", "Host: a b", "-d", "s3cret-body", "/boot.ipxe?s3cret-query"]);
    let log = relayed.log();
    assert!(log.contains(&format!("request={id} kind=token")), "{log}");
    assert!(!log.contains("s3cret"), "a secret is in the log: {log}");
    let text = relayed.metrics.text();
    let counted = "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"token\",status=\"2xx\"} 1";
    assert!(text.contains(counted) && !text.contains("s3cret"), "{text}");
}

#[test]
fn every_address_of_the_port_is_served() {
    let (relayed, _server) = start(SCRIPT);
    support::run("ip", &["address", "add", "2001:db8:ffff::1/128", "dev", "Ethernet0", "nodad"]);
    relayed.cable.machine("ip", &["route", "add", "default", "via", "2001:db8:b007::1"]);
    let link = relayed.cable.link().link_local.unwrap();
    for host in ["2001:db8:b007::1", "2001:db8:ffff::1", &format!("{link}%25eth0")] {
        let url = format!("http://[{host}]/boot.ipxe");
        assert_eq!(relayed.cable.machine("curl", &["-sS", "-g", "-m", "8", &url]), "#!ipxe\n", "{host}");
    }
}

#[test]
fn one_connection_serves_several_requests_and_hosts_may_have_a_zone() {
    let (relayed, _server) = start(SCRIPT);
    let url = "http://[2001:db8:b007::1]/boot.ipxe";
    let all = ["-sS", "-m", "8", "-g", "-w", "%{num_connects}", "-H", "Host: [fe80::1%25net0]", url, url];
    assert_eq!(relayed.cable.machine("curl", &all), "#!ipxe\n1#!ipxe\n0");
    for (options, code) in [
        (vec!["-H", "Host:", "/boot.ipxe"], "400"),
        (vec!["-H", "Host: a/b", "/boot.ipxe"], "400"),
        (
            vec![
                "-H",
                "Transfer-Encoding: chunked",
                "-H",
                "Content-Length: 1",
                "-X",
                "GET",
                "-d",
                "x",
                "/boot.ipxe",
            ],
            "400",
        ),
        (vec!["-H", "Expect: 100-continue", "/boot.ipxe"], "417"),
        (vec!["-X", "GET", "-d", "x", "/boot.ipxe"], "400"),
    ] {
        let answer = relayed.curl(&options);
        assert!(answer.starts_with(code) && answer.contains("Connection: close"), "{options:?}: {answer}");
    }
    let long = format!("X: {}", "x".repeat(20_000));
    assert!(relayed.curl(&["-H", &long, "/boot.ipxe"]).starts_with("431"));
}
