//! Router Advertisement daemons on a `Panel`'s ports: leafboot's own tasks, radvd and BIRD, with the same settings.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use leafboot::internals::links;
use leafboot::internals::port_services::{self, PortRoles, RoleInputs};
use leafboot::internals::ra::thread;
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::{BootPrefix, PortName};
use leafboot_core::observed::Links;
use leafboot_core::port_role::RaStates;
use leafboot_core::ra::withdrawn::WithdrawnOptions;
use leafboot_core::settings::Settings;
use tokio::sync::watch;

use super::panel::prefix;

/// The daemons' settings, beside each port's prefix.
#[derive(Debug, Clone, Copy)]
pub struct Interval {
    /// MinRtrAdvInterval and MaxRtrAdvInterval in seconds.
    pub interval: (u32, u32),
}

/// leafboot's settings file.
pub fn leafboot_settings(settings: Interval) -> String {
    let (min, max) = settings.interval;
    format!(
        r#"leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = []
[ra]
interval_min = "{min}s"
interval_max = "{max}s"
preference = "high"
dns = ["2001:db8:ffff::53"]
search = ["boot.example"]
routes = [{{ prefix = "2001:db8:aaaa::/64", preference = "low" }}, "2001:db8:aaaa:b::/80", "2001:db8::/32", "::/0"]
[relay.boot_service]
origins = ["http://[2001:db8:ffff::80]:8080"]
[relay.cache]
name = "http://images.metal-stack.io"
"#
    )
}

/// radvd's settings file for the same interval.
pub fn radvd_settings(settings: Interval, ports: usize) -> String {
    let (min, max) = settings.interval;
    let port = |port: usize| {
        let (prefix, dns) = (prefix(port), 1800.max(max * 3));
        let route = |prefix: &str, preference: &str| {
            format!("route {prefix} {{ AdvRouteLifetime 1800; AdvRoutePreference {preference}; }};")
        };
        format!(
            "interface Ethernet{port} {{ AdvSendAdvert on; MinRtrAdvInterval {min}; MaxRtrAdvInterval {max}; \
             AdvDefaultLifetime 1800; AdvLinkMTU 1500; AdvDefaultPreference high; AdvCurHopLimit 64; \
             prefix {prefix} {{ AdvValidLifetime 5400; AdvPreferredLifetime 2700; }}; \
             {} {} {} {} RDNSS 2001:db8:ffff::53 {{ AdvRDNSSLifetime {dns}; }}; DNSSL boot.example {{ AdvDNSSLLifetime {dns}; }}; }};\n",
            route("2001:db8:aaaa::/64", "low"),
            route("2001:db8:aaaa:b::/80", "medium"),
            route("2001:db8::/32", "medium"),
            route("::/0", "medium"),
        )
    };
    (0..ports).map(port).collect()
}

/// BIRD's settings file for the same (it has no source link-layer address option, and no preference per route here).
pub fn bird_settings(settings: Interval, ports: usize) -> String {
    let (min, max) = settings.interval;
    let port = |port: usize| {
        format!(
            "interface \"Ethernet{port}\" {{ min ra interval {min}; max ra interval {max}; link mtu 1500; \
             default lifetime 1800; default preference high; solicited ra unicast yes; \
             prefix {} {{ valid lifetime 5400; preferred lifetime 2700; }}; \
             rdnss 2001:db8:ffff::53; dnssl \"boot.example\"; }};\n",
            prefix(port)
        )
    };
    let ports: String = (0..ports).map(port).collect();
    format!("router id 192.0.2.1;\nprotocol device {{ scan time 60; }}\nprotocol radv {{\n{ports}}}\n")
}

/// A daemon from Debian; ends with the test.
pub struct Daemon(pub Child);

impl Daemon {
    /// Starts radvd with a settings file that is written to `directory`.
    pub fn radvd(directory: &Path, settings: Interval, ports: usize) -> Self {
        let (file, pid) = (directory.join("radvd.conf"), directory.join("radvd.pid"));
        std::fs::write(&file, radvd_settings(settings, ports)).unwrap();
        let mut command = Command::new("radvd");
        command.args(["--nodaemon", "--logmethod", "stderr_clean", "--username", "root", "--config"]);
        Self::start(command.arg(&file).arg("--pidfile").arg(&pid))
    }

    /// Starts BIRD with a settings file that is written to `directory`.
    pub fn bird(directory: &Path, settings: Interval, ports: usize) -> Self {
        let file = directory.join("bird.conf");
        std::fs::write(&file, bird_settings(settings, ports)).unwrap();
        let mut command = Command::new("bird");
        Self::start(command.arg("-f").arg("-c").arg(&file).arg("-s").arg(directory.join("bird.ctl")))
    }

    /// Starts FRR's zebra with a settings file that is written to `directory`. It has no MinRtrAdvInterval, answers to
    /// all nodes, and sends no resolvers here.
    pub fn frr(directory: &Path, settings: Interval, ports: usize) -> Self {
        let file = directory.join("zebra.conf");
        let port = |port: usize| {
            format!(
                "interface Ethernet{port}\n no ipv6 nd suppress-ra\n ipv6 nd ra-interval {}\n \
                 ipv6 nd ra-lifetime 1800\n ipv6 nd prefix {} 5400 2700\n",
                settings.interval.1,
                prefix(port)
            )
        };
        std::fs::write(&file, (0..ports).map(port).collect::<String>()).unwrap();
        let mut command = Command::new("/usr/lib/frr/zebra");
        // zebra runs as its own user, which must be able to write there.
        std::fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
        command.args(["-P", "0", "-f"]).arg(&file);
        command.arg("-i").arg(directory.join("zebra.pid")).arg("-z").arg(directory.join("zserv.api"));
        Self::start(command.arg("--vty_socket").arg(directory))
    }

