//! leafboot: the switch-side boot agent of a metal-stack partition.
//!
//! ```text
//!    metal-core / operator                kernel (rtnetlink)                   machines on boot ports
//!         │ PUT /v1/ports (unix socket)        │ links, addresses, VRF              │ RS      │ HTTP
//!         ▼                                    ▼                                    ▼         ▼
//!     ┌───────┐ watch<Desired>            ┌─────────┐                         ┌───────────┬────────────┐
//!     │  api  │──────────┬────────────┐   │  links  │                         │ ra/thread │ relay/task │
//!     └───┬───┘          │            │   └────┬────┘                         └─────┬─────┴─────┬──────┘
//!      keeper            ▼            │        │ watch<Links>                       │ engine    │ connection, handler
//!         ▲        ┌───────────┐      │        ├──────────▶ port_services           ▼           ▼
//!         │        │ reconcile │◀─────┼────────┘    (what each port must do)     frames   upstream, cache
//!         │        └─────┬─────┘      └──────────────────▲    │ watch<PortRoles>                │
//!         │  observe ▲   │ Plan::new      watch<unrouted> ┘   └──▶ ra/thread, relay/task        ▼
//!         │      ┌───┴──┐▼                                                         partition cache, boot service
//!         │      │  db  │◀── steps
//!         │      └──────┘ CONFIG_DB write · STATE_DB, ASIC_DB read
//!         └────── watch<Status> ◀── what every pass saw ◀── watch<RaStates> of ra/thread
//!
//!     attempts  ◀── what ra/thread, relay/task and links see of each machine
//!     evidence  ◀── db/counters; it says what relay/probes probes
//!     diagnosis ◀── attempts, evidence, results of relay/probes, watch<Status>, watch<Links>
//!         └──▶ watch<Diagnosis> of api
//! ```
//!
//! Advertisements and relay have a thread each. The package `leafboot-core` makes all decisions and does no I/O. This package
//! has the edges, the tasks that join them with the core, and `main`. `CONTRIBUTING.md` has the table of layers, and
//! `tests/layers.rs` checks it. `metrics` names the counters, and `systemd` keeps sockets over a restart.

mod accept;
mod api;
mod attempts;
mod check;
mod cli;
mod client;
mod command;
mod console;
mod db;
mod diagnosis;
mod events;
mod evidence;
mod guarded;
mod keeper;
mod kernel;
mod log;
mod metrics;
mod pages;
mod port_services;
mod preview;
mod process_limits;
mod ra;
mod reconcile;
mod relay;
mod reload;
mod retire;
mod screens;
mod state_file;
mod systemd;
mod trace_export;

pub use command::main;

/// The parts that the tests in `tests/` and the benches use without the binary. Everything else is private, so that the
/// compiler finds unused code.
pub mod internals {
    pub use crate::attempts::Recorder;
    pub use crate::db::{Db, Paces};
    pub use crate::guarded::Guarded;
    pub use crate::kernel::{links, neighbours, routes};
    pub use crate::metrics::Metrics;
    pub use crate::process_limits::raise_descriptor_limit;
    pub use crate::ra::socket::RaSocket;
    pub use crate::relay::connection::GRACE;
    pub use crate::relay::port::RelayPort;
    pub use crate::relay::service_state::ServiceState;
    pub use crate::state_file::StateFile;
    pub use crate::systemd::Inherited;
    /// The recorder's task and file.
    pub mod attempts {
        pub use crate::attempts::file::AttemptsFile;
        pub use crate::attempts::task::{AttemptInputs, run};
    }

    /// What each port must do.
    pub mod port_services {
        pub use crate::port_services::*;
    }

    /// The reconciler.
    pub mod reconcile {
        pub use crate::reconcile::*;
    }

    /// The advertisements' task.
    pub mod ra {
        pub use crate::ra::{memory, thread};
    }

    /// What is recorded of machines, what is collected beside, and the verdicts.
    pub mod diagnosis {
        pub use crate::attempts::file::AttemptsFile;
        pub use crate::attempts::task::{AttemptInputs, run as follow_ports};
        pub use crate::diagnosis::*;
        pub use crate::evidence::{EvidenceOutputs, run as collect};
    }

    /// The export of attempts.
    pub mod trace_export {
        pub use crate::trace_export::run;
    }

    /// The relay's task.
    pub mod relay {
        pub use crate::relay::{lifecycle, listener, task};
    }
}
