//! `GET /v1/leaf`: the leaf, its servers and SONiC in a few facts.
//!
//! Must never: ask anybody. What is told was seen already.

use std::time::Instant;

use hyper::StatusCode;
use serde::Serialize;

use super::answer::{self, Reply};
use super::{Api, ports};
use crate::metrics::OriginState;
use leafboot_core::status::{Condition, PortState, Status};

#[derive(Serialize)]
struct Leaf<'a> {
    leaf: &'a str,
    version: &'static str,
    uptime_seconds: u64,
    pushed_seconds_ago: Option<u64>,
    generation: Option<u64>,
    settled: bool,
    ports: PortCounts,
    sonic: Option<Condition>,
    acl_bound: bool,
    upstreams: Vec<Upstream>,
    probes: Vec<Probe>,
}

#[derive(Serialize)]
struct PortCounts {
    settled: usize,
    all: usize,
}

#[derive(Serialize)]
struct Upstream {
    upstream: &'static str,
    origin: String,
    up: bool,
    milliseconds: Option<f64>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Probe {
    probe: &'static str,
    target: String,
    ok: bool,
    milliseconds: Option<f64>,
    message: Option<String>,
    seconds_ago: u64,
}

/// Reports the leaf.
pub(super) fn leaf(api: &Api) -> Reply {
    let status = api.status.borrow();
    let seconds = |since: Instant| since.elapsed().as_secs();
    let leaf = Leaf {
        leaf: &api.leaf,
        version: api.version,
        uptime_seconds: seconds(api.started),
        pushed_seconds_ago: api.pushed.with(|pushed| pushed.map(seconds)),
        generation: status.generation,
        settled: status.is_settled(),
        ports: PortCounts {
            settled: status.all().filter(|(_, port)| port.settled).count(),
            all: status.all().count(),
        },
        sonic: sonic(api, &status),
        acl_bound: is_acl_bound(&status),
        upstreams: upstreams(api),
        probes: Vec::new(),
    };
    answer::json(StatusCode::OK, &leaf)
}

/// What is wrong with SONiC; none: nothing.
fn sonic(api: &Api, status: &Status) -> Option<Condition> {
    match api.ports.borrow().is_none() {
        true => Some(ports::unknown(status)),
        false => status.database_error.as_ref().or(status.write_error.as_ref()).cloned(),
    }
}

/// Whether no port that is to boot waits for the boot ACL.
fn is_acl_bound(status: &Status) -> bool {
    let waits = |reason: &str| reason.starts_with("Acl") || reason == "UnmanagedAclTable";
    !status.ports.values().any(|port| {
        port.state == PortState::Boot && port.waiting.as_ref().is_some_and(|waiting| waits(waiting.reason))
    })
}

fn upstreams(api: &Api) -> Vec<Upstream> {
    let origins = api.metrics.origins().into_iter();
    let upstream = |(upstream, origin, state): (&'static str, String, OriginState)| Upstream {
        upstream,
        origin,
        up: state.is_up,
        milliseconds: state.first_byte.map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0),
        error: state.error,
    };
    origins.map(upstream).collect()
}
