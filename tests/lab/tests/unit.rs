//! leafboot as a service, as an operator installs it: Debian's systemd runs `systemd/leafboot.service` with everything that
//! it forbids. What a port's cable shows is asked by rdisc6 and curl.

use std::path::{Path, PathBuf};
use std::time::Duration;

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::leaf::Init;
use leafboot_lab::host::process::{Process, run};
use leafboot_lab::host::{Error, network, proof, until};
use leafboot_lab::partition::journal::Server;
use leafboot_lab::site::{self, Port};

const LIMIT: Duration = Duration::from_secs(30);
const PORT: Port = Port::Ethernet0;
/// The unit, as it is in this repository.
const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../systemd/leafboot.service");
/// Where it has its settings.
const SETTINGS: &str = "/etc/leafboot/leafboot.toml";

#[test]
fn the_unit_runs_and_a_restart_loses_no_request() -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let story = |lab: &mut Lab| {
        install(lab, &programs.leafboot)?;
        boots(lab)?;
        is_confined(lab)?;
        restarts(lab)?;
        is_restarted(lab)?;
        is_tried_again(lab)?;
        is_clean(lab)
    };
    Lab::with_init(&programs, Init::Systemd, story).map_err(|error| {
        eprintln!("{error}");
        "the unit does not hold".to_owned()
    })
}

/// As the README says.
fn install(lab: &Lab, leafboot: &Path) -> Result<(), Error> {
    // Where the unit lets leafboot keep its state is the default.
    lab.configure(&format!("[state]\ndirectory = \"{}\"\n", site::STATE_DIRECTORY), "")?;
    // The boot service is asked through a VRF: this one, for no other of the leaf's leads there.
    let boot_service = format!("[relay]\nrequests = 0\n[relay.boot_service]\ndevice = {:?}", site::BOOT_VRF);
    lab.configure("[relay.boot_service]", &boot_service)?;
    let config = lab.log("leafboot").with_extension("toml");
    let copy = |from: &Path, to: &str| {
        lab.leaf.run(&["install", "-D", "-m", "644", &from.display().to_string(), to]).map(drop)
    };
    copy(&config, SETTINGS)?;
    // The guest may not see the repository, if that lies where the guest has room of its own.
    let unit = lab.log("leafboot").with_extension("service");
    std::fs::copy(UNIT, &unit).map_err(Error::file(Path::new(UNIT)))?;
    copy(&unit, "/etc/systemd/system/leafboot.service")?;
    lab.leaf.run(&["touch", "/usr/local/bin/leafboot"])?;
    lab.leaf.run(&["mount", "--bind", &leafboot.display().to_string(), "/usr/local/bin/leafboot"])?;
    until("systemd has started the leaf", LIMIT, || {
        Ok(lab.leaf.run(&["systemctl", "is-system-running", "--wait"]).ok())
    })?;
    // It says on stderr what it does not understand, and succeeds.
    let verify = "systemd-analyze verify leafboot.service 2>&1 | grep leafboot || true";
    assert_eq!(lab.leaf.run(&["sh", "-c", verify])?, "");
    lab.leaf.run(&["systemctl", "enable", "--now", "leafboot"]).map(drop)
}

/// What systemd says about the service.
fn property(lab: &Lab, name: &str) -> Result<String, Error> {
    let value = lab.leaf.run(&["systemctl", "show", "--value", "-p", name, "leafboot"])?;
    Ok(value.trim().to_owned())
}

/// A push: rows, kernel, an advertisement, and the relay.
fn boots(lab: &Lab) -> Result<(), Error> {
    lab.push(&[PORT])?;
    until("the port boots", LIMIT, || Ok(proof::boots(lab, PORT).ok()))?;
    let device = network::listener(PORT);
    let address = format!("{}c0de/64", PORT.network());
    run(&["ip", "-6", "address", "add", &address, "dev", &device, "nodad"])?;
    relays()?;
    let asked = lab.partition.journal()?.into_iter().rfind(|entry| entry.server == Server::BootService);
    assert_eq!(asked.map(|entry| entry.peer.ip()), Some(PORT.gateway().into()), "not through the VRF");
    // One listener: the settings have no TLS.
    assert_eq!(property(lab, "NFileDescriptorStore")?, "1");
    let state = lab.leaf.run(&["ls", "/var/lib/leafboot"])?;
    assert_ne!(state, "", "the document is remembered");
    Ok(())
}

fn relays() -> Result<(), Error> {
    let script =
        until("the relay answers", LIMIT, || Ok(run(&[&CURL, ["-f", &script()].as_slice()].concat()).ok()))?;
    assert!(script.starts_with("#!ipxe"), "{script}");
    Ok(())
}

