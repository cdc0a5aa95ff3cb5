//! The kernel loses what STATE_DB shows, and the ASIC loses rules.

use std::time::Duration;

use leafboot_lab::host::Error;
use leafboot_lab::host::lab::Lab;
use leafboot_lab::host::network;
use leafboot_lab::host::process;
use leafboot_lab::site::{self, Port};

use super::ground::{Ground, Mark, Row, config, on_settled_leaf, order, run, sysctl, until};

/// leafboot's message for a port that is not in the boot VRF any more.
const NO_VRF: &str = "the kernel does not have it in the boot VRF";
/// leafboot's message for a port that has lost its gateway.
const NO_GATEWAY: &str = "the kernel does not have the gateway";

/// Changes one port. leafboot reports the missing fact, then its repair, and leaves the other port alone.
fn loses(
    ground: &mut Ground<'_>,
    (name, port, missing): (&str, Port, &str),
    gaps: &[&str],
    act: impl FnOnce(&Lab) -> Result<(), Error>,
) -> Result<(), Error> {
    // The port's state may be settled again before it is logged.
    let is_attempt = |line: &str, attempt: u32| {
        line.contains(&format!("port={port} "))
            && line.contains(&format!("repairing, attempt {attempt}: {missing}"))
            || line.contains(&format!("subject={port} attempt={attempt} fact=\"{missing}"))
    };
    ground.row(&Row { name, told: &[missing], gaps }, |lab, mark| {
        act(lab)?;
        until(&format!("leafboot says «repairing, attempt n: {missing}»"), || {
            let log = mark.leafboot(lab)?;
            Ok(log.lines().any(|line| (1..4).any(|attempt| is_attempt(line, attempt))).then_some(()))
        })?;
        mark.is_untouched(lab, port.other())
    })
}

/// Makes a port a VLAN's member until vlanmgrd has taken it out of its VRF. leafboot may delete the row before vlanmgrd
/// reads it: then the port has lost nothing, and the row is written again.
fn join_vlan(lab: &Lab, port: Port) -> Result<(), Error> {
    let mark = Mark::now(lab)?;
    for attempt in 0..50 {
        if attempt % 10 == 0 {
            config(lab, &format!("HSET VLAN_MEMBER|Vlan4000|{port} tagging_mode untagged"))?;
        }
        std::thread::sleep(Duration::from_millis(200));
        if mark.gaps(lab)?.iter().any(|gap| gap.contains(&format!("{port}: OutsideVrf"))) {
            return Ok(());
        }
    }
    Err(Error::Wrong(format!("vlanmgrd has not taken {port} out of its VRF")))
}

// The ports take turns, for each attempt at one port comes later than the one before.
#[test]
fn leafboot_restores_what_the_kernel_loses() -> Result<(), String> {
    on_settled_leaf(|ground| {
        let (first, second) = (Port::Ethernet0, Port::Ethernet4);
        let row = ("a VLAN_MEMBER row, which takes the port out of its VRF", first, NO_VRF);
        loses(ground, row, &["Ethernet0: BridgePort", "Ethernet0: OutsideVrf"], |lab| join_vlan(lab, first))?;
        let row = ("ip link set PORT nomaster", second, NO_VRF);
        loses(ground, row, &["Ethernet4: OutsideVrf"], |lab| {
            order(lab, &format!("ip link set {second} nomaster"))
        })?;
        loses(ground, ("ip address del of the gateway", first, NO_GATEWAY), &[], |lab| {
            order(lab, &format!("ip address del {}/64 dev {first}", first.gateway()))
        })?;
        loses(ground, ("disable_ipv6 1 and 0", second, NO_GATEWAY), &[], |lab| {
            sysctl(lab, second.name(), "disable_ipv6", "1")?;
            sysctl(lab, second.name(), "disable_ipv6", "0")
        })?;
        // The laboratory's devices take no MTU above 1500 once they have another one; leafboot is asked of IPv6 alone.
        loses(ground, ("MTU 1279 and back", first, NO_GATEWAY), &[], |lab| {
            run(lab, &format!("ip link set {first} mtu 1279"))?;
            run(lab, &format!("ip link set {first} mtu 1500")).map(drop)
        })?;
        loses(ground, ("keep_addr_on_down=0 and a flap", second, NO_GATEWAY), &[], |lab| {
            sysctl(lab, "all", "keep_addr_on_down", "0")?;
            sysctl(lab, second.name(), "keep_addr_on_down", "0")?;
            run(lab, &format!("ip link set {second} down"))?;
            run(lab, &format!("ip link set {second} up"))?;
            sysctl(lab, second.name(), "keep_addr_on_down", "1")?;
            sysctl(lab, "all", "keep_addr_on_down", "1")
        })?;
        let row = Row {
            name: "ip link set Vrfboot down",
            told: &["the kernel has the device Vrfboot down", "repair: "],
            gaps: &[],
        };
        ground.row(&row, |lab, mark| {
            order(lab, "ip link set Vrfboot down")?;
            Port::ALL.into_iter().try_for_each(|port| not_served(lab, mark, port))
        })?;
        ground.settles(first)?;
        relay_answers(first)
    })
}

