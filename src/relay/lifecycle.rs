//! The stage of a port's service, and the identity under which it forwards requests. The port's connections watch both.
//!
//! Must never: be changed by a connection.

use std::sync::Arc;

use leafboot_core::relay::identity::IngressIdentity;

/// The stage of a port's service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceStage {
    /// The port serves its machine.
    Serving,
    /// The process ends when the images that are being sent are complete. No new image is begun.
    Draining,
    /// The process ends. Each connection ends with the request that is under way.
    Stopping,
    /// The port has lost its link, its device or its address, and may be served again.
    Interrupted,
    /// The port is no longer in boot.
    Released,
}

/// What a port's connections watch.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// The identity of the port. Its attempt is that of the port's start.
    pub identity: Arc<IngressIdentity>,
    /// The stage of the port's service.
    pub stage: ServiceStage,
}

impl Lifecycle {
    /// The lifecycle of a port that begins to serve.
    pub fn begin(identity: IngressIdentity) -> Self {
        Self { identity: Arc::new(identity), stage: ServiceStage::Serving }
    }

    /// Whether the port's connections must end.
    pub fn must_end(&self) -> bool {
        matches!(self.stage, ServiceStage::Stopping | ServiceStage::Interrupted | ServiceStage::Released)
    }
}
