//! The state that the relay has once for all ports: settings, certificates, upstreams, images and stale scripts.
//!
//! Must never: know a port or a connection.

use std::sync::Arc;
use std::time::Instant;

use leafboot_core::relay::stale_script::StaleScripts;
use leafboot_core::settings::RelaySettings;
use leafboot_core::settings::relay::{self, CacheMode};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use super::cache::Images;
use super::tls::{self, Reloaded, TlsError};
use super::upstream::{Buffers, Options, Upstream};
use crate::attempts::Recorder;
use crate::guarded::Guarded;
use crate::metrics::Metrics;

/// The state that all ports share.
pub struct ServiceState {
    /// The relay's settings.
    pub settings: RelaySettings,
    /// Answers script and token requests.
    pub boot_service: Upstream,
    /// metal-apiserver; none: the settings have no `relay.api`.
    pub api: Option<Upstream>,
    /// The images that go through the relay; none: machines are redirected to the partition cache.
    pub images: Option<Images>,
    /// Counts everything.
    pub metrics: Arc<Metrics>,
    /// Records what machines do.
    pub attempts: Arc<Recorder>,
    /// The certificate of the TLS listeners; none: there are no TLS listeners.
    pub tls: Option<Reloaded<ServerConfig>>,
    /// The last good scripts. None: they are not stored.
    pub scripts: Option<Guarded<StaleScripts>>,
    /// The relay's times are counted from here.
    pub started: Instant,
    /// Has a receiver for every image that is being sent.
    pub image_transfers: watch::Sender<()>,
    /// Has a receiver for every connection.
    pub connections: watch::Sender<()>,
}

impl ServiceState {
    /// Builds the state from the settings. Connects to nothing yet. Needs a runtime.
    pub fn new(
        settings: &RelaySettings,
        metrics: &Arc<Metrics>,
        attempts: &Arc<Recorder>,
    ) -> Result<Self, TlsError> {
        let upstream = |name, is_ejected_by_status, settings: &relay::UpstreamSettings| {
            let options = Options { name, buffers: Buffers::MANY, host: None, is_ejected_by_status };
            Upstream::new(options, settings, metrics)
        };
        let is_proxied = settings.cache.mode == CacheMode::Proxy;
        Ok(Self {
            boot_service: upstream("boot_service", true, &settings.boot_service)?,
            api: settings.api.as_ref().map(|api| upstream("api", false, api)).transpose()?,
            images: is_proxied.then(|| Images::new(&settings.cache, metrics)).transpose()?,
            tls: settings.tls.as_ref().map(|tls| tls::server(&tls.identity)).transpose()?,
            metrics: Arc::clone(metrics),
            attempts: Arc::clone(attempts),
            settings: settings.clone(),
            started: Instant::now(),
            scripts: settings.stale_if_error.map(|age_max| Guarded::new(StaleScripts::new(age_max))),
            image_transfers: watch::Sender::new(()),
            connections: watch::Sender::new(()),
        })
    }
}
