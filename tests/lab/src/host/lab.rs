//! Builds the whole laboratory: one leaf, one partition, and the machines that a test switches on.
//!
//! A laboratory ends with its test. It has its own directory below the target directory, which is removed after success
//! and kept, with every log, after a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::artifacts::{Artifacts, Finds, Kernel, cd, check_prerequisites};
use super::leaf::{Init, Leaf};
use super::machine::{Character, Machine};
use super::network::{in_own_network, lay_cables};
use super::partition::Partition;
use super::proof::Rows;
use super::{Error, until};
use crate::site::{self, Port};

/// The longest that leafboot may take for anything that depends on the leaf alone.
const LEAF_LIMIT: Duration = Duration::from_secs(30);

/// The programs that the laboratory runs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `lab` itself, which also runs in the leaf and in the partition.
    pub lab: PathBuf,
    /// The agent under test.
    pub leafboot: PathBuf,
}

impl Programs {
    /// The programs of one build: `leafboot` lies beside `lab`.
    pub fn beside(lab: &Path) -> Programs {
        Programs { lab: lab.to_owned(), leafboot: lab.with_file_name("leafboot") }
    }

    /// Where the laboratory keeps its files: `target/<host>/lab` if `lab` is `target/<host>/release/lab`.
    fn storage(&self) -> PathBuf {
        let target = self.lab.parent().and_then(Path::parent);
        target.unwrap_or(Path::new("/var/tmp")).join("lab")
    }

    fn check(&self) -> Result<(), Error> {
        if self.leafboot.exists() {
            return Ok(());
        }
        let release = self.leafboot.parent().is_some_and(|directory| directory.ends_with("release"));
        let command = if release { "cargo build --workspace --release" } else { "cargo build --workspace" };
        Err(Error::Missing { what: self.leafboot.display().to_string(), command: command.to_owned() })
    }
}

/// How images get to the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// The machines fetch them from the cache.
    Redirect,
    /// leafboot fetches them for the machines.
    Proxy,
}

/// When a push was made, on both clocks: the computer's own and the journal's.
#[derive(Clone, Copy, Debug)]
pub struct Pushed {
    /// The computer's clock, for what the test sees.
    pub at: Instant,
    /// Time since the Unix epoch, for the journal's entries.
    pub wall: Duration,
}

/// A running laboratory.
#[derive(Debug)]
pub struct Lab {
    /// The leaf.
    pub leaf: Leaf,
    /// The partition.
    pub partition: Partition,
    directory: PathBuf,
    leafboot: PathBuf,
    leafboot_pid: Option<i32>,
}

impl Lab {
    /// Builds a laboratory, does the work in it, and takes it down.
    pub fn with<T: Send>(
        programs: &Programs,
        work: impl FnOnce(&mut Lab) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        Lab::with_init(programs, Init::Lab, work)
    }

    /// Like [`Self::with`], with a leaf that has this first process.
    pub fn with_init<T: Send>(
        programs: &Programs,
        init: Init,
        work: impl FnOnce(&mut Lab) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        check_prerequisites(init)?;
        programs.check()?;
        let storage = programs.storage();
        fs::create_dir_all(&storage).map_err(Error::file(&storage))?;
        let kernel = Kernel::get(&storage)?;
        let directory = make_directory(&storage)?;
        let done = in_own_network(|| {
            let mut lab = Lab::start(programs, &kernel, &directory, init)?;
            work(&mut lab)
        });
        match done {
            Ok(result) => {
                fs::remove_dir_all(&directory).map_err(Error::file(&directory))?;
                Ok(result)
            }
            Err(source) => {
                let tails = tails(&directory);
                Err(Error::InLab { source: Box::new(source), directory, tails })
            }
        }
    }

