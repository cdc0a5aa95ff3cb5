//! Each stage of a boot is broken just so, and the verdict names the cause within seconds.
//!
//! The machine is rdisc6 and curl on the port's cable: they do what iPXE and metal-hammer do, at the moment that the test
//! chooses. The table of situations in `docs/operations.md` has what is tried here.

use std::path::Path;
use std::time::Duration;

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::process::{output, run};
use leafboot_lab::host::{Error, network, until};
use leafboot_lab::partition::behaviour::Behaviour;
use leafboot_lab::partition::journal::Server;
use leafboot_lab::site::{self, Port};
use serde_json::Value;

/// A probe has a period of 10 s and takes up to 3 s. A verdict follows within a second; the rest is for a busy computer.
const LIMIT: Duration = Duration::from_secs(25);
const PORT: Port = Port::Ethernet0;

fn in_lab(work: impl FnOnce(&mut Lab) -> Result<(), Error> + Send) -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let story = |lab: &mut Lab| {
        lab.start_leafboot()?;
        let device = network::listener(PORT);
        let address = format!("{}c0de/64", PORT.network());
        run(&["ip", "-6", "address", "add", &address, "dev", &device, "nodad"])?;
        run(&["ip", "-6", "route", "add", "default", "via", &PORT.gateway().to_string(), "dev", &device])?;
        lab.push(&[PORT])?;
        lab.settled(PORT, "boot")?;
        work(lab)
    };
    Lab::with(&programs, story).map_err(|error| {
        eprintln!("{error}");
        "a verdict did not hold".to_owned()
    })
}

/// Waits until the port's verdict has this reason, and returns it.
fn verdict(lab: &Lab, reason: &str) -> Result<Value, Error> {
    let mut last = Value::Null;
    let found = until(&format!("the verdict is {reason}"), LIMIT, || {
        last = lab.status()?[PORT.name()]["verdict"].take();
        Ok((last["reason"] == reason).then(|| last.clone()))
    });
    found.map_err(|error| Error::Wrong(format!("{error}; it is {last}")))
}

/// iPXE's solicitation.
fn solicits() -> Result<(), Error> {
    network::solicit(PORT)?.map(drop).ok_or_else(|| Error::Wrong("no advertisement".to_owned()))
}

/// A request of the machine, and the answer's status. `agent`: its `User-Agent`.
fn asks(agent: &str, path: &str) -> Result<String, Error> {
    let url = format!("http://[{}]{path}", PORT.gateway());
    let asked = output(&[
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--max-time",
        "20",
        "-A",
        agent,
        "--interface",
        "listener0",
        &url,
    ])?;
    Ok(String::from_utf8_lossy(&asked.stdout).into_owned())
}

fn script() -> Result<String, Error> {
    asks("iPXE/1.21.1", "/boot.ipxe")
}

fn kernel() -> Result<String, Error> {
    asks("iPXE/1.21.1", site::KERNEL)
}

fn token() -> Result<String, Error> {
    asks("curl", &format!("/config/{}", PORT.machine_uuid()))
}

fn status(status: u16) -> Behaviour {
    Behaviour { status: Some(status), ..Behaviour::default() }
}

#[test]
fn the_verdict_names_what_is_wrong_with_the_boot_service() -> Result<(), String> {
    in_lab(|lab| {
        verdict(lab, "NoSolicitation")?;
        solicits()?;
        verdict(lab, "NoScriptRequest")?;
        lab.partition.stop_server(Server::BootService);
        script()?;
        let down = verdict(lab, "BootServiceDown")?;
        assert!(down["message"].as_str().is_some_and(|message| message.contains("refused")), "{down}");
        assert_eq!(down["level"], "fault");
        lab.partition.start_server(Server::BootService)?;
        lab.partition.tell(Server::BootService, &status(404))?;
        script()?;
        verdict(lab, "BootServiceRefuses")?;
        lab.partition.tell(Server::BootService, &status(200))?;
        script()?;
        verdict(lab, "NoBootScript")?;
        lab.partition.tell(Server::BootService, &Behaviour::default())?;
        assert_eq!(script()?, "200");
        verdict(lab, "Booting")?;
        verdict(lab, "KernelNotFetched")?;
        // All of it is one attempt: iPXE has asked again and again.
        let attempts = lab.leaf.api("GET", &format!("/v1/ports/{PORT}/attempts"), None)?.1;
        assert_eq!(attempts["total"], 1, "{attempts}");

        // Linux asks for its token, and is refused.
        kernel()?;
        solicits()?;
        lab.partition.tell(Server::BootService, &status(403))?;
        token()?;
        let refused = verdict(lab, "TokenRefused")?;
        assert!(refused["message"].as_str().is_some_and(|message| message.contains("403")), "{refused}");
        lab.partition.tell(Server::BootService, &Behaviour::default())?;
        token()?;
        verdict(lab, "Booting")?;
        lab.leaf.run(&["ip", "link", "set", PORT.name(), "down"])?;
        verdict(lab, "AdminDown").map(drop)
    })
}

