//! Tests of a restart without a failed request: the test plays systemd, keeps the relay's listeners in its store and
//! hands them to the next process (sd_notify(3) FDSTORE, sd_listen_fds(3)). Other tests replace a port's device or take
//! its carrier away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use support::cable::Cable;
use support::eventually;
use support::systemd::{Process, Systemd};

/// This is no test: it is the relay process of the tests below.
#[test]
fn relay() {
    support::systemd::relay_process();
}

/// A boot service, and how many requests it has had.
fn boot_service() -> (String, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counted) = (stream.unwrap(), Arc::clone(&counted));
            std::thread::spawn(move || {
                if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    // The boot service takes some time to mint a token.
                    std::thread::sleep(Duration::from_millis(20));
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntoken");
                }
            });
        }
    });
    (origin, requests)
}

/// A partition cache whose image takes 2 s.
fn slow_cache() -> String {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    let _ =
                        stream.write_all(b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 2000\r\n\r\n");
                    for _ in 0..20 {
                        std::thread::sleep(Duration::from_millis(100));
                        let _ = stream.write_all(&[b'x'; 100]);
                    }
                }
            });
        }
    });
    origin
}

/// A boot service that gives every machine a script, and tells of each request's head.
fn telling_boot_service() -> (String, Receiver<String>) {
    let (heads_out, heads) = channel();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, heads_out, mut buffer) = (stream.unwrap(), heads_out.clone(), [0; 4096]);
            std::thread::spawn(move || {
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let _ = heads_out.send(String::from_utf8_lossy(&buffer[..length]).to_lowercase());
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n#!ipxe\n");
                }
            });
        }
    });
    (origin, heads)
}

