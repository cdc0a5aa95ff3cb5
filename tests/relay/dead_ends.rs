//! iPXE always gets a script that asks again, and other clients get an error with Retry-After.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use leafboot::internals::GRACE;
use leafboot::internals::relay::lifecycle::ServiceStage;

use super::TOKEN;
use super::partition::{Relayed, Server, boot_service_of, closed_origin, ok};
use super::support::cable::Cable;
use super::support::eventually;

/// Checks that the script in an answer names the reason and asks again.
fn retries(answer: &str, reason: &str) {
    assert!(answer.starts_with("200") && answer.contains("Content-Length: "), "{answer}");
    let script = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(script.starts_with("#!ipxe\necho\n"), "{script}");
    assert!(script.contains("echo leafboot on leaf01 Ethernet0 at 2") && script.contains(reason), "{script}");
    assert!(
        script.contains("\nchain --autofree --replace /boot.ipxe?mac=1 || ifconf -c ipv6 ||\n"),
        "{script}"
    );
    assert!(script.ends_with("\nexit 1\n"), "{script}");
}

#[test]
fn ipxe_gets_a_script_that_asks_again_after_every_failure_of_the_boot_service() {
    for (answer, reason) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n#!ipxe\n"[..], "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "gives an empty script"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>\r\n\r", "gives what is no iPXE script"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", "says 404 Not Found"),
        (b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", "says 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", "says 302"),
        (b"", "broke off"),
    ] {
        let cable = Cable::plug();
        let server = Server::says(answer);
        let relayed = Relayed::with(cable, &boot_service_of(&[&server.origin]));
        retries(&relayed.ipxe("/boot.ipxe?mac=1"), reason);
        let other = relayed.curl(&["/boot.ipxe?mac=1"]);
        assert!(other.starts_with("503") && other.contains("\r\nRetry-After: "), "{other}");
        assert!(!other.contains("\r\nRetry-After: 0"), "{other}");
        let text = relayed.metrics.text();
        for status in ["error_script", "5xx"] {
            let labels = format!("{{port=\"Ethernet0\",kind=\"script\",status=\"{status}\"}}");
            assert!(text.contains(&format!("leafboot_relay_requests_total{labels} 1\n")), "{text}");
        }
    }
}

#[test]
fn a_machine_goes_on_when_the_boot_service_comes_back() {
    let cable = Cable::plug();
    let address = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
    let origin = format!("http://[::1]:{}", address.port());
    let relayed = Relayed::with(cable, &boot_service_of(&[&origin]));
    retries(&relayed.ipxe("/boot.ipxe?mac=1"), "cannot be reached");
    let _server = Server::start(TcpListener::bind(address).unwrap(), |mut stream, _| {
        let _ = stream.write_all(&ok("#!ipxe\nboot\n"));
    });
    let answer = relayed.ipxe("/boot.ipxe?mac=1");
    assert!(answer.ends_with("#!ipxe\nboot\n"), "at the next request: {answer}");
}

#[test]
fn a_remembered_script_says_its_age() {
    let cable = Cable::plug();
    let answers = std::sync::atomic::AtomicU32::new(0);
    let server = Server::start(TcpListener::bind("[::]:0").unwrap(), move |mut stream, _| {
        let number = answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let _ = stream.write_all(&if number == 0 { ok("#!ipxe\nboot\n") } else { Vec::new() });
    });
    let settings = format!("[relay.script]\nstale_if_error = \"1h\"\n{}", boot_service_of(&[&server.origin]));
    let relayed = Relayed::with(cable, &settings);
    assert!(relayed.ipxe("/boot.ipxe?mac=1").ends_with("#!ipxe\nboot\n"));
    let answer = relayed.ipxe("/boot.ipxe?mac=1");
    assert!(answer.contains("broke off") && answer.contains("\necho this boot script is "), "{answer}");
    assert!(answer.ends_with(" s old\nboot\n"), "{answer}");
    assert!(relayed.metrics.text().contains("kind=\"script\",status=\"stale_script\"} 1\n"));
    let other = relayed.ipxe("/boot.ipxe?mac=2");
    assert!(other.contains(":again"), "another query has no memory: {other}");
}

