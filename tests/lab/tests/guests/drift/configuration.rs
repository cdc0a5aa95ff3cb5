//! Unmanaged rows and addresses, and faulty documents, on ports that boot and on ports that are to be released.

use leafboot_lab::host::lab::Lab;
use leafboot_lab::host::proof::KernelPort;
use leafboot_lab::host::{Error, network, process};
use leafboot_lab::site::{self, Port};
use serde_json::{Value, json};

use super::ground::{
    Ground, Row, config, kernel_has, on_settled_leaf, order, run, settles, sysctl, until, waits,
};

const FIRST: Port = Port::Ethernet0;
const SECOND: Port = Port::Ethernet4;

#[test]
fn unmanaged_rows_and_addresses_on_a_port_are_removed_or_reported() -> Result<(), String> {
    on_settled_leaf(|ground| {
        unmanaged_addresses(ground)?;
        release_with_addresses(ground)?;
        lag_member(ground)?;
        duplicate(ground)?;
        unreadable_row(ground)?;
        document(ground)
    })
}

#[test]
fn no_machine_is_served_before_the_asic_routes() -> Result<(), String> {
    on_settled_leaf(late_interfaces)
}

/// Both families are treated alike: the rows go while metal-core's push stands.
fn unmanaged_addresses(ground: &mut Ground<'_>) -> Result<(), Error> {
    let row = Row {
        name: "an IPv4 and an IPv6 address row on a boot port",
        told: &["delete INTERFACE|Ethernet0|192.0.2.1/31", "delete INTERFACE|Ethernet0|2001:db8:99::1/64"],
        gaps: &[],
    };
    ground.row(&row, |lab, mark| {
        for address in ["192.0.2.1/31", "2001:db8:99::1/64"] {
            config(lab, &format!("HSET INTERFACE|{FIRST}|{address} NULL NULL"))?;
        }
        settles(lab, FIRST, "boot")?;
        mark.is_untouched(lab, SECOND)
    })
}

fn release_with_addresses(ground: &mut Ground<'_>) -> Result<(), Error> {
    let row = Row {
        name: "the release of a port with an IPv4 address row, and with an address that was added by hand",
        told: &["delete INTERFACE|Ethernet0|192.0.2.1/31", "the kernel still has the address 192.0.2.9/24"],
        gaps: &[],
    };
    ground.row(&row, |lab, mark| {
        run(lab, &format!("ip address add 192.0.2.9/24 dev {FIRST}"))?;
        config(lab, &format!("HSET INTERFACE|{FIRST}|192.0.2.1/31 NULL NULL"))?;
        lab.push(&[SECOND])?;
        settles(lab, FIRST, "released")?;
        kernel_has(lab, FIRST, &KernelPort { vrf: None, addresses: Vec::new() })?;
        mark.is_untouched(lab, SECOND)?;
        lab.push(&Port::ALL).map(drop)
    })
}

/// A LAG member in the ACL's list would make the table inactive for all.
fn lag_member(ground: &mut Ground<'_>) -> Result<(), Error> {
    let row = Row {
        name: "a boot port becomes a LAG member while another one is pushed",
        told: &["it is a member of PortChannel1"],
        gaps: &[],
    };
    ground.row(&row, |lab, _| {
        lab.push(&[FIRST])?;
        settles(lab, SECOND, "released")?;
        // The kernel has no team device here; to the port a bridge is as good a master.
        run(lab, "ip link add PortChannel1 up type bridge")?;
        config(lab, "HSET PORTCHANNEL|PortChannel1 admin_status up")?;
        config(lab, &format!("HSET PORTCHANNEL_MEMBER|PortChannel1|{FIRST} NULL NULL"))?;
        lab.push(&Port::ALL)?;
        settles(lab, SECOND, "boot")?;
        waits(lab, FIRST, "it is a member of PortChannel1")?;
        until("the port has left the ACL's list", || {
            let ports = config(lab, &format!("HGET ACL_TABLE|{} ports@", site::BOOT_ACL))?;
            Ok((ports.trim() == SECOND.name()).then_some(()))
        })?;
        settles(lab, SECOND, "boot")?;
        config(lab, &format!("DEL PORTCHANNEL_MEMBER|PortChannel1|{FIRST} PORTCHANNEL|PortChannel1"))
            .map(drop)
    })
}

