//! The partition seen from the computer: its servers, its files, and what it received.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::artifacts::Artifacts;
use super::process::{Process, run};
use super::{Error, until};
use crate::partition::journal::{self, Entry};
use crate::site;

/// The running servers.
#[derive(Debug)]
pub struct Partition {
    _servers: Process,
    _resolver: Process,
    journal: PathBuf,
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
        let journal = directory.join("journal.jsonl");
        let argv = [
            lab_binary.display().to_string(),
            "partition".to_owned(),
            "--files".to_owned(),
            files.display().to_string(),
            "--journal".to_owned(),
            journal.display().to_string(),
        ];
        let mut servers = Process::start("the partition", &argv, &directory.join("partition.log"))?;
        let mut resolver = Process::start("dnsmasq", &dnsmasq(), &directory.join("resolver.log"))?;
        until("the partition listens", std::time::Duration::from_secs(10), || {
            servers.check()?;
            resolver.check()?;
            let listening = |port| std::net::TcpStream::connect((site::BOOT_SERVICE, port)).is_ok();
            Ok(listening(site::BOOT_SERVICE_PORT).then_some(()))
        })?;
        Ok(Partition { _servers: servers, _resolver: resolver, journal })
    }

    /// Every request so far.
    pub fn journal(&self) -> Result<Vec<Entry>, Error> {
        journal::read(&self.journal).map_err(Error::file(&self.journal))
    }
}

/// Where the file of a URL path lies; makes its directory.
fn place(files: &Path, path: &str) -> Result<PathBuf, Error> {
    let file = files.join(path.trim_start_matches('/'));
    let directory = file.parent().unwrap_or(files);
    std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
    Ok(file)
}

/// An operating system image with its checksum beside it; its content is not looked at by anyone yet.
fn image(files: &Path) -> Result<(), Error> {
    let file = place(files, site::IMAGE)?;
    std::fs::write(&file, "an operating system image\n".repeat(4096)).map_err(Error::file(&file))?;
    let sum = run(&["md5sum", &file.display().to_string()])?;
    let path = place(files, &format!("{}.md5", site::IMAGE))?;
    let mut checksum = std::fs::File::create(&path).map_err(Error::file(&path))?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    writeln!(checksum, "{sum}  img.tar.lz4").map_err(Error::file(&path))
}

/// A resolver that knows one name and refuses all others.
fn dnsmasq() -> Vec<String> {
    vec![
        "/usr/sbin/dnsmasq".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        // In the foreground, and as the user that it is started by: a change of user would undo that it dies with us.
        "--no-daemon".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--bind-interfaces".to_owned(),
        format!("--listen-address={}", site::RESOLVER),
        format!("--host-record={},{}", site::CACHE_NAME, site::CACHE),
        "--log-queries".to_owned(),
    ]
}
