//! The relay with real machines: a machine shows on its console what is wrong behind the leaf, asks again, and boots
//! when the servers work. Each test has a leaf and a machine of its own.

use std::path::Path;
use std::time::Duration;

use leafboot_lab::host::Error;
use leafboot_lab::host::artifacts::Finds;
use leafboot_lab::host::lab::{Images, Lab, Programs};
use leafboot_lab::host::machine::Character;
use leafboot_lab::host::story::{Boot, Stage};
use leafboot_lab::partition::behaviour::Behaviour;
use leafboot_lab::partition::journal::{Entry, Server};
use leafboot_lab::site::{self, Port};

/// The limit until a machine has asked again and shown the result, on a busy computer.
const LIMIT: Duration = Duration::from_secs(60);
const PORT: Port = Port::Ethernet0;

/// Runs a test on a leaf that gets images to its machines in this way.
fn in_lab(images: Images, work: impl FnOnce(&mut Lab) -> Result<(), Error> + Send) -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let story = |lab: &mut Lab| {
        lab.set_images(images)?;
        lab.configure("[boot]\n", &format!("[boot]\nanycast = \"{}/127\"\n", site::RELAY))?;
        lab.start_leafboot()?;
        work(lab)
    };
    // As text: the error's own words name the logs and show their ends.
    Lab::with(&programs, story).map_err(|error| {
        eprintln!("{error}");
        "the story did not hold".to_owned()
    })
}

/// Pushes the port, switches its machine on, and waits until that has an address.
fn begin(lab: &Lab) -> Result<Boot, Error> {
    let machine = lab.switch_on(PORT, Character::Honest)?;
    let mut boot = Boot::new(PORT, machine, lab.push(&[PORT])?);
    boot.reach(lab, Stage::IpxeAddress, &mut |_| {})?;
    Ok(boot)
}

/// Sets a server's behaviour, and waits until the machine shows a text because of it.
fn told(lab: &Lab, boot: &mut Boot, server: Server, behaviour: &Behaviour, shown: &str) -> Result<(), Error> {
    let since = boot.machine.console().len();
    lab.partition.tell(server, behaviour)?;
    boot.machine.shows(since, shown, LIMIT)
}

fn status(status: u16) -> Behaviour {
    Behaviour { status: Some(status), ..Behaviour::default() }
}

fn cut() -> Behaviour {
    Behaviour { cut: true, ..Behaviour::default() }
}

fn edition(edition: &str) -> Behaviour {
    Behaviour { edition: edition.to_owned(), ..Behaviour::default() }
}

/// The cache's requests that were answered completely.
fn images(lab: &Lab) -> Result<Vec<Entry>, Error> {
    let journal = lab.partition.journal()?.into_iter();
    Ok(journal.filter(|entry| entry.server == Server::Cache && entry.status == 200 && !entry.cut).collect())
}

#[test]
fn a_machine_shows_what_is_wrong_and_boots_when_the_servers_work() -> Result<(), String> {
    in_lab(Images::Redirect, |lab| {
        // Down, and then up and unwell in every way, one after another: this machine sees it all, and never stops asking.
        lab.partition.stop_server(Server::BootService);
        let mut boot = begin(lab)?;
        let leafboot = format!("leafboot on {} {PORT}", site::LEAF);
        boot.machine.shows(0, &leafboot, LIMIT)?;
        boot.machine.shows(0, "cannot be reached", LIMIT)?;
        lab.partition.tell(Server::BootService, &status(503))?;
        lab.partition.start_server(Server::BootService)?;
        boot.machine.shows(0, "503", LIMIT)?;
        told(lab, &mut boot, Server::BootService, &status(404), "404")?;
        told(lab, &mut boot, Server::BootService, &cut(), "broke off")?;

        let begun = boot.machine.console().matches("machine: ipxe-address").count();
        assert_eq!(begun, 1, "all of it is leafboot's script that asks again, and not the machine's own");

        // The boot service needs 4 s and is waited for; there is no cache, and the machine begins anew.
        lab.partition.stop_server(Server::Cache);
        let slow = Behaviour { delay: Duration::from_secs(4), ..edition("of yesterday") };
        let yesterday = format!("boot.ipxe of yesterday for {} {PORT}", site::LEAF);
        told(lab, &mut boot, Server::BootService, &slow, &yesterday)?;
        boot.machine.shows(0, "machine: boot.ipxe failed", LIMIT)?;

        // A new boot.ipxe is there at once, for every later request.
        told(lab, &mut boot, Server::BootService, &edition("of today"), "boot.ipxe of today")?;
        let console = boot.machine.console();
        let (before, after) = console.split_once("boot.ipxe of today").unwrap_or_default();
        assert!(before.contains("of yesterday") && !after.contains("of yesterday"), "{console}");

        // The machine does not use a kernel that breaks off.
        lab.partition.tell(Server::Cache, &cut())?;
        let since = boot.machine.console().len();
        lab.partition.start_server(Server::Cache)?;
        boot.machine.shows(since, "machine: boot.ipxe failed", LIMIT)?;
        assert_eq!(images(lab)?, []);
        lab.partition.tell(Server::Cache, &Behaviour::default())?;
        boot.reach(lab, Stage::Initramfs, &mut |_| {})?;

        // The boot service is away when Linux asks for its token.
        lab.partition.stop_server(Server::BootService);
        boot.reach(lab, Stage::LinuxAddress, &mut |_| {})?;
        boot.machine.shows(0, "machine: no token yet", LIMIT)?;
        lab.partition.start_server(Server::BootService)?;
        boot.reach(lab, Stage::Token, &mut |_| {})?;
        let ipxe = boot.seen(Stage::IpxeAddress).unwrap_or_default();
        assert!(images(lab)?.iter().all(|entry| entry.peer.ip().to_string() == ipxe), "past the leaf");
        Ok(())
    })
}

