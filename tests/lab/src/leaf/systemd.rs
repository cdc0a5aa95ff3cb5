//! Debian's systemd as the leaf's first process: [`super::init`] sets the guest up and then becomes systemd. systemd
//! runs the services that a test installs, and none of this computer, whose settings are hidden.
//!
//! Must never: know leafboot. A test installs it as an operator does.

use std::fs::create_dir_all;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};

use super::{Error, write};
use crate::site;

/// The program, from Debian's package systemd.
pub const PROGRAM: &str = "/lib/systemd/systemd";
/// Where an operator and systemd may write, empty at first. The rest of the guest's root is read-only.
const ROOM: [&str; 4] = ["/etc", "/tmp", "/usr/local/bin", "/var"];
/// What the C library needs of this computer's settings.
const SETTINGS: [&str; 4] = ["group", "ld.so.cache", "nsswitch.conf", "passwd"];
/// Debian's units that a guest without disks, consoles and users does not need. Each would take some tenths of a
/// second.
const UNUSED: [&str; 5] = [
    "dbus.socket",
    "dev-hugepages.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-sysusers.service",
    "systemd-update-utmp.service",
];

/// Mounts empty directories for an operator's files, and the laboratory's programs in them again.
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
    // Without it, systemd takes this for a first boot: it enables this computer's units and asks for a time zone.
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
        // Additions of other packages to multi-user.target must not run.
        .args(["--system", "--unit=basic.target", "--log-target=console"])
        // systemd neither looks nor waits for hardware.
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
