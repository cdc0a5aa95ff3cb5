//! The measured relays: leafboot and its peers, each in its own processes on CPU 0.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where the relay under test listens.
pub const PORT: u16 = 8000;
/// Where the relay under test listens for TLS.
pub const TLS_PORT: u16 = 8443;
/// Where the upstream listens.
pub const UPSTREAM: u16 = 8080;

/// A relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// leafboot, with one transfer that all machines share.
    Shared,
    /// leafboot, with a transfer for each machine.
    Plain,
    /// leafboot with a site's settings: one shared transfer, the default budget.
    Budgeted,
    /// leafboot with the default `mode`: images are redirected.
    Redirect,
    /// leafboot with redirects, the default limits of a port, and TLS.
    Limited,
    /// leafboot with redirects and TLS, without limits of a port.
    Unlimited,
    /// nginx with `proxy_cache_lock` and its default timeouts.
    NginxCache,
    /// nginx with buffers of 128 KB and no temporary files.
    NginxTuned,
    /// nginx, `proxy_buffering off`.
    NginxUnbuffered,
    /// nginx, `proxy_buffering off`, with identity headers like leafboot's.
    NginxVouching,
    /// nginx, `return 307`.
    NginxRedirect,
    /// nginx, `return 307`, with a request id in its answers like leafboot's.
    NginxRedirectWithId,
    /// HAProxy, splice-auto.
    Haproxy,
    /// Varnish.
    Varnish,
}

/// leafboot's identity headers, as far as nginx can add them.
const NGINX_IDENTITY: &str = "proxy_set_header Host $proxy_host; proxy_set_header Leafboot-Leaf leaf01; \
    proxy_set_header Leafboot-Port Ethernet0; proxy_set_header Leafboot-Prefix 2001:db8:b007::/64; \
    proxy_set_header Leafboot-Session 0123456789abcdef; proxy_set_header X-Forwarded-For $remote_addr; \
    proxy_set_header X-Forwarded-Proto $scheme; \
    proxy_set_header Forwarded 'for=\"[$remote_addr]\";proto=$scheme'; \
    proxy_set_header Leafboot-Request $request_id; \
    proxy_set_header traceparent 00-$request_id-0123456789abcdef-00;";
/// A request's id in its answer.
const NGINX_ID: &str = "add_header Leafboot-Request $request_id always;";

/// A running relay; it ends when it is dropped.
pub struct Running {
    child: Child,
    directory: PathBuf,
    /// The process whose network it uses.
    namespace: Option<u32>,
}

impl Peer {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared
            | Self::Plain
            | Self::Budgeted
            | Self::Redirect
            | Self::Limited
            | Self::Unlimited => "leafboot",
            Self::Haproxy => "HAProxy",
            Self::Varnish => "Varnish",
            _ => "nginx",
        }
    }

    /// Starts it with an empty cache, and waits until it listens. `namespace`: the process whose network it uses, or
    /// the caller's; `upstream`: the address of the upstream; `device`: the ports, with spaces between them.
    pub fn start(self, namespace: Option<u32>, upstream: &str, device: &str) -> Running {
        let directory = std::env::temp_dir().join(format!("leafboot-bench-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let mut all = Vec::new();
        if let Some(pid) = namespace {
            all.extend(["nsenter".to_owned(), "--net".to_owned(), format!("--target={pid}")]);
        }
        all.extend(["taskset", "-c", "0"].map(str::to_owned));
        all.extend(self.command(&directory, upstream, device));
        let log = fs::File::create(directory.join("log")).unwrap();
        let child = Command::new(&all[0]).args(&all[1..]).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.unwrap_or_else(|e| panic!("{all:?}: {e}"));
        let running = Running { child, directory, namespace };
        running.wait(true);
        running
    }

    fn command(self, directory: &Path, upstream: &str, device: &str) -> Vec<String> {
        let at = |name: &str| directory.join(name).display().to_string();
        let write = |name: &str, text: &str| {
            fs::write(directory.join(name), text).unwrap();
            at(name)
        };
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        match self {
            Self::Shared
            | Self::Plain
            | Self::Budgeted
            | Self::Redirect
            | Self::Limited
            | Self::Unlimited => {
                let made = rcgen::generate_simple_self_signed(["leaf.example".to_owned()]).unwrap();
                let certificate = write("relay.crt", &made.cert.pem());
                let key = write("relay.key", &made.signing_key.serialize_pem());
                let tls =
                    format!("[relay.tls]\nport = {TLS_PORT}\ncertificate = {certificate:?}\nkey = {key:?}\n");
                let file = write("leafboot.toml", &(self.leafboot(upstream) + &tls));
                let own = std::env::current_exe().unwrap().display().to_string();
                let mut all = words(&[&own, "serve", &file]);
                all.extend(device.split(' ').map(str::to_owned));
                all
            }
            Self::Haproxy => words(&["haproxy", "-db", "-f", &write("haproxy.cfg", &haproxy(upstream))]),
            Self::Varnish => {
                let (listen, backend) = (format!("[::]:{PORT}"), format!("{upstream}:{UPSTREAM}"));
                words(&[
                    "varnishd",
                    "-F",
                    "-j",
                    "none",
                    "-n",
                    &at("v"),
                    "-a",
                    &listen,
                    "-b",
                    &backend,
                    "-s",
                    "malloc,256m",
                ])
            }
            _ => words(&["nginx", "-p", &at(""), "-c", &write("nginx.conf", &self.nginx(upstream))]),
        }
    }

    /// Budgets are off where the CPU is to be the only limit.
    fn leafboot(self, upstream: &str) -> String {
        let memory = if self == Self::Plain { "0B" } else { "256MiB" };
        let is_redirect = matches!(self, Self::Redirect | Self::Limited | Self::Unlimited);
        let mode = if is_redirect { "redirect" } else { "proxy" };
        let limits = match self {
            Self::Limited => "",
            Self::Unlimited => "requests = 0\n",
            _ => "connections = 2000\nrequests = 0\n",
        };
        let unlimited = "[relay.cache.budget]\npackets = 0\nport_packets = 0\n";
        let budget = if self == Self::Budgeted { "" } else { unlimited };
        format!(
            "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\nport = {PORT}\n\
             {limits}[relay.boot_service]\norigins = [\"http://{upstream}:{UPSTREAM}\"]\n[relay.cache]\n\
             name = \"http://images.metal-stack.io\"\nmode = \"{mode}\"\nmemory = \"{memory}\"\n\
             origins = [\"http://{upstream}:{UPSTREAM}\"]\n{budget}"
        )
    }

    fn nginx(self, upstream: &str) -> String {
        let cached =
            "proxy_cache images; proxy_cache_lock on; proxy_cache_valid 200 10m; proxy_cache_revalidate on;";
        let tuned = "proxy_buffers 8 128k; proxy_buffer_size 16k; proxy_max_temp_file_size 0;";
        let unbuffered = "proxy_buffering off;";
        let redirect = "return 307 http://images.metal-stack.io$request_uri;";
        let proxy = "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";";
        let answer = match self {
            Self::NginxCache => [proxy, cached].concat(),
            Self::NginxUnbuffered => [proxy, unbuffered].concat(),
            Self::NginxVouching => [proxy, unbuffered, NGINX_IDENTITY, NGINX_ID].concat(),
            Self::NginxRedirect => redirect.to_owned(),
            Self::NginxRedirectWithId => [redirect, NGINX_ID].concat(),
            _ => [proxy, tuned].concat(),
        };
        format!(
            "daemon off; user root; worker_processes 1; worker_rlimit_nofile 8192; pid nginx.pid; error_log stderr crit;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
             proxy_cache_path cache keys_zone=images:10m max_size=1g; proxy_temp_path temp; client_body_temp_path body;\n\
             upstream origin {{ server {upstream}:{UPSTREAM}; keepalive 64; keepalive_requests 1000000; }}\n\
             server {{ listen [::]:{PORT} backlog=1024; location / {{ {answer} }} }} }}\n"
        )
    }
}

