//! PID 1 of the leaf: sets an empty guest up as a SONiC switch, then collects ended processes, or becomes systemd.
//!
//! It sets up what SONiC's image, its kernel and portsyncd would have: file systems, sysctls, ports, redis-server with
//! a configuration.
//!
//! Must never: touch the boot VRF. The SONiC model makes it, by the rows.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, wait};

use super::{Error, ip, systemd, write};
use crate::site;
use crate::sonic::kernel::add_port;

/// The arguments of `lab leaf-init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The directory that the guest shares with the computer.
    #[arg(long)]
    run_directory: PathBuf,
    /// Becomes systemd when everything is set up.
    #[arg(long)]
    systemd: bool,
    /// What the kernel appends to its own command line is handed to init as well.
    #[arg(hide = true)]
    from_kernel: Vec<String>,
}

/// Runs the leaf until the guest is killed; returns only on failure.
pub fn run(args: &InitArgs) -> Result<(), Error> {
    file_systems(args)?;
    modules()?;
    sysctls()?;
    ports()?;
    let mut children = vec![redis(&args.run_directory)?];
    let me =
        std::env::current_exe().map_err(|source| Error::File { path: "/proc/self/exe".into(), source })?;
    let lab = |words: &[&str], name| daemon(Command::new(&me).args(words), name, &args.run_directory);
    children.push(lab(
        &["sonic-model", "--database-config", site::DATABASE_CONFIG, "--kernel", "real"],
        "sonic-model",
    )?);
    children.push(lab(&["leaf-routes"], "routes")?);
    children.push(lab(&["leaf-control"], "control")?);
    if args.systemd { Err(systemd::take_over()) } else { reap(&children) }
}

fn file_systems(args: &InitArgs) -> Result<(), Error> {
    let run_directory = args.run_directory.as_path();
    let attach = |source: &str, target: &Path, kind: &str, data: Option<&str>| {
        mount(Some(source), target, Some(kind), MsFlags::empty(), data)
            .map_err(|source| Error::Mount { what: target.to_owned(), source })
    };
    attach("proc", Path::new("/proc"), "proc", None)?;
    attach("sysfs", Path::new("/sys"), "sysfs", None)?;
    attach("tmpfs", Path::new("/run"), "tmpfs", None)?;
    if args.systemd {
        let me = std::env::current_exe();
        let me = me.map_err(|source| Error::File { path: "/proc/self/exe".into(), source })?;
        systemd::make_room(me.parent().unwrap_or(Path::new("/")))?;
    }
    std::fs::create_dir_all(run_directory)
        .map_err(|source| Error::File { path: run_directory.to_owned(), source })?;
    // The rest of the computer is mounted read-only: a program in the leaf can spoil nothing outside this directory.
    attach("none", run_directory, "hostfs", run_directory.to_str())?;
    for directory in ["/run/redis/sonic-db", site::STATE_DIRECTORY] {
        std::fs::create_dir_all(directory)
            .map_err(|source| Error::File { path: directory.into(), source })?;
    }
    Ok(())
}

fn modules() -> Result<(), Error> {
    let file = |path: PathBuf| File::open(&path).map_err(|source| Error::Module { module: path, source });
    let mut release = String::new();
    file("/proc/sys/kernel/osrelease".into())?
        .read_to_string(&mut release)
        .map_err(|source| Error::File { path: "/proc/sys/kernel/osrelease".into(), source })?;
    for name in [
        "lib/crc-ccitt.ko",
        "net/ipv6/ipv6.ko",
        "drivers/net/vrf.ko",
        "net/llc/llc.ko",
        "net/802/stp.ko",
        "net/bridge/bridge.ko",
        "drivers/net/macvlan.ko",
        "drivers/net/dummy.ko",
        "net/netfilter/x_tables.ko",
        "net/netfilter/xt_tcpudp.ko",
        "net/ipv4/netfilter/ip_tables.ko",
        "net/ipv4/netfilter/iptable_mangle.ko",
        "net/ipv6/netfilter/ip6_tables.ko",
        "net/ipv6/netfilter/ip6table_mangle.ko",
        "net/ipv4/netfilter/nf_defrag_ipv4.ko",
        "net/ipv6/netfilter/nf_defrag_ipv6.ko",
        "net/netfilter/nf_conntrack.ko",
        "net/netfilter/xt_conntrack.ko",
    ] {
        let path = Path::new("/usr/lib/uml/modules").join(release.trim()).join("kernel").join(name);
        nix::kmod::finit_module(&file(path.clone())?, c"", nix::kmod::ModuleInitFlags::empty())
            .map_err(|error| Error::Module { module: path, source: error.into() })?;
    }
    Ok(())
}

