//! `sonic/guard` in the leaf's kernel: which services a hostile machine reaches without it and with it, and that the
//! leaf itself still reaches hosts behind the boot VRF.

use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::process::run;
use leafboot_lab::host::{Error, until};
use leafboot_lab::site::{self, Port};

use crate::another_machine::{DEFAULT_ROUTE, Network, SOON, plugged_in, shows};

const GUARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sonic/guard");
/// The leaf's kernel has these iptables and no others; they are called by the name that the link to them has.
const IPTABLES: &str = "/usr/sbin/xtables-legacy-multi";
/// A TCP port that boot machines must not reach.
const SERVICE: u16 = 2222;
const ATTACKER: Port = Port::Ethernet0;
const VICTIM: Port = Port::Ethernet4;

#[test]
fn with_the_guard_a_machine_reaches_the_relay_and_nothing_else_by_the_leafs_kernel() -> Result<(), String> {
    assert!(Path::new(IPTABLES).exists(), "{IPTABLES} is missing: apt-get install iptables");
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let story = |lab: &mut Lab| {
        lab.start_leafboot()?;
        lab.push(&Port::ALL)?;
        Port::ALL.iter().try_for_each(|port| lab.settled(*port, "boot").map(drop))?;
        let service = "redis-server --port 2222 --bind * -::* --protected-mode no --save";
        let service: Vec<&str> = service.split(' ').chain([""]).collect();
        lab.leaf.start_program(&service, lab.log("service"))?;
        until("the leaf's service runs", SOON, || {
            Ok(lab.leaf.run(&["redis-cli", "-p", "2222", "ping"]).ok().filter(|said| said.contains("PONG")))
        })?;
        // SONiC gives a port in the boot VRF no IPv4 address: this one was added by mistake.
        lab.leaf.run(&["ip", "address", "add", "198.51.100.1/24", "dev", ATTACKER.name()])?;

        reached(lab, false)?;
        guard(lab)?;
        // A second run replaces the rules of the first.
        guard(lab)?;
        reached(lab, true)
    };
    // As text: the error's own words name the logs and show their ends.
    Lab::with(&programs, story).map_err(|error| {
        eprintln!("{error}");
        "the guard did not hold".to_owned()
    })
}

fn guard(lab: &Lab) -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    for name in ["iptables", "ip6tables", "iptables-restore", "ip6tables-restore"] {
        std::os::unix::fs::symlink(IPTABLES, directory.path().join(name))?;
    }
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", directory.path().display());
    lab.leaf.run(&["env", &path, GUARD, site::BOOT_VRF, "80"]).map(drop)
}

/// Checks what a machine and the leaf reach.
fn reached(lab: &Lab, is_guarded: bool) -> Result<(), Error> {
    let network = Network::of_this_thread();
    plugged_in(&network, VICTIM, || {
        online()?;
        let _service = TcpListener::bind(("::", SERVICE))?;
        let shown = run(&["ip", "-6", "-o", "address", "show", "dev", "client", "scope", "global"])?;
        let victim = shown.split_whitespace().nth(3).and_then(|address| address.split('/').next());
        let victim = victim.unwrap_or_default();
        plugged_in(&network, ATTACKER, || {
            online()?;
            run(&["ip", "address", "add", "198.51.100.2/24", "dev", "client"])?;
            let route = run(&DEFAULT_ROUTE)?;
            let link_local = route.split(' ').nth(2).unwrap_or_default();
            for address in [ATTACKER.gateway().to_string(), format!("{link_local}%client")] {
                let connects = || [80, SERVICE].map(|port| connects(&address, port));
                until(&format!("{address} is reached"), SOON, || Ok(connects()[0].then_some(())))?;
                assert_eq!(connects(), [true, !is_guarded], "the relay and another service at {address}");
            }
            assert_eq!(connects("198.51.100.1", SERVICE), !is_guarded, "the leaf's service over IPv4");
            // What keeps machines apart in the ASIC is not in this kernel.
            assert_eq!(connects(victim, SERVICE), !is_guarded, "another machine at {victim}");
            let boot_service = site::BOOT_SERVICE.to_string();
            assert_eq!(connects(&boot_service, site::BOOT_SERVICE_PORT), !is_guarded, "the boot service");
            Ok(())
        })
    })?;
    let url = format!("http://[{}]:{}/", site::BOOT_SERVICE, site::BOOT_SERVICE_PORT);
    let curl = ["curl", "-sS", "-o", "/dev/null", "--max-time", "10", "--interface", site::BOOT_VRF, &url];
    lab.leaf.run(&curl).map(drop)
}

/// Waits until this machine has an address and a router.
fn online() -> Result<(), Error> {
    // Duplicate Address Detection would take two seconds and prove nothing here.
    std::fs::write("/proc/sys/net/ipv6/conf/client/accept_dad", "0")?;
    run(&["ip", "link", "set", "client", "up"])?;
    shows(&["ip", "-6", "address", "show", "dev", "client", "scope", "global"], "inet6")?;
    shows(&DEFAULT_ROUTE, "default via fe80::")
}

fn connects(address: &str, port: u16) -> bool {
    let mut to = (address, port).to_socket_addrs().into_iter().flatten();
    to.any(|to| TcpStream::connect_timeout(&to, Duration::from_secs(3)).is_ok())
}