    fn start(programs: &Programs, kernel: &Kernel, directory: &Path, init: Init) -> Result<Lab, Error> {
        lay_cables()?;
        // The guest boots while the rest is made.
        let mut leaf = Leaf::start(&programs.lab, directory, init)?;
        let artifacts = Artifacts::make(kernel, directory)?;
        let partition = Partition::start(&programs.lab, directory, &artifacts)?;
        leaf.ready()?;
        let lab = Lab {
            leaf,
            partition,
            directory: directory.to_owned(),
            leafboot: programs.leafboot.clone(),
            leafboot_pid: None,
        };
        lab.set_images(Images::Redirect)?;
        until("SONiC has applied the leaf's configuration", LEAF_LIMIT, || {
            Ok(Rows::now(&lab)?.have_foundation().then_some(()))
        })?;
        Ok(lab)
    }

    /// Sets how images get to the machines after the next start of leafboot. The default is redirects.
    pub fn set_images(&self, images: Images) -> Result<(), Error> {
        let config = self.directory.join("leafboot.toml");
        fs::write(&config, leafboot_config(images)).map_err(Error::file(&config))
    }

    /// Starts leafboot in the leaf and waits until its API answers.
    pub fn start_leafboot(&mut self) -> Result<(), Error> {
        let (program, config) = (self.leafboot.display().to_string(), self.directory.join("leafboot.toml"));
        let argv = [program.as_str(), "run", "--config", &config.display().to_string()];
        self.leafboot_pid = Some(self.leaf.start_program(&argv, self.directory.join("leafboot.log"))?);
        until("leafboot answers on its API socket", LEAF_LIMIT, || Ok(self.status().ok().map(drop)))
    }

    /// `kill -9 leafboot`
    pub fn kill_leafboot(&mut self) -> Result<(), Error> {
        match self.leafboot_pid.take() {
            Some(pid) => self.leaf.kill(pid),
            None => Err(Error::Wrong("leafboot is not running".to_owned())),
        }
    }

    /// `leafboot retire`: removes the empty boot VRF.
    pub fn retire(&self) -> Result<String, Error> {
        self.leafboot(&["retire"])
    }

    /// A leafboot command in the leaf: what it prints. An exit code other than 0 is an error.
    pub fn leafboot(&self, arguments: &[&str]) -> Result<String, Error> {
        let (program, config) = (self.leafboot.display().to_string(), self.directory.join("leafboot.toml"));
        let config = config.display().to_string();
        self.leaf.run(&[&[program.as_str()], arguments, &["--config", &config]].concat())
    }

    /// Changes a text of leafboot's settings, for its next start.
    pub fn configure(&self, from: &str, to: &str) -> Result<(), Error> {
        let config = self.directory.join("leafboot.toml");
        let text = fs::read_to_string(&config).map_err(Error::file(&config))?;
        fs::write(&config, text.replacen(from, to, 1)).map_err(Error::file(&config))
    }

    /// The path of a program's log, which is the same in the leaf and on the computer.
    pub fn log(&self, program: &str) -> PathBuf {
        self.directory.join(format!("{program}.log"))
    }

    /// Switches on the machine on a port.
    pub fn switch_on(&self, port: Port, character: Character) -> Result<Machine, Error> {
        self.switch_on_with(&[port], character, Finds::LinkLocal)
    }

    /// Switches on a machine with an interface on each of these ports, whose CD finds the relay in this way.
    pub fn switch_on_with(
        &self,
        ports: &[Port],
        character: Character,
        finds: Finds,
    ) -> Result<Machine, Error> {
        Machine::start(ports, character, &cd(&self.directory, finds)?, &self.directory)
    }

    /// Pushes the desired state as metal-core does: these ports are to boot, and no others.
    pub fn push(&self, ports: &[Port]) -> Result<Pushed, Error> {
        self.push_prefixes(&ports.iter().map(|port| (*port, port.prefix())).collect::<Vec<_>>())
    }

