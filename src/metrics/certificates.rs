//! When the certificates in the settings expire.
//!
//! Must never: read a file except for a scrape.

use std::fmt;
use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Gauge, Metrics};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabel {
    /// From the settings.
    file: String,
}

/// Returns each certificate's file, and when it expires in seconds since the Unix epoch. Called for each scrape.
struct ExpirySource(Box<dyn Fn() -> Vec<(String, i64)> + Send + Sync>);

impl fmt::Debug for ExpirySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpirySource")
    }
}

#[derive(Debug, Default)]
pub(super) struct CertificateMetrics {
    expiry: Family<FileLabel, Gauge>,
    source: OnceLock<ExpirySource>,
}

impl CertificateMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When a certificate of the settings expires, since the Unix epoch",
            Unit::Seconds,
            metrics.expiry.clone(),
        );
        metrics
    }

    /// Reads the certificates. One that cannot be read has no series.
    pub(super) fn update(&self) {
        if let Some(ExpirySource(expiries)) = self.source.get() {
            self.expiry.clear();
            for (file, at) in expiries() {
                self.expiry.get_or_create(&FileLabel { file }).set(at);
            }
        }
    }
}

impl Metrics {
    /// Sets the function that returns when certificates expire. A second call of this function has no effect.
    pub fn watch_certificates(&self, expiries: impl Fn() -> Vec<(String, i64)> + Send + Sync + 'static) {
        let _ = self.certificates.source.set(ExpirySource(Box::new(expiries)));
    }
}
