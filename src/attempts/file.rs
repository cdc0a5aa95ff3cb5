//! `attempts/` in the state directory, with a file for each port: the attempts survive a restart of leafboot, and `kill -9`.
//!
//! A machine that boots has its own port's file written, some 20 KB, and not all 8 MB of a leaf of 512 ports.
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

/// The files of the attempts.
#[derive(Debug)]
pub struct AttemptsFile {
    directory: PathBuf,
    boot_id: String,
}

impl AttemptsFile {
    /// The files in the state directory. A file is created when it is first written.
    pub fn new(state_directory: &Path) -> Self {
        let boot_id =
            state_file::read(Path::new(BOOT_ID)).ok().flatten().unwrap_or_default().trim().to_owned();
        Self { directory: state_directory.join("attempts"), boot_id }
    }

    /// The attempts of the run before. A file that cannot be used is logged: then its port begins without any.
    pub fn restore(&self) -> BTreeMap<PortName, PortHistory> {
        let paths = state_file::list(&self.directory, "json").unwrap_or_else(|error| {
            warn!(path = %self.directory.display(), %error, "boot attempts: no file can be read; starting without them");
            Vec::new()
        });
        paths.iter().filter_map(|path| self.read(path)).collect()
    }

    fn read(&self, path: &Path) -> Option<(PortName, PortHistory)> {
        let reason = match state_file::read(path) {
            Ok(text) => match KeptAttempts::from_json(&text?, &self.boot_id) {
                Ok(kept) => return Some(kept),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        warn!(path = %path.display(), reason, "boot attempts: the file cannot be used; starting without it");
        None
    }

    /// Writes a port's attempts. The process may be killed at any time; when the leaf loses its power, the attempts may be lost.
    pub fn save(&self, port: &PortName, history: PortHistory) -> io::Result<()> {
        let text = KeptAttempts::to_json(&self.boot_id, port, history);
        state_file::replace_unsynced(&self.directory.join(format!("{port}.json")), text.as_bytes())
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
        for name in ["Ethernet0", "Ethernet4"] {
            let name = name.parse().unwrap();
            let port = recorder.port(&name);
            port.enter_boot();
            port.record(&Event::Link { carrier: true, carriers: 1 });
            file.save(&name, port.history()).unwrap();
        }
        assert_eq!(file.restore(), recorder.histories());
        let later = AttemptsFile { boot_id: "another".to_owned(), ..AttemptsFile::new(directory.path()) };
        let restored = later.restore();
        assert!(restored.values().all(|history| history.total() == 1 && history.current().is_none()));
        state_file::replace_unsynced(&directory.path().join("attempts/Ethernet0.json"), b"{\"version\":1,")
            .unwrap();
        assert_eq!(file.restore().len(), 1, "the other port's file is used");
    }
}
