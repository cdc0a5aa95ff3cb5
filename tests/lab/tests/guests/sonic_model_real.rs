//! The model behaves the same on a real kernel and on paper, so that tests on paper hold on a real kernel.
//!
//! Owns: that comparison, in the laboratory's leaf. Must never: start leafboot.

use std::path::Path;
use std::time::Duration;

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::{self, Error};
use leafboot_lab::site;

const LIMIT: Duration = Duration::from_secs(20);
const PORT: &str = "Ethernet4";
const ADDRESS: &str = "2001:db8:0:4::1/64";

fn redis(lab: &Lab, database: &str, words: &[&str]) -> Result<String, Error> {
    lab.leaf.run(&[&["redis-cli", "-e", "-s", site::REDIS_SOCKET, "-n", database], words].concat())
}

/// A device with its addresses, as `ip` shows it.
fn device(lab: &Lab, name: &str) -> Result<String, Error> {
    lab.leaf.run(&["ip", "address", "show", "dev", name])
}

fn until(lab: &Lab, what: &str, name: &str, is_so: impl Fn(&str) -> bool) -> Result<(), Error> {
    host::until(what, LIMIT, || {
        std::thread::sleep(Duration::from_millis(200));
        Ok(device(lab, name).ok().filter(|said| is_so(said)).map(drop))
    })
}

fn is_in(master: &str) -> impl Fn(&str) -> bool {
    move |said| said.contains(&format!(" master {master} "))
}

fn is_free(said: &str) -> bool {
    !said.contains(" master ")
}

fn has_address(said: &str) -> bool {
    said.contains(ADDRESS)
}

fn story(lab: &Lab) -> Result<(), Error> {
    let config = |words: &[&str]| redis(lab, "4", words).map(drop);
    let order = |order: &str| config(&["PUBLISH", "sonic-model", order]);
    let (base, address) = (format!("INTERFACE|{PORT}"), format!("INTERFACE|{PORT}|{ADDRESS}"));
    let member = format!("VLAN_MEMBER|Vlan4000|{PORT}");
    config(&["HSET", "VRF|Vrfdrift", "NULL", "NULL"])?;
    config(&["HSET", &base, "vrf_name", "Vrfdrift"])?;
    config(&["HSET", &address, "NULL", "NULL"])?;
    until(lab, "the port enters", PORT, |said| is_in("Vrfdrift")(said) && has_address(said))?;

    order(&format!("ip link set {PORT} nomaster"))?;
    until(lab, "it is taken out, and keeps its address", PORT, |said| is_free(said) && has_address(said))?;
    config(&["HSET", &base, "vrf_name", "Vrfdrift"])?;
    until(lab, "the same row brings it back", PORT, is_in("Vrfdrift"))?;

    order(&format!("sysctl net.ipv6.conf.{PORT}.disable_ipv6=1"))?;
    until(lab, "its address is gone", PORT, |said| !has_address(said))?;
    config(&["HSET", &address, "NULL", "NULL"])?;
    until(lab, "the same row brings it back", PORT, has_address)?;

    order("ip link set Vrfdrift down")?;
    until(lab, "the VRF is down", "Vrfdrift", |said| !said.contains(",UP"))?;
    order("ip link set Vrfdrift up")?;
    until(lab, "the VRF is up", "Vrfdrift", |said| said.contains(",UP"))?;

    config(&["HSET", &member, "tagging_mode", "untagged"])?;
    until(lab, "the VLAN takes it", PORT, |said| is_in("Bridge")(said) && has_address(said))?;
    config(&["DEL", &member])?;
    until(lab, "the VLAN leaves it nowhere", PORT, |said| is_free(said) && has_address(said))?;

    config(&["HSET", &member, "tagging_mode", "untagged"])?;
    until(lab, "the VLAN takes it", PORT, is_in("Bridge"))?;
    config(&["HSET", &base, "vrf_name", "Vrfdrift"])?;
    until(lab, "it enters from the bridge", PORT, is_in("Vrfdrift"))?;
    config(&["DEL", &member])?;
    config(&["HSET", "VRF|Vrffence", "NULL", "NULL"])?;
    until(lab, "later work is done", "Vrffence", |said| !said.is_empty())?;
    assert!(is_in("Vrfdrift")(&device(lab, PORT)?), "the DEL fails, and it stays");
    let state = redis(lab, "6", &["EXISTS", &format!("VLAN_MEMBER_TABLE|Vlan4000|{PORT}")])?;
    assert_eq!(state.trim(), "1");

    order("ip link del Vrfdrift")?;
    until(lab, "the VRF is gone from under it", PORT, |said| is_free(said) && has_address(said))
}

#[test]
fn a_real_kernel_does_what_paper_does() -> Result<(), String> {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    Lab::with(&programs, |lab| story(lab)).map_err(|error| {
        eprintln!("{error}");
        "the kernel did something else".to_owned()
    })
}
