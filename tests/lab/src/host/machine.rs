//! A machine: QEMU with a CD in its drive, a network card on each of its ports' cables and a serial console.
//!
//! Nothing tells the machine about the leaf or the partition.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::Process;
use super::{Error, network, until};
use crate::site::Port;

/// How a machine behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Character {
    /// Its requests are honest.
    Honest,
    /// Its requests claim that it is on another port.
    Forger,
}

/// A machine that is switched on.
#[derive(Debug)]
pub struct Machine {
    console: PathBuf,
    qemu: Process,
}

impl Machine {
    /// Switches a machine on. Its identity is that of the first port's machine.
    pub fn start(
        ports: &[Port],
        character: Character,
        cd: &Path,
        directory: &Path,
    ) -> Result<Machine, Error> {
        let port = ports.first().ok_or_else(|| Error::Wrong("a machine needs a port".to_owned()))?;
        let console = directory.join(format!("machine-{port}.log"));
        let family = match character {
            Character::Honest => "honest",
            Character::Forger => "forger",
        };
        // /dev/kvm may be there and hang; tcg is always there, and fast enough.
        let mut argv: Vec<String> =
            ["/usr/bin/qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-no-reboot"]
                .into_iter()
                .chain(["-nodefaults", "-nographic", "-monitor", "none", "-boot", "d"])
                .map(str::to_owned)
                .collect();
        let mut option = |name: &str, value: String| argv.extend([name.to_owned(), value]);
        option("-serial", format!("file:{}", console.display()));
        option("-cdrom", cd.display().to_string());
        option("-smbios", format!("type=1,uuid={},family={family}", port.machine_uuid()));
        for port in ports {
            let tap = network::machine_tap(*port);
            option("-netdev", format!("tap,id={tap},ifname={tap},script=no,downscript=no"));
            // Without `romfile=` the card's own iPXE would run once the CD's has given up.
            option("-device", format!("virtio-net-pci,romfile=,netdev={tap},mac={}", port.machine_mac()));
        }
        let qemu = Process::start("the machine", &argv, &directory.join(format!("qemu-{port}.log")))?;
        Ok(Machine { console, qemu })
    }

    /// Everything on the console so far.
    pub fn console(&self) -> String {
        // The file does not exist before QEMU has opened it.
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Waits until the console shows a text after its first `since` bytes, however its lines are wrapped.
    pub fn shows(&mut self, since: usize, text: &str, deadline: Duration) -> Result<(), Error> {
        until(&format!("the console shows \"{text}\""), deadline, || {
            self.qemu.check()?;
            let console = self.console().get(since..).unwrap_or_default().replace(['\r', '\n'], "");
            Ok(console.contains(text).then_some(()))
        })
    }

    /// Waits for the console line `machine: <topic> <value>` and returns the value.
    pub fn says(&mut self, topic: &str, deadline: Duration) -> Result<String, Error> {
        until(&format!("the machine says \"{topic}\""), deadline, || {
            self.qemu.check()?;
            Ok(said(&self.console(), topic))
        })
    }
}

/// The value of the last complete line about a topic.
fn said(console: &str, topic: &str) -> Option<String> {
    let (whole, _) = console.rsplit_once('\n')?;
    let about = |line: &str| {
        let (_, said) = line.split_once("machine: ")?;
        let what = said.strip_prefix(topic)?.strip_prefix(' ')?.trim();
        (!what.is_empty()).then(|| what.to_owned())
    };
    whole.lines().filter_map(about).next_back()
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn only_whole_lines_count() {
        let console = "iPXE\r\nmachine: token abc\r\nmachine: linux-address 2001:db8";
        assert_eq!(said(console, "token").as_deref(), Some("abc"));
        assert_eq!(said(console, "linux-address"), None);
        assert_eq!(said(console, "linux"), None);
    }
}
