//! The state directory's files. `desired.json` keeps the last accepted document for the next run.
//!
//! Must never: leave an incomplete file behind.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use thiserror::Error;

use leafboot_core::desired::{Desired, DocumentError, KeptDocument, Now};

/// Why the document could not be written or read.
#[derive(Debug, Error)]
pub enum StateFileError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The file is damaged.
    #[error("{path}: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: DocumentError,
    },
}

/// The agent's state directory.
#[derive(Debug, Clone)]
pub struct StateFile {
    directory: PathBuf,
}

impl StateFile {
    /// The files in `directory`, which is created with the first file.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The document of the previous run; none if there is no file.
    pub fn restore(&self) -> Result<Option<KeptDocument>, StateFileError> {
        let path = self.path();
        match read(&path) {
            Ok(Some(text)) => {
                let kept = Desired::from_kept(&text, now());
                kept.map(Some).map_err(|source| StateFileError::Damaged { path, source })
            }
            Ok(None) => Ok(None),
            Err(source) => Err(StateFileError::Io { path, source }),
        }
    }

    /// Writes a document. A crash leaves the old one or the new one.
    pub fn keep(&self, desired: &Desired) -> Result<(), StateFileError> {
        let path = self.path();
        replace(&path, desired.to_kept(now()).as_bytes())
            .map_err(|source| StateFileError::Io { path, source })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("desired.json")
    }
}

/// The text of a file; none if there is no such file.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files of a directory whose names end with `.` and `extension`. A directory that does not exist has none.
pub fn list(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect())
}

/// Writes a file as [`replace`] does, but does not sync it. The file survives the end of the process. It may be lost when
/// the leaf loses power.
pub fn replace_unsynced(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let temporary = path.with_added_extension("new");
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Writes a file of the state directory, and creates the directory. The text is written to a second file, synced and renamed,
/// so that a crash leaves the old text or the new one. `path` is absolute.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let temporary = path.with_added_extension("new");
    write_synced(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        // The disk may be full, so delete the incomplete file.
        .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    File::open(directory)?.sync_all()
}

fn write_synced(temporary: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(text)?;
    file.sync_all()
}

/// This moment, on the clocks that [`Desired::to_kept`] needs.
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::desired::Provenance;
    use leafboot_core::names::{BootPrefix, PortName};
    use std::collections::BTreeMap;

    #[test]
    fn a_document_survives_and_a_damaged_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = StateFile::new(&directory.path().join("state"));
        assert!(store.restore().unwrap().is_none());
        let port: PortName = "Ethernet0".parse().unwrap();
        let ports = |prefix: &str| BTreeMap::from([(port.clone(), prefix.parse::<BootPrefix>().unwrap())]);
        let first = Desired::after(None, ports("2001:db8::/64"), Instant::now());
        let pushed = Desired::after(Some(&first), ports("2001:db8:9::/64"), Instant::now());
        store.keep(&pushed).unwrap();
        let restored = store.restore().unwrap().unwrap().desired;
        assert_eq!((restored.generation, restored.provenance), (2, Provenance::Restored));
        assert_eq!(restored.ports, pushed.ports);
        assert_eq!(
            Some(restored.old[&port][0].prefix),
            first.prefix(&port),
            "a prefix that is being withdrawn is restored"
        );
        fs::write(store.path(), "{\"gener").unwrap();
        assert!(store.restore().unwrap_err().to_string().contains("desired.json"));
    }
}
