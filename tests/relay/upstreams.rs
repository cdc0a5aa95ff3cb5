//! Several origins: which one gets a request, which one gets it next, and which one does not.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leafboot::internals::Guarded;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use super::TOKEN;
use super::partition::{Relayed, Server, boot_service_of, closed_origin, ok};
use super::support::cable::Cable;
use super::support::{eventually, run};

#[test]
fn requests_go_to_the_second_origin_while_the_first_is_dead() {
    let cable = Cable::plug();
    let second = Server::says(&ok("#!ipxe\n"));
    let relayed = Relayed::with(cable, &boot_service_of(&[&closed_origin(), &second.origin]));
    for path in ["/boot.ipxe", TOKEN] {
        assert!(relayed.curl(&[path]).starts_with("200"), "{path}");
    }
}

#[test]
fn an_origin_that_comes_back_is_restored() {
    let cable = Cable::plug();
    let first = TcpListener::bind("[::1]:0").unwrap();
    let address = first.local_addr().unwrap();
    drop(first);
    let second = Server::says(&ok("#!ipxe\n# second\n"));
    let origins = boot_service_of(&[&format!("http://[::1]:{}", address.port()), &second.origin]);
    let relayed = Relayed::with(cable, &origins);
    assert!(relayed.curl(&["/boot.ipxe"]).contains("# second"));
    let up = |port: u16, is_up: u8| {
        let origin = format!("upstream=\"boot_service\",origin=\"http://[::1]:{port}\"");
        relayed.metrics.text().contains(&format!("leafboot_relay_upstream_up{{{origin}}} {is_up}\n"))
    };
    assert!(up(address.port(), 0), "{}", relayed.metrics.text());
    let _first = Server::start(TcpListener::bind(address).unwrap(), |mut stream, _| {
        let _ = stream.write_all(&ok("#!ipxe\n# first\n"));
    });
    eventually("it is probed without a request", || up(address.port(), 1));
    assert!(relayed.curl(&["/boot.ipxe"]).contains("# first"));
    let log = relayed.log();
    assert!(log.contains("upstream origin ejected") && log.contains("Connection refused"), "{log}");
}

#[test]
fn a_token_that_may_have_been_minted_is_not_asked_for_twice() {
    let cable = Cable::plug();
    let first = Server::says(b"");
    let second = Server::says(&ok("{}"));
    let relayed = Relayed::with(cable, &boot_service_of(&[&first.origin, &second.origin]));
    let answer = relayed.curl(&[TOKEN]);
    assert!(answer.starts_with("503") && answer.contains("broke off"), "{answer}");
    assert!(first.asked().contains("connection: close"));
    assert!(second.requests.try_recv().is_err(), "the second was asked too");
    assert!(relayed.curl(&[TOKEN]).starts_with("200"), "the next one goes to the second");
}

#[test]
fn an_origin_that_takes_connections_and_hangs_gets_no_second_token() {
    let cable = Cable::plug();
    // Its kernel takes connections, and no program reads them.
    let hangs = TcpListener::bind("[::1]:0").unwrap();
    let origin = format!("http://[::1]:{}", hangs.local_addr().unwrap().port());
    let second = Server::says(&ok("{}"));
    let relayed = Relayed::with(cable, &boot_service_of(&[&origin, &second.origin]));
    assert!(relayed.curl(&[TOKEN]).contains("did not answer within"));
    for _ in 0..4 {
        // It is probed after a second.
        assert!(relayed.curl(&[TOKEN]).starts_with("200"));
        std::thread::sleep(Duration::from_millis(700));
    }
}

/// A partition cache that gives `most` bytes of its image, and breaks off.
fn breaking_cache(most: usize) -> Server {
    const LENGTH: usize = 100_000;
    Server::start(TcpListener::bind("[::]:0").unwrap(), move |mut stream, head| {
        let range = head.to_lowercase().split_once("range: bytes=").map(|(_, range)| range.to_owned());
        let first: usize = range.map_or(0, |range| range.split_once('-').unwrap().0.parse().unwrap());
        let (status, part) = match first {
            0 => ("200 OK", String::new()),
            _ => ("206 Partial Content", format!("Content-Range: bytes {first}-{}/{LENGTH}\r\n", LENGTH - 1)),
        };
        let left = LENGTH - first;
        let _ = write!(stream, "HTTP/1.1 {status}\r\nETag: \"1\"\r\n{part}Content-Length: {left}\r\n\r\n");
        let _ = stream.write_all(&vec![b'x'; left.min(most)]);
    })
}

