//! Makes the files that a machine boots: Debian's cloud kernel, an initramfs with busybox, and a CD image with iPXE.
//! Makes the library that the leaf's kernel needs, too.
//!
//! The kernel is downloaded once and kept below the target directory; it is never installed. The rest is made anew each
//! time, in less than a second, so that nothing old is ever booted.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::leaf::Init;
use super::process::run;
use crate::leaf::systemd;
use crate::site;

/// The kernel modules that a machine needs, each after its dependencies.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// Files that must be installed, and the Debian package of each.
const PREREQUISITES: [(&str, &str); 15] = [
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/share/seabios/bios-256k.bin", "seabios"),
    ("/boot/ipxe.lkrn", "ipxe"),
    ("/usr/lib/ISOLINUX/isolinux.bin", "isolinux"),
    ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
    ("/usr/bin/xorriso", "xorriso"),
    ("/bin/busybox", "busybox-static"),
    ("/bin/cpio", "cpio"),
    ("/sbin/ip", "iproute2"),
    ("/usr/bin/redis-server", "redis-server"),
    ("/usr/bin/cc", "gcc libc6-dev"),
    ("/usr/bin/linux.uml", "user-mode-linux"),
    ("/usr/sbin/dnsmasq", "dnsmasq-base"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/rdisc6", "ndisc6"),
];

/// Files that a leaf with services needs in addition to [`PREREQUISITES`].
const SERVICE_PREREQUISITES: [(&str, &str); 2] =
    [(systemd::PROGRAM, "systemd"), ("/usr/bin/docker", "docker.io")];

/// Names the first missing prerequisite of a leaf with this first process.
pub fn check_prerequisites(init: Init) -> Result<(), Error> {
    let services = match init {
        Init::Lab => [].as_slice(),
        Init::Systemd => SERVICE_PREREQUISITES.as_slice(),
    };
    match PREREQUISITES.iter().chain(services).find(|(path, _)| !Path::new(path).exists()) {
        None => Ok(()),
        Some((path, package)) => {
            Err(Error::Missing { what: (*path).to_owned(), command: format!("apt-get install {package}") })
        }
    }
}

/// Debian's cloud kernel, as its package has it.
#[derive(Debug)]
pub struct Kernel {
    directory: PathBuf,
}

impl Kernel {
    /// The kernel from the cache, or from Debian. Needs the computer's own network the first time.
    pub fn get(cache: &Path) -> Result<Kernel, Error> {
        let directory = cache.join("kernel");
        if !directory.exists() {
            // Each download has its own directory: a run that is cut off leaves no half kernel, and tests run side by
            // side.
            let (process, thread) = (std::process::id(), std::thread::current().id());
            let unfinished = cache.join(format!("kernel-{process}-{thread:?}"));
            fs::create_dir_all(&unfinished).map_err(Error::file(&unfinished))?;
            download(&unfinished)?;
            match fs::rename(&unfinished, &directory) {
                // Another test was first.
                Err(_) if directory.exists() => {
                    fs::remove_dir_all(&unfinished).map_err(Error::file(&unfinished))?;
                }
                renamed => renamed.map_err(Error::file(&directory))?,
            }
        }
        Ok(Kernel { directory })
    }

    fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    fn module(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.ko"))
    }
}

/// Fetches the package and keeps the kernel and the modules of it.
fn download(directory: &Path) -> Result<(), Error> {
    let depends = run(&["apt-cache", "depends", "linux-image-cloud-amd64"])?;
    let package =
        depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).ok_or_else(|| {
            Error::Missing {
                what: "the package linux-image-cloud-amd64".to_owned(),
                command: "apt-get update".to_owned(),
            }
        })?;
    let here = directory.display().to_string();
    run(&[
        "sh",
        "-c",
        "cd \"$1\" && apt-get -qq -o APT::Sandbox::User=root download \"$2\"",
        "sh",
        &here,
        package,
    ])
    .map_err(|error| Error::Missing { what: error.to_string(), command: "apt-get update".to_owned() })?;
    run(&["sh", "-c", "cd \"$1\" && dpkg -x *.deb package && rm *.deb", "sh", &here])?;
    let package = directory.join("package");
    let boot = run(&["find", &package.display().to_string(), "-name", "vmlinuz-*", "-o", "-name", "*.ko"])?;
    for found in boot.lines().map(Path::new) {
        let name = found.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kept = match name.strip_suffix(".ko") {
            Some(module) if MODULES.contains(&module) => directory.join(name),
            Some(_) => continue,
            None => directory.join("vmlinuz"),
        };
        fs::rename(found, &kept).map_err(Error::file(&kept))?;
    }
    fs::remove_dir_all(&package).map_err(Error::file(&package))
}