    /// Starts dnsmasq with a settings file that is written to `directory`. It has no MinRtrAdvInterval, and sends no
    /// resolvers here.
    pub fn dnsmasq(directory: &Path, settings: Interval) -> Self {
        let file = directory.join("dnsmasq.conf");
        let interval = settings.interval.1;
        let text = format!(
            "port=0\nuser=root\nleasefile-ro\nenable-ra\nquiet-ra\nra-param=Ethernet*,high,{interval},1800\n\
             dhcp-range=::,constructor:Ethernet*,ra-only,64,90m\npid-file={}\n",
            directory.join("dnsmasq.pid").display()
        );
        std::fs::write(&file, text).unwrap();
        Self::start(
            Command::new("dnsmasq")
                .arg("--keep-in-foreground")
                .arg(format!("--conf-file={}", file.display())),
        )
    }

    /// Starts a program in the calling thread's namespace.
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|e| {
            panic!("{command:?}: {e}; install it with apt-get install radvd bird2 frr dnsmasq-base")
        }))
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        super::run("kill", &["-TERM", &self.0.id().to_string()]);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every one of `ports` boots with its own prefix.
pub fn wish(ports: impl Iterator<Item = (usize, String)>) -> Option<Desired> {
    let ports = ports.map(|(port, prefix)| {
        (format!("Ethernet{port}").parse().unwrap(), prefix.parse::<BootPrefix>().unwrap().into())
    });
    Some(Desired {
        generation: 1,
        provenance: Provenance::Pushed,
        ports: ports.collect(),
        old: Default::default(),
        rejected: Default::default(),
    })
}

/// Every one of `ports` boots with its own prefix, and `before` is the document until now.
pub fn wish_after(before: &Option<Desired>, ports: impl Iterator<Item = (usize, String)>) -> Option<Desired> {
    wish(ports).map(|wish| Desired::after(before.as_ref(), wish.ports, Instant::now()))
}

/// leafboot's own tasks: the kernel's view and the advertisements.
pub async fn leafboot(
    settings: &str,
    withdrawn: Arc<WithdrawnOptions>,
    desired: watch::Receiver<Option<Desired>>,
    states: watch::Sender<RaStates>,
) {
    let config = Arc::new(Settings::parse(settings).unwrap());
    let (links_out, links_in) = watch::channel(Links::default());
    let roles = roles(&config, desired, links_in);
    tokio::select! {
        () = in_boot_vrf(links_out) => {}
        () = thread::run(config, withdrawn, Arc::default(), Arc::default(), roles, states) => {}
    }
}

/// What the ports must do while the ASIC routes for all of them. It is published by a task of the runtime.
pub fn roles(
    settings: &Settings,
    desired: watch::Receiver<Option<Desired>>,
    links: watch::Receiver<Links>,
) -> watch::Receiver<PortRoles> {
    static ALL_ROUTED: LazyLock<watch::Sender<BTreeSet<PortName>>> = LazyLock::new(Default::default);
    let (roles_out, roles) = watch::channel(PortRoles::default());
    let inputs = RoleInputs { desired, links, unrouted: ALL_ROUTED.subscribe() };
    let vrf = settings.boot.vrf.clone();
    tokio::spawn(async move { port_services::publish_roles(&vrf, inputs, roles_out).await });
    roles
}

/// The kernel's view. This computer's kernel may have no VRF: every port is shown as a member of the boot VRF.
pub async fn in_boot_vrf(links_out: watch::Sender<Links>) {
    let (raw_out, mut raw) = watch::channel(Links::default());
    let shown = async {
        while raw.changed().await.is_ok() {
            let mut links = raw.borrow_and_update().clone();
            links.ports.values_mut().for_each(|link| link.vrf = Some("Vrfboot".to_owned()));
            links.vrfs.insert("Vrfboot".to_owned(), true);
            links_out.send_replace(links);
        }
    };
    tokio::select! {
        end = links::run(raw_out) => panic!("{end:?}"),
        () = shown => {}
    }
}

/// leafboot's tasks on a thread of their own, in the calling thread's namespace.
pub struct Leafboot {
    /// The pushed document.
    pub desired: watch::Sender<Option<Desired>>,
    /// How far each port is.
    pub states: watch::Receiver<RaStates>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Leafboot {
    /// Starts them; every port of `ports` boots.
    pub fn start(settings: String, ports: impl Iterator<Item = usize>) -> Self {
        Self::start_with(settings, wish(ports.map(|port| (port, prefix(port)))))
    }

    /// Starts them with a document.
    pub fn start_with(settings: String, desired: Option<Desired>) -> Self {
        Self::start_after(settings, WithdrawnOptions::default(), desired)
    }

    /// Starts them with the options that only earlier settings advertised.
    pub fn start_after(settings: String, withdrawn: WithdrawnOptions, desired: Option<Desired>) -> Self {
        let withdrawn = Arc::new(withdrawn);
        let (desired, desired_in) = watch::channel(desired);
        let (states_out, states) = watch::channel(RaStates::new());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = leafboot(&settings, withdrawn, desired_in, states_out) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { desired, states, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Leafboot {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
