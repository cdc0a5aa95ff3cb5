//! The memory of the whole agent: the real binary with a real redis-server and the laboratory's SONiC, and 256 pushed
//! ports that all advertise. This computer's kernel may have no VRF, so a bridge has the VRF's name; the ports carry no
//! traffic.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use leafboot_lab::sonic;

use crate::cost::rss;
use crate::support::advertiser::Daemon;
use crate::support::agent::{LEAFBOOT, settings, write};
use crate::support::namespace::batch;
use crate::support::panel::Panel;
use crate::support::switch::{CONFIG_DB, Switch};
use crate::support::{eventually, output};

const PORTS: usize = 256;

/// Resident memory in kB, once every port serves.
pub fn memory() -> u64 {
    let _panel = Panel::plug(PORTS);
    let switch = Switch::start();
    for port in 0..PORTS {
        let (name, index) = (format!("PORT|Ethernet{port}"), (port + 1).to_string());
        switch.cli(CONFIG_DB, &["HSET", &name, "index", &index, "admin_status", "up"]);
    }
    let text = std::fs::read_to_string(settings(&switch)).unwrap();
    let config =
        write(&switch.path("leafboot.toml"), &text.replace("2001:db8:b007::/57", "2001:db8:b000::/48"));
    // The model runs in its own process, without a log.
    let itself = std::env::current_exe().unwrap();
    let _model = Daemon::start(Command::new(itself).arg("sonic").arg(switch.path("database_config.json")));
    let agent = Daemon::start(Command::new(LEAFBOOT).args(["run", "--config"]).arg(&config));
    let socket = switch.path("leafboot.sock");
    let ports: Vec<String> = (0..PORTS)
        .filter(|port| *port != 120)
        .map(|port| format!("\"Ethernet{port}\": {{\"state\": \"boot\"}}"))
        .collect();
    let document = format!("{{\"ports\": {{{}}}}}", ports.join(", "));
    eventually("the push is taken", || push(&socket, &document));
    let rows = || switch.cli(CONFIG_DB, &["KEYS", "INTERFACE|Ethernet*|*"]);
    wait("have their address row", ports.len(), || rows().lines().count());
    // intfmgrd would do this with the rows.
    let address = |row: &str| {
        let (port, address) = row.strip_prefix("INTERFACE|")?.split_once('|')?;
        Some(format!("link set {port} master Vrfboot\naddress replace {address} dev {port} nodad\n"))
    };
    let addresses: String = rows().lines().filter_map(address).collect();
    batch(&format!("link add Vrfboot type bridge\nlink set Vrfboot up\n{addresses}"));
    wait("advertise", ports.len(), || advertising(&socket));
    std::thread::sleep(Duration::from_secs(2));
    rss(agent.0.id())
}

/// Waits at most 30 s until `count` returns `all`, and prints the last count.
fn wait(what: &str, all: usize, count: impl Fn() -> usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while count() < all && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    eprintln!("whole agent: {} of {all} ports {what}", count());
}

/// The number of ports that advertise, from the agent's API.
fn advertising(socket: &Path) -> usize {
    let curl = ["-sS", "--unix-socket", socket.to_str().unwrap(), "http://leafboot/v1/ports"];
    let said = String::from_utf8(output("curl", &curl).stdout).unwrap();
    let ports = serde_json::from_str::<serde_json::Value>(&said).unwrap()["ports"].take();
    ports.as_object().unwrap().values().filter(|port| port["advertising"] == true).count()
}

/// Runs the laboratory's SONiC until the process is killed.
pub fn sonic(database_config: &str) {
    let kernel = sonic::WhichKernel::Paper;
    let database_config = database_config.into();
    sonic::run(sonic::Args { database_config, kernel, ..sonic::Args::default() }).unwrap();
}

fn push(socket: &Path, document: &str) -> bool {
    let curl = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", socket.to_str().unwrap()];
    let body = ["-X", "PUT", "--data-binary", document, "http://leafboot/v1/ports"];
    let said = output("curl", &[&curl[..], &body].concat()).stdout;
    matches!(&said[..], b"200" | b"202")
}
