//! The image cache: files under their URL paths, as metal-image-cache-sync keeps them.
//!
//! It does not authenticate its clients.
//!
//! Must never: serve a file outside its directory.

use std::path::{Component, Path, PathBuf};

use hyper::{Method, StatusCode};

use super::behaviour::Behaviour;
use super::journal::{Entry, Journal, Server};
use super::{Answer, Head, plain};

const BYTES: &str = "application/octet-stream";

pub(super) fn answer(head: &Head, behaviour: &Behaviour, files: &Path, journal: &Journal) -> Answer {
    let found = inside(files, head.request.uri().path()).and_then(|path| std::fs::read(path).ok());
    let method = head.request.method();
    let answer = match (method == Method::GET || method == Method::HEAD, found) {
        (false, _) => plain(StatusCode::METHOD_NOT_ALLOWED, BYTES, ""),
        (true, None) => plain(StatusCode::NOT_FOUND, BYTES, ""),
        (true, Some(content)) => plain(StatusCode::OK, BYTES, content),
    };
    // HEAD is the leaf's probe; the journal has what machines fetch.
    if method != Method::HEAD {
        journal.write(&Entry::new(Server::Cache, head, behaviour, answer.status()));
    }
    answer
}

/// The file of a URL path, unless it would lead out of the directory.
fn inside(files: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.strip_prefix('/')?);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| files.join(relative))
}

#[cfg(test)]
mod tests {
    use super::inside;
    use std::path::Path;

    #[test]
    fn a_path_never_leads_out_of_the_directory() {
        let files = Path::new("/files");
        assert_eq!(inside(files, "/a/b").as_deref(), Some(Path::new("/files/a/b")));
        assert_eq!(inside(files, "/../etc/passwd"), None);
        assert_eq!(inside(files, "//etc/passwd"), None);
    }
}
