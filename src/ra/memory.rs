//! Stores the advertised options in a file in the state directory. The next run withdraws those that its settings no
//! longer have.
//!
//! Must never: keep the leaf from advertising because the file cannot be read or written.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use tracing::{info, warn};

use crate::state_file;
use leafboot_core::ra::variables::RouterVariables;
use leafboot_core::ra::withdrawn::WithdrawnOptions;

/// The file's name in the state directory.
pub const FILE: &str = "advertised.json";

/// Reads the options that earlier settings advertised, and writes those of the current settings, before anything is
/// advertised. An unchanged file is not written. Returns the options to withdraw.
pub fn load_and_save(directory: &Path, variables: &RouterVariables) -> WithdrawnOptions {
    let path = directory.join(FILE);
    let before = load(&path);
    let now = state_file::now();
    let options = WithdrawnOptions::after(&before.clone().unwrap_or_default(), variables, now.instant);
    let items: Vec<String> = options.items(now.instant).map(ToString::to_string).collect();
    if !items.is_empty() {
        info!(items = items.join(", "), "Router Advertisements withdraw what earlier settings advertised");
    }
    if before.as_ref() != Some(&options)
        && let Err(error) = state_file::replace(&path, options.to_json(now).as_bytes())
    {
        warn!(path = %path.display(), %error, "cannot write the advertised options; a later change of them will not be withdrawn");
    }
    options
}

/// The options that earlier settings advertised; none if the file is missing or damaged. Machines drop options that are
/// not withdrawn when their lifetime ends.
fn load(path: &Path) -> Option<WithdrawnOptions> {
    let log = |error: &dyn Display| {
        warn!(path = %path.display(), %error, "cannot read the options that were advertised; none is withdrawn");
    };
    match fs::read_to_string(path) {
        Ok(text) => {
            WithdrawnOptions::from_json(&text, state_file::now()).inspect_err(|error| log(error)).ok()
        }
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                log(&error);
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
    fn a_change_is_written_and_unchanged_options_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let inode = || fs::metadata(directory.path().join(FILE)).unwrap().ino();
        let (first, second) = (settings("dns = [\"2001:db8::53\"]"), settings("dns = [\"2001:db8::54\"]"));
        load_and_save(directory.path(), &first);
        let written = inode();
        let options = load_and_save(directory.path(), &first);
        assert_eq!((inode(), options.items(state_file::now().instant).count()), (written, 0));
        load_and_save(directory.path(), &second);
        let written = inode();
        let options = load_and_save(directory.path(), &second);
        assert_eq!((inode(), options.items(state_file::now().instant).count()), (written, 1));
    }

    #[test]
    fn a_directory_that_cannot_be_written_does_not_stop_advertisements() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = load_and_save(file.path(), &settings("dns = [\"2001:db8::53\"]"));
        assert_ne!(options, WithdrawnOptions::default());
    }
}
