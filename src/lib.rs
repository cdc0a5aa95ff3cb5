//! leafboot: the switch-side boot agent of a metal-stack partition.
//!
//! ```text
//!    metal-core / operator                     kernel (rtnetlink)              machines on boot ports
//!         │ PUT /v1/ports (unix socket)             │ links, addresses, VRF         │ RS      │ HTTP
//!         ▼                                         ▼                               ▼         ▼
//!     ┌───────┐  watch<Desired>                ┌─────────┐ watch<Links>        ┌─────────┐ ┌────────────┐
//!     │  api  │───────────┬────────────────┐   │  links  │──────────┬────────▶ │ ra/task │ │ relay/task │
//!     └───┬───┘           │                │   └─────────┘          │          └────┬────┘ └─────┬──────┘
//!      keeper             ▼                ▼                        │     serving (pure): which port serves now
//!         ▲        ┌─────────────┐     watch<RaStates>              │        engine │(pure) route, claim … (pure)
//!         │        │  reconcile  │◀─────────────────────────────────┘               ▼            ▼
//!         │        └──────┬──────┘                                           raw frames   server, upstream, image
//!         │  observe ▲    │ Plan::new(desired, observed)   pure                                  │
//!         │      ┌───┴──┐ ▼                                                                       ▼
//!         │      │  db  │◀── steps                                             partition cache, boot service
//!         │      └──────┘ CONFIG_DB write · STATE_DB, ASIC_DB read
//!         └────── watch<Status> ◀── what every pass saw
//! ```
//!
//! Advertisements and relay have a thread each. Words (`net`) are used by pure files, those by edges, those by
//! tasks, and those by `main`: `CONTRIBUTING.md` has the table, and `tests/layers.rs` keeps it so. What is counted is
//! named in `metrics`; `systemd` keeps the relay's listeners over a restart.

pub mod accept;
pub mod acl;
pub mod allowance;
pub mod api;
pub mod check;
pub mod cli;
pub mod config;
pub mod db;
pub mod desired;
pub mod doubts;
pub mod held;
pub mod keeper;
pub mod links;
pub mod log;
pub mod metrics;
pub mod neighbours;
pub mod net;
pub mod netlink;
pub mod observed;
pub mod plan;
pub mod preview;
pub mod printable;
pub mod ra;
pub mod reconcile;
pub mod refusals;
pub mod relay;
pub mod reload;
pub mod retire;
pub mod routes;
pub mod rows;
pub mod serving;
pub mod session;
pub mod status;
pub mod store;
pub mod systemd;
pub mod uplinks;