fn settings(origin: &str) -> String {
    format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\nrequests = 0\n\
         boot_service = {{ origins = [\"{origin}\"] }}\ncache = {{ name = \"http://cache.example\" }}\n"
    )
}

/// Asks for `count` tokens one after the other, each over a new connection. curl writes the statuses to `log`.
fn tokens(cable: &Cable, count: usize, log: &Path) -> Process {
    let url = format!("http://\\[2001:db8:b007::1\\]/certs?[1-{count}]");
    let file = std::fs::File::create(log).unwrap();
    let process = Command::new("nsenter")
        .args(["--net", "--target", &cable.pid(), "curl", "-sS", "-m", "60", "-H", "Connection: close"])
        .args(["-o", "/dev/null", "-w", "%{http_code}\\n", &url])
        .stdout(Stdio::from(file.try_clone().unwrap()))
        .stderr(Stdio::from(file))
        .spawn();
    Process(process.unwrap())
}

#[test]
fn no_request_fails_over_a_restart_and_a_released_ports_listener_is_not_kept() {
    let cable = Cable::plug();
    let (origin, requests) = boot_service();
    let mut systemd = Systemd::new(&settings(&origin));
    let mut first = systemd.start();
    cable.boot();
    systemd.hear_of("http-80-Ethernet0");
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    let log = systemd.path("tokens");
    eventually("the machine gets a token", || tokens(&cable, 1, &log).ends());

    let asked = || requests.load(Ordering::Relaxed);
    requests.store(0, Ordering::Relaxed);
    let mut asking = tokens(&cable, 300, &log);
    eventually("requests are under way", || asked() > 20);
    first.terminate("-TERM");
    let before = asked();
    let mut second = systemd.start();
    assert!(asking.ends());
    let answers = std::fs::read_to_string(&log).unwrap();
    assert!(before < 300, "the restart was in the middle: {before}");
    assert_eq!(answers.lines().filter(|line| *line == "200").count(), 300, "{answers}");

    // A process that is killed loses the request that it was answering, and no other.
    requests.store(0, Ordering::Relaxed);
    let mut asking = tokens(&cable, 100, &log);
    eventually("requests are under way", || asked() > 20);
    second.terminate("-KILL");
    let mut third = systemd.start();
    asking.ends();
    let answers = std::fs::read_to_string(&log).unwrap();
    assert!(answers.lines().filter(|line| *line == "200").count() >= 99, "{answers}");

    drop(third.0.stdin.take());
    while !systemd.hear().contains("FDSTOREREMOVE=1") {}
    assert!(systemd.store.is_empty(), "the kernel would go on taking connections");
    third.terminate("-TERM");
}

#[test]
fn a_listener_on_another_tcp_port_than_the_settings_is_not_kept() {
    let cable = Cable::plug();
    let (origin, _) = boot_service();
    let mut systemd = Systemd::new(&settings(&origin));
    let mut first = systemd.start();
    cable.boot();
    systemd.hear_of("http-80-Ethernet0");
    first.terminate("-TERM");
    let moved = settings(&origin).replace("[relay]\n", "[relay]\nport = 8080\n");
    std::fs::write(systemd.path("leafboot.toml"), moved).unwrap();
    let second = systemd.start();
    let kept =
        |systemd: &Systemd| -> Vec<String> { systemd.store.iter().map(|(name, _)| name.clone()).collect() };
    while kept(&systemd) != ["http-8080-Ethernet0"] {
        systemd.hear();
    }
    // Programs that other tests start at the same moment may have inherited it.
    let holders = [second.0.id(), std::process::id()].map(|pid| format!("pid={pid},"));
    let listeners = support::run("ss", &["-Hltnp"]);
    let held = |tcp_port: &str| {
        let lines = listeners.lines().filter(|line| line.contains(tcp_port));
        lines.filter(|line| holders.iter().any(|holder| line.contains(holder))).count()
    };
    assert!(held(":8080 ") == 1 && held(":80 ") == 0, "{listeners}");
}

#[test]
fn a_listener_of_a_device_that_is_gone_is_replaced() {
    let cable = Cable::plug();
    let (origin, _) = boot_service();
    let mut systemd = Systemd::new(&settings(&origin));
    let mut first = systemd.start();
    cable.boot();
    systemd.hear_of("http-80-Ethernet0");
    first.terminate("-TERM");
    // swss does this when it restarts.
    support::run("ip", &["link", "delete", "Ethernet0"]);
    cable.plug_port();
    let mut second = systemd.start();
    cable.boot();
    while !systemd.hear().contains("FDSTOREREMOVE=1") {}
    systemd.hear_of("http-80-Ethernet0");
    second.terminate("-TERM");
    let _third = systemd.start();
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    let log = systemd.path("tokens");
    assert!(tokens(&cable, 1, &log).ends(), "{}", std::fs::read_to_string(&log).unwrap());
}

#[test]
fn a_remembered_script_outlives_the_machines_restart() {
    let cable = Cable::plug();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let address = listener.local_addr().unwrap();
    let is_away = Arc::new(AtomicBool::new(false));
    let stops = Arc::clone(&is_away);
    // It answers every request until `is_away`, because the first answer may be lost while the port comes up.
    let boot_service = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if stops.load(Ordering::Relaxed) {
                return;
            }
            if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n#!ipxe\nboot\n");
            }
        }
    });
    let settings = format!("{}[relay.script]\nstale_if_error = \"1h\"\n", settings(&origin));
    let mut systemd = Systemd::new(&settings);
    let _relay = systemd.start();
    let script = || {
        cable.boot();
        cable.machine("ip", &["address", "replace", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
        let url = "http://[2001:db8:b007::1]/boot.ipxe";
        let ask = ["-sg", "-m", "10", "--retry", "5", "--retry-all-errors", "-A", "iPXE/1.21.1", url];
        cable.machine("curl", &ask)
    };
    cable.boot();
    systemd.hear_of("http-80-Ethernet0");
    eventually("the boot service's script comes", || script() == "#!ipxe\nboot\n");
    is_away.store(true, Ordering::Relaxed);
    TcpStream::connect(address).unwrap();
    boot_service.join().unwrap();
    cable.machine("ip", &["link", "set", "eth0", "down"]);
    while !systemd.hear().contains("FDSTOREREMOVE=1") {}
    // Like iPXE, the machine asks again if leafboot answers with a script that says so.
    eventually("the remembered script comes", || {
        let again = script();
        again.contains("echo this boot script is ") && again.ends_with(" s old\nboot\n")
    });
}

#[test]
fn an_image_comes_through_before_the_process_ends_and_tokens_do_not_wait_for_it() {
    let cable = Cable::plug();
    let (origin, _) = boot_service();
    let proxied = format!(
        "cache = {{ name = \"http://cache.example\", mode = \"proxy\", origins = [\"{}\"] }}",
        slow_cache()
    );
    let settings = settings(&origin).replace("cache = { name = \"http://cache.example\" }", &proxied);
    let mut systemd = Systemd::new(&settings);
    let mut relay = systemd.start();
    cable.boot();
    systemd.hear_of("http-80-Ethernet0");
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    let log = systemd.path("tokens");
    eventually("the machine gets a token", || tokens(&cable, 1, &log).ends());
    let get = |path: &str| {
        let url = format!("http://[2001:db8:b007::1]{path}");
        cable.machine(
            "curl",
            &["-sS", "-g", "-m", "10", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url],
        )
    };
    std::thread::scope(|scope| {
        let image = scope.spawn(|| get("/metal-os/image"));
        std::thread::sleep(Duration::from_millis(700));
        support::run("kill", &["-TERM", &relay.0.id().to_string()]);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(get("/certs"), "200 5", "a token does not wait");
        assert!(get("/metal-os/other").starts_with("503"), "no new image begins");
        assert_eq!(image.join().unwrap(), "200 2000", "the image comes through");
    });
    eventually("the process ends", || relay.0.try_wait().unwrap().is_some());
}

#[test]
fn a_boot_attempt_outlives_a_killed_process_and_ends_with_a_reset() {
    let cable = Cable::plug();
    let (origin, heads) = telling_boot_service();
    let mut systemd = Systemd::new(&settings(&origin));
    let mut first = systemd.start();
    cable.boot();
    systemd.hear_of("http-80-Ethernet0");
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    let get = |path: &str| {
        let url = format!("http://[2001:db8:b007::1]{path}");
        cable.machine("curl", &["-sg", "-m", "10", "--retry", "5", "--retry-all-errors", &url])
    };
    // The attempt of a request for the boot script, and its trace.
    let attempt = || {
        assert_eq!(get("/boot.ipxe"), "#!ipxe\n");
        let head = heads.recv_timeout(Duration::from_secs(5)).unwrap();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let attempt = header("leafboot-session: ");
        let trace = format!("00-{attempt}-{}-01", header("leafboot-request: "));
        assert_eq!(header("traceparent: "), trace);
        attempt
    };
    let before = attempt();
    let kept = || std::fs::read_to_string(systemd.path("attempts/Ethernet0.json")).unwrap_or_default();
    eventually("the attempt is in the file", || kept().contains(&before));
    first.terminate("-KILL");
    let _second = systemd.start();
    assert_eq!(attempt(), before, "another process, and the same attempt");
    // A machine that asks for the boot script after the kernel has begun anew.
    get("/metal-stack/kernel/vmlinuz");
    assert_ne!(attempt(), before);
    eventually("its stages are in the file", || kept().contains("/metal-stack/kernel/vmlinuz"));
}
