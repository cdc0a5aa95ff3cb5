//! Runs the rows of a drift test on a leaf whose ports have settled, and checks the leaf after each row.
//!
//! Owns: what must hold after every row. Must never: say what a row does; that is the tests' part.

use std::path::Path;
use std::time::{Duration, Instant};

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::proof::KernelPort;
use leafboot_lab::host::{self, Error};
use leafboot_lab::site::{self, Port};

/// leafboot waits 2 s or 10 s until it takes a fact for lost, each attempt waits longer than the one before, and the leaf
/// has one slow CPU.
pub const LIMIT: Duration = Duration::from_secs(40);

/// A change of a settled leaf, and its required results.
pub struct Row<'a> {
    /// Its name in a failure.
    pub name: &'a str,
    /// What leafboot must have logged before the port has settled again: a state of the port, a write, a repair.
    pub told: &'a [&'a str],
    /// The isolation gaps that the row itself makes, in the observer's words.
    pub gaps: &'a [&'a str],
}

/// A leaf with leafboot on it, both ports settled in boot.
pub struct Ground<'a> {
    pub lab: &'a mut Lab,
    failed: Vec<String>,
}

/// Starts a leaf and leafboot, has both ports boot, does the rows, and fails with the names of those that failed.
pub fn on_settled_leaf(rows: impl FnOnce(&mut Ground<'_>) -> Result<(), Error> + Send) -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let work = |lab: &mut Lab| {
        lab.start_leafboot()?;
        let watch = format!("watch {} {} DEFAULT_RULE DENY_MACHINES", site::BOOT_VRF, site::BOOT_ACL);
        order(lab, &watch)?;
        lab.push(&Port::ALL)?;
        let mut ground = Ground { lab, failed: Vec::new() };
        if let Err(error) = rows(&mut ground) {
            ground.failed.push(error.to_string());
        }
        match ground.failed.is_empty() {
            true => Ok(()),
            false => Err(Error::Wrong(ground.failed.join("\n"))),
        }
    };
    Lab::with(&programs, work).map_err(|error| {
        eprintln!("{error}");
        "what was undone did not come back".to_owned()
    })
}

impl Ground<'_> {
    /// Does one row from a settled leaf. A row that fails is noted, and the next one has its turn if both ports settle.
    pub fn row(
        &mut self,
        row: &Row<'_>,
        act: impl FnOnce(&Lab, &Mark) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for port in Port::ALL {
            self.settles(port).map_err(|error| Error::Wrong(format!("before «{}»: {error}", row.name)))?;
        }
        let started = Instant::now();
        match self.try_row(row, act) {
            Ok(()) => println!("{}: {} ms", row.name, started.elapsed().as_millis()),
            Err(error) => self.failed.push(format!("«{}»: {error}", row.name)),
        }
        Ok(())
    }

    fn try_row(
        &mut self,
        row: &Row<'_>,
        act: impl FnOnce(&Lab, &Mark) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mark = Mark::now(self.lab)?;
        act(self.lab, &mark)?;
        for told in row.told {
            until(&format!("leafboot says «{told}»"), || {
                Ok(mark.leafboot(self.lab)?.contains(told).then_some(()))
            })?;
        }
        for port in Port::ALL {
            self.settles(port)?;
            kernel_boots(self.lab, port)?;
        }
        let gaps: Vec<String> = mark.gaps(self.lab)?;
        let is_own = |gap: &String| row.gaps.iter().any(|own| gap.contains(own));
        let ours: Vec<&String> = gaps.iter().filter(|gap| !is_own(gap)).collect();
        if ours.is_empty() { Ok(()) } else { Err(Error::Wrong(format!("isolation gaps: {ours:#?}"))) }
    }

    /// Waits until a port has settled in boot.
    pub fn settles(&self, port: Port) -> Result<(), Error> {
        settles(self.lab, port, "boot")
    }
}

/// Waits until a port has settled in a state.
pub fn settles(lab: &Lab, port: Port, state: &str) -> Result<(), Error> {
    let mut last = serde_json::Value::Null;
    let settled = until(&format!("{port} is {state} and has settled"), || {
        last = lab.status()?[port.name()].take();
        Ok((last["state"] == state && last["settled"] == true).then_some(()))
    });
    settled.map_err(|error| Error::Wrong(format!("{error}; it is {last}")))
}

/// Waits until the API's answer for a port contains a text.
pub fn waits(lab: &Lab, port: Port, text: &str) -> Result<(), Error> {
    let mut last = serde_json::Value::Null;
    let said = until(&format!("{port} waits: {text}"), || {
        last = lab.status()?[port.name()].take();
        let is_said = last["waiting"]["message"].as_str().is_some_and(|waiting| waiting.contains(text));
        Ok((is_said && last["settled"] == false).then_some(()))
    });
    said.map_err(|error| Error::Wrong(format!("{error}; it is {last}")))
}