/// Sets those of SONiC's sysctls that affect a boot port.
/// sonic-buildimage `files/image_config/sysctl/90-sonic.conf`
fn sysctls() -> Result<(), Error> {
    const SETTINGS: [(&str, &str); 12] = [
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv6/conf/default/forwarding", "1"),
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/all/keep_addr_on_down", "1"),
        ("ipv6/conf/default/keep_addr_on_down", "1"),
        ("ipv6/neigh/default/gc_thresh1", "1024"),
        ("ipv6/neigh/default/gc_thresh2", "2048"),
        ("ipv6/neigh/default/gc_thresh3", "4096"),
        ("ipv4/tcp_l3mdev_accept", "1"),
        ("ipv4/udp_l3mdev_accept", "1"),
        ("ipv4/raw_l3mdev_accept", "1"),
    ];
    SETTINGS.iter().try_for_each(|(name, value)| sysctl(name, value))
}

fn sysctl(name: &str, value: &str) -> Result<(), Error> {
    write(Path::new("/proc/sys/net").join(name), value)
}

/// Makes the devices that portsyncd would make, up and with the MAC address that all of them share. Their addresses
/// come from the rows.
fn ports() -> Result<(), Error> {
    ip("link set lo up")?;
    ip("link set vec0 name eth0")?;
    ip(&format!("address add {}/30 dev eth0", site::MANAGEMENT_LEAF))?;
    ip("link set eth0 up")?;
    let front_panel = std::iter::once(site::UPLINK).chain(site::Port::ALL.map(site::Port::name));
    for (number, port) in front_panel.enumerate() {
        // The port is a device of its own, so that a restart of SONiC can make it again with another index.
        let cable = format!("vec{}", number + 1);
        sysctl(&format!("ipv6/conf/{cable}/disable_ipv6"), "1")?;
        ip(&format!("link set {cable} address {} up", site::SYSTEM_MAC))?;
        add_port(&cable, port).map_err(|error| Error::Late(error.to_string()))?;
    }
    Ok(())
}

/// Starts redis-server as SONiC's database container does, and fills in what a configured leaf has.
/// sonic-buildimage `dockers/docker-database/Dockerfile.j2`, `supervisord.conf.j2`
fn redis(run_directory: &Path) -> Result<Daemon, Error> {
    write(site::DATABASE_CONFIG, include_str!("database_config.json"))?;
    let mut server = Command::new("/usr/bin/redis-server");
    server.current_dir("/run/redis").args(["--bind", "127.0.0.1", "--port", "6379"]);
    server.args(["--unixsocket", site::REDIS_SOCKET, "--unixsocketperm", "760", "--databases", "100"]);
    server.args(["--save", "", "--notify-keyspace-events", "AKE"]);
    server.args(["--client-output-buffer-limit", "pubsub 0 0 0"]);
    let server = daemon(&mut server, "redis", run_directory)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(site::REDIS_SOCKET).is_err() {
        if Instant::now() > deadline {
            return Err(Error::Late("redis-server does not listen after 20 s: see redis.log".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    fill(include_str!("config_db.redis"))?;
    Ok(server)
}

/// Hands commands to redis-cli, for CONFIG_DB.
fn fill(commands: &str) -> Result<(), Error> {
    let start = |source| Error::Start { program: "redis-cli".to_owned(), source };
    let mut client = Command::new("/usr/bin/redis-cli")
        .args(["-e", "-s", site::REDIS_SOCKET, "-n", "4"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(start)?;
    if let Some(mut input) = client.stdin.take() {
        input.write_all(commands.as_bytes()).map_err(start)?;
    }
    let status = client.wait().map_err(start)?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: "redis-cli".to_owned(), status }) }
}

/// A process of the leaf that should never end.
struct Daemon {
    name: &'static str,
    pid: u32,
}

fn daemon(command: &mut Command, name: &'static str, run_directory: &Path) -> Result<Daemon, Error> {
    let path = run_directory.join(format!("{name}.log"));
    let log = File::create(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let errors = log.try_clone().map_err(|source| Error::File { path, source })?;
    let child = command
        // The kernel gives init no PATH.
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|source| Error::Start { program: name.to_owned(), source })?;
    Ok(Daemon { name, pid: child.id() })
}

/// Collects every orphan, and logs the end of a daemon on the console.
fn reap(daemons: &[Daemon]) -> Result<(), Error> {
    loop {
        let ended = wait().map_err(|source| Error::Late(format!("nothing is left to wait for: {source}")))?;
        let told =
            daemons.iter().find(|daemon| ended.pid().is_some_and(|pid| pid.as_raw() as u32 == daemon.pid));
        if let (Some(daemon), WaitStatus::Exited(..) | WaitStatus::Signaled(..)) = (told, ended) {
            eprintln!("leaf: {} ended: {ended:?}", daemon.name);
        }
    }
}
