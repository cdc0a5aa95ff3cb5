//! The partition as the computer sees it: its servers, its files, and the requests that it received.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::artifacts::Artifacts;
use super::process::{Process, run};
use super::{Error, until};
use crate::partition::behaviour::Behaviour;
use crate::partition::journal::{self, Entry, Server};
use crate::site;

/// The file that both servers write to.
const JOURNAL: &str = "journal.jsonl";

/// The partition; its servers run unless they were stopped.
#[derive(Debug)]
pub struct Partition {
    boot_service: Option<Process>,
    cache: Option<Process>,
    resolver: Option<Process>,
    lab_binary: PathBuf,
    directory: PathBuf,
}

impl Partition {
    /// Lays out the files and starts the servers.
    pub fn start(lab_binary: &Path, directory: &Path, artifacts: &Artifacts) -> Result<Partition, Error> {
        let files = directory.join("cache");
        for (path, content) in [(site::KERNEL, &artifacts.kernel), (site::INITRD, &artifacts.initramfs)] {
            let file = place(&files, path)?;
            std::fs::copy(content, &file).map_err(Error::file(&file))?;
        }
        image(&files)?;
        let resolver = Process::start("dnsmasq", &dnsmasq(), &directory.join("resolver.log"))?;
        let mut partition = Partition {
            boot_service: None,
            cache: None,
            resolver: Some(resolver),
            lab_binary: lab_binary.to_owned(),
            directory: directory.to_owned(),
        };
        partition.start_server(Server::BootService)?;
        partition.start_server(Server::Cache)?;
        Ok(partition)
    }

    /// Starts a server, and waits until it listens.
    pub fn start_server(&mut self, server: Server) -> Result<(), Error> {
        let path = |name: &str| self.directory.join(name).display().to_string();
        let argv = [
            self.lab_binary.display().to_string(),
            "partition".to_owned(),
            format!("--server={}", server.name()),
            format!("--files={}", path("cache")),
            format!("--journal={}", path(JOURNAL)),
            format!("--behaviour={}", self.behaviour(server).display()),
        ];
        let log = self.directory.join(format!("{}.log", server.name()));
        let mut process = Process::start(server.name(), &argv, &log)?;
        until(&format!("the {} listens", server.name()), std::time::Duration::from_secs(10), || {
            process.check()?;
            Ok(std::net::TcpStream::connect(server.address()).ok().map(drop))
        })?;
        *self.process(server) = Some(process);
        Ok(())
    }

    /// Stops a server as a crash would: when this returns, its TCP port is closed and no connection is left.
    pub fn stop_server(&mut self, server: Server) {
        *self.process(server) = None;
    }

    /// Stops the resolver, as a crash would.
    pub fn stop_resolver(&mut self) {
        self.resolver = None;
    }

    fn process(&mut self, server: Server) -> &mut Option<Process> {
        match server {
            Server::BootService => &mut self.boot_service,
            Server::Cache => &mut self.cache,
        }
    }

    /// Sets how a server behaves from its next request on.
    pub fn tell(&self, server: Server, behaviour: &Behaviour) -> Result<(), Error> {
        let path = self.behaviour(server);
        behaviour.write(&path).map_err(Error::file(&path))
    }

    fn behaviour(&self, server: Server) -> PathBuf {
        self.directory.join(format!("{}.json", server.name()))
    }

    /// Every request so far.
    pub fn journal(&self) -> Result<Vec<Entry>, Error> {
        let path = self.directory.join(JOURNAL);
        journal::read(&path).map_err(Error::file(&path))
    }
}

/// The path of a URL's file; makes its directory.
fn place(files: &Path, path: &str) -> Result<PathBuf, Error> {
    let file = files.join(path.trim_start_matches('/'));
    let directory = file.parent().unwrap_or(files);
    std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
    Ok(file)
}

/// Writes an operating system image, and its checksum beside it.
fn image(files: &Path) -> Result<(), Error> {
    let file = place(files, site::IMAGE)?;
    std::fs::write(&file, "an operating system image\n".repeat(4096)).map_err(Error::file(&file))?;
    let sum = run(&["md5sum", &file.display().to_string()])?;
    let path = place(files, &format!("{}.md5", site::IMAGE))?;
    let mut checksum = std::fs::File::create(&path).map_err(Error::file(&path))?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    writeln!(checksum, "{sum}  img.tar.lz4").map_err(Error::file(&path))
}

/// A resolver that knows two names and refuses all others.
fn dnsmasq() -> Vec<String> {
    vec![
        "/usr/sbin/dnsmasq".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        // In the foreground and without a change of user, which would clear the parent-death signal (prctl(2)).
        "--no-daemon".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--bind-interfaces".to_owned(),
        format!("--listen-address={}", site::RESOLVER),
        format!("--host-record={},{}", site::CACHE_NAME, site::CACHE),
        format!("--host-record={},{}", site::RELAY_NAME, site::RELAY),
        "--log-queries".to_owned(),
    ]
}