#[test]
fn a_script_that_may_be_incomplete_is_not_served_now_or_later() {
    let cable = Cable::plug();
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let server = Server::start(TcpListener::bind("[::]:0").unwrap(), move |mut stream, _| {
        if is_first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n#!ipxe\nkernel x\n");
        }
    });
    let settings = format!("[relay.script]\nstale_if_error = \"1h\"\n{}", boot_service_of(&[&server.origin]));
    let relayed = Relayed::with(cable, &settings);
    retries(&relayed.ipxe("/boot.ipxe?mac=1"), "ends with its connection");
    retries(&relayed.ipxe("/boot.ipxe?mac=1"), "broke off");
}

#[test]
fn a_kept_connection_is_refused_when_its_port_stops_and_a_token_under_way_comes_through() {
    let reasons = [
        (ServiceStage::Released, "this port is not in boot any more"),
        (ServiceStage::Interrupted, "this port has lost its link or its address"),
    ];
    for (stage, reason) in reasons {
        let cable = Cable::plug();
        let slow = Server::start(TcpListener::bind("[::]:0").unwrap(), |mut stream, _| {
            std::thread::sleep(Duration::from_secs(2));
            let _ = stream.write_all(&ok("{\"token\":1}"));
        });
        let relayed = Relayed::with(cable, &boot_service_of(&[&slow.origin]));
        // The second request of one connection comes when the port serves no more.
        let gateway = "http://[2001:db8:b007::1]";
        let (first, second) = (format!("{gateway}{TOKEN}"), format!("{gateway}/boot.ipxe?mac=1"));
        let all = ["-sSi", "-m", "12", "-g", "-A", "iPXE/1", &first, &second];
        let cable = &relayed.cable;
        let both = std::thread::scope(|scope| {
            let asking = scope.spawn(move || cable.machine("curl", &all));
            eventually("the token is asked for", || slow.requests.try_recv().is_ok());
            relayed.enter(stage);
            asking.join().unwrap()
        });
        let (token, late) = both.split_once("{\"token\":1}").unwrap_or_else(|| panic!("{both}"));
        let late = late.replacen("HTTP/1.1 ", "", 1);
        assert!(token.contains("200 OK"), "{token}");
        retries(&late, reason);
        assert!(late.contains("Connection: close"), "{late}");
    }
}

#[test]
fn a_script_request_under_way_at_the_end_gets_a_script_that_asks_again() {
    for stage in [ServiceStage::Interrupted, ServiceStage::Released, ServiceStage::Stopping] {
        let cable = Cable::plug();
        let hangs = Server::start(TcpListener::bind("[::]:0").unwrap(), |_stream, _| {
            std::thread::sleep(Duration::from_secs(30));
        });
        let relayed = Relayed::with(cable, &boot_service_of(&[&hangs.origin]));
        let url = "http://[2001:db8:b007::1]/boot.ipxe?mac=1";
        let (all, cable) = (["-sSi", "-m", "12", "-g", "-A", "iPXE/1", url], &relayed.cable);
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(move || cable.machine("curl", &all));
            eventually("the script is asked for", || hangs.requests.try_recv().is_ok());
            relayed.enter(stage);
            asking.join().unwrap()
        });
        retries(&answer.replacen("HTTP/1.1 ", "", 1), "it has not answered");
    }
}

