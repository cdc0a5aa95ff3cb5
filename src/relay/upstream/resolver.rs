//! The addresses of an origin's host name, resolved again when they are old.
//!
//! Must never: block the event loop for a name, or forget the last known addresses when a lookup fails.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use leafboot_core::relay::addresses::Addresses;

/// Addresses older than this are resolved again.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The resolver of one host. Clones share the known addresses.
#[derive(Clone)]
pub(super) struct Resolver {
    host: String,
    port: u16,
    known: watch::Sender<Known>,
    /// One lookup at a time: a resolver that hangs occupies one thread of the blocking pool, not all.
    lookups: Arc<Semaphore>,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Known {
    addresses: Addresses,
    /// When the last lookup ended.
    at: Option<Instant>,
    /// Why the last lookup failed.
    error: Option<String>,
}

impl Resolver {
    /// A resolver of `host`, which may be an address.
    pub(super) fn new(host: &str, port: u16) -> Self {
        let lookups = Arc::new(Semaphore::new(1));
        Self { host: host.to_owned(), port, known: watch::Sender::default(), lookups }
    }

    /// The addresses to try for the next connection, of those that `fits` accepts, in the order to try them. Waits at
    /// most `wait` for a lookup.
    pub(super) async fn addresses(
        &self,
        wait: Duration,
        fits: impl Fn(&IpAddr) -> bool,
    ) -> io::Result<Vec<IpAddr>> {
        match self.host.parse::<IpAddr>() {
            Ok(address) => Ok(Some(address).into_iter().filter(fits).collect()),
            Err(_) => Ok(self.resolve(wait).await?.to_try(fits)),
        }
    }

    /// Why the last lookup failed, if it did.
    pub(super) fn error(&self) -> Option<String> {
        self.known.borrow().error.clone()
    }

    /// An address is being tried.
    pub(super) fn tries(&self, address: IpAddr) {
        self.update(|addresses| addresses.tries(address));
    }

    /// The address that took the last connection; none: no address did.
    pub(super) fn connected(&self, address: Option<IpAddr>) {
        self.update(|addresses| addresses.connected(address));
    }

    fn update(&self, change: impl FnOnce(&mut Addresses)) {
        self.known.send_if_modified(|known| {
            change(&mut known.addresses);
            // Tasks wait for a lookup's end only.
            false
        });
    }

    /// Resolves the name if its addresses are old. The lookup has a task of its own: it may take longer than `wait`.
    /// Old addresses are better than none.
    async fn resolve(&self, wait: Duration) -> io::Result<Addresses> {
        let mut known = self.known.subscribe();
        if let Some(fresh) = known.borrow_and_update().fresh() {
            return Ok(fresh);
        }
        if let Ok(permit) = Arc::clone(&self.lookups).try_acquire_owned() {
            let resolver = self.clone();
            tokio::spawn(async move {
                let found = tokio::net::lookup_host((resolver.host.as_str(), resolver.port)).await;
                drop(permit);
                resolver.known.send_modify(|known| known.found(found));
            });
        }
        // If the lookup does not end in time, the known addresses are used.
        let _ = timeout(wait, known.changed()).await;
        let known = known.borrow();
        match &known.error {
            _ if !known.addresses.is_empty() => Ok(known.addresses.clone()),
            Some(error) => Err(io::Error::other(format!("its name cannot be resolved: {error}"))),
            None => Err(io::Error::other("its name is not resolved yet")),
        }
    }
}

impl Known {
    fn fresh(&self) -> Option<Addresses> {
        let is_fresh = self.at.is_some_and(|at| at.elapsed() < AGE_MAX) && !self.addresses.is_empty();
        is_fresh.then(|| self.addresses.clone())
    }

    fn found(&mut self, found: io::Result<impl Iterator<Item = SocketAddr>>) {
        self.at = Some(Instant::now());
        match found {
            Ok(found) => {
                self.addresses.found(found.map(|address| address.ip()));
                self.error = None;
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }
}