    /// Like [`Self::push`], with other prefixes than the ports' own. A leafboot that has not read CONFIG_DB yet answers
    /// 503, and the push is repeated.
    pub fn push_prefixes(&self, ports: &[(Port, String)]) -> Result<Pushed, Error> {
        let boot = |(port, prefix): &(Port, String)| {
            (port.name().to_owned(), json!({"state": "boot", "prefix": prefix}))
        };
        let document = json!({"ports": ports.iter().map(boot).collect::<serde_json::Map<_, _>>()});
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let pushed = Pushed { at: Instant::now(), wall };
        until("leafboot takes the push", LEAF_LIMIT, || {
            match self.leaf.api("PUT", "/v1/ports?wait=3s", Some(&document))? {
                // 202: taken, and some port has not settled within the wait.
                (200 | 202, _) => Ok(Some(pushed)),
                (503, _) => Ok(None),
                (status, answer) => {
                    Err(Error::Wrong(format!("leafboot refused the push: {status} {answer}")))
                }
            }
        })
    }

    /// The state of all ports, from leafboot's API.
    pub fn status(&self) -> Result<Value, Error> {
        match self.leaf.api("GET", "/v1/ports", None)? {
            (200, mut answer) => Ok(answer["ports"].take()),
            (status, answer) => Err(Error::Wrong(format!("leafboot gives no status: {status} {answer}"))),
        }
    }

    /// Waits until a port has settled in a state, by leafboot's API.
    pub fn settled(&self, port: Port, state: &str) -> Result<Value, Error> {
        until(&format!("leafboot says that {port} is {state} and settled"), LEAF_LIMIT, || {
            let mut status = self.status()?;
            let status = status[port.name()].take();
            Ok((status["state"] == state && status["settled"] == true).then_some(status))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("The logs are in {}\n{}", self.directory.display(), tails(&self.directory));
        }
    }
}

/// Makes a directory that no other laboratory uses or has used.
fn make_directory(storage: &Path) -> Result<PathBuf, Error> {
    let mut number = 0;
    loop {
        let directory = storage.join(format!("run-{}-{number}", std::process::id()));
        match fs::create_dir(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::file(&directory)(error)),
        }
    }
}

/// leafboot's configuration on this leaf.
fn leafboot_config(images: Images) -> String {
    let mode = match images {
        Images::Redirect => String::new(),
        // The leaf has no resolver that knows the cache.
        Images::Proxy => format!("mode = \"proxy\"\norigins = [\"http://[{}]\"]\n", site::CACHE),
    };
    format!(
        "leaf = \"{leaf}\"\n\
         [sonic]\ndatabase_config = \"{databases}\"\n\
         [api]\nsocket = \"{socket}\"\n\
         [state]\ndirectory = \"{state}\"\n\
         [boot]\nvrf = \"{vrf}\"\nprefix = \"{prefix}\"\nsupernet = \"{supernet}\"\nprotected = [\"{uplink}\"]\n\
         [acl]\ncache = [\"{image_cache}\"]\n\
         [ra]\ndns = [\"{resolver}\"]\nmtu = 1500\n\
         [relay.boot_service]\norigins = [\"http://[{boot_service}]:{boot_service_port}\"]\n\
         [relay.cache]\nname = \"http://{cache}\"\n{mode}",
        leaf = site::LEAF,
        databases = site::DATABASE_CONFIG,
        socket = site::API_SOCKET,
        state = site::STATE_DIRECTORY,
        vrf = site::BOOT_VRF,
        prefix = site::LEAF_PREFIX,
        supernet = site::BOOT_SUPERNET,
        uplink = site::UPLINK,
        image_cache = site::CACHE,
        resolver = site::RESOLVER,
        boot_service = site::BOOT_SERVICE,
        boot_service_port = site::BOOT_SERVICE_PORT,
        cache = site::CACHE_NAME,
    )
}

/// The last lines of every log in a directory.
fn tails(directory: &Path) -> String {
    const LINES: usize = 12;
    let mut logs: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == "log" || kind == "jsonl"))
        .collect();
    logs.sort();
    let mut text = String::new();
    for log in logs {
        let content = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).replace('\r', "");
        let lines: Vec<&str> = content.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        if !tail.is_empty() {
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            text.push_str(&format!("\n--- {name}\n{}\n", tail.join("\n")));
        }
    }
    text
}
