//! The file edge of what machines have been told: kept in the state directory, beside the last document.
//!
//! Must never: keep the leaf from advertising because a file cannot be read or written.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use tracing::{info, warn};

use super::told::Told;
use crate::config::Ra;
use crate::store;

/// The file's name.
pub const FILE: &str = "advertised.json";

/// What these settings tell after what earlier ones told, which is remembered for the next run before anything is
/// advertised.
pub fn remember(directory: &Path, settings: &Ra) -> Told {
    let path = directory.join(FILE);
    let told = Told::after(&recall(&path), settings, Instant::now());
    let withdrawn: Vec<String> = told.withdrawn(Instant::now()).map(ToString::to_string).collect();
    if !withdrawn.is_empty() {
        info!(withdrawn = withdrawn.join(", "), "withdraws what earlier settings advertised");
    }
    if let Err(error) = store::replace(&path, told.to_kept(store::now()).as_bytes()) {
        warn!(path = %path.display(), %error, "cannot remember what is advertised: a later change of it will not be withdrawn");
    }
    told
}

/// What was told before. A damaged memory is no memory: what machines hold ends with its lifetime.
fn recall(path: &Path) -> Told {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Told::default(),
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot remember what was advertised");
            return Told::default();
        }
    };
    Told::from_kept(&text, store::now()).unwrap_or_else(|error| {
        warn!(path = %path.display(), %error, "cannot remember what was advertised");
        Told::default()
    })
}