fn haproxy(upstream: &str) -> String {
    format!(
        "global\n nbthread 1\n maxconn 4096\ndefaults\n mode http\n option splice-auto\n timeout connect 5s\n \
         timeout client 120s\n timeout server 120s\n http-reuse always\nfrontend f\n bind [::]:{PORT}\n \
         default_backend b\nbackend b\n server s {upstream}:{UPSTREAM}\n"
    )
}

impl Running {
    /// Waits until the relay's port accepts connections if `listens`, else until it does not.
    fn wait(&self, listens: bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let hex = format!(":{PORT:04X} ");
        let namespace = self.namespace.map_or("thread-self".to_owned(), |pid| pid.to_string());
        let table = format!("/proc/{namespace}/net/tcp6");
        let is_there = || {
            let sockets = fs::read_to_string(&table).unwrap();
            sockets.lines().any(|line| line.contains(&hex) && line.contains(" 0A "))
        };
        while is_there() != listens {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "it does not listen, or does not end: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its processes.
    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = pids.get(at) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            at += 1;
        }
        pids
    }

    /// Gives its processes priority over all other programs.
    pub fn prefer(&self) {
        for pid in self.pids() {
            crate::support::run("chrt", &["--fifo", "--all-tasks", "--pid", "50", &pid.to_string()]);
        }
    }

    /// CPU seconds that it has used.
    pub fn cpu(&self) -> f64 {
        let ticks = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after = stat.rsplit_once(") ").map_or("", |(_, after)| after).to_owned();
            let field = |i: usize| after.split(' ').nth(i).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            field(11) + field(12)
        };
        self.pids().iter().map(ticks).sum::<u64>() as f64 / 100.0
    }

    /// Its resident memory and its sockets' buffers, in MB.
    pub fn memory(&self) -> (f64, f64) {
        let resident = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0").to_owned();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0)
        };
        let sockets = crate::support::run("ss", &["-tmnOH"]);
        let buffers = sockets.lines().filter(|line| {
            let ends: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
            matches!(ends.as_slice(), [own, other] if own.ends_with(&format!(":{PORT}")) || other.ends_with(&format!(":{UPSTREAM}")))
        });
        let held = |line: &str| {
            let memory = line.split_once("skmem:(").map_or("", |(_, memory)| memory);
            let of = |name: char| {
                let field =
                    memory.split([',', ')']).find_map(|field| field.strip_prefix(name)?.parse::<f64>().ok());
                field.unwrap_or(0.0)
            };
            of('r') + of('w')
        };
        let rss: f64 = self.pids().iter().map(resident).sum();
        (rss / 1000.0, buffers.map(held).sum::<f64>() / 1e6)
    }

    /// Bytes of the files that it keeps, in MB.
    pub fn files(&self) -> f64 {
        let bytes = crate::support::run("du", &["-sb", &self.directory.display().to_string()]);
        bytes.split_whitespace().next().map_or(0.0, |bytes| bytes.parse::<f64>().unwrap() / 1e6)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in self.pids().into_iter().rev() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        let _ = self.child.wait();
        self.wait(false);
        let _ = fs::remove_dir_all(&self.directory);
    }
}