fn proxying(origins: &[&str]) -> String {
    format!("mode = \"proxy\"\norigins = {origins:?}\n{}", boot_service_of(&[&closed_origin()]))
}

#[test]
fn an_origin_whose_images_break_is_ejected_and_the_rest_comes_from_the_next() {
    let cable = Cable::plug();
    let (first, second) = (breaking_cache(1000), breaking_cache(usize::MAX));
    let relayed = Relayed::with(cable, &proxying(&[&first.origin, &second.origin]));
    let answer = relayed.curl(&["/metal-os/img"]);
    assert!(answer.starts_with("200") && answer.ends_with(&"x".repeat(100_000)), "{} bytes", answer.len());
    assert!(first.asked().contains("host: images.metal-stack.io\r\n"));
    assert!(second.asked().contains("range: bytes=1000-99999\r\n"));
    let down = format!("upstream_up{{upstream=\"cache\",origin={:?}}} 0\n", first.origin);
    assert!(relayed.metrics.text().contains(&down), "{}", relayed.metrics.text());
    assert!(first.requests.try_recv().is_err(), "it was asked again");
}

#[test]
fn a_cache_that_breaks_off_again_and_again_is_not_asked_without_end() {
    let cable = Cable::plug();
    let cache = breaking_cache(1000);
    let relayed = Relayed::with(cable, &proxying(&[&cache.origin]));
    let answer = relayed.curl(&["/metal-os/img"]);
    assert!(answer.contains("curl: (18)"), "{answer}");
    assert_eq!(cache.requests.try_iter().count(), 3);
}

/// A relay with an API at this port of the test's own address.
fn with_api(cable: Cable, port: u16) -> Relayed {
    let api = format!("[relay.routes]\napi = [\"/api\"]\n[relay.api]\norigins = [\"http://[::1]:{port}\"]\n");
    Relayed::with(cable, &format!("{api}{}", boot_service_of(&[&closed_origin()])))
}

#[test]
fn an_api_that_says_it_is_busy_is_asked_as_before() {
    let cable = Cable::plug();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let relayed = with_api(cable, address.port());
    let is_up = |is_up: u8| {
        let labels = format!("upstream=\"api\",origin=\"http://[::1]:{}\"", address.port());
        relayed.metrics.text().contains(&format!("leafboot_relay_upstream_up{{{labels}}} {is_up}\n"))
    };
    assert!(relayed.curl(&["/api"]).starts_with("503") && is_up(0), "its TCP port is closed");
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        }
    });
    eventually("its probe is answered, whatever with", || is_up(1));
    assert!(relayed.curl(&["/api"]).starts_with("503"));
    assert!(is_up(1), "a machine may have chosen what it says");
}

#[test]
fn a_kept_connection_serves_again_and_is_closed_when_it_has_been_idle_for_long() {
    let cable = Cable::plug();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let origin = format!("http://[::1]:{}", listener.local_addr().unwrap().port());
    let (closed_out, closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // One connection alone.
        let (mut stream, _) = listener.accept().unwrap();
        let mut last = Instant::now();
        while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
            last = Instant::now();
            let _ = stream.write_all(&ok("#!ipxe\n"));
        }
        closed_out.send(last.elapsed()).unwrap();
    });
    let relayed = Relayed::with(cable, &boot_service_of(&[&origin]));
    for _ in 0..3 {
        assert!(relayed.curl(&["/boot.ipxe"]).starts_with("200"));
    }
    let unused = closed.recv_timeout(Duration::from_secs(30)).expect("it is closed");
    assert!(unused > Duration::from_secs(7), "{unused:?}");
}

