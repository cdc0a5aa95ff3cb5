//! Router Advertisements over a real cable to a real kernel: the machine's own view of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leafboot::internals::Metrics;
use leafboot::internals::RaSocket;
use leafboot::internals::ra::memory;
use leafboot::internals::ra::thread;
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::BootPrefix;
use leafboot_core::observed::{Link, Links};
use leafboot_core::port_role::{RaState, RaStates};
use leafboot_core::ra::withdrawn::WithdrawnOptions;
use leafboot_core::settings::Settings;
use support::advertiser::{Daemon, roles};
use support::cable::Cable;
use tokio::sync::watch;

const SETTINGS: &str = r#"
leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = []
[ra]
dns = ["2001:db8:ffff::53"]
[relay.boot_service]
origins = ["http://[2001:db8:ffff::80]:8080"]
[relay.cache]
name = "http://images.metal-stack.io"
"#;

/// The advertisements' task on one cable; the test plays reconciler and kernel view.
struct Port {
    cable: Cable,
    desired: watch::Sender<Option<Desired>>,
    links: watch::Sender<Links>,
    states: watch::Receiver<RaStates>,
    metrics: Arc<Metrics>,
    task: tokio::task::JoinHandle<()>,
}

fn wish(ports: &[&str]) -> Option<Desired> {
    let prefix: BootPrefix = "2001:db8:b007::/64".parse().unwrap();
    let ports = ports.iter().map(|port| (port.parse().unwrap(), prefix.into()));
    Some(Desired {
        generation: 1,
        provenance: Provenance::Pushed,
        ports: ports.collect(),
        old: Default::default(),
        rejected: Default::default(),
    })
}

fn only(link: Link) -> Links {
    Links {
        ports: BTreeMap::from([("Ethernet0".parse().unwrap(), link)]),
        loopbacks: BTreeMap::new(),
        vrfs: BTreeMap::from([("Vrfboot".to_owned(), true)]),
    }
}

impl Port {
    fn start(links: impl FnOnce(Link) -> Links) -> Self {
        Self::start_with(SETTINGS, links)
    }

    fn start_with(settings: &str, links: impl FnOnce(Link) -> Links) -> Self {
        let cable = Cable::plug();
        cable.boot();
        Self::serve(cable, settings, WithdrawnOptions::default(), links)
    }

    /// Starts on an existing cable, whose machine has received earlier advertisements.
    fn serve(
        cable: Cable,
        settings: &str,
        withdrawn: WithdrawnOptions,
        links: impl FnOnce(Link) -> Links,
    ) -> Self {
        let config = Arc::new(Settings::parse(settings).unwrap());
        let (desired, desired_in) = watch::channel(wish(&["Ethernet0"]));
        let (links, links_in) = watch::channel(links(cable.link()));
        let (states_out, states) = watch::channel(RaStates::new());
        let roles = roles(&config, desired_in, links_in);
        let metrics = Arc::new(Metrics::default());
        let task = tokio::spawn(thread::run(
            config,
            Arc::new(withdrawn),
            Arc::default(),
            Arc::clone(&metrics),
            roles,
            states_out,
        ));
        Self { cable, desired, links, states, metrics, task }
    }

    /// Waits, while the task runs, until `fact` is there.
    async fn eventually(&self, what: &str, mut fact: impl FnMut() -> bool) {
        for _ in 0..200 {
            if fact() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not after 10 s: {what}");
    }

    /// What rdisc6 on the machine gets within `seconds`, one solicitation each. It runs beside the task, which shares
    /// this thread.
    async fn solicit(&self, seconds: u8) -> String {
        let (pid, tries) = (self.cable.pid(), seconds.to_string());
        let asking = tokio::task::spawn_blocking(move || {
            let rdisc6 = ["rdisc6", "-1", "-r", &tries, "-w", "1000", "eth0"];
            let mut arguments = vec!["--net", "--target", &pid];
            arguments.extend(rdisc6);
            support::output("nsenter", &arguments)
        });
        let output = asking.await.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("Soliciting") && !said.contains("Cannot assign"), "nothing was asked: {said}");
        said
    }
}