/// The machine has given itself the gateway's address.
fn duplicate(ground: &mut Ground<'_>) -> Result<(), Error> {
    let row = Row {
        name: "a machine uses the gateway's address itself",
        told: &["its machine uses the gateway's address 2001:db8:b007:1::1 itself"],
        gaps: &[],
    };
    ground.row(&row, |lab, mark| {
        // SONiC has duplicate address detection off on all of its ports, and `default` may be set otherwise.
        sysctl(lab, SECOND.name(), "accept_dad", "1")?;
        let address = format!("{}/64", SECOND.gateway());
        let machine =
            |what| process::run(&["ip", "-6", "address", what, &address, "dev", &network::listener(SECOND)]);
        machine("add")?;
        order(lab, &format!("ip address del {address} dev {SECOND}"))?;
        waits(lab, SECOND, "its machine uses the gateway's address 2001:db8:b007:1::1 itself")?;
        machine("del")?;
        settles(lab, SECOND, "boot")?;
        mark.is_untouched(lab, FIRST)
    })
}

/// intfmgrd does not come to the rows behind one that it cannot read.
fn unreadable_row(ground: &mut Ground<'_>) -> Result<(), Error> {
    let row = Row {
        name: "an INTERFACE row that intfmgrd cannot read, before a port's own",
        told: &["intfmgrd does not get past the row INTERFACE|Ethernet16|nonsense"],
        gaps: &[],
    };
    ground.row(&row, |lab, mark| {
        lab.push(&[FIRST])?;
        settles(lab, SECOND, "released")?;
        config(lab, "HSET INTERFACE|Ethernet16|nonsense NULL NULL")?;
        lab.push(&Port::ALL)?;
        waits(lab, SECOND, "intfmgrd does not get past the row INTERFACE|Ethernet16|nonsense")?;
        mark.is_untouched(lab, FIRST)?;
        // The cure that leafboot names.
        config(lab, "DEL INTERFACE|Ethernet16|nonsense")?;
        order(lab, "restart")
    })
}

/// One port's fault in a document is that port's alone.
fn document(ground: &mut Ground<'_>) -> Result<(), Error> {
    let row = Row { name: "a document with five entries that cannot be", told: &[], gaps: &[] };
    ground.row(&row, |lab, _| {
        for (number, port) in ["Ethernet8", "Ethernet12"].iter().enumerate() {
            config(lab, &format!("HSET PORT|{port} alias Eth{} index {}", 3 + number, 3 + number))?;
        }
        until("leafboot knows the new ports", || {
            let (status, _) = lab.leaf.api("GET", "/v1/ports/Ethernet12", None)?;
            Ok((status == 200).then_some(()))
        })?;
        let boot = |prefix: String| json!({"state": "boot", "prefix": prefix});
        let rejected = [
            ("Ethernet99", boot("2001:db8:b007:70::/64".to_owned()), "UnknownPort"),
            ("Ethernet120", boot("2001:db8:b007:71::/64".to_owned()), "Protected"),
            ("Ethernet8", boot(SECOND.prefix()), "PrefixOverlap"),
            ("Ethernet12", json!({"state": "bot"}), "InvalidState"),
            ("Ethenret12", boot("2001:db8:b007:72::/64".to_owned()), "UnknownPort"),
        ];
        let mut ports = serde_json::Map::new();
        ports.insert(SECOND.name().to_owned(), boot(SECOND.prefix()));
        ports.extend(rejected.iter().map(|(name, entry, _)| ((*name).to_owned(), entry.clone())));
        let (status, answer) = lab.leaf.api("PUT", "/v1/ports?wait=10s", Some(&json!({"ports": ports})))?;
        check(status == 202, || format!("the document is taken: {status} {answer}"))?;
        settles(lab, FIRST, "released")?;
        settles(lab, SECOND, "boot")?;
        let all = lab.status()?;
        for (name, _, reason) in &rejected {
            let said: &Value = &all[*name];
            let is_right =
                said["state"] == "rejected" && said["reason"] == *reason && said["settled"] == false;
            check(is_right, || format!("{name} is to be rejected for {reason}: {said}"))?;
        }
        config(lab, "DEL PORT|Ethernet8 PORT|Ethernet12")?;
        lab.push(&Port::ALL).map(drop)
    })
}

