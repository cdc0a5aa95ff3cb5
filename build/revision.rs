//! The git revision of a folder.
//!
//! Must never: take the revision of a repository around the folder for the folder's own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Twelve hexadecimal digits of the commit, with `-dirty` if tracked files differ from it. Nothing if the folder is not the
/// top of a git repository, or there is no git.
pub fn of(root: &Path) -> Option<String> {
    git(root, &["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"])
}

/// The files of git that change when another commit is checked out or made. Some may not exist.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let path = |name: &str| git(root, &["rev-parse", "--git-path", name]).map(|path| root.join(path));
    ["HEAD", "logs/HEAD"].into_iter().filter_map(path).collect()
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let run = |arguments: &[&str]| {
        // A look must not take the lock that somebody's `git commit` needs.
        let git =
            Command::new("git").arg("-C").arg(root).args(arguments).env("GIT_OPTIONAL_LOCKS", "0").output();
        let output = git.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
    };
    let top = PathBuf::from(run(&["rev-parse", "--show-toplevel"])?);
    (top.canonicalize().ok()? == root.canonicalize().ok()?).then(|| run(arguments))?
}
