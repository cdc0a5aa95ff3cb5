//! One origin of an upstream: its names, how to connect to it, and its idle connections.
//!
//! Must never: do I/O itself: `connect` does.

use std::sync::Arc;

use hyper::header::HeaderValue;

use super::Options;
use super::connect::Connector;
use super::pool::Pool;
use crate::relay::tls::TlsClient;
use leafboot_core::names::HttpOrigin;
use leafboot_core::settings::relay;

/// One origin of an upstream.
pub(super) struct Origin {
    /// Its name in logs, metrics and errors.
    pub(super) name: String,
    /// The `Host` header of its requests.
    pub(super) host: HeaderValue,
    /// Connects to it.
    pub(super) connector: Connector,
    /// Its idle connections.
    pub(super) pool: Pool,
}

impl Origin {
    /// An origin by its upstream's settings. Connects to nothing yet.
    pub(super) fn new(
        at: &HttpOrigin,
        settings: &relay::UpstreamSettings,
        tls: Option<&Arc<TlsClient>>,
        options: &Options,
    ) -> Self {
        // An origin's authority is checked, so it is a header value.
        let authority = || HeaderValue::try_from(at.authority()).unwrap_or(HeaderValue::from_static(""));
        Self {
            name: at.to_string(),
            host: options.host.clone().unwrap_or_else(authority),
            connector: Connector::new(at, settings, tls, options.buffers),
            pool: Pool::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connect::Buffers;
    use super::*;
    use leafboot_core::settings::Settings;

    impl Origin {
        /// The boot service with this name.
        pub(in super::super) fn named(name: &str) -> Arc<Self> {
            let text = format!(
                "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\n\
                 boot_service = {{ origins = [\"http://{name}\"] }}\ncache = {{ name = \"http://c\" }}\n"
            );
            let settings = Settings::parse(&text).unwrap().relay.boot_service;
            let (name, buffers) = ("boot_service", Buffers::MANY);
            let options = Options { name, buffers, host: None, is_ejected_by_status: true };
            Arc::new(Self::new(&settings.origins[0], &settings, None, &options))
        }
    }
}
