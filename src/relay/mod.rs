//! The relay: answers the HTTP requests of the machines, port by port.
//!
//! A request's path: `task` runs the relay on each port that is served; `listener` accepts a connection, `connection` serves
//! it (over `stream`s that `metered` and `limiter` watch, with `tls` where that is configured), and `handler` responds to
//! each request. `responses` makes the relay's own; `body` and `monitored` are the bodies of responses, `upload` that of a
//! machine's request.
//!
//! Shared state: `service_state` for all ports, `port` for one port, which has a `lifecycle`, a `limiter`, a `port_log` and
//! `identity_headers`. `peer` has the facts of a connection's machine that are not in its requests.
//!
//! The servers' side: `upstream` sends requests to servers, `cache` has images in proxy mode. The policy is `leafboot_core::relay`.
//!
//! Must never: forward a request that the policy table does not allow.

pub mod body;
mod cache;
pub mod connection;
mod handler;
mod identity_headers;
pub mod lifecycle;
mod limiter;
pub mod listener;
mod metered;
mod monitored;
mod peer;
pub mod port;
mod port_log;
pub mod probes;
mod responses;
pub mod service_state;
mod stream;
pub mod task;
pub mod tls;
mod upload;
pub mod upstream;
