//! leafboot as a service of the leaf's systemd, with any unit of this repository: installs it as an operator does, and
//! checks it. rdisc6 and curl check a port's cable.

use std::path::Path;
use std::time::Duration;

use leafboot_lab::host::lab::Lab;
use leafboot_lab::host::process::run;
use leafboot_lab::host::{Error, network, proof, until};
use leafboot_lab::site::{self, Port};

pub const LIMIT: Duration = Duration::from_secs(30);
pub const PORT: Port = Port::Ethernet0;
/// Where the units and all else that is installed lie.
pub const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// leafboot's settings file.
pub const SETTINGS: &str = "/etc/leafboot/leafboot.toml";
/// curl, on the port's cable.
pub const CURL: [&str; 6] = ["curl", "-sS", "--max-time", "60", "--interface", "listener0"];

/// Waits until the leaf has started; it may be written to then.
pub fn started(lab: &Lab) -> Result<(), Error> {
    until("systemd has started the leaf", LIMIT, || {
        Ok(lab.leaf.run(&["systemctl", "is-system-running", "--wait"]).ok())
    })
    .map(drop)
}

/// Installs leafboot as `docs/operations.md` says, with a unit of this name.
pub fn install(lab: &Lab, unit: &str) -> Result<(), Error> {
    // The units let leafboot write its default state directory.
    lab.configure(&format!("[state]\ndirectory = \"{}\"\n", site::STATE_DIRECTORY), "")?;
    // The guest may not see the repository, if that lies where the guest has room of its own.
    let (from, copy) =
        (Path::new(REPOSITORY).join("systemd").join(unit), lab.log("leafboot").with_extension("service"));
    std::fs::copy(&from, &copy).map_err(Error::file(&from))?;
    let config = lab.log("leafboot").with_extension("toml");
    for (from, to) in [(config, SETTINGS), (copy, "/etc/systemd/system/leafboot.service")] {
        lab.leaf.run(&["install", "-D", "-m", "644", &from.display().to_string(), to])?;
    }
    // systemd-analyze prints unknown settings on stderr, and succeeds.
    let verify = "systemd-analyze verify leafboot.service 2>&1 | grep leafboot || true";
    assert_eq!(lab.leaf.run(&["sh", "-c", verify])?, "");
    lab.leaf.run(&["systemctl", "enable", "--now", "leafboot"])?;
    match until("leafboot answers on its API socket", LIMIT, || Ok(lab.status().ok())) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Wrong(format!("{error}\n{}", journal(lab)?))),
    }
}

/// What the service has logged.
pub fn journal(lab: &Lab) -> Result<String, Error> {
    lab.leaf.run(&["journalctl", "--no-pager", "-o", "cat", "-u", "leafboot"])
}

/// The warnings and errors that the service itself has logged, without one verdict: curl fetches no kernel after its boot script,
/// and the verdict says so.
pub fn warnings(lab: &Lab) -> Result<String, Error> {
    let only = ["_SYSTEMD_UNIT=leafboot.service", "-p", "warning"];
    let all = lab.leaf.run(&[&["journalctl", "--no-pager", "-o", "cat"][..], &only].concat())?;
    let is_verdict = |line: &&str| line.contains("WARN verdict: boot script answered");
    Ok(all.lines().filter(|line| !is_verdict(line)).map(|line| format!("{line}\n")).collect())
}

/// A property of the service, from systemd.
pub fn property(lab: &Lab, name: &str) -> Result<String, Error> {
    let value = lab.leaf.run(&["systemctl", "show", "--value", "-p", name, "leafboot"])?;
    Ok(value.trim().to_owned())
}

/// Pushes the port, and checks rows, kernel, an advertisement and the relay.
pub fn boots(lab: &Lab) -> Result<(), Error> {
    lab.push(&[PORT])?;
    advertises(lab)?;
    let device = network::listener(PORT);
    let address = format!("{}c0de/64", PORT.network());
    run(&["ip", "-6", "address", "add", &address, "dev", &device, "nodad"])?;
    relays()?;
    let state = lab.leaf.run(&["ls", "/var/lib/leafboot"])?;
    assert_ne!(state, "", "the document is remembered");
    Ok(())
}

/// Checks rows, kernel and an advertisement.
pub fn advertises(lab: &Lab) -> Result<(), Error> {
    until("the port boots", LIMIT, || Ok(proof::boots(lab, PORT).ok()))
}

/// The port's machine gets a boot script.
pub fn relays() -> Result<(), Error> {
    let script =
        until("the relay answers", LIMIT, || Ok(run(&[&CURL, ["-f", &script()].as_slice()].concat()).ok()))?;
    assert!(script.starts_with("#!ipxe"), "{script}");
    Ok(())
}

/// The boot script's URL.
pub fn script() -> String {
    format!("http://[{}]/boot.ipxe", PORT.gateway())
}

/// leafboot's process has only the rights that it needs: systemd leaves out silently what this kernel cannot do.
/// `read_only`: paths that it may not write.
pub fn is_confined(lab: &Lab, pid: &str, read_only: &[&str]) -> Result<(), Error> {
    let read = |path: &str| lab.leaf.run(&["cat", path]);
    let status = read(&format!("/proc/{pid}/status"))?;
    // CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE and CAP_NET_RAW: capabilities(7).
    for line in ["CapBnd:\t0000000000002402", "CapEff:\t0000000000002402", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "no {line} in {status}");
    }
    let mounts = read(&format!("/proc/{pid}/mountinfo"))?;
    let options = |path: &str| {
        let mount = mounts.lines().find(|line| line.split(' ').nth(4) == Some(path));
        mount.and_then(|line| line.split(' ').nth(5)).unwrap_or_default()
    };
    for path in read_only {
        assert!(options(path).starts_with("ro"), "{path} can be written to: {mounts}");
    }
    assert!(options("/var/lib/leafboot").starts_with("rw"), "{mounts}");
    let group = read(&format!("/proc/{pid}/cgroup"))?;
    let group = group.trim().trim_start_matches("0::");
    for (file, limit) in [("memory.max", "536870912\n"), ("pids.max", "64\n")] {
        assert_eq!(read(&format!("/sys/fs/cgroup{group}/{file}"))?, limit, "{file}");
    }
    Ok(())
}

/// The inode number of the API socket's directory. If it changes, containers that have mounted the directory, such as
/// metal-core's, do not see leafboot any more.
pub fn directory(lab: &Lab) -> Result<String, Error> {
    lab.leaf.run(&["stat", "--format=%i", "/run/leafboot"])
}
