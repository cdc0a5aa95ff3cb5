//! The benchmark of the relay: cost and speed beside nginx, HAProxy and Varnish, with the same upstream, in the same
//! run.
//!
//! `tests/bench/relay` runs it; it needs root and Debian's nginx-light, haproxy, varnish, nftables and ethtool. The
//! measured relay has CPU 0 to itself; upstream and clients, which are this process, have CPU 1. It prints Markdown
//! with the goals. A missed goal is no failure: a computer is noisy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that cannot go on ends")]
#![allow(clippy::wildcard_enum_match_arm, reason = "most peers are set up alike")]

#[path = "relay/client.rs"]
mod client;
#[path = "relay/flood.rs"]
mod flood;
#[path = "relay/measure.rs"]
mod measure;
#[path = "relay/peer.rs"]
mod peer;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use leafboot::internals::ServiceState;
use leafboot_core::settings::Settings;
use support::port;

/// Runs leafboot's relay on these ports, with the settings in `file` and without a log, until the process is killed.
fn serve(file: &str, devices: &[&str]) {
    leafboot::internals::raise_descriptor_limit();
    let settings = Settings::parse(&std::fs::read_to_string(file).unwrap()).unwrap().relay;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shared = Arc::new(ServiceState::new(&settings, &Arc::default(), &Arc::default()).unwrap());
        let mut lifecycles = Vec::new();
        for device in devices {
            let lifecycle = port::lifecycle(device, "2001:db8:b007::/64");
            let service = port::relay_port(&shared, lifecycle.subscribe());
            if let Some(tls) = &settings.tls {
                tokio::spawn(port::serve(Arc::clone(&service), tls.port, true));
            }
            tokio::spawn(port::serve(service, settings.port, false));
            lifecycles.push(lifecycle);
        }
        std::future::pending::<()>().await;
    });
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", file, devices @ ..] => serve(file, devices),
        parts => {
            measure::settle();
            if parts != ["flood"] {
                measure::all(parts.first().copied());
            }
            if matches!(parts, [] | ["flood"]) {
                flood::all();
            }
        }
    }
}