#[tokio::test]
async fn a_machine_gets_address_router_and_resolver() {
    let port = Port::start(only);
    port.eventually("the kernel has its SLAAC address", || {
        let addresses =
            port.cable.machine("ip", &["-6", "address", "show", "dev", "eth0", "scope", "global"]);
        addresses.contains("2001:db8:b007:") && !addresses.contains("tentative")
    })
    .await;
    let counted = port.metrics.text();
    assert!(
        counted.contains("leafboot_ra_sent_total{port=\"Ethernet0\",kind=\"multicast\"} 1\n"),
        "{counted}"
    );
    let routes = port.cable.machine("ip", &["-6", "route", "show", "default"]);
    assert!(routes.contains("via fe80::") && routes.contains("proto ra"), "{routes}");
    let answer = port.solicit(5).await;
    for said in [
        "Hop limit                 :           64",
        "Stateful address conf.    :           No",
        "Stateful other conf.      :           No",
        "Router lifetime           :         1800",
        "Prefix                   : 2001:db8:b007::/64",
        "On-link                 :          Yes",
        "Autonomous address conf.:          Yes",
        "Valid time              :         5400",
        "Pref. time              :         2700",
        "Recursive DNS server     : 2001:db8:ffff::53",
        "MTU                      :         1500",
        "Source link-layer address:",
    ] {
        assert!(answer.contains(said), "no {said:?} in {answer}");
    }
    port.task.abort();
}

#[tokio::test]
async fn a_port_that_the_kernel_does_not_show_ready_is_silent() {
    for broken in [
        |link: Link| only(Link { up: false, ..link }),
        |link: Link| only(Link { vrf: None, ..link }),
        |link: Link| only(Link { usable_addresses: Default::default(), ..link }),
        |link: Link| only(Link { link_local: None, ..link }),
    ] {
        let port = Port::start(broken);
        let answer = port.solicit(1).await;
        assert!(!answer.contains("2001:db8:b007"), "{answer}");
        port.links.send_replace(only(port.cable.link()));
        port.eventually("the machine has a router once the port is ready", || {
            port.cable.machine("ip", &["-6", "route", "show", "default"]).contains("proto ra")
        })
        .await;
        port.task.abort();
    }
}

#[tokio::test]
async fn a_released_port_tells_its_machine_and_is_silent() {
    let port = Port::start(only);
    let default = || port.cable.machine("ip", &["-6", "route", "show", "default"]);
    port.eventually("the machine has a router", || default().contains("proto ra")).await;
    port.desired.send_replace(wish(&[]));
    let ceased = Some(RaState::Ceased);
    port.eventually("the port has ceased", || port.states.borrow().values().next().copied() == ceased).await;
    port.eventually("the machine has no router any more", || !default().contains("proto ra")).await;
    let answer = port.solicit(2).await;
    assert!(!answer.contains("2001:db8:b007"), "{answer}");
    port.task.abort();
}

/// RFC 4861 4.2, RFC 4191 3.1: a leaf that is no default router, but advertises routes.
#[tokio::test]
async fn a_machine_uses_routes_where_the_leaf_is_no_default_router() {
    let settings = "[ra]\nrouter_lifetime = \"0s\"\nroutes = [\"2001:db8:ffff::/48\"]";
    let port = Port::start_with(&SETTINGS.replace("[ra]", settings), only);
    // Linux takes no routes by default, and it has received the first advertisement already.
    let machine = |arguments: &[&str]| port.cable.machine("ip", arguments);
    port.cable.machine("sysctl", &["-qw", "net.ipv6.conf.eth0.accept_ra_rt_info_max_plen=128"]);
    machine(&["link", "set", "eth0", "down"]);
    machine(&["link", "set", "eth0", "up"]);
    port.eventually("the machine has the route", || {
        machine(&["-6", "route", "show", "2001:db8:ffff::/48"]).contains("via fe80::")
    })
    .await;
    let addresses = machine(&["-6", "address", "show", "dev", "eth0", "scope", "global"]);
    assert!(addresses.contains("2001:db8:b007:"), "{addresses}");
    assert_eq!(machine(&["-6", "route", "show", "default"]), "");
    port.desired.send_replace(wish(&[]));
    port.eventually("the released machine has no route any more", || {
        !machine(&["-6", "route", "show"]).contains("2001:db8:ffff::/48")
    })
    .await;
    port.task.abort();
}

#[tokio::test]
async fn a_stopped_agent_sends_no_final_advertisement() {
    let port = Port::start(only);
    let default = || port.cable.machine("ip", &["-6", "route", "show", "default"]);
    port.eventually("the machine has a router", || default().contains("proto ra")).await;
    port.task.abort();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(default().contains("proto ra"), "the machine keeps its router");
}

