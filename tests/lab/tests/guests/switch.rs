//! What SONiC does to a leaf while a port boots: swss restarts, the configuration is reloaded, redis restarts. No push
//! follows, and no machine is needed: rdisc6 and curl check a port's cable.

use std::path::Path;
use std::time::Duration;

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::process::run;
use leafboot_lab::host::{self, Error, network, proof};
use leafboot_lab::site::{self, Port};

/// For what SONiC and leafboot do by themselves; the model alone replays CONFIG_DB for two seconds.
const LIMIT: Duration = Duration::from_secs(20);
const PORT: Port = Port::Ethernet0;
const ANYCAST: &str = "2001:db8:ffff:1::1";
/// The leaf's first configuration: an older save.
const SAVED: &str = include_str!("../../src/leaf/config_db.redis");

fn in_lab(work: impl FnOnce(&mut Lab) -> Result<(), Error> + Send) -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    Lab::with(&programs, work).map_err(|error| {
        eprintln!("{error}");
        "the switch did not come back".to_owned()
    })
}

/// Asks for a fact at intervals: the leaf has one CPU, and SONiC needs it.
fn until<T>(what: &str, mut fact: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, Error> {
    host::until(what, LIMIT, || {
        let found = fact()?;
        if found.is_none() {
            std::thread::sleep(Duration::from_millis(250));
        }
        Ok(found)
    })
}

fn redis(lab: &Lab, words: &[&str]) -> Result<String, Error> {
    lab.leaf.run(&[&["redis-cli", "-e", "-s", site::REDIS_SOCKET, "-n", "4"], words].concat())
}

fn order(lab: &Lab, order: &str) -> Result<(), Error> {
    redis(lab, &["PUBLISH", "sonic-model", order]).map(drop)
}

/// The kernel's index of the port.
fn index(lab: &Lab) -> Result<String, Error> {
    lab.leaf.run(&["cat", &format!("/sys/class/net/{PORT}/ifindex")])
}

/// A machine's side of the cable: an address of the port's prefix, and the leaf as the way to the anycast address.
fn plug_in() -> Result<(), Error> {
    let device = network::listener(PORT);
    let ip = |words: String| run(&[&["ip", "-6"], words.split(' ').collect::<Vec<_>>().as_slice()].concat());
    ip(format!("address add {}c0de/64 dev {device} nodad", PORT.network()))?;
    // The link-local address that every port has of the system's MAC address (RFC 4291 appendix A).
    ip(format!("route add {ANYCAST}/128 via fe80::5054:ff:fe1e:af01 dev {device}")).map(drop)
}

/// Waits until the port's machine would be served: rows, kernel, an advertisement, and the relay on both of its addresses.
fn serves(lab: &Lab, after: &str) -> Result<(), Error> {
    until(&format!("{PORT} boots after {after}"), || Ok(proof::boots(lab, PORT).ok()))?;
    for address in [PORT.gateway().to_string(), ANYCAST.to_owned()] {
        let url = format!("http://[{address}]/boot.ipxe");
        let asked = ["curl", "-sSf", "--max-time", "3", "--interface", &network::listener(PORT), &url];
        let script =
            until(&format!("the relay answers on {address} after {after}"), || Ok(run(&asked).ok()))?;
        assert!(script.starts_with("#!ipxe"), "{script}");
    }
    Ok(())
}

/// Has the model look for isolation gaps: a port in the boot VRF without the rule that denies what no other permits.
fn watch(lab: &Lab) -> Result<(), Error> {
    order(lab, &format!("watch {} {} DEFAULT_RULE DENY_MACHINES", site::BOOT_VRF, site::BOOT_ACL))
}

/// No gap was seen but those of SONiC's own replay, in which the order is SONiC's.
fn no_gap(lab: &Lab) -> Result<(), Error> {
    let log = lab.log("sonic-model");
    let text = std::fs::read_to_string(&log).map_err(Error::file(&log))?;
    let gaps: Vec<&str> = text.lines().filter(|line| line.starts_with("isolation: ")).collect();
    assert!(gaps.iter().all(|gap| gap.ends_with(" (replay)")), "{gaps:#?}");
    Ok(())
}

#[test]
fn a_boot_port_recovers_by_itself_when_sonic_or_redis_restarts() -> Result<(), String> {
    in_lab(|lab| {
        lab.configure("[boot]\n", &format!("[boot]\nanycast = \"{ANYCAST}/127\"\n"))?;
        lab.start_leafboot()?;
        plug_in()?;
        watch(lab)?;
        lab.push(&[PORT])?;
        serves(lab, "the push")?;

        let before = index(lab)?;
        order(lab, "restart")?;
        until("SONiC has made the port again", || Ok(index(lab).ok().filter(|now| *now != before)))?;
        serves(lab, "a restart of swss")?;
        no_gap(lab)?;

        let before = index(lab)?;
        lab.leaf.run_with(&["tee", "/run/saved"], SAVED)?;
        order(lab, "reload /run/saved")?;
        until("SONiC has made the port again", || Ok(index(lab).ok().filter(|now| *now != before)))?;
        serves(lab, "a config reload")?;
        no_gap(lab)?;

        let before = index(lab)?;
        restart_redis(lab)?;
        until("SONiC has made the port again", || Ok(index(lab).ok().filter(|now| *now != before)))?;
        serves(lab, "a restart of redis")?;
        no_gap(lab)?;
        lab.settled(PORT, "boot").map(drop)
    })
}

/// The database container restarts: redis is empty until the older save is loaded, and SONiC starts after that.
fn restart_redis(lab: &Lab) -> Result<(), Error> {
    let info = redis(lab, &["INFO", "server"])?;
    let pid = info.lines().find_map(|line| line.trim().strip_prefix("process_id:")?.parse().ok());
    lab.leaf.kill(pid.ok_or_else(|| Error::Wrong(format!("redis has no process: {info}")))?)?;
    let socket = ["--unixsocket", site::REDIS_SOCKET, "--databases", "100", "--port", "0", "--save", ""];
    let server = [&["redis-server", "--notify-keyspace-events", "AKE"], socket.as_slice()].concat();
    lab.leaf.start_program(&server, lab.log("redis"))?;
    until("redis answers", || Ok(redis(lab, &["PING"]).ok()))?;
    let load = ["redis-cli", "-e", "-s", site::REDIS_SOCKET, "-n", "4"];
    lab.leaf.run_with(&load, SAVED)?;
    let model = [env!("CARGO_BIN_EXE_lab"), "sonic-model", "--database-config", site::DATABASE_CONFIG];
    lab.leaf.start_program(&model, lab.log("sonic-model"))?;
    until("SONiC takes orders", || {
        let heard = redis(lab, &["PUBSUB", "NUMSUB", "sonic-model"])?;
        Ok((!heard.trim().ends_with('0')).then_some(()))
    })?;
    watch(lab)
}