#[test]
fn a_machine_that_breaks_off_its_call_does_not_count_against_the_origin() {
    let cable = Cable::plug();
    let api = Server::start(TcpListener::bind("[::]:0").unwrap(), |mut stream, _| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let settings = format!(
        "[relay.routes]\napi = [\"/api\"]\n[relay.api]\norigins = [{:?}]\n{}",
        api.origin,
        boot_service_of(&[&closed_origin()]),
    );
    let relayed = Relayed::with(cable, &settings);
    let half = "printf 'POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf' > /dev/tcp/2001:db8:b007::1/80";
    relayed.cable.machine("bash", &["-c", half]);
    api.asked();
    std::thread::sleep(Duration::from_millis(300));
    let text = relayed.metrics.text();
    assert!(text.contains(&format!("upstream_up{{upstream=\"api\",origin={:?}}} 1\n", api.origin)), "{text}");
    assert!(!relayed.log().contains("ejected"));
}

#[test]
fn a_script_request_goes_to_the_next_origin_after_every_failure() {
    for broken in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n#!ipxe\n",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nLater",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Encoding: gzip\r\n\r\n#!ipxe\n",
        b"\x00\x01\r\n\r\n",
    ] {
        let cable = Cable::plug();
        let (first, second) = (Server::says(broken), Server::says(&ok("#!ipxe\n")));
        let relayed = Relayed::with(cable, &boot_service_of(&[&first.origin, &second.origin]));
        assert!(relayed.curl(&["/boot.ipxe"]).starts_with("200"), "{broken:?}");
        let but_for_host = |server: &Server| -> Vec<String> {
            server.asked().lines().filter(|line| !line.starts_with("host: ")).map(str::to_owned).collect()
        };
        assert_eq!(but_for_host(&first), but_for_host(&second), "{broken:?}: the same request, and trace");
    }
}

#[test]
fn a_boot_service_that_takes_4_s_is_waited_for_and_one_that_hangs_is_not() {
    let cable = Cable::plug();
    let slow = Server::start(TcpListener::bind("[::]:0").unwrap(), |mut stream, head| {
        std::thread::sleep(Duration::from_secs(if head.contains("certs") { 30 } else { 4 }));
        let _ = stream.write_all(&ok("{}"));
    });
    let relayed = Relayed::with(cable, &boot_service_of(&[&slow.origin]));
    assert!(relayed.curl(&[TOKEN]).starts_with("200"));
    let began = Instant::now();
    let answer = relayed.curl(&["/certs"]);
    assert!(answer.starts_with("503") && answer.contains("did not answer within"), "{answer}");
    assert!(began.elapsed() < Duration::from_millis(5000), "metal-hammer is gone: {:?}", began.elapsed());
}

#[test]
fn many_scripts_at_once_wait_in_a_queue_but_a_slow_boot_service_delays_none() {
    const MACHINES: usize = 96;
    let cable = Cable::plug();
    let came = Arc::new(Guarded::new(Vec::new()));
    let seen = Arc::clone(&came);
    // It answers no request before all have arrived.
    let slow = Server::start(TcpListener::bind("[::]:0").unwrap(), move |mut stream, _| {
        seen.with(|seen| seen.push(Instant::now()));
        eventually("all have asked", || seen.with(|seen| seen.len()) == MACHINES);
        let _ = stream.write_all(&ok("#!ipxe\n"));
    });
    let settings = format!("{}[relay]\nconnections = 100\nrequests = 0\n", boot_service_of(&[&slow.origin]));
    let relayed = Relayed::with(cable, &settings);
    let all = format!(r"http://\[2001:db8:b007::1\]/boot.ipxe?[1-{MACHINES}]");
    let flood = ["-sS", "-m", "12", "-Z", "--parallel-max", "96", "--parallel-immediate", &all];
    let answers = relayed.cable.machine("curl", &flood);
    assert_eq!(answers.matches("#!ipxe\n").count(), MACHINES, "{answers}");
    // 50 ms after it asked, which was soon after the others; they may be seen late when the computer is busy.
    let gap = came.with(|came| came[16] - came[15]);
    assert!(gap >= Duration::from_millis(5), "the 17th waits in the queue: {gap:?}");
}

#[test]
fn balanced_origins_take_turns_and_names_are_resolved() {
    let cable = Cable::plug();
    let (first, second) = (Server::says(&ok("#!ipxe\n# 1\n")), Server::says(&ok("#!ipxe\n# 2\n")));
    let first = first.origin.replace("[::1]", "localhost");
    let settings = format!("{}order = \"balanced\"\n", boot_service_of(&[&first, &second.origin]));
    let relayed = Relayed::with(cable, &settings);
    let answers: Vec<bool> = (0..4).map(|_| relayed.curl(&["/boot.ipxe"]).contains("# 1")).collect();
    assert!(answers == [true, false, true, false] || answers == [false, true, false, true], "{answers:?}");
}

