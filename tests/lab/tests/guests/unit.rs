//! leafboot as a service, as an operator installs it: Debian's systemd runs `systemd/leafboot.service` with everything
//! that it forbids. rdisc6 and curl check a port's cable.

use std::path::{Path, PathBuf};

use crate::service::{
    self, CURL, LIMIT, PORT, SETTINGS, advertises, is_confined, property, relays, started, warnings,
};
use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::leaf::Init;
use leafboot_lab::host::process::Process;
use leafboot_lab::host::{Error, proof, until};
use leafboot_lab::partition::journal::Server;
use leafboot_lab::site;

#[test]
fn the_unit_runs_and_a_restart_loses_no_request() -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let story = |lab: &mut Lab| {
        install(lab, &programs.leafboot)?;
        boots(lab)?;
        is_confined(lab, &property(lab, "MainPID")?, &["/etc", "/proc/sys", "/var"])?;
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

/// Installs leafboot as `docs/operations.md` says.
fn install(lab: &Lab, leafboot: &Path) -> Result<(), Error> {
    // Requests to the boot service leave through the boot VRF: no other VRF of this leaf has a route to it.
    let boot_service = format!("[relay]\nrequests = 0\n[relay.boot_service]\ndevice = {:?}", site::BOOT_VRF);
    lab.configure("[relay.boot_service]", &boot_service)?;
    lab.leaf.run(&["touch", "/usr/local/bin/leafboot"])?;
    lab.leaf.run(&["mount", "--bind", &leafboot.display().to_string(), "/usr/local/bin/leafboot"])?;
    started(lab)?;
    service::install(lab, "leafboot.service")
}

/// Its requests go through the VRF, and systemd has its listeners.
fn boots(lab: &Lab) -> Result<(), Error> {
    service::boots(lab)?;
    let asked = lab.partition.journal()?.into_iter().rfind(|entry| entry.server == Server::BootService);
    assert_eq!(asked.map(|entry| entry.peer.ip()), Some(PORT.gateway().into()), "not through the VRF");
    // One listener: the settings have no TLS.
    assert_eq!(property(lab, "NFileDescriptorStore")?, "1");
    Ok(())
}

/// `systemctl restart` while machines ask without a pause, over one connection and over one each.
fn restarts(lab: &Lab) -> Result<(), Error> {
    let (first, directory) = (property(lab, "MainPID")?, service::directory(lab)?);
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
    assert_eq!(service::directory(lab)?, directory);
    proof::boots(lab, PORT)
}

/// `kill -9`: systemd starts it again, and no push is needed.
fn is_restarted(lab: &Lab) -> Result<(), Error> {
    assert_eq!(property(lab, "NRestarts")?, "0");
    let pid = property(lab, "MainPID")?;
    lab.leaf.run(&["kill", "-9", &pid])?;
    until("systemd has started it again", LIMIT, || {
        Ok((property(lab, "NRestarts")? == "1" && property(lab, "ActiveState")? == "active").then_some(()))
    })?;
    relays()?;
    advertises(lab)
}

/// With refused settings systemd does not give up, and leafboot runs when they are corrected.
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
    // The boot service is asked through the boot VRF here, which no leaf should do. It is the only warning, so the priorities
    // arrive.
    let warnings = warnings(lab)?;
    let is_known = |line: &&str| line.contains("relay.boot_service.device: connections use the gateway");
    assert!(warnings.lines().any(|line| is_known(&line)), "{warnings}");
    let bad: Vec<&str> = warnings.lines().filter(|line| !is_known(line)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    lab.leaf.run(&["systemctl", "stop", "leafboot"])?;
    assert_eq!(property(lab, "Result")?, "success");
    Ok(())
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
