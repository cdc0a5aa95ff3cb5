//! The file edge: keeps the last accepted document, so that a restarted agent remembers what it served.
//!
//! Must never: leave half a document behind.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use thiserror::Error;

use leafboot_core::desired::{Desired, DocumentError, Now};

/// Why the document could not be kept or found again.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kept file is damaged.
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
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// A store in `directory`, which is made when the first document is kept.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The document of the last run; none on the first.
    pub fn restore(&self) -> Result<Option<Desired>, StoreError> {
        let path = self.path();
        match fs::read_to_string(&path) {
            Ok(text) => {
                let desired = Desired::from_kept(&text, now());
                desired.map(Some).map_err(|source| StoreError::Damaged { path, source })
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// Keeps a document; a crash leaves the old one or the new one.
    pub fn keep(&self, desired: &Desired) -> Result<(), StoreError> {
        let path = self.path();
        replace(&path, desired.to_kept(now()).as_bytes()).map_err(|source| StoreError::Io { path, source })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("desired.json")
    }
}

/// Writes a file of the state directory, which is made when it is not there: aside, synced and renamed, so that a crash
/// leaves the old text or the new one. `path` is absolute.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let aside = path.with_added_extension("new");
    write_aside(&aside, text)
        .and_then(|()| fs::rename(&aside, path))
        // Half a text would take what room there is, and there may be none.
        .inspect_err(|_| drop(fs::remove_file(&aside)))?;
    File::open(directory)?.sync_all()
}

fn write_aside(aside: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(aside)?;
    file.write_all(text)?;
    file.sync_all()
}

/// This moment, as what is kept over restarts counts it.
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::desired::Provenance;
    use leafboot_core::names::PortName;
    use std::collections::BTreeMap;

    #[test]
    fn a_document_survives_and_a_damaged_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(&directory.path().join("state"));
        assert!(store.restore().unwrap().is_none());
        let port: PortName = "Ethernet0".parse().unwrap();
        let ports = |prefix: &str| BTreeMap::from([(port.clone(), prefix.parse().unwrap())]);
        let first = Desired::after(None, ports("2001:db8::/64"), Instant::now());
        let pushed = Desired::after(Some(&first), ports("2001:db8:9::/64"), Instant::now());
        store.keep(&pushed).unwrap();
        let restored = store.restore().unwrap().unwrap();
        assert_eq!((restored.generation, restored.provenance), (2, Provenance::Restored));
        assert_eq!(restored.ports, pushed.ports);
        assert_eq!(restored.old[&port][0].prefix, first.ports[&port], "what was being withdrawn still is");
        fs::write(store.path(), "{\"gener").unwrap();
        assert!(store.restore().unwrap_err().to_string().contains("desired.json"));
    }
}