#[test]
fn a_machine_that_has_shut_down_its_side_gets_its_answer() {
    let cable = Cable::plug();
    let slow = Server::start(TcpListener::bind("[::]:0").unwrap(), |mut stream, _| {
        std::thread::sleep(Duration::from_millis(500));
        let _ = stream.write_all(&ok("#!ipxe\n"));
    });
    let relayed = Relayed::with(cable, &boot_service_of(&[&slow.origin]));
    let asking = relayed.cable.inside(|| {
        let mut stream = TcpStream::connect("[2001:db8:b007::1]:80").unwrap();
        stream.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    let answer = asking.join().unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("#!ipxe\n"), "{answer}");
}

#[test]
fn a_request_that_arrives_during_the_stop_is_answered() {
    let cable = Cable::plug();
    let server = Server::says(&ok("#!ipxe\n"));
    let relayed = Relayed::with(cable, &boot_service_of(&[&server.origin]));
    let (stopped_out, stopped) = std::sync::mpsc::channel();
    let asking = relayed.cable.inside(move || {
        let mut stream = TcpStream::connect("[2001:db8:b007::1]:80").unwrap();
        stopped.recv().unwrap();
        // The request is on its way while the relay looks at its connections.
        std::thread::sleep(Duration::from_millis(50));
        let _ = stream.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    eventually("the relay has taken the connection", || {
        relayed.metrics.text().contains("leafboot_relay_connections{port=\"Ethernet0\"} 1\n")
    });
    relayed.enter(ServiceStage::Stopping);
    stopped_out.send(()).unwrap();
    let answer = asking.join().unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("#!ipxe\n"), "{answer}");
}

#[test]
fn an_image_under_way_on_a_released_port_ends_with_its_grace() {
    let cable = Cable::plug();
    let endless = Server::start(TcpListener::bind("[::]:0").unwrap(), |mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let origins = &[endless.origin.as_str()];
    let settings = format!("mode = \"proxy\"\norigins = {origins:?}\n{}", boot_service_of(origins));
    let relayed = Relayed::with(cable, &settings);
    let (all, cable) = (["-sSg", "-m", "30", "http://[2001:db8:b007::1]/metal-os/img"], &relayed.cable);
    let began = Instant::now();
    let image = std::thread::scope(|scope| {
        let asking = scope.spawn(move || cable.machine("curl", &all));
        eventually("the image is asked for", || endless.requests.try_recv().is_ok());
        relayed.enter(ServiceStage::Released);
        asking.join().unwrap()
    });
    let grace = GRACE..GRACE + Duration::from_secs(15);
    assert!(grace.contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(image.starts_with('x') && image.contains("curl: ("), "{image}");
}

#[test]
fn a_port_that_asks_too_often_waits_and_is_answered() {
    let cable = Cable::plug();
    let server = Server::says(&ok("#!ipxe\n"));
    let settings = format!("{}[relay]\nrequests = 5\n", boot_service_of(&[&server.origin]));
    let relayed = Relayed::with(cable, &settings);
    let nine = "http://\\[2001:db8:b007::1\\]/boot.ipxe?mac=[1-9]";
    let begun = Instant::now();
    let answers = relayed.cable.machine("curl", &["-sS", "-m", "12", "-A", "iPXE/1", nine]);
    assert_eq!(answers, "#!ipxe\n".repeat(9));
    assert_eq!(server.requests.try_iter().count(), 9);
    assert!(
        begun.elapsed() > Duration::from_millis(1500),
        "nine cost more than 1.5 s: {:?}",
        begun.elapsed()
    );
    let text = relayed.metrics.text();
    let waited = "leafboot_relay_rate_limited_seconds_total{port=\"Ethernet0\"} ";
    let waited = text.lines().find_map(|line| line.strip_prefix(waited)).unwrap();
    assert!(waited.parse::<f64>().unwrap() > 1.0, "{waited}");
}

#[test]
fn other_clients_also_learn_that_the_boot_service_is_away() {
    let relayed = Relayed::by(&closed_origin());
    let answer = relayed.curl(&[TOKEN]);
    assert!(answer.starts_with("503") && answer.contains("cannot be reached"), "{answer}");
}
