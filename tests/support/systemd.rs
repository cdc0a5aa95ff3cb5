//! systemd's part in a service: it keeps the relay's listeners in its store and hands them to the next process (sd_notify(3)
//! FDSTORE, sd_listen_fds(3)). The relay's process is the test binary again, for this computer's kernel may have no VRF.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use leafboot::internals::attempts::{self, AttemptInputs, AttemptsFile};
use leafboot::internals::port_services;
use leafboot::internals::relay::task::{self, RelayInputs};
use leafboot::internals::{Inherited, Recorder};
use leafboot_core::observed::Links;
use leafboot_core::settings::Settings;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::advertiser::{in_boot_vrf, roles, wish};
use super::run;

/// The environment variable with a relay's settings file: with it, this test binary runs the relay.
const SETTINGS: &str = "LEAFBOOT_TEST_RELAY";

/// What a test binary's test `relay` does: nothing, unless it was started as a relay process. That serves Ethernet0 until
/// SIGTERM, and releases the port when its input ends.
pub fn relay_process() {
    let Ok(settings) = std::env::var(SETTINGS) else {
        return;
    };
    let config = Arc::new(Settings::parse(&std::fs::read_to_string(&settings).unwrap()).unwrap());
    let attempts_file = AttemptsFile::new(Path::new(&settings).parent().unwrap());
    let (desired_out, desired) = watch::channel(wish([(0, "2001:db8:b007::/64".to_owned())].into_iter()));
    let (stop_out, stop) = watch::channel(false);
    let (links_out, links) = watch::channel(Links::default());
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        desired_out.send_replace(wish(std::iter::empty()));
        std::thread::sleep(Duration::from_secs(600));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let stopping = async {
            terminate.recv().await;
            stop_out.send_replace(true);
            std::future::pending::<()>().await;
        };
        let mut left = Inherited::receive();
        let inherited = port_services::take_inherited(&mut left, &task::sockets(&config.relay));
        left.retain(|_| false);
        let attempts = Arc::new(Recorder::new(attempts_file.restore()));
        let roles = roles(&config, desired, links.clone());
        let attempt_inputs = AttemptInputs { roles: roles.clone(), links, events: Default::default() };
        let (_, wanted) = watch::channel(Default::default());
        let (probed, _) = watch::channel(Default::default());
        let inputs = RelayInputs { roles, stop, inherited, attempts: Arc::clone(&attempts), wanted, probed };
        tokio::select! {
            end = task::run(config, Arc::default(), inputs) => end.unwrap(),
            () = in_boot_vrf(links_out) => {}
            never = attempts::run(attempts, attempts_file, attempt_inputs) => match never {},
            () = stopping => {}
        }
    });
}

/// A service's descriptors are inherited by every program that this process starts: another test's programs would keep a
/// listener open that no process accepts from. So there is one service at a time.
#[expect(clippy::disallowed_types, reason = "tests are threads, not tasks")]
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// systemd's side of a service: its notification socket, and its descriptor store.
pub struct Systemd {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
    /// Descriptors by name.
    pub store: Vec<(String, RawFd)>,
    _turn: std::sync::MutexGuard<'static, ()>,
}

impl Systemd {
    /// A service with these settings, which does not run yet.
    pub fn new(settings: &str) -> Self {
        // A failed test must not fail the next one.
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("leafboot.toml"), settings).unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, directory, store: Vec::new(), _turn: turn }
    }

    /// A file of the service.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a relay process with what is in the store.
    pub fn start(&self) -> Process {
        // Each descriptor has its own number: no other process keeps it open.
        let kept = 3 + self.store.len();
        let close = |fd: RawFd| if fd as usize >= kept { format!(" {fd}<&-") } else { String::new() };
        let redirections: String = self
            .store
            .iter()
            .enumerate()
            .map(|(at, (_, fd))| format!(" {}<&{fd}{}", at + 3, close(*fd)))
            .collect();
        let names: Vec<&str> = self.store.iter().map(|(name, _)| name.as_str()).collect();
        let script = format!("LISTEN_PID=$$ exec \"$0\" \"$@\"{redirections}");
        let process = Command::new("bash")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "relay", "--nocapture"])
            .env(SETTINGS, self.path("leafboot.toml"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("LISTEN_FDS", self.store.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Process(process.unwrap())
    }

    /// Takes messages until the listener of this name is kept.
    pub fn hear_of(&mut self, name: &str) {
        while self.store.iter().all(|(kept, _)| kept != name) {
            self.hear();
        }
    }

    /// Takes one message of the service.
    pub fn hear(&mut self) -> String {
        let (mut text, mut control) = ([0; 4096], cmsg_space!([RawFd; 4]));
        let mut parts = [IoSliceMut::new(&mut text)];
        let message =
            recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
                .expect("the service sends a message");
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
            for (_, fd) in self.store.extract_if(.., |(kept, _)| *kept == name) {
                nix::unistd::close(fd).unwrap();
            }
        } else if said.contains("FDSTORE=1") && self.store.iter().all(|(kept, _)| *kept != name) {
            self.store.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
        }
        said
    }
}

/// A process that ends with the test.
pub struct Process(pub Child);

impl Process {
    /// Waits until it ends; whether it has succeeded.
    pub fn ends(&mut self) -> bool {
        self.0.wait().unwrap().success()
    }

    /// Sends a signal that ends it, and waits.
    pub fn terminate(&mut self, signal: &str) {
        // `wait` would close its input, and the port would be released.
        let _input = self.0.stdin.take();
        run("kill", &[signal, &self.0.id().to_string()]);
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
