//! Names the build for `leafboot --version` and the log: the package's version and, in a release build, the git revision.
//!
//! `LEAFBOOT_REVISION` in the environment names the revision of a build without git. A debug build asks no git: or each
//! commit would compile everything anew.
//!
//! Also makes the shells' completions and the manual pages, which `leafboot completions` and `leafboot man` print.
//!
//! Must never: fail a build because there is no git.

mod pages;
mod revision;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed=LEAFBOOT_REVISION");
    let root = variable("CARGO_MANIFEST_DIR").unwrap_or_default();
    let is_release = variable("PROFILE").as_deref() == Some("release");
    let revision = match variable("LEAFBOOT_REVISION") {
        None if is_release => of_git(Path::new(&root)),
        given => given,
    };
    let what = revision.or_else(|| (!is_release).then(|| "debug build".to_owned()));
    let version = variable("CARGO_PKG_VERSION").unwrap_or_default();
    let version = what.map_or(version.clone(), |what| format!("{version} ({what})"));
    println!("cargo::rustc-env=LEAFBOOT_VERSION={version}");
    println!("cargo::rerun-if-changed=src/cli.rs");
    pages::write(Path::new(&variable("OUT_DIR").unwrap_or_default()))
}

/// The revision, asked again when there is another one, or what is compiled differs from it.
fn of_git(root: &Path) -> Option<String> {
    let sources = ["Cargo.lock", "Cargo.toml", "core", "src"].map(|name| root.join(name));
    for path in sources.into_iter().chain(revision::files(root)).filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    revision::of(root)
}
