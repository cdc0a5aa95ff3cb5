//! The file edge of what machines have been told: kept in the state directory, beside the last document.
//!
//! Must never: keep the leaf from advertising because a file cannot be read or written.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use tracing::{info, warn};

use crate::state_file;
use leafboot_core::ra::variables::RouterVariables;
use leafboot_core::ra::withdrawn::Told;

/// The file's name.
pub const FILE: &str = "advertised.json";

/// What these settings tell after what earlier ones told, which is remembered for the next run before anything is
/// advertised. What is remembered already is not written again.
pub fn remember(directory: &Path, settings: &RouterVariables) -> Told {
    let path = directory.join(FILE);
    let before = recall(&path);
    let now = state_file::now();
    let told = Told::after(before.as_ref().unwrap_or(&Told::default()), settings, now.instant);
    let withdrawn: Vec<String> = told.withdrawn(now.instant).map(ToString::to_string).collect();
    if !withdrawn.is_empty() {
        info!(withdrawn = withdrawn.join(", "), "withdraws what earlier settings advertised");
    }
    if before.as_ref() != Some(&told)
        && let Err(error) = state_file::replace(&path, told.to_kept(now).as_bytes())
    {
        warn!(path = %path.display(), %error, "cannot remember what is advertised: a later change of it will not be withdrawn");
    }
    told
}

/// What was told before. A damaged memory is none: what machines hold ends with its lifetime.
fn recall(path: &Path) -> Option<Told> {
    let cannot =
        |error: &dyn Display| warn!(path = %path.display(), %error, "cannot remember what was advertised");
    match fs::read_to_string(path) {
        Ok(text) => Told::from_kept(&text, state_file::now()).inspect_err(|error| cannot(error)).ok(),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                cannot(&error);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use leafboot_core::settings::Settings;

    fn settings(ra: &str) -> RouterVariables {
        let text = format!(
            "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[ra]\n{ra}\n[relay]\n\
             boot_service = {{ origins = [\"http://a\"] }}\ncache = {{ name = \"http://c\" }}\n"
        );
        Settings::parse(&text).unwrap().ra
    }

    #[test]
    fn a_change_is_written_and_an_unchanged_memory_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let inode = || fs::metadata(directory.path().join(FILE)).unwrap().ino();
        let (first, second) = (settings("dns = [\"2001:db8::53\"]"), settings("dns = [\"2001:db8::54\"]"));
        remember(directory.path(), &first);
        let written = inode();
        let told = remember(directory.path(), &first);
        assert_eq!((inode(), told.withdrawn(state_file::now().instant).count()), (written, 0));
        remember(directory.path(), &second);
        let written = inode();
        let told = remember(directory.path(), &second);
        assert_eq!((inode(), told.withdrawn(state_file::now().instant).count()), (written, 1));
    }

    #[test]
    fn a_directory_that_cannot_be_written_keeps_nobody_from_advertising() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let told = remember(file.path(), &settings("dns = [\"2001:db8::53\"]"));
        assert_ne!(told, Told::default());
    }
}