/// The lengths of the logs when a row began.
pub struct Mark {
    leafboot: usize,
    model: usize,
}

impl Mark {
    pub fn now(lab: &Lab) -> Result<Mark, Error> {
        Ok(Mark { leafboot: log(lab, "leafboot")?.len(), model: log(lab, "sonic-model")?.len() })
    }

    /// What leafboot has logged since.
    pub fn leafboot(&self, lab: &Lab) -> Result<String, Error> {
        Ok(log(lab, "leafboot")?.split_off(self.leafboot))
    }

    /// What the model has logged since.
    pub fn model(&self, lab: &Lab) -> Result<String, Error> {
        Ok(log(lab, "sonic-model")?.split_off(self.model))
    }

    /// The isolation gaps since, but for those of SONiC's own replay, in which the order is SONiC's.
    pub fn gaps(&self, lab: &Lab) -> Result<Vec<String>, Error> {
        let text = self.model(lab)?;
        let lines =
            text.lines().filter(|line| line.starts_with("isolation: ") && !line.ends_with("(replay)"));
        Ok(lines.map(str::to_owned).collect())
    }

    /// An error if a line was logged about a port since.
    pub fn is_untouched(&self, lab: &Lab, port: Port) -> Result<(), Error> {
        let name = [format!("port={port} "), format!("|{port}|"), format!("|{port} ")];
        let text = self.leafboot(lab)?;
        // A verdict also changes with the time.
        let is_diagnosis =
            |line: &str| line.contains("  INFO verdict: ") || line.contains("boot stage reached");
        let mut lines = text.lines().filter(|line| !is_diagnosis(line));
        match lines.find(|line| name.iter().any(|name| line.contains(name))) {
            None => Ok(()),
            Some(line) => Err(Error::Wrong(format!("{port} was not left alone: {line}"))),
        }
    }
}

/// A program's log, without an incomplete last line.
fn log(lab: &Lab, program: &str) -> Result<String, Error> {
    let path = lab.log(program);
    let bytes = std::fs::read(&path).map_err(Error::file(&path))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    Ok(text[..end].to_owned())
}

/// An error unless the kernel has a port in the boot VRF with its gateway, and nothing more.
fn kernel_boots(lab: &Lab, port: Port) -> Result<(), Error> {
    let gateway = port.gateway().to_string();
    let wanted = KernelPort { vrf: Some(site::BOOT_VRF.to_owned()), addresses: vec![gateway] };
    kernel_has(lab, port, &wanted)
}

/// An error unless the kernel has this of a port, and no IPv4 address.
pub fn kernel_has(lab: &Lab, port: Port, wanted: &KernelPort) -> Result<(), Error> {
    let kernel = KernelPort::now(lab, port)?;
    let ipv4 = run(lab, &format!("ip -4 -o address show dev {port}"))?;
    if kernel == *wanted && ipv4.is_empty() {
        Ok(())
    } else {
        Err(Error::Wrong(format!(
            "{port} is {kernel:?} and {ipv4:?} in the kernel, but should be {wanted:?}"
        )))
    }
}

/// Asks for a fact at intervals: the leaf has one CPU, and SONiC needs it.
pub fn until<T>(what: &str, mut fact: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, Error> {
    host::until(what, LIMIT, || {
        let found = fact()?;
        if found.is_none() {
            std::thread::sleep(Duration::from_millis(75));
        }
        Ok(found)
    })
}

/// Runs a command in the leaf.
pub fn run(lab: &Lab, words: &str) -> Result<String, Error> {
    lab.leaf.run(&words.split(' ').collect::<Vec<_>>())
}

/// Runs redis-cli on CONFIG_DB.
pub fn config(lab: &Lab, words: &str) -> Result<String, Error> {
    run(lab, &format!("redis-cli -e -s {} -n 4 {words}", site::REDIS_SOCKET))
}

/// Gives the model an order.
pub fn order(lab: &Lab, order: &str) -> Result<(), Error> {
    lab.leaf.run(&["redis-cli", "-e", "-s", site::REDIS_SOCKET, "PUBLISH", "sonic-model", order]).map(drop)
}

/// Sets one of the kernel's IPv6 settings.
pub fn sysctl(lab: &Lab, device: &str, setting: &str, value: &str) -> Result<(), Error> {
    lab.leaf.run_with(&["tee", &format!("/proc/sys/net/ipv6/conf/{device}/{setting}")], value).map(drop)
}