/// The files that machines boot from.
#[derive(Debug)]
pub struct Artifacts {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

impl Artifacts {
    /// Makes them in a directory.
    pub fn make(kernel: &Kernel, directory: &Path) -> Result<Artifacts, Error> {
        Ok(Artifacts { kernel: kernel.image(), initramfs: initramfs(kernel, &directory.join("initramfs"))? })
    }
}

/// What user-mode-linux needs to run on any CPU: a library that is loaded before its others.
pub fn xstate(directory: &Path) -> Result<PathBuf, Error> {
    let (source, library) = (directory.join("xstate.c"), directory.join("xstate.so"));
    write(&source, include_str!("../leaf/xstate.c"))?;
    let (source, made) = (source.display().to_string(), library.display().to_string());
    run(&["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", &made, &source])?;
    Ok(library)
}

/// How the script on a CD finds the leaf's relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finds {
    /// By the link-local address of the router that sends the Router Advertisements.
    LinkLocal,
    /// By its name, which all leaves share.
    Name,
}

/// A CD image that starts Debian's iPXE with the machine's script.
pub fn cd(directory: &Path, finds: Finds) -> Result<PathBuf, Error> {
    const MENU: &str = "TIMEOUT 0\nDEFAULT ipxe\nLABEL ipxe\n KERNEL ipxe.krn\n INITRD start.ipx\n";
    const START: &str = include_str!("../../machine/start.ipxe");
    let (name, start) = match finds {
        Finds::LinkLocal => ("cd", START.to_owned()),
        Finds::Name => ("cd-by-name", START.replace("[${net${nic}/gateway6}%net${nic}]", site::RELAY_NAME)),
    };
    let directory = &directory.join(name);
    fs::create_dir_all(directory).map_err(Error::file(directory))?;
    copy("/boot/ipxe.lkrn", &directory.join("ipxe.krn"))?;
    copy("/usr/lib/ISOLINUX/isolinux.bin", &directory.join("isolinux.bin"))?;
    copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", &directory.join("ldlinux.c32"))?;
    write(&directory.join("start.ipx"), &start)?;
    write(&directory.join("isolinux.cfg"), MENU)?;
    let image = directory.with_extension("iso");
    let options =
        "-as mkisofs -quiet -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table -o";
    let (image_text, directory_text) = (image.display().to_string(), directory.display().to_string());
    let mut argv: Vec<&str> = std::iter::once("xorriso").chain(options.split(' ')).collect();
    argv.extend([image_text.as_str(), directory_text.as_str()]);
    run(&argv)?;
    Ok(image)
}

/// busybox, the modules and the machine's init, packed as the kernel expects it.
fn initramfs(kernel: &Kernel, directory: &Path) -> Result<PathBuf, Error> {
    for name in ["bin", "modules", "proc", "sys", "dev"] {
        let path = directory.join(name);
        fs::create_dir_all(&path).map_err(Error::file(&path))?;
    }
    copy("/bin/busybox", &directory.join("bin/busybox"))?;
    for (number, name) in MODULES.iter().enumerate() {
        copy(kernel.module(name), &directory.join(format!("modules/{number}-{name}.ko")))?;
    }
    write(&directory.join("init"), include_str!("../../machine/init"))?;
    let archive = directory.with_extension("gz");
    let pack = "cd \"$1\" && chmod 755 init && find . | cpio -o -H newc --quiet -R 0:0 | gzip -1 > \"$2\"";
    run(&["sh", "-ec", pack, "sh", &directory.display().to_string(), &archive.display().to_string()])?;
    Ok(archive)
}

fn copy(from: impl AsRef<Path>, to: &Path) -> Result<(), Error> {
    fs::copy(from.as_ref(), to).map(drop).map_err(Error::file(from.as_ref()))
}

fn write(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::file(path))
}
