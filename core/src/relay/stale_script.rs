//! The ports' last known good boot scripts, which are served while the boot service fails (`stale_if_error`, RFC 5861 4).
//!
//! Must never: give a machine another port's script. Each port has its own scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ipxe::{Unavailable, aged, is_script};
use crate::names::{BootPrefix, PortName};

/// The most scripts per port. A machine has one, and variants of its firmware request a few.
const STORED_MAX: usize = 4;
/// The longest script that is stored, in bytes. metal-stack's have some 500.
const SCRIPT_MAX: usize = 64 * 1024;

/// The ports' last known good scripts. A port's scripts are kept while its machine restarts. They are dropped when the port
/// leaves boot or gets another prefix, because they may name the prefix.
#[derive(Debug, Clone)]
pub struct StaleScripts {
    stale_if_error: Duration,
    ports: BTreeMap<PortName, (BootPrefix, Scripts)>,
}

/// One port's scripts and when they came, by target.
type Scripts = BTreeMap<String, (Duration, Vec<u8>)>;

impl StaleScripts {
    /// Serves scripts that are at most `stale_if_error` old.
    pub fn new(stale_if_error: Duration) -> Self {
        Self { stale_if_error, ports: BTreeMap::new() }
    }

    /// Sets the ports that are in boot. Scripts of all other ports are dropped.
    pub fn set_ports<'a>(&mut self, in_boot: impl IntoIterator<Item = (&'a PortName, &'a BootPrefix)>) {
        let mut before = std::mem::take(&mut self.ports);
        for (port, prefix) in in_boot {
            let same = before.remove(port).filter(|(before, _)| before == prefix);
            self.ports.insert(port.clone(), same.unwrap_or_else(|| (*prefix, Scripts::new())));
        }
    }

    /// Stores the boot service's answer to `target` (path and query) for a port. Does nothing if the port is no longer in boot,
    /// if the script is too long, or if iPXE would not run it.
    pub fn store(&mut self, port: &PortName, target: &str, script: &[u8], now: Duration) {
        let Some((_, scripts)) = self.ports.get_mut(port) else {
            return;
        };
        if script.len() > SCRIPT_MAX || !is_script(script) {
            return;
        }
        scripts.insert(target.to_owned(), (now, script.to_owned()));
        while scripts.len() > STORED_MAX {
            let oldest = scripts.iter().min_by_key(|(_, (at, _))| *at).map(|(target, _)| target.clone());
            oldest.and_then(|target| scripts.remove(&target));
        }
    }

    /// A port's script for `target`, for use while the boot service is `unavailable`. None: there is none, or it is too old.
    pub fn get(&self, target: &str, unavailable: &Unavailable, now: Duration) -> Option<Vec<u8>> {
        let (at, script) = self.ports.get(unavailable.port)?.1.get(target)?;
        let age = now.saturating_sub(*at);
        (age <= self.stale_if_error).then(|| aged(script, unavailable, age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable<'a>(port: &'a PortName, reason: &'a str) -> Unavailable<'a> {
        Unavailable { leaf: "leaf01", port, reason, time: "2026-11-22T14:00:00Z", wait: 5 }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn prefix(text: &str) -> BootPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_stale_script_says_its_age_and_is_for_its_target_alone() {
        let port = "Ethernet0".parse().unwrap();
        let away = unavailable(&port, "away");
        let mut scripts = StaleScripts::new(seconds(60));
        scripts.set_ports([(&port, &prefix("2001:db8:b007::/64"))]);
        scripts.store(&port, "/boot.ipxe", b"#!ipxe\nkernel x\n", seconds(100));
        let script = String::from_utf8(scripts.get("/boot.ipxe", &away, seconds(130)).unwrap()).unwrap();
        assert!(script.starts_with("#!ipxe\necho leafboot on leaf01 Ethernet0 at "), "{script}");
        assert!(script.ends_with("echo this boot script is 30 s old\nkernel x\n"), "{script}");
        assert_eq!(scripts.get("/boot.ipxe?mac=1", &away, seconds(130)), None);
        assert_eq!(scripts.get("/boot.ipxe", &away, seconds(161)), None, "too old");
        let other = "Ethernet4".parse().unwrap();
        scripts
            .set_ports([(&port, &prefix("2001:db8:b007::/64")), (&other, &prefix("2001:db8:b007:4::/64"))]);
        assert_eq!(
            scripts.get("/boot.ipxe", &unavailable(&other, "away"), seconds(130)),
            None,
            "another port's"
        );
        assert!(scripts.get("/boot.ipxe", &away, seconds(130)).is_some());
        scripts.set_ports([(&port, &prefix("2001:db8:b007:4::/64"))]);
        assert_eq!(scripts.get("/boot.ipxe", &away, seconds(130)), None, "another prefix");
        scripts.set_ports([]);
        scripts.store(&port, "/boot.ipxe", b"#!ipxe\nkernel x\n", seconds(130));
        scripts.set_ports([(&port, &prefix("2001:db8:b007::/64"))]);
        assert_eq!(scripts.get("/boot.ipxe", &away, seconds(130)), None, "the port was not in boot");
    }

    #[test]
    fn few_scripts_are_stored_and_nothing_else() {
        let port = "Ethernet0".parse().unwrap();
        let away = unavailable(&port, "away");
        let mut scripts = StaleScripts::new(seconds(60));
        scripts.set_ports([(&port, &prefix("2001:db8:b007::/64"))]);
        scripts.store(&port, "/a", b"<html>", seconds(1));
        scripts.store(&port, "/b", &[b"#!ipxe\n", &[b'x'; SCRIPT_MAX][..]].concat(), seconds(1));
        assert!(scripts.ports[&port].1.is_empty());
        for number in 0..10 {
            scripts.store(&port, &format!("/{number}"), b"#!ipxe\n", seconds(number));
        }
        assert_eq!(scripts.ports[&port].1.len(), STORED_MAX);
        assert!(
            scripts.get("/9", &away, seconds(10)).is_some()
                && scripts.get("/0", &away, seconds(10)).is_none()
        );
    }
}
