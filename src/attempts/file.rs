//! `attempts.json` in the state directory: the attempts survive a restart of leafboot, and `kill -9`.
//!
//! Must never: keep leafboot from starting.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use leafboot_core::attempt::{KeptAttempts, PortHistory};
use leafboot_core::names::PortName;
use tracing::warn;

use crate::state_file;

/// The kernel's name for the time since the leaf was booted.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file of the attempts.
#[derive(Debug)]
pub struct AttemptsFile {
    path: PathBuf,
    boot_id: String,
}

impl AttemptsFile {
    /// The file in `directory`, which is created when the file is first written.
    pub fn new(directory: &Path) -> Self {
        let boot_id =
            state_file::read(Path::new(BOOT_ID)).ok().flatten().unwrap_or_default().trim().to_owned();
        Self { path: directory.join("attempts.json"), boot_id }
    }

    /// The attempts of the run before. A file that cannot be used is logged: then the ports begin without any.
    pub fn restore(&self) -> BTreeMap<PortName, PortHistory> {
        let path = self.path.display();
        let text = match state_file::read(&self.path) {
            Ok(Some(text)) => text,
            Ok(None) => return BTreeMap::new(),
            Err(error) => {
                warn!(%path, %error, "boot attempts: the file cannot be read; starting without it");
                return BTreeMap::new();
            }
        };
        KeptAttempts::from_json(&text, &self.boot_id).unwrap_or_else(|error| {
            warn!(%path, %error, "boot attempts: the file cannot be used; starting without it");
            BTreeMap::new()
        })
    }

    /// Writes all attempts. A crash leaves the old file or the new one.
    pub fn save(&self, ports: BTreeMap<PortName, PortHistory>) -> io::Result<()> {
        state_file::replace(&self.path, KeptAttempts::to_json(&self.boot_id, ports).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempts::Recorder;
    use leafboot_core::attempt::Event;

    #[test]
    fn attempts_survive_a_restart_but_not_the_leafs() {
        let directory = tempfile::tempdir().unwrap();
        let file = AttemptsFile::new(directory.path());
        assert!(file.restore().is_empty());
        let recorder = Recorder::default();
        let port = recorder.port(&"Ethernet0".parse().unwrap());
        port.enter_boot();
        port.record(&Event::Link { carrier: true, carriers: 1 });
        file.save(recorder.histories()).unwrap();
        assert_eq!(file.restore(), recorder.histories());
        let later = AttemptsFile { boot_id: "another".to_owned(), ..AttemptsFile::new(directory.path()) };
        let restored = later.restore();
        assert!(restored.values().all(|history| history.total() == 1 && history.current().is_none()));
        state_file::replace(&directory.path().join("attempts.json"), b"{\"version\":1,").unwrap();
        assert!(file.restore().is_empty());
    }
}
