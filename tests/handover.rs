//! A restart that no machine notices: the test plays systemd, keeps the relay's listeners in its store and hands them to
//! the next process (sd_notify(3) FDSTORE, sd_listen_fds(3)).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::io::{IoSliceMut, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leafboot::config::Config;
use leafboot::observed::Links;
use leafboot::relay::task::{self, Inputs};
use leafboot::systemd::Inherited;
use leafboot::{links, metrics};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use support::advertiser::wish;
use support::cable::Cable;
use support::eventually;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Names the file with a relay's settings: this test binary is a relay then.
const SETTINGS: &str = "LEAFBOOT_TEST_RELAY";

/// Not a test of its own: the relay process of the tests below. It serves Ethernet0 until SIGTERM, and releases the
/// port when its input ends.
#[test]
fn relay() {
    let Ok(settings) = std::env::var(SETTINGS) else {
        return;
    };
    let config = Arc::new(Config::parse(&std::fs::read_to_string(settings).unwrap()).unwrap());
    let (desired_out, desired) = watch::channel(wish([(0, "2001:db8:b007::/64".to_owned())].into_iter()));
    let (stop_out, stop) = watch::channel(false);
    let (raw_out, mut raw) = watch::channel(Links::new());
    let (links_out, links) = watch::channel(Links::new());
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        desired_out.send_replace(wish(std::iter::empty()));
        std::thread::sleep(Duration::from_secs(600));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        // This computer's kernel may have no VRF: the port is shown as a member of the boot VRF.
        let in_boot_vrf = async {
            while raw.changed().await.is_ok() {
                let mut links = raw.borrow_and_update().clone();
                links.values_mut().for_each(|link| link.vrf = Some("Vrfboot".to_owned()));
                links_out.send_replace(links);
            }
        };
        let stopping = async {
            terminate.recv().await;
            stop_out.send_replace(true);
            std::future::pending::<()>().await;
        };
        let inputs = Inputs { desired, links, stop, inherited: Inherited::receive() };
        tokio::select! {
            end = task::run(config, Arc::new(metrics::Metrics::default()), inputs) => end.unwrap(),
            end = links::run(raw_out) => panic!("{end:?}"),
            () = in_boot_vrf => {}
            () = stopping => {}
        }
    });
}

/// systemd's side of a service: its notification socket, and its descriptor store.
struct Systemd {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
    /// Descriptors by name.
    store: Vec<(String, RawFd)>,
}

impl Systemd {
    fn new(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("leafboot.toml"), settings).unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, directory, store: Vec::new() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a relay process with what is in the store.
    fn start(&self) -> Process {
        let redirections: String =
            self.store.iter().enumerate().map(|(at, (_, fd))| format!(" {}<&{fd}", at + 3)).collect();
        let script = format!("LISTEN_PID=$$ exec \"$0\" \"$@\"{redirections}");
        let process = Command::new("bash")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "relay", "--nocapture"])
            .env(SETTINGS, self.path("leafboot.toml"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("LISTEN_FDS", self.store.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Process(process.unwrap())
    }

    /// Takes one message of the service.
    fn hear(&mut self) -> String {
        let (mut text, mut control) = ([0; 4096], cmsg_space!([RawFd; 4]));
        let mut parts = [IoSliceMut::new(&mut text)];
        let message =
            recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
                .expect("the service says something");
        let fds: Vec<RawFd> = message
            .cmsgs()
            .unwrap()
            .filter_map(
                |control| {
                    if let ControlMessageOwned::ScmRights(fds) = control { Some(fds) } else { None }
                },
            )
            .flatten()
            .collect();
        let length = message.bytes;
        let said = String::from_utf8_lossy(&text[..length]).into_owned();
        let name = said.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default().to_owned();
        if said.contains("FDSTOREREMOVE=1") {
            self.store.retain(|(kept, _)| *kept != name);
        } else if said.contains("FDSTORE=1") && self.store.iter().all(|(kept, _)| *kept != name) {
            self.store.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
        }
        said
    }
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
                    // A token takes its time to be minted.
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

fn settings(origin: &str) -> String {
    format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\n[relay]\nrequests = 0\n\
         boot_service = {{ origins = [\"{origin}\"] }}\ncache = {{ name = \"http://cache.example\" }}\n"
    )
}

/// Asks for `count` tokens one after the other, each over a connection of its own; the statuses.
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

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn ends(&mut self) -> bool {
        self.0.wait().unwrap().success()
    }

    fn terminate(&mut self, signal: &str) {
        support::run("kill", &[signal, &self.0.id().to_string()]);
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_request_fails_over_a_restart_and_a_released_port_is_kept_no_longer() {
    let cable = Cable::plug();
    let (origin, requests) = boot_service();
    let mut systemd = Systemd::new(&settings(&origin));
    let mut first = systemd.start();
    cable.boot();
    assert!(systemd.hear().contains("FDNAME=Ethernet0-80"), "the listener is kept");
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
    systemd.hear();
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
