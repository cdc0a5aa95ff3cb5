//! Router Advertisements through a real VRF, to machines of every kind: rdisc6, Linux with rdnssd, iPXE, UEFI firmware.
//! They also hold after the port has gone down and up 1,000 times.

use std::path::Path;
use std::time::Duration;

use leafboot_lab::host::lab::{Lab, Programs};
use leafboot_lab::host::machine::Character;
use leafboot_lab::host::process::{Process, run};
use leafboot_lab::host::{Error, network, until};
use leafboot_lab::site::{self, Port};

use crate::another_machine::{DEFAULT_ROUTE, Network, SOON, plugged_in, shows};

/// The limit for firmware, which runs on an emulated CPU of a busy computer.
const FIRMWARE: Duration = Duration::from_secs(120);
/// An interval so long that no unsolicited advertisement comes just before a machine would solicit: the machine would
/// take that one and not solicit.
const SELDOM: &str = "interval_min = \"20m\"\ninterval_max = \"30m\"\n";
/// MAX_INITIAL_RTR_ADVERTISEMENTS of them, each up to MAX_INITIAL_RTR_ADVERT_INTERVAL after the one before (RFC 4861 10).
const INITIAL: (usize, Duration) = (3, Duration::from_secs(40));
const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];
/// Files that the test needs beside the laboratory's, and the Debian package of each.
const PREREQUISITES: [(&str, &str); 3] =
    [("/usr/bin/tcpdump", "tcpdump"), ("/usr/sbin/rdnssd", "rdnssd"), (OVMF[0], "ovmf")];

#[test]
fn machines_of_every_kind_are_answered_through_the_vrf() -> Result<(), String> {
    for (path, package) in PREREQUISITES {
        assert!(Path::new(path).exists(), "{path} is missing: apt-get install {package}");
    }
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_lab")));
    let story = |lab: &mut Lab| {
        let directory = tempfile::tempdir()?;
        lab.configure("[ra]\n", &format!("[ra]\n{SELDOM}"))?;
        let wires = [Wire::listen(lab, Port::Ethernet0)?, Wire::listen(lab, Port::Ethernet4)?];
        lab.start_leafboot()?;
        lab.push(&Port::ALL)?;
        Port::ALL.iter().try_for_each(|port| lab.settled(*port, "boot").map(drop))?;
        until("the initial advertisements are over", INITIAL.1, || {
            let count = |wire: &Wire| wire.packets(&["> ff02::1: ", "router advertisement"]).len();
            Ok(wires.iter().all(|wire| count(wire) >= INITIAL.0).then_some(()))
        })?;
        // The firmware needs a while; the test checks the others meanwhile.
        let _machine = firmware(Port::Ethernet4, directory.path())?;
        ipxe(lab, &wires[0])?;
        linux(Port::Ethernet0, directory.path())?;
        flaps(lab, Port::Ethernet0)?;
        uefi(&wires[1], Port::Ethernet4)?;
        Ok(())
    };
    // As text: the error's own words name the logs and show their ends.
    Lab::with(&programs, story).map_err(|error| {
        eprintln!("{error}");
        "not every machine was served".to_owned()
    })
}

/// A cable's neighbour discovery as tcpdump prints it: seconds, sender, receiver, message.
struct Wire {
    log: std::path::PathBuf,
    _tcpdump: Process,
}