/// The prefix that a port has before its own.
const EARLIER: &str = "2001:db8:b007:20::/64";

/// A machine waits because the boot service is away; meanwhile its port is given another prefix, and leafboot is away for
/// a while; and when all of it is back, the machine boots.
fn boots_after_another_prefix(finds: Finds) -> Result<(), String> {
    in_lab(Images::Redirect, |lab| {
        lab.partition.stop_server(Server::BootService);
        lab.push_prefixes(&[(PORT, EARLIER.to_owned())])?;
        let mut machine = lab.switch_on_with(&[PORT], Character::Honest, finds)?;
        machine.shows(0, "asking again in", LIMIT)?;
        assert!(machine.says("ipxe-address", LIMIT)?.starts_with("2001:db8:b007:20:"));

        lab.push(&[PORT])?;
        lab.settled(PORT, "boot")?;
        let since = machine.console().len();
        machine.shows(since, &format!("leafboot on {} {PORT} at ", site::LEAF), LIMIT)?;
        assert_eq!(machine.console().matches("machine: boot.ipxe failed").count(), 0, "it waits all along");

        lab.kill_leafboot()?;
        let gone = machine.console().len();
        machine.shows(gone, &format!("no script from leafboot on {} {PORT}; at 2", site::LEAF), 2 * LIMIT)?;
        lab.start_leafboot()?;
        lab.partition.start_server(Server::BootService)?;
        let address = machine.says("linux-address", 2 * LIMIT)?;
        assert!(address.parse().is_ok_and(|address| PORT.holds(address)), "{address}");
        machine.says("token", LIMIT).map(drop)
    })
}

#[test]
fn a_machine_that_found_the_relay_by_its_name_boots_after_another_prefix() -> Result<(), String> {
    boots_after_another_prefix(Finds::Name)
}

#[test]
fn a_machine_that_found_the_relay_on_its_link_boots_after_another_prefix() -> Result<(), String> {
    boots_after_another_prefix(Finds::LinkLocal)
}

#[test]
fn a_machine_with_two_leaves_asks_the_other_one_when_the_first_has_no_script_for_long() -> Result<(), String>
{
    in_lab(Images::Redirect, |lab| {
        lab.partition.stop_server(Server::BootService);
        lab.push(&Port::ALL)?;
        let mut machine = lab.switch_on_with(&Port::ALL, Character::Honest, Finds::LinkLocal)?;
        let at = |port: Port| format!("leafboot on {} {port} at ", site::LEAF);
        machine.shows(0, &at(Port::Ethernet4), 3 * LIMIT)?;
        let console = machine.console();
        let (first, _) = console.split_once(&at(Port::Ethernet4)).unwrap_or_default();
        assert_eq!(first.matches(&at(Port::Ethernet0)).count(), 10, "{first}");
        assert_eq!(first.matches("machine: boot.ipxe failed").count(), 1, "its own script goes on: {first}");
        lab.partition.start_server(Server::BootService)?;
        machine.shows(0, &format!("boot.ipxe for {} {}", site::LEAF, Port::Ethernet4), LIMIT)
    })
}

#[test]
fn a_machine_boots_through_the_proxy_after_the_cache_has_failed() -> Result<(), String> {
    in_lab(Images::Proxy, |lab| {
        lab.partition.stop_server(Server::Cache);
        let mut boot = begin(lab)?;
        boot.reach(lab, Stage::Script, &mut |_| {})?;
        boot.machine.shows(0, site::KERNEL, LIMIT)?;
        lab.partition.tell(Server::Cache, &cut())?;
        lab.partition.start_server(Server::Cache)?;
        boot.machine.shows(0, "machine: boot.ipxe failed", LIMIT)?;
        let broken =
            lab.partition.journal()?.into_iter().any(|entry| entry.server == Server::Cache && entry.cut);
        assert!(broken, "it waited for the cache, and failed when the kernel broke off");
        assert_eq!(images(lab)?, []);
        told(lab, &mut boot, Server::Cache, &status(503), site::KERNEL)?;
        lab.partition.tell(Server::Cache, &Behaviour::default())?;
        boot.reach(lab, Stage::Token, &mut |_| {})?;
        for entry in images(lab)? {
            assert_eq!(entry.peer.ip(), site::UPLINK_LEAF, "the leaf asks for the machine");
            assert_eq!(entry.header("host"), Some(site::CACHE_NAME));
        }
        Ok(())
    })
}
