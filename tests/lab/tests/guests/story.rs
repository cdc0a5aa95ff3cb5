//! Tests of a whole boot: the machine's console, the partition's journal, and the leaf's rows, kernel and wire. Each
//! test has a leaf and up to two machines of its own.

use std::path::Path;

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::machine::Character;
use leafboot_lab::host::proof::{self, KernelPort, Rows};
use leafboot_lab::host::story::{Boot, Stage};
use leafboot_lab::host::{Error, network};
use leafboot_lab::partition::journal::{Claim, Entry, Server};
use leafboot_lab::site::{self, Port};

fn in_lab(work: impl FnOnce(&mut Lab) -> Result<(), Error> + Send) -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let story = |lab: &mut Lab| {
        lab.start_leafboot()?;
        work(lab)
    };
    // As text: the error's own words name the logs and show their ends.
    Lab::with(&programs, story).map_err(|error| {
        eprintln!("{error}");
        "the story did not hold".to_owned()
    })
}

/// The identity headers of a request that came in through this port.
fn claim(port: Port) -> Claim {
    Claim { leaf: site::LEAF.to_owned(), port: port.name().to_owned(), prefix: port.prefix() }
}

/// The requests to one server, answered or not.
fn requests(lab: &Lab, server: Server) -> Result<Vec<Entry>, Error> {
    Ok(lab.partition.journal()?.into_iter().filter(|entry| entry.server == server).collect())
}

#[test]
fn a_machine_boots_and_its_port_is_released() -> Result<(), String> {
    in_lab(|lab| {
        let port = Port::Ethernet0;
        assert!(proof::boots(lab, port).is_err(), "nothing is pushed yet");
        assert_eq!(network::solicit(port)?, None, "nothing is pushed yet");
        let before = Rows::now(lab)?;

        let machine = lab.switch_on(port, Character::Honest)?;
        let mut boot = Boot::new(port, machine, lab.push(&[port])?);
        boot.reach(lab, Stage::Token, &mut |_| {})?;
        proof::boots(lab, port)?;

        let status = lab.status()?[port.name()].take();
        assert_eq!(status["gateway"], port.gateway().to_string());
        assert_eq!(status["prefix"], port.prefix());
        assert_eq!(status["advertising"], true);

        let console = boot.machine.console();
        assert!(console.contains("Linux version 6.1"), "a real kernel was booted");
        for entry in requests(lab, Server::BootService)? {
            assert_eq!(entry.claim, Some(claim(port)), "{entry:?}");
        }
        let images = requests(lab, Server::Cache)?;
        let paths: Vec<&str> = images.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, [site::KERNEL, site::INITRD], "each was fetched once, and straight from the cache");
        assert!(images.iter().all(|entry| entry.header("host") == Some(site::CACHE_NAME)));
        assert!(
            images.iter().all(|entry| entry.peer.ip().to_string() == boot.seen(Stage::IpxeAddress).unwrap())
        );

        lab.push(&[])?;
        lab.settled(port, "released")?;
        proof::released(lab, port, &before)?;
        lab.retire()?;
        proof::retired(lab, &before)?;
        Ok(())
    })
}

#[test]
fn a_killed_leafboot_withdraws_nothing_and_the_machine_gets_its_token() -> Result<(), String> {
    in_lab(|lab| {
        let port = Port::Ethernet0;
        let machine = lab.switch_on(port, Character::Honest)?;
        let mut boot = Boot::new(port, machine, lab.push(&[port])?);
        boot.reach(lab, Stage::Script, &mut |_| {})?;
        let (rows, kernel) = (Rows::now(lab)?, KernelPort::now(lab, port)?);

        lab.kill_leafboot()?;
        let asked = requests(lab, Server::BootService)?;
        assert!(
            asked.iter().all(|entry| entry.path == "/boot.ipxe"),
            "it died before the token was asked for"
        );
        assert!(lab.status().is_err(), "it is dead");
        assert_eq!(rows.differences(&Rows::now(lab)?), Vec::<String>::new());
        assert_eq!(kernel, KernelPort::now(lab, port)?);

        lab.start_leafboot()?;
        assert_eq!(rows.differences(&Rows::now(lab)?), Vec::<String>::new());
        assert_eq!(kernel, KernelPort::now(lab, port)?);

        // No push follows: the kept document is enough.
        boot.reach(lab, Stage::Token, &mut |_| {})?;
        proof::boots(lab, port)?;
        assert_eq!(rows.differences(&Rows::now(lab)?), Vec::<String>::new());
        Ok(())
    })
}

#[test]
fn two_machines_boot_side_by_side_each_with_the_identity_of_its_own_port() -> Result<(), String> {
    in_lab(|lab| {
        let mut machines = Vec::new();
        for port in Port::ALL {
            machines.push((port, lab.switch_on(port, Character::Honest)?));
        }
        let pushed = lab.push(&Port::ALL)?;
        let mut boots: Vec<Boot> =
            machines.into_iter().map(|(port, machine)| Boot::new(port, machine, pushed)).collect();
        for boot in &mut boots {
            boot.reach(lab, Stage::Token, &mut |_| {})?;
            proof::boots(lab, boot.port)?;
        }
        for boot in &boots {
            let path = boot.token_path();
            let asked = requests(lab, Server::BootService)?;
            let claims: Vec<_> =
                asked.iter().filter(|entry| entry.path == path).map(|entry| &entry.claim).collect();
            assert!(!claims.is_empty());
            assert!(claims.iter().all(|found| **found == Some(claim(boot.port))), "{claims:?}");
        }
        assert_ne!(boots[0].seen(Stage::Token), boots[1].seen(Stage::Token));

        // The release of one port does not change the other.
        lab.push(&[Port::Ethernet4])?;
        lab.settled(Port::Ethernet0, "released")?;
        assert_eq!(KernelPort::now(lab, Port::Ethernet0)?, KernelPort { vrf: None, addresses: vec![] });
        proof::boots(lab, Port::Ethernet4)
    })
}

#[test]
fn a_machine_that_forges_identity_headers_is_known_by_its_true_port() -> Result<(), String> {
    in_lab(|lab| {
        let port = Port::Ethernet4;
        let machine = lab.switch_on(port, Character::Forger)?;
        let mut boot = Boot::new(port, machine, lab.push(&[port])?);
        boot.reach(lab, Stage::Token, &mut |_| {})?;
        assert!(boot.machine.console().contains("machine: forges its headers"));
        let path = boot.token_path();
        let asked = requests(lab, Server::BootService)?;
        let forged: Vec<&Entry> = asked.iter().filter(|entry| entry.path == path).collect();
        assert!(!forged.is_empty());
        for entry in forged {
            assert_eq!(entry.claim, Some(claim(port)));
            let text = format!("{:?}", entry.headers);
            assert!(
                !text.contains("leaf99") && !text.contains("Ethernet124") && !text.contains("bad"),
                "{text}"
            );
        }
        Ok(())
    })
}
