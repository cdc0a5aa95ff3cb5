//! The partition's journal: one JSON line per request, written by the servers, read by the story.
//!
//! Must never: hold a whole token.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::Head;
use super::behaviour::Behaviour;
use crate::site;

/// A server of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// Boot scripts and tokens.
    BootService,
    /// Kernels, initramfs and images.
    Cache,
}

impl Server {
    /// Where it listens.
    pub fn address(self) -> (Ipv6Addr, u16) {
        match self {
            Server::BootService => (site::BOOT_SERVICE, site::BOOT_SERVICE_PORT),
            Server::Cache => (site::CACHE, 80),
        }
    }

    /// Its name, as `lab partition` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Server::BootService => "boot-service",
            Server::Cache => "cache",
        }
    }
}

/// The identity headers that leafboot adds: where a request came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// `Leafboot-Leaf`
    pub leaf: String,
    /// `Leafboot-Port`
    pub port: String,
    /// `Leafboot-Prefix`
    pub prefix: String,
}

impl Claim {
    /// The identity headers of a request, if each of them is there exactly once.
    pub(super) fn of(head: &Head) -> Option<Claim> {
        Some(Claim {
            leaf: head.only("leafboot-leaf")?.to_owned(),
            port: head.only("leafboot-port")?.to_owned(),
            prefix: head.only("leafboot-prefix")?.to_owned(),
        })
    }
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Time since the Unix epoch.
    pub time: Duration,
    /// Which server answered.
    pub server: Server,
    /// The client's address.
    pub peer: SocketAddr,
    /// The request's path.
    pub path: String,
    /// All headers as they came.
    pub headers: Vec<(String, String)>,
    /// The identity headers.
    pub claim: Option<Claim>,
    /// The answer's status.
    pub status: u16,
    /// Whether the answer was broken off.
    pub cut: bool,
    /// The last six characters of the token that the answer held.
    pub token_end: Option<String>,
}

impl Entry {
    pub(super) fn new(server: Server, head: &Head, behaviour: &Behaviour, status: StatusCode) -> Entry {
        let text =
            |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Entry {
            time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            server,
            peer: head.peer,
            path: head.request.uri().path().to_owned(),
            headers: head
                .request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            claim: Claim::of(head),
            status: status.as_u16(),
            cut: behaviour.cut,
            token_end: None,
        }
    }

    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Where entries are written.
#[derive(Clone)]
pub(super) struct Journal(Rc<File>);

impl Journal {
    pub(super) fn open(path: &Path) -> io::Result<Journal> {
        Ok(Journal(Rc::new(OpenOptions::new().create(true).append(true).open(path)?)))
    }

    /// Writes one line in one write: a reader never sees two mixed entries.
    pub(super) fn write(&self, entry: &Entry) {
        let line = serde_json::to_string(entry).map_err(io::Error::from);
        if let Err(error) = line.and_then(|line| (&*self.0).write_all(format!("{line}\n").as_bytes())) {
            eprintln!("the journal: {error}");
        }
    }
}

/// Every entry that is wholly there; none if the partition has not run yet.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}
