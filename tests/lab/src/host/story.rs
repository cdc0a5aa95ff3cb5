//! Follows one boot: its stages, and the fact that proves each of them.
//!
//! The machine's side is read from its console, the partition's side from the journal, the leaf's side from leafboot's
//! API. leafboot's word does not count for what the machine or the partition saw.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::lab::{Lab, Pushed};
use super::machine::Machine;
use super::{Error, until};
use crate::partition::journal::{Entry, Server};
use crate::site::{self, Port};

/// The longest that one stage may take, on a busy computer.
const STAGE_LIMIT: Duration = Duration::from_secs(90);

/// What happens between the push and the token, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// leafboot says that the port is ready to boot a machine.
    Settled,
    /// iPXE has an address from a Router Advertisement.
    IpxeAddress,
    /// The boot service has answered with boot.ipxe.
    Script,
    /// The machine has asked the cache for its kernel.
    Kernel,
    /// The machine has asked the cache for its initramfs.
    Initramfs,
    /// Linux runs.
    Linux,
    /// Linux has an address from a Router Advertisement.
    LinuxAddress,
    /// The machine holds the token that the boot service minted.
    Token,
}

impl Stage {
    /// All of them.
    pub const ALL: [Stage; 8] = [
        Stage::Settled,
        Stage::IpxeAddress,
        Stage::Script,
        Stage::Kernel,
        Stage::Initramfs,
        Stage::Linux,
        Stage::LinuxAddress,
        Stage::Token,
    ];

    /// Its title in the demo's output.
    pub fn title(self) -> &'static str {
        match self {
            Stage::Settled => "port settled",
            Stage::IpxeAddress => "iPXE address",
            Stage::Script => "boot.ipxe",
            Stage::Kernel => "kernel",
            Stage::Initramfs => "initramfs",
            Stage::Linux => "Linux",
            Stage::LinuxAddress => "Linux address",
            Stage::Token => "token",
        }
    }
}

/// A stage that was reached.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Which one.
    pub stage: Stage,
    /// Time since the push.
    pub at: Duration,
    /// The value that proves it, such as an address.
    pub what: String,
}

/// One machine's boot.
#[derive(Debug)]
pub struct Boot {
    /// The machine's port.
    pub port: Port,
    /// The machine.
    pub machine: Machine,
    /// The stages so far.
    pub marks: Vec<Mark>,
    pushed: Pushed,
}

impl Boot {
    /// The boot of a machine whose port was pushed.
    pub fn new(port: Port, machine: Machine, pushed: Pushed) -> Boot {
        Boot { port, machine, marks: Vec::new(), pushed }
    }

    /// Waits for every stage up to this one, and calls `tell` for each.
    pub fn reach(&mut self, lab: &Lab, stage: Stage, tell: &mut dyn FnMut(&Mark)) -> Result<(), Error> {
        let first = self.marks.len();
        for &next in Stage::ALL.iter().skip(first).take_while(|next| **next <= stage) {
            let mark = self.wait_for(lab, next)?;
            tell(&mark);
            self.marks.push(mark);
        }
        Ok(())
    }

    /// The value of a stage that was reached.
    pub fn seen(&self, stage: Stage) -> Option<&str> {
        self.marks.iter().find(|mark| mark.stage == stage).map(|mark| mark.what.as_str())
    }

    fn wait_for(&mut self, lab: &Lab, stage: Stage) -> Result<Mark, Error> {
        let now = |pushed: Pushed, what| Mark { stage, at: pushed.at.elapsed(), what };
        let then = |pushed: Pushed, entry: &Entry, what| Mark {
            stage,
            at: entry.time.saturating_sub(pushed.wall),
            what,
        };
        match stage {
            Stage::Settled => {
                let status = lab.settled(self.port, "boot")?;
                Ok(now(self.pushed, format!("gateway {}", status["gateway"].as_str().unwrap_or("unknown"))))
            }
            Stage::IpxeAddress => {
                let address = self.own_address("ipxe-address")?;
                Ok(now(self.pushed, address.to_string()))
            }
            Stage::Script => {
                let entry = self.received(lab, Server::BootService, "/boot.ipxe")?;
                let claim =
                    entry.claim.as_ref().map(|claim| format!("came through {} {}", claim.leaf, claim.port));
                Ok(then(self.pushed, &entry, claim.unwrap_or_default()))
            }
            Stage::Kernel | Stage::Initramfs => {
                let path = if stage == Stage::Kernel { site::KERNEL } else { site::INITRD };
                let entry = self.received(lab, Server::Cache, path)?;
                Ok(then(
                    self.pushed,
                    &entry,
                    format!("from {}", entry.header("host").unwrap_or("an unnamed host")),
                ))
            }
            Stage::Linux => {
                let release = self.machine.says("linux", STAGE_LIMIT)?;
                Ok(now(self.pushed, release))
            }
            Stage::LinuxAddress => {
                let address = self.own_address("linux-address")?;
                Ok(now(self.pushed, address.to_string()))
            }
            Stage::Token => {
                let token = self.machine.says("token", STAGE_LIMIT)?;
                let entry = self.received(lab, Server::BootService, &self.token_path())?;
                let end = self.minted(lab, &token)?;
                Ok(then(self.pushed, &entry, format!("…{end}")))
            }
        }
    }

    /// The path of the machine's token request.
    pub fn token_path(&self) -> String {
        format!("/config/{}", self.port.machine_uuid())
    }

    /// An address that the machine's console names; an error if it is not of the machine's own port.
    fn own_address(&mut self, topic: &str) -> Result<Ipv6Addr, Error> {
        let said = self.machine.says(topic, STAGE_LIMIT)?;
        match said.parse() {
            Ok(address) if self.port.holds(address) => Ok(address),
            Ok(_) | Err(_) => {
                Err(Error::Wrong(format!("the machine on {} has the address {said}", self.port)))
            }
        }
    }

    /// The first request for a path that came from this boot's port and was wholly answered.
    fn received(&self, lab: &Lab, server: Server, path: &str) -> Result<Entry, Error> {
        let ours = |entry: &Entry| match (server, entry.peer.ip()) {
            (Server::BootService, _) => {
                entry.claim.as_ref().is_some_and(|claim| claim.port == self.port.name())
            }
            // In proxy mode the leaf sends the request.
            (Server::Cache, IpAddr::V6(peer)) => self.port.holds(peer) || peer == site::UPLINK_LEAF,
            (Server::Cache, IpAddr::V4(_)) => false,
        };
        until(&format!("the partition answers {path} for {}", self.port), STAGE_LIMIT, || {
            let journal = lab.partition.journal()?;
            let mut entries =
                journal.into_iter().filter(|entry| entry.server == server && entry.path == path);
            Ok(entries.find(|entry| entry.status == 200 && !entry.cut && ours(entry)))
        })
    }

    /// The end of the machine's token, if it is one that the boot service minted for this machine on this port.
    fn minted(&self, lab: &Lab, token: &str) -> Result<String, Error> {
        let path = self.token_path();
        let minted = lab.partition.journal()?.into_iter().find_map(|entry| {
            let end = entry.token_end.filter(|end| token.ends_with(end))?;
            (entry.path == path && entry.claim?.port == self.port.name()).then_some(end)
        });
        minted.ok_or_else(|| {
            Error::Wrong(format!(
                "the boot service has not minted the token that the machine on {} holds",
                self.port
            ))
        })
    }
}