/// swss restarts, and orchagent comes to its router interfaces 2 s later than intfmgrd has put the port into the VRF.
fn late_interfaces(ground: &mut Ground<'_>) -> Result<(), Error> {
    let row = Row {
        name: "a restart of swss whose ASIC has its router interfaces late",
        told: &["the ASIC has no router interface on it"],
        gaps: &[],
    };
    ground.row(&row, |lab, _| {
        let device = network::listener(FIRST);
        let address = format!("{}c0de/64", FIRST.network());
        process::run(&["ip", "-6", "address", "replace", &address, "dev", &device, "nodad"])?;
        let url = format!("http://[{}]/boot.ipxe", FIRST.gateway());
        let asks: [&[&str]; 2] = [
            &["rdisc6", "-1", "-q", "-r", "1", "-w", "200", &device],
            &["curl", "-sf", "--max-time", "0.3", "--interface", &device, &url],
        ];
        let index = format!("cat /sys/class/net/{FIRST}/ifindex");
        let before = run(lab, &index)?;
        restart_model_with(lab, &["--interfaces-after-ms", "2000"])?;
        until("SONiC has made the port again", || Ok(run(lab, &index).ok().filter(|now| *now != before)))?;
        let mut silent = 0;
        let mut served = [false; 2];
        until("the port's machine is served", || {
            for (ask, served) in asks.iter().zip(&mut served) {
                *served = process::output(ask)?.status.success();
                // The test looks after the answer: the ASIC may have begun to route meanwhile, but it does not stop.
                let is_too_early = *served && !is_routed(lab, FIRST)?;
                check(!is_too_early, || format!("{}: answered before the ASIC routes", ask[0]))?;
            }
            silent += usize::from(!served[0] && !served[1]);
            Ok((served == [true; 2]).then_some(()))
        })?;
        check(silent > 0, || "no request was made before the port was served".to_owned())
    })
}

/// Ends the model, and starts it as swss is restarted, with further arguments.
fn restart_model_with(lab: &Lab, arguments: &[&str]) -> Result<(), Error> {
    let find = "for process in /proc/[0-9]*; do tr '\\0' ' ' < $process/cmdline 2>/dev/null | \
                grep -q 'sonic-model --database' && echo ${process#/proc/}; done; true";
    let found = lab.leaf.run(&["sh", "-c", find])?;
    let pid = found.lines().find_map(|line| line.trim().parse().ok());
    lab.leaf.kill(pid.ok_or_else(|| Error::Wrong(format!("the model has no process: {found}")))?)?;
    let model = [env!("CARGO_BIN_EXE_lab"), "sonic-model", "--database-config", site::DATABASE_CONFIG];
    lab.leaf.start_program(&[model.as_slice(), arguments].concat(), lab.log("sonic-model")).map(drop)
}

/// Whether the ASIC has a router interface on a port.
fn is_routed(lab: &Lab, port: Port) -> Result<bool, Error> {
    let redis = format!("redis-cli -e -s {} -n", site::REDIS_SOCKET);
    let object = run(lab, &format!("{redis} 2 HGET COUNTERS_PORT_NAME_MAP {port}"))?;
    let keys = run(lab, &format!("{redis} 1 KEYS ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:*"))?;
    let mut is_routed = false;
    for key in keys.split_whitespace() {
        let on = run(lab, &format!("{redis} 1 HGET {key} SAI_ROUTER_INTERFACE_ATTR_PORT_ID"))?;
        is_routed |= on.trim() == object.trim() && !object.trim().is_empty();
    }
    Ok(is_routed)
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Wrong(otherwise())) }
}