#[test]
fn an_api_stream_goes_both_ways_as_it_comes() {
    let cable = Cable::plug();
    let api = Server::start(TcpListener::bind("[::]:0").unwrap(), |mut stream, head| {
        let mut body = vec![0; 5];
        assert!(head.to_lowercase().contains("content-length: 5"), "{head}");
        stream.read_exact(&mut body).unwrap();
        let first = b"HTTP/1.1 200 OK\r\nContent-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        let _ = stream.write_all(first);
        // Longer than any idle timeout but the API's own.
        std::thread::sleep(Duration::from_secs(7));
        let _ = stream.write_all(&[b"5\r\n", &body[..], b"\r\n0\r\n\r\n"].concat());
        let _ = stream.shutdown(Shutdown::Both);
    });
    let settings = format!(
        "[relay.routes]\napi = [\"/metalstack.infra.v2.BootService/*\"]\n[relay.api]\norigins = [{:?}]\n{}",
        api.origin,
        boot_service_of(&[&closed_origin()]),
    );
    let relayed = Relayed::with(cable, &settings);
    let call = ["-d", "hello", "-H", "Authorization: Bearer t0ken", "/metalstack.infra.v2.BootService/Wait"];
    let answer = relayed.curl(&call);
    assert!(answer.starts_with("200") && answer.ends_with("firsthello"), "{answer}");
    let request = api.asked();
    assert!(
        request.contains("authorization: bearer t0ken") && request.contains("leafboot-port: ethernet0"),
        "{request}"
    );
    let early = relayed.curl(&[&["-m", "3", "-N"], &call[..]].concat());
    assert!(
        early.contains("first") && early.contains("timed out"),
        "the first piece does not come at once: {early}"
    );
    assert!(!relayed.log().to_lowercase().contains("t0ken"), "a token is in the log");
}

#[test]
fn a_silent_api_stream_ends_with_its_machine() {
    let cable = Cable::plug();
    let (ended_out, ended) = std::sync::mpsc::channel();
    let api = Server::start(TcpListener::bind("[::1]:0").unwrap(), move |mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
        let _ = ended_out.send(matches!(stream.read(&mut [0; 16]), Ok(0)));
    });
    let port = api.origin.rsplit_once(':').unwrap().1.parse().unwrap();
    let relayed = with_api(cable, port);
    let gone = relayed.curl(&["-m", "1", "-N", "/api"]);
    assert!(gone.contains("first") && gone.contains("timed out"), "{gone}");
    assert!(
        ended.recv_timeout(Duration::from_secs(60)).unwrap(),
        "leafboot did not notice that the machine has gone"
    );
}

/// A listener whose kernel does not answer a connection attempt, like that of a host that is down.
fn dead(address: &str, port: u16) -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    let at: SocketAddr = format!("[{address}]:{port}").parse().unwrap();
    socket.bind(&at.into()).unwrap();
    socket.listen(0).unwrap();
    let waiting = std::iter::from_fn(|| TcpStream::connect_timeout(&at, Duration::from_millis(200)).ok());
    (socket, waiting.collect())
}

#[test]
fn every_address_of_a_name_has_its_turn() {
    const NAME: &str = "boot.partition.example";
    // A name's addresses come from a file that this test's threads alone see.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    run("mount", &["--make-rprivate", "/"]);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let address = |number: usize| format!("2001:db8:ffff::{number}");
    let lines: String = (1..=6).map(|number| format!("{} {NAME}\n", address(number))).collect();
    std::fs::write(hosts.path(), lines).unwrap();
    run("mount", &["--bind", hosts.path().to_str().unwrap(), "/etc/hosts"]);
    let cable = Cable::plug();
    for number in 1..=6 {
        run("ip", &["address", "add", &format!("{}/128", address(number)), "dev", "lo", "nodad"]);
    }
    let _dead: Vec<_> = (1..=5).map(|number| dead(&address(number), 8080)).collect();
    let listener = TcpListener::bind(format!("[{}]:8080", address(6))).unwrap();
    let _server = Server::start(listener, |mut stream, _| {
        let _ = stream.write_all(&ok("#!ipxe\n"));
    });
    let relayed = Relayed::with(cable, &boot_service_of(&[&format!("http://{NAME}:8080")]));
    for _ in 0..3 {
        let answer = relayed.curl(&[TOKEN]);
        assert!(answer.starts_with("200"), "{answer}");
    }
}
