//! Images in proxy mode: one transfer from the partition cache serves all machines that ask for the same image.
//!
//! `store` has a `slot` per path and evicts (`slots`) when its `memory` is full. An `entry` is one version of an image:
//! its `writer` appends to its `buffer`, any number of `reader`s read it. `fetch` requests an image (`revalidate`) and
//! has a `transfer` receive it; `client` sends requests to the partition cache; `outcome` is their result. `serve`
//! builds a machine's response, `body` sends it in turns of the `scheduler` and within the limits of the `shaper`;
//! `headers` reads and builds headers.
//!
//! Must never: send headers of a machine to the partition cache except its conditions (the response is for all
//! machines), or make a broken transfer look complete.

use std::sync::Arc;

use hyper::Method;
use hyper::header::{HeaderMap, HeaderValue};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::sleep_until;

use super::port_log::PortLog;
use super::tls::TlsError;
use super::upstream::{Buffers, Options, Upstream, UpstreamError};
use crate::guarded::Guarded;
use crate::metrics::{Gauge, Metrics};
use client::Client;
use leafboot_core::attempt::UpstreamProblem;
use leafboot_core::names::PortName;
use leafboot_core::relay::shaper::LeafShaper;
use leafboot_core::settings::relay;
use scheduler::Scheduler;
use shaper::Shaper;
use store::Store;

mod body;
mod buffer;
mod client;
mod entry;
mod fetch;
mod headers;
mod memory;
mod outcome;
mod reader;
mod revalidate;
mod scheduler;
mod serve;
mod shaper;
mod slot;
mod slots;
mod store;
mod transfer;
mod writer;

/// An unshared response without a Content-Length is buffered up to so many bytes, to give it one: iPXE needs that.
const UNKNOWN_LENGTH_MAX: usize = 1024 * 1024;

/// A machine's request for an image.
#[derive(Debug)]
pub struct ImageRequest {
    /// GET or HEAD.
    pub method: Method,
    /// A path that the routes let through; it has no query.
    pub path: String,
    /// The machine's headers. Only its conditions and its range are used.
    pub headers: HeaderMap,
}

/// Why a machine gets no image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// No server of the partition cache gave a response.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The request or the transfer failed before the image's length was known.
    #[error("{0}")]
    Transfer(String),
    /// The partition cache gave a response that cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The image's length is unknown, and it is too long to be buffered.
    #[error(
        "the partition cache's answer has no Content-Length and is longer than {UNKNOWN_LENGTH_MAX} bytes"
    )]
    NoLength,
}

impl ImageError {
    /// The kind of problem, as an attempt records it.
    pub fn problem(&self) -> UpstreamProblem {
        match self {
            Self::Upstream(error) => error.problem(),
            Self::Unusable(_) | Self::NoLength => UpstreamProblem::Unusable,
            Self::Transfer(_) => UpstreamProblem::BrokeOff,
        }
    }
}

/// The images of one leaf.
pub struct Images {
    /// The partition cache for shared transfers, and for unshared ones.
    shared: Arc<Upstream>,
    unshared: Arc<Upstream>,
    /// What was used of the leaf's limits.
    shaper: Arc<Guarded<LeafShaper>>,
    limits: relay::CacheBudget,
    scheduler: Arc<Scheduler>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

/// The images of one leaf, as one port's machines get them.
pub struct PortImages {
    client: Client,
    store: Arc<Store>,
    port: PortName,
    /// A port has one shared transfer under way at most: otherwise a machine that requests images and disconnects,
    /// again and again, could fill the store and use up the packets from the partition cache with images that no
    /// machine wants.
    fetch_permit: Arc<Semaphore>,
    /// For what is logged of the port's transfers.
    log: PortLog,
    /// How many image bodies are on their way to the port's machines.
    shared_readers: Gauge,
    unshared_readers: Gauge,
}

impl Images {
    /// The images by the settings. Requests nothing yet. Needs a runtime. Fails if the TLS files cannot be used.
    pub fn new(settings: &relay::CacheSettings, metrics: &Arc<Metrics>) -> Result<Self, TlsError> {
        let host = HeaderValue::from_str(&settings.name.authority()).ok();
        let upstream = |name, buffers| {
            let options = Options { name, buffers, host: host.clone(), is_ejected_by_status: true };
            Upstream::new(options, &settings.upstream, metrics).map(Arc::new)
        };
        let store = Arc::new(Store::new(settings.memory));
        metrics.watch_cache({
            let store = Arc::clone(&store);
            move || store.state()
        });
        tokio::spawn(expire(Arc::clone(&store)));
        Ok(Self {
            shared: upstream("cache", Buffers::FAST)?,
            unshared: upstream("unshared", Buffers::MANY)?,
            shaper: Arc::new(Guarded::new(LeafShaper::new(&settings.budget))),
            limits: settings.budget.clone(),
            scheduler: Scheduler::start(),
            store,
            metrics: Arc::clone(metrics),
        })
    }

    /// The images for one port's machines, with the port's own limits and metrics.
    pub fn for_port(&self, port: &PortName, log: &PortLog) -> PortImages {
        let readers = |source| self.metrics.image_readers(port.as_str(), source);
        PortImages {
            client: Client {
                shared: Arc::clone(&self.shared),
                unshared: Arc::clone(&self.unshared),
                shaper: Shaper::new(&self.shaper, &self.limits, port, &self.metrics),
                scheduler: Arc::clone(&self.scheduler),
            },
            store: Arc::clone(&self.store),
            port: port.clone(),
            fetch_permit: Arc::new(Semaphore::new(1)),
            log: log.clone(),
            shared_readers: readers("shared"),
            unshared_readers: readers("unshared"),
        }
    }
}

/// Drops images that no machine has requested for some time, as long as the runtime runs.
async fn expire(store: Arc<Store>) {
    loop {
        sleep_until(store.expire(now()).into()).await;
    }
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}
