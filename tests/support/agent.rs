//! The real `leafboot` binary, and curl on its socket.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::switch::Switch;
use super::{eventually, run};

/// The binary under test.
pub const LEAFBOOT: &str = env!("CARGO_BIN_EXE_leafboot");

/// A running agent; ends with the test.
pub struct Agent {
    process: Child,
    socket: PathBuf,
    log: PathBuf,
}

/// The settings of an agent on `switch`, with its files in the switch's directory.
pub fn settings(switch: &Switch) -> PathBuf {
    let directory = switch.directory.path().display();
    let text = format!(
        r#"leaf = "leaf01"
[sonic]
database_config = "{directory}/database_config.json"
[api]
socket = "{directory}/leafboot.sock"
[state]
directory = "{directory}/state"
[relay.boot_service]
origins = ["http://[2001:db8:ffff::80]:8080"]
[relay.cache]
name = "http://images.metal-stack.io"
[boot]
prefix = "2001:db8:b007::/57"
protected = ["Ethernet120"]
"#
    );
    write(&switch.path("leafboot.toml"), &text)
}

/// Writes a file and returns its path.
pub fn write(path: &Path, text: &str) -> PathBuf {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path.to_owned()
}

/// Runs the binary to its end.
pub fn leafboot(arguments: &[&str]) -> Output {
    Command::new(LEAFBOOT).args(arguments).output().unwrap()
}

impl Agent {
    /// Starts an agent on `switch` and waits until its API answers.
    pub fn start(switch: &Switch) -> Self {
        Self::start_with(switch, "")
    }

    /// Starts an agent with these further settings: keys of `[boot]`, and other tables.
    pub fn start_with(switch: &Switch, further: &str) -> Self {
        let config = settings(switch);
        let text = std::fs::read_to_string(&config).unwrap() + further;
        write(&config, &text);
        let log = switch.path("leafboot.log");
        let process = Command::new(LEAFBOOT)
            .arg("run")
            .arg("--config")
            .arg(config)
            .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
            .spawn()
            .unwrap();
        let agent = Self { process, socket: switch.path("leafboot.sock"), log };
        eventually("leafboot's API answers", || {
            std::os::unix::net::UnixStream::connect(&agent.socket).is_ok()
        });
        agent
    }

    /// Starts an agent and waits until it has read the switch's ports.
    pub fn start_ready(switch: &Switch) -> Self {
        let agent = Self::start(switch);
        eventually("leafboot has read CONFIG_DB", || agent.get("/v1/ports/Ethernet0").0 == 200);
        agent
    }

    /// GET by curl: status and body, a text that is not JSON as a string.
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.curl(&[&format!("http://leafboot{path}")])
    }

    /// PUT of a document by curl: status and JSON body.
    pub fn put(&self, path: &str, document: &str) -> (u16, Value) {
        self.curl(&["-X", "PUT", "--data-binary", document, &format!("http://leafboot{path}")])
    }

    /// Runs curl on the agent's socket.
    pub fn curl(&self, arguments: &[&str]) -> (u16, Value) {
        let mut all = vec!["-sS", "--unix-socket", self.socket.to_str().unwrap(), "-w", "\n%{http_code}"];
        all.extend(arguments);
        let text = run("curl", &all);
        let (body, code) = text.trim_end().rsplit_once('\n').unwrap();
        (code.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| body.into()))
    }

    /// Bytes of memory that it has in use.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The CPU time that its threads have had.
    pub fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let nanoseconds = |thread: std::fs::DirEntry| -> u64 {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse().unwrap()
        };
        Duration::from_nanos(threads.map(|thread| nanoseconds(thread.unwrap())).sum())
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends the agent a signal, by its name.
    pub fn signal(&self, name: &str) {
        run("kill", &["-s", name, &self.process.id().to_string()]);
    }

    /// The API's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends the agent as `kill -9` does.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