/// Waits until leafboot serves a port no more, and reports that.
fn not_served(lab: &Lab, mark: &Mark, port: Port) -> Result<(), Error> {
    until(&format!("leafboot neither serves {port} nor says so"), || {
        let log = mark.leafboot(lab)?;
        let mut lines = log.lines().filter(|line| line.contains(&format!("port={port} ")));
        Ok(lines.find(|line| line.contains("settled=false advertising=false")).map(drop))
    })
}

/// Waits until the relay answers a machine on a port.
fn relay_answers(port: Port) -> Result<(), Error> {
    let device = network::listener(port);
    let address = format!("{}c0de/64", port.network());
    process::run(&["ip", "-6", "address", "replace", &address, "dev", &device, "nodad"])?;
    let url = format!("http://[{}]/boot.ipxe", port.gateway());
    let ask = ["curl", "-sSf", "--max-time", "3", "--interface", &device, &url];
    until("the relay answers", || Ok(process::run(&ask).ok().filter(|script| script.starts_with("#!ipxe"))))
        .map(drop)
}

#[test]
fn leafboot_restores_rules_that_acl_loader_deletes_and_denying_ones_first() -> Result<(), String> {
    on_settled_leaf(|ground| {
        let row = Row {
            name: "acl-loader update full",
            told: &["set ACL_RULE|LEAFBOOT|DEFAULT_RULE", "set ACL_RULE|LEAFBOOT|GATEWAY_"],
            gaps: &["KernelAddress", "RouterInterface"],
        };
        ground.row(&row, |lab, mark| {
            let pattern = format!("ACL_RULE|{}|*", site::BOOT_ACL);
            let rules = config(lab, &format!("--raw KEYS {pattern}"))?;
            config(lab, &format!("DEL {}", rules.split_whitespace().collect::<Vec<_>>().join(" ")))?;
            let first = until("leafboot writes the rules again", || {
                let log = mark.leafboot(lab)?;
                let written = |word: &str| {
                    log.lines().position(|line| line.contains(&format!("set ACL_RULE|LEAFBOOT|{word}")))
                };
                Ok(written("GATEWAY_").zip(written("DEFAULT_RULE")))
            })?;
            if first.0 < first.1 {
                return Err(Error::Wrong("a rule that permits came before one that denies".to_owned()));
            }
            let open = "isolation closed: Ethernet0: RouterInterface after ";
            let ms = until("the ASIC has the denying rules again", || {
                let log = mark.model(lab)?;
                let line = log.lines().find_map(|line| line.strip_prefix(open));
                Ok(line.and_then(|line| line.split(' ').next()).map(str::to_owned))
            })?;
            println!("acl-loader update full: a denying rule was absent for {ms} ms");
            Ok(())
        })
    })
}