#[test]
fn the_verdict_names_what_is_wrong_with_the_cache() -> Result<(), String> {
    in_lab(|lab| {
        lab.partition.stop_server(Server::Cache);
        solicits()?;
        assert_eq!(script()?, "200");
        assert_eq!(kernel()?, "307");
        let refused = verdict(lab, "CacheRefuses")?;
        assert!(
            refused["evidence"][0].as_str().is_some_and(|line| line.contains("asked it itself")),
            "{refused}"
        );
        lab.partition.start_server(Server::Cache)?;
        lab.partition.tell(Server::Cache, &status(404))?;
        verdict(lab, "CacheNotFound")?;
        lab.partition
            .tell(Server::Cache, &Behaviour { delay: Duration::from_secs(30), ..Behaviour::default() })?;
        verdict(lab, "CacheSilent")?;
        lab.partition.tell(Server::Cache, &Behaviour::default())?;
        let without_route = ["ip", "-6", "route", "del", site::UPLINK_NETWORK, "vrf", site::BOOT_VRF];
        lab.leaf.run(&without_route)?;
        verdict(lab, "CacheNoRoute")?;
        let route =
            ["ip", "-6", "route", "add", site::UPLINK_NETWORK, "dev", site::UPLINK, "vrf", site::BOOT_VRF];
        lab.leaf.run(&route)?;
        lab.partition.stop_resolver();
        verdict(lab, "NameNotResolved").map(drop)
    })
}

#[test]
fn the_verdict_follows_what_the_asic_has_sent_and_dropped() -> Result<(), String> {
    in_lab(|lab| {
        let counters = |database: &str, words: &[&str]| {
            lab.leaf.run(&[&["redis-cli", "-s", site::REDIS_SOCKET, "-n", database][..], words].concat())
        };
        let object =
            |map: &str, name: &str| Ok::<_, Error>(counters("2", &["HGET", map, name])?.trim().to_owned());
        let port = format!("COUNTERS:{}", object("COUNTERS_PORT_NAME_MAP", PORT.name())?);
        let rule = format!("COUNTERS:{}", object("ACL_COUNTER_RULE_MAP", "LEAFBOOT:DENY_MACHINES")?);
        counters("2", &["HSET", &port, "SAI_PORT_STAT_IF_OUT_OCTETS", "1000"])?;
        counters("2", &["HSET", &rule, "SAI_ACL_COUNTER_ATTR_PACKETS", "5"])?;
        solicits()?;
        assert_eq!(script()?, "200");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(kernel()?, "307");
        counters("2", &["HSET", &rule, "SAI_ACL_COUNTER_ATTR_PACKETS", "17"])?;
        let drops = verdict(lab, "AclDrops")?;
        assert!(
            drops["message"].as_str().is_some_and(|message| message.contains("DENY_MACHINES dropped 17")),
            "{drops}"
        );
        // The kernel comes.
        for second in 1..=3 {
            counters(
                "2",
                &["HSET", &port, "SAI_PORT_STAT_IF_OUT_OCTETS", &format!("{}", 1000 + second * 8_000_000)],
            )?;
            std::thread::sleep(Duration::from_secs(1));
        }
        let transfer = verdict(lab, "ImageTransfer")?;
        assert!(transfer["message"].as_str().is_some_and(|message| message.contains("MB/s")), "{transfer}");
        verdict(lab, "Booting")?;
        // LLDP hears Linux.
        let lldp = format!("LLDP_ENTRY_TABLE:{PORT}");
        counters("0", &["HSET", &lldp, "lldp_rem_sys_name", "metal-hammer"])?;
        until(
            "the stage is lldp",
            LIMIT,
            || Ok((lab.status()?[PORT.name()]["stage"] == "lldp").then_some(())),
        )
    })
}

#[test]
fn attempts_survive_a_kill_and_a_machine_that_resets_again_and_again_is_named() -> Result<(), String> {
    in_lab(|lab| {
        for _ in 0..4 {
            solicits()?;
            assert_eq!(script()?, "200");
            kernel()?;
            solicits()?;
        }
        let before = lab.leaf.api("GET", &format!("/v1/ports/{PORT}/attempts"), None)?.1;
        assert_eq!(before["total"], 4, "{before}");
        let found = verdict(lab, "RebootLoop")?;
        assert!(found["message"].as_str().is_some_and(|message| message.contains("3 attempts")), "{found}");
        // The file is written within two seconds.
        std::thread::sleep(Duration::from_secs(3));
        lab.kill_leafboot()?;
        lab.start_leafboot()?;
        lab.push(&[PORT])?;
        let after = lab.leaf.api("GET", &format!("/v1/ports/{PORT}/attempts"), None)?.1;
        let id = |answer: &Value| answer["attempts"][3]["attempt"].clone();
        assert_eq!((&after["total"], id(&after)), (&before["total"], id(&before)));
        script()?;
        let entry = lab.partition.journal()?.into_iter().rfind(|entry| entry.server == Server::BootService);
        let session =
            entry.as_ref().and_then(|entry| entry.header("leafboot-session")).unwrap_or_default().to_owned();
        assert_eq!(session.len(), 32, "{entry:?}");
        let trace =
            entry.as_ref().and_then(|entry| entry.header("traceparent")).unwrap_or_default().to_owned();
        assert!(trace.starts_with(&format!("00-{session}-")), "{trace}");
        let text = lab.leafboot(&["status"])?;
        assert!(text.contains(PORT.name()), "{text}");
        Ok(())
    })
}
