//! The relay between machines and an upstream: leafboot's, or Debian's nginx or HAProxy with the settings of a careful
//! operator. For each pair of TCP ports, it listens on one and connects to the other.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use leafboot::internals::ServiceState;
use leafboot::internals::relay::listener;
use leafboot_core::relay::identity;
use leafboot_core::settings::Settings;

use super::port::{lifecycle, relay_port};

/// A TCP port that machines ask, and the upstream's TCP port on `::1` that is asked in turn.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// For machines.
    pub machines: u16,
    /// For the upstream.
    pub upstream: u16,
}

/// Runs leafboot's relay for each pair, on a thread of its own in the calling thread's namespace, for the rest of the
/// process: each with connections, pools and health of its own.
pub fn leafboot(pairs: &[Pair]) {
    relays(pairs.iter().map(|pair| ("Ethernet0", pair.machines, settings(&[pair.upstream]))).collect());
}

/// Runs a relay with these settings for each port and TCP port.
pub fn relays(relays: Vec<(&'static str, u16, String)>) {
    relays_on(relays, |_| {});
}

/// Like [`relays`], with a change of the listeners before they serve.
pub fn relays_on(
    relays: Vec<(&'static str, u16, String)>,
    change: impl Fn(&std::net::TcpListener) + Send + 'static,
) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut lifecycles = Vec::new();
            for (port, tcp_port, settings) in relays {
                let settings = Settings::parse(&settings).unwrap().relay;
                let shared =
                    Arc::new(ServiceState::new(&settings, &Arc::default(), &Arc::default()).unwrap());
                let lifecycle = lifecycle(port, "2001:db8:b007::/64");
                let service = relay_port(&shared, lifecycle.subscribe());
                lifecycles.push(lifecycle);
                let listener = listener::open(&service.name, tcp_port).unwrap();
                change(&listener);
                tokio::spawn(listener::serve(listener, service, false));
            }
            std::future::pending::<()>().await;
        });
    });
}

/// leafboot's settings with a boot service, an API and a cache that is proxied, on these TCP ports of `::1`.
pub fn settings(upstreams: &[u16]) -> String {
    let origins: Vec<String> = upstreams.iter().map(|port| format!("\"http://[::1]:{port}\"")).collect();
    let origins = origins.join(", ");
    format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n\
         [relay.routes]\napi = [\"/api/*\"]\n[relay.api]\norigins = [{origins}]\n\
         [relay.boot_service]\norigins = [{origins}]\n\
         [relay.cache]\nname = \"http://images.metal-stack.io\"\norigins = [{origins}]\n\
         mode = \"proxy\"\nfirst_byte_timeout = \"4s\"\nidle_timeout = \"4s\"\n",
    )
}

/// A peer's process; ends with the test.
pub struct Peer(Child);

impl Peer {
    /// nginx.
    pub fn nginx(directory: &Path, pairs: &[Pair]) -> Self {
        let file = directory.join("nginx.conf");
        std::fs::write(&file, nginx_settings(directory, pairs)).unwrap();
        Self::start(Command::new("nginx").arg("-p").arg(directory).arg("-c").arg(&file))
    }

    /// HAProxy.
    pub fn haproxy(directory: &Path, pairs: &[Pair]) -> Self {
        let file = directory.join("haproxy.cfg");
        std::fs::write(&file, haproxy_settings(pairs)).unwrap();
        Self::start(Command::new("haproxy").arg("-f").arg(&file))
    }

    fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|e| panic!("{command:?}: {e}; install it with tests/lab/setup")))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What may be asked for, as both peers' regular expressions.
const ROUTES: &str = "^/(boot\\.ipxe$|[^/]+/boot\\.ipxe$|certs$|config/[0-9a-f-]+$|metal-os/)";

fn nginx_settings(directory: &Path, pairs: &[Pair]) -> String {
    let directory = directory.display();
    let mut text = format!(
        "daemon off; master_process off; error_log {directory}/nginx.log; pid {directory}/nginx.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off; server_tokens off; client_max_body_size 64k;\n\
           client_header_timeout 8s; client_body_timeout 8s; keepalive_timeout 8s; send_timeout 8s;\n\
           proxy_connect_timeout 1s; proxy_read_timeout 4500ms; proxy_send_timeout 4500ms;\n\
           proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;\n\
           proxy_set_header Host upstream; proxy_set_header Connection \"\"; proxy_set_header Accept-Encoding \"\";\n\
           proxy_set_header {leaf} leaf01; proxy_set_header {port} Ethernet0;\n\
           proxy_set_header {prefix} 2001:db8:b007::/64;\n\
           proxy_set_header X-Forwarded-For \"\"; proxy_set_header X-Real-IP \"\";\n\
           proxy_set_header Forwarded \"\"; proxy_set_header Via \"\";\n",
        leaf = identity::LEAF,
        port = identity::PORT,
        prefix = identity::PREFIX,
    );
    for Pair { machines, upstream } in pairs {
        let _ = writeln!(
            text,
            "upstream u{machines} {{ server [::1]:{upstream} max_fails=0; keepalive 4; }}\n\
             server {{ listen [::]:{machines};\n\
               set $asked \"$request_method $uri\";\n\
               if ($asked !~ \"^(GET|HEAD) |^POST /api/\") {{ return 405; }}\n\
               location / {{ return 404; }}\n\
               location /api/ {{ client_max_body_size 4m; proxy_pass http://u{machines}; }}\n\
               location ~ \"{ROUTES}\" {{ proxy_pass http://u{machines}; }} }}"
        );
    }
    text.push_str("}\n");
    text
}

fn haproxy_settings(pairs: &[Pair]) -> String {
    let mut text = "global\n nbthread 1\n maxconn 2000\ndefaults\n mode http\n timeout http-request 8s\n \
                    timeout http-keep-alive 8s\n timeout client 8s\n timeout connect 1s\n timeout server 4500ms\n \
                    http-reuse always\n retries 1\n"
        .to_owned();
    for Pair { machines, upstream } in pairs {
        let _ = writeln!(
            text,
            "frontend f{machines}\n bind :::{machines}\n acl known path_reg {ROUTES}\n acl api path_beg /api/\n \
             http-request deny deny_status 405 unless {{ method GET HEAD }} or api {{ method POST }}\n \
             http-request deny deny_status 404 unless known or api\n \
             http-request set-header Host upstream\n http-request del-header accept-encoding\n \
             http-request set-header {leaf} leaf01\n http-request set-header {port} Ethernet0\n \
             http-request set-header {prefix} 2001:db8:b007::/64\n \
             http-request del-header x-forwarded-for\n http-request del-header x-real-ip\n \
             http-request del-header forwarded\n http-request del-header via\n default_backend b{machines}\n\
             backend b{machines}\n server s [::1]:{upstream}",
            leaf = identity::LEAF,
            port = identity::PORT,
            prefix = identity::PREFIX,
        );
    }
    text
}
