//! How far a port's service is, and the identity under which it forwards requests. Connections follow it.
//!
//! Must never: be changed by a connection.

use std::sync::Arc;

use leafboot_core::relay::identity::IngressIdentity;

/// The stage of a port's service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The port serves its machine.
    Serving,
    /// The process must end when the images that are being sent are complete. No new ones are begun.
    Draining,
    /// The process ends. Each connection ends with the request that is under way.
    Stopping,
    /// The port has lost its link, its device or its address, and may be served again.
    Interrupted,
    /// The port is no longer in boot.
    Released,
}

/// What a port's connections follow.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// Where requests come in. Its attempt is that of the port's start.
    pub identity: Arc<IngressIdentity>,
    /// How far the port's service is.
    pub stage: Stage,
}

impl Lifecycle {
    /// The port begins to serve.
    pub fn begin(identity: IngressIdentity) -> Self {
        Self { identity: Arc::new(identity), stage: Stage::Serving }
    }

    /// Whether the port's connections must end.
    pub fn must_end(&self) -> bool {
        matches!(self.stage, Stage::Stopping | Stage::Interrupted | Stage::Released)
    }
}
