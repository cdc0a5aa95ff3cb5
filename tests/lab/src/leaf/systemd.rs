//! Debian's systemd as the leaf's first process: the guest is set up by [`super::init`], and handed over then.
//!
//! systemd runs what the test installs, and no service of this computer, whose settings cannot be seen. It must not know
//! leafboot: whoever wants it installs it as an operator does.

use std::fs::create_dir_all;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};

use super::{Error, write};
use crate::site;

/// The program, and Debian's package of the same name has it.
pub const PROGRAM: &str = "/lib/systemd/systemd";
/// Where an operator and systemd may write, empty at first. The rest of the guest's root is read-only.
const ROOM: [&str; 4] = ["/etc", "/tmp", "/usr/local/bin", "/var"];
/// What the C library needs of this computer's settings.
const SETTINGS: [&str; 4] = ["group", "ld.so.cache", "nsswitch.conf", "passwd"];
/// Debian's units that a guest without disks, consoles and users has no use for, each some tenths of a second.
const UNUSED: [&str; 5] = [
    "dbus.socket",
    "dev-hugepages.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-sysusers.service",
    "systemd-update-utmp.service",
];

/// Makes room for an operator's files. What lies below it and is needed, the programs, is shared again.
pub fn make_room(programs: &Path) -> Result<(), Error> {
    let settings: Vec<(&str, Vec<u8>)> = SETTINGS
        .iter()
        .filter_map(|name| Some((*name, std::fs::read(Path::new("/etc").join(name)).ok()?)))
        .collect();
    for directory in ROOM {
        attach("tmpfs", Path::new(directory), MsFlags::empty(), None)?;
    }
    for (name, content) in settings {
        write(Path::new("/etc").join(name), content)?;
    }
    write("/etc/hostname", format!("{}\n", site::LEAF))?;
    // Without it this is a first boot: units of this computer are enabled, and somebody is asked for a time zone.
    write("/etc/machine-id", "1eaf0000000000000000000000000001\n")?;
    for unit in UNUSED {
        link("/dev/null", &Path::new("/etc/systemd/system").join(unit))?;
    }
    link("/run", Path::new("/var/run"))?;
    if !programs.exists() {
        directory(programs)?;
        attach("hostfs", programs, MsFlags::MS_RDONLY, programs.to_str())?;
    }
    Ok(())
}

/// Becomes systemd; returns only on failure.
pub fn take_over() -> Error {
    let source = Command::new(PROGRAM)
        // What other packages add to multi-user.target has no place here.
        .args(["--system", "--unit=basic.target", "--log-target=console"])
        // Hardware is neither looked for nor waited for.
        .env("container", "lab")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .exec();
    Error::Start { program: PROGRAM.to_owned(), source }
}

fn attach(kind: &str, target: &Path, flags: MsFlags, data: Option<&str>) -> Result<(), Error> {
    mount(Some("none"), target, Some(kind), flags, data)
        .map_err(|source| Error::Mount { what: target.to_owned(), source })
}

fn directory(path: &Path) -> Result<(), Error> {
    create_dir_all(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn link(to: &str, path: &Path) -> Result<(), Error> {
    path.parent().map_or(Ok(()), directory)?;
    symlink(to, path).map_err(|source| Error::File { path: path.to_owned(), source })
}
