//! Probes the servers that machines wait for: each at most once in 10 s, only while a machine waits, and never if
//! `relay.probes` is off.
//!
//! `wanted` says what is probed. The results say why a machine hangs.
//!
//! Must never: delay a machine's request, or ask anybody for a body.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use leafboot_core::names::HttpOrigin;
use leafboot_core::probe::{Probe, ProbeProblem, ProbeResults, Probed, TEXT_MAX};
use leafboot_core::settings::Settings;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::service_state::ServiceState;
use super::tls::{self, TlsClient, TlsError, is_tls_error};
use crate::kernel::routes;

mod certificate;
mod dns;
mod image;

/// Between two probes of the same kind and target.
const PERIOD: Duration = Duration::from_secs(10);
/// The most probes within that time.
const PROBES_MAX: usize = 64;
/// A certificate that is valid for less time than this is a problem.
const VALID_MIN: i64 = 7 * 24 * 3600;
/// A clock that differs by more seconds than this makes certificates invalid sooner or later.
const CLOCK_MAX: u64 = 60;

/// Probes for the machines.
pub struct Prober {
    settings: Arc<Settings>,
    state: Arc<ServiceState>,
    /// For a cache with TLS.
    tls: Option<TlsClient>,
    started: Instant,
}

impl Prober {
    /// A prober with these settings. It sends nothing yet.
    pub fn new(settings: &Arc<Settings>, state: &Arc<ServiceState>) -> Result<Self, TlsError> {
        let cache = &settings.relay.cache;
        let tls = cache.name.is_tls().then(|| tls::client(&cache.upstream.ca, None)).transpose()?;
        Ok(Self { settings: Arc::clone(settings), state: Arc::clone(state), tls, started: Instant::now() })
    }

