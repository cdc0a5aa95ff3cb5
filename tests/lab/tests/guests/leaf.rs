//! The laboratory's leaf without leafboot: rows written by hand reach the kernel, the ASIC and the wire's routes, and
//! are removed again. So the checks by which leafboot is judged hold without it.

use std::path::Path;
use std::time::Duration;

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::proof::{self, KernelPort, Rows};
use leafboot_lab::host::{Error, until};
use leafboot_lab::site::{self, Port};

const LIMIT: Duration = Duration::from_secs(20);

fn config_db(lab: &Lab, command: &[&str]) -> Result<(), Error> {
    let client = ["redis-cli", "-e", "-s", site::REDIS_SOCKET, "-n", "4"];
    lab.leaf.run(&[&client, command].concat()).map(drop)
}

/// Waits until no row but those of CONFIG_DB contains a text.
fn gone(lab: &Lab, text: &str) -> Result<(), Error> {
    until(&format!("no fact is left of {text}"), LIMIT, || {
        let facts = Rows::now(lab)?;
        Ok((!facts.names().any(|row| !row.starts_with("CONFIG_DB") && row.contains(text))).then_some(()))
    })
}

#[test]
fn rows_by_hand_make_a_boot_port_and_unmake_it() -> Result<(), String> {
    let port = Port::Ethernet4;
    let vrf = format!("VRF|{}", site::BOOT_VRF);
    let base = format!("INTERFACE|{port}");
    let address = format!("INTERFACE|{port}|{}/64", port.gateway());
    let story = |lab: &mut Lab| {
        let before = Rows::now(lab)?;
        config_db(lab, &["HSET", &vrf, "NULL", "NULL"])?;
        config_db(lab, &["HSET", &base, "vrf_name", site::BOOT_VRF])?;
        config_db(lab, &["HSET", &address, "NULL", "NULL"])?;
        let wanted =
            KernelPort { vrf: Some(site::BOOT_VRF.to_owned()), addresses: vec![port.gateway().to_string()] };
        until("the port is in the boot VRF", LIMIT, || {
            Ok((KernelPort::now(lab, port)? == wanted).then_some(()))
        })?;
        assert!(proof::boots(lab, port).is_err(), "no router advertises");
        assert!(proof::released(lab, port, &before).is_err());

        // From the boot VRF to the partition and back: both of FRR's routes are there.
        let url = format!("http://[{}]{}.md5", site::CACHE, site::IMAGE);
        let curl = ["curl", "-sSf", "--max-time", "5", "--interface", site::BOOT_VRF, &url];
        let sum = until("the cache answers into the boot VRF", LIMIT, || Ok(lab.leaf.run(&curl).ok()))?;
        assert!(sum.ends_with("  img.tar.lz4\n"), "{sum}");

        config_db(lab, &["DEL", &address])?;
        gone(lab, &port.gateway().to_string())?;
        config_db(lab, &["DEL", &base])?;
        gone(lab, &base.replace("INTERFACE", "INTERFACE_TABLE"))?;
        config_db(lab, &["DEL", &vrf])?;
        until("every row is as it was", LIMIT, || {
            Ok(before.differences(&Rows::now(lab)?).is_empty().then_some(()))
        })?;
        proof::released(lab, port, &before).map(drop)
    };
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    Lab::with(&programs, story).map_err(|error| {
        eprintln!("{error}");
        "the leaf is not what it should be".to_owned()
    })
}