/// The unit's restrictions are in force: what this kernel cannot do systemd leaves out without a word.
fn is_confined(lab: &Lab) -> Result<(), Error> {
    let process = format!("/proc/{}", property(lab, "MainPID")?);
    let status = lab.leaf.run(&["cat", &format!("{process}/status")])?;
    // CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE and CAP_NET_RAW: capabilities(7).
    for line in ["CapBnd:\t0000000000002402", "CapEff:\t0000000000002402", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "no {line} in {status}");
    }
    let mounts = lab.leaf.run(&["cat", &format!("{process}/mountinfo")])?;
    let options = |path: &str| {
        let mount = mounts.lines().find(|line| line.split(' ').nth(4) == Some(path));
        mount.and_then(|line| line.split(' ').nth(5)).unwrap_or_default()
    };
    for path in ["/etc", "/proc/sys", "/var"] {
        assert!(options(path).starts_with("ro"), "{path} can be written to: {mounts}");
    }
    assert!(options("/var/lib/leafboot").starts_with("rw"), "{mounts}");
    let group = property(lab, "ControlGroup")?;
    for (file, limit) in [("memory.max", "536870912\n"), ("pids.max", "64\n")] {
        assert_eq!(lab.leaf.run(&["cat", &format!("/sys/fs/cgroup{group}/{file}")])?, limit, "{file}");
    }
    Ok(())
}

/// `systemctl restart` while machines ask without a pause, over one connection and over one each.
fn restarts(lab: &Lab) -> Result<(), Error> {
    let first = property(lab, "MainPID")?;
    let streams =
        [Stream::start(lab, "kept", &[])?, Stream::start(lab, "closing", &["-H", "Connection: close"])?];
    let go_on = |more: usize| {
        for stream in &streams {
            let wanted = stream.answers()?.len() + more;
            until("machines are answered", LIMIT, || Ok((stream.answers()?.len() >= wanted).then_some(())))?;
        }
        Ok::<_, Error>(())
    };
    go_on(20)?;
    lab.leaf.run(&["systemctl", "restart", "leafboot"])?;
    go_on(20)?;
    for stream in &streams {
        let answers = stream.answers()?;
        let lost: Vec<&String> = answers.iter().filter(|answer| *answer != "200").take(3).collect();
        assert!(lost.is_empty(), "of {} lines: {lost:?} …", answers.len());
    }
    assert_ne!(property(lab, "MainPID")?, first);
    proof::boots(lab, PORT)
}

/// `kill -9`: systemd starts it again, and nobody has to push.
fn is_restarted(lab: &Lab) -> Result<(), Error> {
    assert_eq!(property(lab, "NRestarts")?, "0");
    let pid = property(lab, "MainPID")?;
    lab.leaf.run(&["kill", "-9", &pid])?;
    until("systemd has started it again", LIMIT, || {
        Ok((property(lab, "NRestarts")? == "1" && property(lab, "ActiveState")? == "active").then_some(()))
    })?;
    relays()?;
    until("the port boots", LIMIT, || Ok(proof::boots(lab, PORT).ok()))
}

/// Settings that are refused: systemd does not give up, and all is well when they are.
fn is_tried_again(lab: &Lab) -> Result<(), Error> {
    let good = lab.leaf.run(&["cat", SETTINGS])?;
    lab.leaf.run_with(&["tee", SETTINGS], "leaf = 1\n")?;
    lab.leaf.run(&["systemctl", "kill", "--signal=KILL", "leafboot"])?;
    // By default systemd gives up after five starts within 10 s.
    until("systemd goes on trying", LIMIT, || {
        let tries = property(lab, "NRestarts")?;
        Ok((tries.parse::<u32>().unwrap_or_default() > 7).then_some(()))
    })?;
    lab.leaf.run_with(&["tee", SETTINGS], &good)?;
    relays()
}

fn is_clean(lab: &Lab) -> Result<(), Error> {
    let status = lab.leaf.run(&["systemctl", "status", "--no-pager", "leafboot"])?;
    assert!(status.contains("Active: active (running)"), "{status}");
    assert_eq!(lab.leaf.run(&["systemctl", "is-system-running"])?, "running\n");
    let journal = lab.leaf.run(&["journalctl", "--no-pager", "-o", "cat", "-u", "leafboot"])?;
    let bad: Vec<&str> =
        journal.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    lab.leaf.run(&["systemctl", "stop", "leafboot"])?;
    assert_eq!(property(lab, "Result")?, "success");
    Ok(())
}

const CURL: [&str; 6] = ["curl", "-sS", "--max-time", "60", "--interface", "listener0"];

fn script() -> String {
    format!("http://[{}]/boot.ipxe", PORT.gateway())
}

/// A machine that asks for one script after the other until it is dropped.
struct Stream {
    log: PathBuf,
    _process: Process,
}

impl Stream {
    fn start(lab: &Lab, name: &'static str, options: &[&str]) -> Result<Stream, Error> {
        let log = lab.log(name);
        let url = format!("http://\\[{}\\]/boot.ipxe?n=[1-1000000]", PORT.gateway());
        let told = ["-o", "/dev/null", "-w", "%{stderr}%{http_code}\n", &url];
        let argv: Vec<String> = [&CURL, options, &told].concat().into_iter().map(str::to_owned).collect();
        Ok(Stream { _process: Process::start(name, &argv, &log)?, log })
    }

    /// The statuses so far, and what curl complained about.
    fn answers(&self) -> Result<Vec<String>, Error> {
        let text = std::fs::read_to_string(&self.log).map_err(Error::file(&self.log))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().map(str::to_owned).collect())
    }
}