    /// Probes what is wanted, at once and then every [`PERIOD`], until `wanted` or `results` ends.
    pub async fn run(
        self,
        mut wanted: watch::Receiver<BTreeSet<Probe>>,
        results: watch::Sender<Arc<ProbeResults>>,
    ) {
        // What was probed within the period, wanted or not.
        let mut last: BTreeMap<Probe, Instant> = BTreeMap::new();
        loop {
            if wanted.wait_for(|wanted| !wanted.is_empty()).await.is_err() || results.is_closed() {
                return;
            }
            let now = wanted.borrow_and_update().clone();
            last.retain(|_, at| at.elapsed() < PERIOD);
            let due = now.iter().filter(|probe| !last.contains_key(probe));
            let due: Vec<Probe> = due.take(PROBES_MAX.saturating_sub(last.len())).cloned().collect();
            let begun = Instant::now();
            let probed = join_all(due.iter().cloned().map(|probe| self.probe(probe))).await;
            last.extend(due.into_iter().map(|probe| (probe, begun)));
            results.send_modify(|results| {
                // What is no longer wanted is forgotten.
                let kept =
                    results.0.iter().filter(|(probe, _)| now.contains(probe) || **probe == Probe::Clock);
                let mut all =
                    ProbeResults(kept.map(|(probe, probed)| (probe.clone(), probed.clone())).collect());
                all.0.extend(probed.into_iter().flatten());
                *results = Arc::new(all);
            });
            let next = last.values().min().map_or(begun, |at| *at) + PERIOD;
            tokio::select! {
                _ = wanted.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// One probe, and what else it shows.
    async fn probe(&self, probe: Probe) -> Vec<(Probe, Probed)> {
        let begun = Instant::now();
        let (mut clock, mut size) = (None, None);
        let result = match &probe {
            Probe::Image(path) => match self.image(path).await {
                Ok(answer) => {
                    (clock, size) = (answer.date.map(clock_problem), answer.size);
                    answer.problem().map_or(Ok(()), Err)
                }
                Err(problem) => Err(problem),
            },
            Probe::Name { server, name } => {
                dns::aaaa(*server, name, self.settings.boot.vrf.as_str()).await.map(drop)
            }
            Probe::BootService(origin) => {
                self.state.boot_service.connect_to(origin).await.map_err(|e| problem(&e))
            }
            Probe::Certificate(path) => certificate_problem(Path::new(path)).map_or(Ok(()), Err),
            Probe::Route(to) => self.route(*to),
            // It comes with an image.
            Probe::Clock => return Vec::new(),
        };
        let at = self.started.elapsed();
        let clock = clock.map(|problem| {
            (Probe::Clock, Probed { result: problem.map_or(Ok(Duration::ZERO), Err), at, size: None })
        });
        let this = (probe, Probed { result: result.map(|()| begun.elapsed()), at, size });
        std::iter::once(this).chain(clock).collect()
    }

    async fn image(&self, path: &str) -> Result<image::Answer, ProbeProblem> {
        let (cache, vrf) = (&self.settings.relay.cache.name, self.settings.boot.vrf.as_str());
        let address = self.address(cache).await?;
        self.route(address)?;
        image::head(cache, address, path, vrf, self.tls.as_ref()).await
    }

    /// The address that a machine connects to: the literal one, or the first that an advertised resolver knows.
    async fn address(&self, host: &HttpOrigin) -> Result<IpAddr, ProbeProblem> {
        if let Ok(address) = host.host().parse() {
            return Ok(address);
        }
        let mut last = ProbeProblem::NoAddress("ra.dns names no resolver".to_owned());
        for server in &self.settings.ra.dns {
            match dns::aaaa(*server, host.host(), self.settings.boot.vrf.as_str()).await {
                Ok(addresses) => match addresses.first() {
                    Some(address) => return Ok(IpAddr::V6(*address)),
                    None => continue,
                },
                // The resolver's problem, and not the cache's.
                Err(problem) => {
                    last = ProbeProblem::NoAddress(bounded(&format!("resolver {server}: {problem}")))
                }
            }
        }
        Err(last)
    }

    fn route(&self, to: IpAddr) -> Result<(), ProbeProblem> {
        match routes::has_vrf(self.settings.boot.vrf.as_str(), to) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ProbeProblem::NoRoute),
            Err(error) => Err(problem(&error)),
        }
    }
}

/// What machines need that does not depend on what they ask for: resolvers, boot service, certificate, routes.
pub fn standing(settings: &Settings) -> BTreeSet<Probe> {
    let cache = &settings.relay.cache.name;
    let servers: Vec<Ipv6Addr> = settings.ra.dns.clone();
    let cache_address: Option<IpAddr> = cache.host().parse().ok();
    let names = servers.iter().filter(|_| cache_address.is_none());
    let names = names.map(|server| Probe::Name { server: *server, name: cache.host().to_owned() });
    let origins = settings.relay.boot_service.origins.iter().map(|at| Probe::BootService(at.to_string()));
    let tls = settings.relay.tls.iter();
    let certificates = tls.map(|tls| Probe::Certificate(tls.identity.certificate.display().to_string()));
    let routes = servers.iter().map(|server| Probe::Route(IpAddr::V6(*server)));
    names.chain(origins).chain(certificates).chain(routes).chain(cache_address.map(Probe::Route)).collect()
}

/// Each certificate of the settings, and when it expires in seconds since the Unix epoch. One that cannot be read is left out.
pub fn expiries(settings: &Settings) -> Vec<(String, i64)> {
    let relay = &settings.relay;
    let upstreams = [&relay.boot_service, &relay.cache.upstream].into_iter().chain(&relay.api);
    let own = relay.tls.iter().map(|tls| &tls.identity);
    let identities = own.chain(upstreams.filter_map(|upstream| upstream.identity.as_ref()));
    let expiry = |path: &Path| Some((path.display().to_string(), certificate::expiry(path).ok()?));
    identities.filter_map(|identity| expiry(&identity.certificate)).collect()
}

fn certificate_problem(path: &Path) -> Option<ProbeProblem> {
    match certificate::seconds_left(path) {
        Ok(left) if left < 0 => {
            Some(ProbeProblem::Tls(format!("expired {} h ago", left.unsigned_abs() / 3600)))
        }
        Ok(left) if left < VALID_MIN => Some(ProbeProblem::Tls(format!("expires in {} h", left / 3600))),
        Ok(_) => None,
        Err(reason) => Some(ProbeProblem::Tls(bounded(&reason))),
    }
}

fn clock_problem(server: SystemTime) -> Option<ProbeProblem> {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let difference = match SystemTime::now().duration_since(server) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    };
    (difference.unsigned_abs() > CLOCK_MAX).then_some(ProbeProblem::ClockDiffers(difference))
}

/// What an error of the kernel or of a library means to a machine.
fn problem(error: &io::Error) -> ProbeProblem {
    let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
    if is(&[io::ErrorKind::ConnectionRefused]) {
        ProbeProblem::Refused
    } else if is(&[io::ErrorKind::TimedOut]) {
        ProbeProblem::TimedOut
    } else if is(&[io::ErrorKind::NetworkUnreachable, io::ErrorKind::HostUnreachable]) {
        ProbeProblem::NoRoute
    } else if is_tls_error(error) {
        ProbeProblem::Tls(bounded(&error.to_string()))
    } else {
        ProbeProblem::Other(bounded(&error.to_string()))
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
