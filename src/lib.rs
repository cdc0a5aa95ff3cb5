//! leafboot: the switch-side boot agent of a metal-stack partition.
//!
//! ```text
//!    metal-core / operator                     kernel (rtnetlink)              machines on boot ports
//!         │ PUT /v1/ports (unix socket)             │ links, addresses, VRF         │ RS      │ HTTP
//!         ▼                                         ▼                               ▼         ▼
//!     ┌───────┐  watch<Desired>                ┌─────────┐ watch<Links>        ┌─────────┐ ┌────────────┐
//!     │  api  │───────────┬────────────────┐   │  links  │──────────┬────────▶ │ ra/task │ │ relay/task │
//!     └───┬───┘           │                │   └─────────┘          │          └────┬────┘ └─────┬──────┘
//!       store             ▼                ▼                        │     serving (pure): which port serves now
//!         ▲        ┌─────────────┐     watch<RaStates>              │        engine │(pure) decide, claim (pure)
//!         │        │  reconcile  │◀─────────────────────────────────┘               ▼            ▼
//!         │        └──────┬──────┘                                           raw ICMPv6   relay/server, upstream
//!         │  observe ▲    │ Plan::new(desired, observed)   pure                                  │
//!         │      ┌───┴──┐ ▼                                                                       ▼
//!         │      │  db  │◀── steps                                             partition cache, boot service
//!         │      └──────┘ CONFIG_DB write · STATE_DB, ASIC_DB read
//!         └────── watch<Status> ◀── what every pass saw
//! ```
//!
//! Words (`net`, `rows`) are used by pure files (`acl`, `config`, `desired`, `observed`, `plan`, `serving`, `status`,
//! `ra::packet`, `ra::options`, `ra::engine`, `relay::route`, `relay::decide`, `relay::claim`), those by edges (`db`, `links`, `store`,
//! `api`, `ra::socket`, `relay::server`, `relay::upstream`), those by tasks (`reconcile`, `preview`, `retire`, `ra::task`,
//! `relay::task`), and those by `main`. `tests/layers.rs` keeps it so.

pub mod acl;
pub mod api;
pub mod cli;
pub mod config;
pub mod db;
pub mod desired;
pub mod links;
pub mod metrics;
pub mod neighbours;
pub mod net;
pub mod observed;
pub mod plan;
pub mod preview;
pub mod ra;
pub mod reconcile;
pub mod relay;
pub mod retire;
pub mod rows;
pub mod serving;
pub mod session;
pub mod status;
pub mod store;
pub mod systemd;
