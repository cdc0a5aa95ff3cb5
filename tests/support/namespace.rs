//! Network namespaces: one for the calling thread, and others that are a child process's and go with the test.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};

use super::eventually;

/// Gives the calling thread an empty network namespace, set up as a leaf: SONiC's leaves forward, and their addresses
/// are never tentative.
pub fn enter_leaf() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root: run the tests as root");
    let no_dad = ["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"];
    super::run("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=1", no_dad[0], no_dad[1]]);
    super::run("ip", &["link", "set", "lo", "up"]);
}

/// Runs ip(8) commands in the calling thread's namespace.
pub fn batch(commands: &str) {
    pipe(&["ip", "-batch", "-"], commands);
}

/// A network namespace of its own.
pub struct Namespace {
    keeper: Child,
}

impl Namespace {
    /// An empty one.
    pub fn start() -> Self {
        let keeper = Command::new("unshare")
            .args(["--net", "sleep", "3600"])
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare is in Debian's util-linux");
        let namespace = Self { keeper };
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        eventually("another process has its own namespace", || {
            fs::read_link(namespace.path()).is_ok_and(|theirs| theirs != own)
        });
        namespace
    }

    /// The process whose namespace it is, as ip(8) and nsenter(1) take it.
    pub fn pid(&self) -> String {
        self.keeper.id().to_string()
    }

    /// The namespace, for `setns`.
    pub fn file(&self) -> File {
        File::open(self.path()).unwrap()
    }

    /// A program there, to be given arguments and started.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid(), program]);
        command
    }

    /// Runs a program there; returns what it printed, whether it succeeded or not.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output =
            self.command(program).args(arguments).output().expect("nsenter is in Debian's util-linux");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// Runs ip(8) commands there.
    pub fn batch(&self, commands: &str) {
        pipe(&["nsenter", "--net", "--target", &self.pid(), "ip", "-batch", "-"], commands);
    }

    /// Does something there, on a thread of its own.
    pub fn inside<T: Send + 'static>(&self, doing: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = self.file();
        std::thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            doing()
        })
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.keeper.id())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn pipe(command: &[&str], input: &str) {
    let mut child = Command::new(command[0]).args(&command[1..]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}: {input}");
}