impl Wire {
    fn listen(lab: &Lab, port: Port) -> Result<Wire, Error> {
        let (tap, log) = (network::leaf_tap(port), lab.log(&format!("wire-{port}")));
        let argv = ["tcpdump", "-i", &tap, "-l", "-n", "-tt", "--immediate-mode", "icmp6"].map(str::to_owned);
        let tcpdump = Process::start("tcpdump", &argv, &log)?;
        let wire = Wire { log, _tcpdump: tcpdump };
        until("tcpdump listens", SOON, || Ok(wire.text().contains("listening on").then_some(())))?;
        Ok(wire)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The packets so far that contain all of these words: when, and the line.
    fn packets(&self, words: &[&str]) -> Vec<(f64, String)> {
        let time = |line: &str| line.split(' ').next()?.parse().ok();
        self.text()
            .lines()
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .filter_map(|line| Some((time(line)?, line.to_owned())))
            .collect()
    }
}

/// iPXE asks again after 250 ms, and gives up after 16 s (today's upstream: 150 ms, 4 s): its first request is
/// answered.
fn ipxe(lab: &Lab, wire: &Wire) -> Result<(), Error> {
    let _machine = lab.switch_on(Port::Ethernet0, Character::Honest)?;
    let asked = until("iPXE solicits", SOON, || Ok(wire.packets(&["router solicitation"]).first().cloned()))?;
    let answer = until("it is answered", SOON, || {
        let answers = wire.packets(&["router advertisement"]);
        Ok(answers.into_iter().find(|(at, _)| *at > asked.0))
    })?;
    let between = wire.packets(&["router solicitation"]).iter().filter(|(at, _)| *at < answer.0).count();
    assert_eq!(between, 1, "the first one: {}", wire.text());
    let sender = asked.1.split(' ').nth(2).unwrap_or_default();
    assert!(answer.1.contains(&format!("> {sender}: ICMP6")), "to itself alone: {asked:?} {answer:?}");
    Ok(())
}

/// A Linux with default settings: SLAAC address, default route, and the resolver that rdnssd gets.
fn linux(port: Port, directory: &Path) -> Result<(), Error> {
    let file = directory.join("resolv.conf");
    plugged_in(&Network::of_this_thread(), port, || {
        let (text, pid) = (file.display().to_string(), directory.join("rdnssd.pid").display().to_string());
        let argv = ["rdnssd", "-f", "-u", "root", "-r", &text, "-p", &pid].map(str::to_owned);
        let _rdnssd = Process::start_family("rdnssd", &argv, &directory.join("rdnssd.log"))?;
        run(&["ip", "link", "set", "client", "up"])?;
        let subnet = port.prefix().trim_end_matches("::/64").to_owned();
        shows(&["ip", "-6", "address", "show", "dev", "client", "scope", "global"], &subnet)?;
        shows(&DEFAULT_ROUTE, "default via fe80::")?;
        let resolver = format!("nameserver {}", site::RESOLVER);
        until("rdnssd has the resolver", SOON, || {
            Ok(std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&resolver)).then_some(()))
        })
    })
}

/// A port of the leaf that goes down and up is another carrier each time.
fn flaps(lab: &Lab, port: Port) -> Result<(), Error> {
    let answer = || network::solicit(port)?.ok_or(Error::Wrong("rdisc6 was not answered".to_owned()));
    let before = answer()?;
    assert!(before.contains(&port.prefix()) && before.contains(&site::RESOLVER.to_string()), "{before}");
    let flap = format!("link set {port} down\nlink set {port} up\n");
    lab.leaf.run_with(&["ip", "-batch", "-"], &flap.repeat(1000))?;
    assert_eq!(answer()?, before);
    Ok(())
}

/// EDK2's firmware with its IPv4 off: it solicits once, from `::`, and then tries DHCPv6, which has no server here.
fn firmware(port: Port, directory: &Path) -> Result<Process, Error> {
    let variables = directory.join("variables.fd");
    std::fs::copy(OVMF[1], &variables)?;
    let tap = network::machine_tap(port);
    let argv = [
        "/usr/bin/qemu-system-x86_64 -accel tcg -m 256 -no-reboot -nodefaults -nographic -monitor none"
            .to_owned(),
        format!("-drive if=pflash,format=raw,readonly=on,file={}", OVMF[0]),
        format!("-drive if=pflash,format=raw,file={}", variables.display()),
        "-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=n".to_owned(),
        format!("-netdev tap,id=port,ifname={tap},script=no,downscript=no"),
        format!("-device virtio-net-pci,romfile=,netdev=port,mac={}", port.machine_mac()),
    ];
    let argv: Vec<String> = argv.join(" ").split(' ').map(str::to_owned).collect();
    Process::start("the firmware", &argv, &directory.join("firmware.log"))
}

/// The firmware has taken the advertisement when it checks whether its address in the port's prefix is free.
fn uefi(wire: &Wire, port: Port) -> Result<(), Error> {
    let asked = until("the firmware solicits", FIRMWARE, || {
        Ok(wire.packets(&[" :: > ff02::2: ", "router solicitation"]).first().cloned())
    })?;
    assert!(asked.1.ends_with("length 8"), "without its Ethernet address: {asked:?}");
    until("the firmware has an address of the prefix", FIRMWARE, || {
        let subnet = format!("who has {}", port.prefix().trim_end_matches("::/64"));
        let taken = wire.packets(&[" :: > ", "neighbor solicitation", &subnet]);
        Ok(taken.into_iter().find(|(at, _)| *at > asked.0).map(drop))
    })
}
