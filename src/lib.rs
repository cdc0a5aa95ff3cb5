//! leafboot: the switch-side boot agent of a metal-stack partition.
//!
//! ```text
//!    metal-core / operator                kernel (rtnetlink)                   machines on boot ports
//!         │ PUT /v1/ports (unix socket)        │ links, addresses, VRF              │ RS      │ HTTP
//!         ▼                                    ▼                                    ▼         ▼
//!     ┌───────┐ watch<Desired>            ┌─────────┐                         ┌───────────┬────────────┐
//!     │  api  │──────────┬────────────┐   │  links  │                         │ ra/thread │ relay/task │
//!     └───┬───┘          │            │   └────┬────┘                         └─────┬─────┴─────┬──────┘
//!      keeper            ▼            │        │ watch<Links>                       │ engine    │ route, claim …
//!         ▲        ┌───────────┐      │        ├──────────▶ port_services           ▼           ▼
//!         │        │ reconcile │◀─────┼────────┘    (what each port must do)     frames   server, upstream, cache
//!         │        └─────┬─────┘      └──────────────────▲    │ watch<PortRoles>                │
//!         │  observe ▲   │ Plan::new      watch<unrouted> ┘   └──▶ ra/thread, relay/task        ▼
//!         │      ┌───┴──┐▼                                                         partition cache, boot service
//!         │      │  db  │◀── steps
//!         │      └──────┘ CONFIG_DB write · STATE_DB, ASIC_DB read
//!         └────── watch<Status> ◀── what every pass saw ◀── watch<RaStates> of ra/thread
//! ```
//!
//! Advertisements and relay have a thread each. What is decided stands in the package `leafboot-core`, which does no I/O.
//! This package has the edges, the tasks that join them with the core, and `main`: `CONTRIBUTING.md` has the table, and
//! `tests/layers.rs` keeps it so. What is counted is
//! named in `metrics`; `systemd` keeps sockets over a restart.

pub mod accept;
pub mod api;
pub mod check;
pub mod cli;
pub mod db;
pub mod guarded;
pub mod keeper;
pub mod kernel;
pub mod log;
pub mod metrics;
pub mod port_services;
pub mod preview;
pub mod process_limits;
pub mod ra;
pub mod reconcile;
pub mod relay;
pub mod reload;
pub mod retire;
pub mod state_file;
pub mod systemd;