/// The kernel's error after a change of a port concerns this port: the task tries again and never ends.
#[tokio::test]
async fn an_error_of_the_socket_is_tried_again() {
    let port = Port::start(only);
    let default = || port.cable.machine("ip", &["-6", "route", "show", "default"]);
    port.eventually("the machine has a router", || default().contains("proto ra")).await;
    let usual = port.cable.link();
    let ifindex = usual.ifindex;
    let socket = RaSocket::open(ifindex).unwrap();
    let error = |socket: &RaSocket| socket.send(&[0; 60]).unwrap_err().raw_os_error();
    let reordered = |mtu| port.links.send_replace(only(Link { mtu, ..usual.clone() }));

    // There is no carrier, and the kernel's view does not show that yet.
    port.cable.machine("ip", &["link", "set", "eth0", "down"]);
    assert_eq!(error(&socket), Some(nix::libc::ENOBUFS));
    reordered(1400);
    tokio::time::sleep(Duration::from_millis(300)).await;
    port.cable.machine("ip", &["link", "set", "eth0", "up"]);
    port.eventually("the machine has a router again", || default().contains("proto ra")).await;

    support::run("ip", &["link", "set", "Ethernet0", "down"]);
    assert_eq!(error(&socket), Some(nix::libc::ENETDOWN));
    reordered(1390);
    // Until the next try after this it is most of half a second.
    tokio::time::sleep(Duration::from_millis(800)).await;
    support::run("ip", &["link", "set", "Ethernet0", "up"]);
    let is_up = || port.cable.machine("ip", &["link", "show", "eth0"]).contains("state UP");
    port.eventually("the machine has its carrier", is_up).await;
    assert!(port.solicit(1).await.contains("2001:db8:b007::/64"), "it is heard and answered at once");

    support::run("ip", &["link", "delete", "Ethernet0"]);
    assert!(RaSocket::open(ifindex).is_err_and(|error| error.raw_os_error() == Some(nix::libc::ENODEV)));
    reordered(1380);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!port.task.is_finished());
    port.task.abort();
}

/// The kernel takes a packet socket off a device that is removed (`af_packet.c: packet_notifier`, NETDEV_UNREGISTER). When
/// a new one has the same number, and the events of both were lost or came as one, the kernel's view is what it was: no
/// order changes, and the port finds out by itself.
#[tokio::test]
async fn a_device_that_is_recreated_without_an_event_is_heard_at_once() {
    let settings = "[ra]\ninterval_min = \"600s\"\ninterval_max = \"1800s\"";
    let port = Port::start_with(&SETTINGS.replace("[ra]", settings), only);
    let default = || port.cable.machine("ip", &["-6", "route", "show", "default"]);
    port.eventually("the machine has a router", || default().contains("proto ra")).await;
    let before = port.cable.link();
    for is_down_before in [false, true] {
        if is_down_before {
            // Then its removal gives the socket no error of its own.
            support::run("ip", &["link", "set", "Ethernet0", "down"]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        port.cable.replace_port(&before);
        port.eventually("the new device's machine has a router", || default().contains("proto ra")).await;
        assert!(port.solicit(1).await.contains("2001:db8:b007::/64"), "it is heard and answered at once");
    }
    port.task.abort();
}

/// RFC 8106 5.1, 5.2: a resolver that new settings do not name is gone from a running machine's resolv.conf with the first
/// advertisement after the restart, and not when its lifetime is over.
#[tokio::test]
async fn a_running_machine_forgets_a_resolver_that_the_settings_name_no_more() {
    let state = tempfile::tempdir().unwrap();
    let told = |settings: &str| memory::load_and_save(state.path(), &Settings::parse(settings).unwrap().ra);
    let cable = Cable::plug();
    cable.boot();
    let resolv_conf = state.path().join("resolv.conf");
    // It has a second process, which is to end with the test; its own hook would change this computer's resolv.conf.
    let mut rdnssd = cable.command("unshare");
    rdnssd.args(["--pid", "--fork", "--kill-child", "rdnssd", "--foreground"]);
    rdnssd.args(["--merge-hook", "/bin/true", "--user", "root", "--resolv-file"]);
    rdnssd.arg(&resolv_conf).arg("--pidfile").arg(state.path().join("rdnssd.pid"));
    let _rdnssd = Daemon(rdnssd.spawn().unwrap());
    let knows = |server: &str| std::fs::read_to_string(&resolv_conf).is_ok_and(|text| text.contains(server));

    let before = SETTINGS.replace("[ra]", "[ra]\nsearch = [\"old.example\"]");
    let port = Port::serve(cable, &before, told(&before), only);
    port.eventually("it knows the resolver", || knows("2001:db8:ffff::53") && knows("old.example")).await;
    port.task.abort();
    let after = SETTINGS.replace("::53", "::54");
    let port = Port::serve(port.cable, &after, told(&after), only);
    port.eventually("it knows the new one", || knows("2001:db8:ffff::54")).await;
    let old = || knows("2001:db8:ffff::53") || knows("old.example");
    port.eventually("it knows the old one no more", || !old()).await;
    port.task.abort();
}

#[tokio::test]
async fn the_thread_ends_with_its_task() {
    let mut port = Port::start(only);
    let advertises = || port.states.borrow().values().next() == Some(&RaState::Advertising);
    port.eventually("the port advertises", advertises).await;
    port.task.abort();
    // The thread publishes the states; they end with it.
    let ended = async { while port.states.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the thread goes on");
}
