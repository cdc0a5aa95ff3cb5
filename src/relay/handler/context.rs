//! A request while it is being answered: the port and the machine that it came from, its head, and how its response is
//! finished.
//!
//! Must never: log a query, a header or a body, for they may hold secrets.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hyper::header::{HeaderName, HeaderValue, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use leafboot_core::attempt::{Event, Outcome, RequestEvent, RequestRecord, Text, UpstreamProblem};
use leafboot_core::printable::Printable;
use leafboot_core::relay::forwarded::Machine;
use leafboot_core::relay::identity::IngressIdentity;
use leafboot_core::relay::ipxe::{self, ScriptImages, Unavailable};
use leafboot_core::relay::kinds::Kind;
use leafboot_core::relay::port_limits::Work;
use leafboot_core::relay::trace::{self, RequestId};
use tracing::{debug, info, warn};

use super::super::body::Body;
use super::super::lifecycle::ServiceStage;
use super::super::peer::Peer;
use super::super::port::RelayPort;
use super::super::responses;
use crate::metrics::OwnScript;

/// The header with a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static(trace::REQUEST);
/// Seconds until a machine asks again. The time is random, so that the machines of a rack do not ask again all at once.
const RETRY_AFTER: std::ops::RangeInclusive<u64> = 3..=8;

/// A response, and what it means for the machine's boot.
pub(super) struct Answered {
    /// The response.
    pub response: Response<Body>,
    /// What became of the request.
    pub outcome: Outcome,
    /// The images that the response names, if it is a boot script.
    pub images: Option<ScriptImages>,
    /// Set if the response is a script of leafboot's own.
    pub own_script: Option<OwnScript>,
}

impl Answered {
    /// An upstream's answer, or leafboot's own refusal of a request that cannot be served.
    pub fn with_status(response: Response<Body>) -> Self {
        let outcome = Outcome::Answered { status: response.status().as_u16() };
        Self { response, outcome, images: None, own_script: None }
    }

    /// leafboot's own refusal.
    pub fn refused(response: Response<Body>) -> Self {
        let outcome = Outcome::Refused { status: response.status().as_u16() };
        Self { response, outcome, images: None, own_script: None }
    }
}

/// A request that is being answered.
pub(super) struct RequestContext<'a> {
    /// The port that the request came from.
    pub port: &'a RelayPort,
    /// The port's identity at that moment.
    pub identity: Arc<IngressIdentity>,
    /// The stage of the port's service at that moment.
    pub stage: ServiceStage,
    /// The machine that sent the request: its source address, and whether it uses TLS.
    pub machine: Machine,
    /// The other end of the connection.
    pub peer: &'a Arc<Peer>,
    /// The request's id.
    pub id: RequestId,
    /// The request's head.
    pub parts: Parts,
    /// When the request came.
    pub began: Instant,
}

impl<'a> RequestContext<'a> {
    /// The context of a request that comes now.
    pub fn new(port: &'a RelayPort, machine: Machine, peer: &'a Arc<Peer>, parts: Parts) -> Self {
        let lifecycle = port.lifecycle.borrow().clone();
        Self {
            port,
            identity: lifecycle.identity,
            stage: lifecycle.stage,
            machine,
            peer,
            id: RequestId::new(fastrand::u64(..)),
            parts,
            began: Instant::now(),
        }
    }

    /// Puts the request into the machine's boot attempt, now that its kind is known.
    pub fn begin(&mut self, kind: Kind) {
        let (attempt, knows_address) = self.port.attempts.begin_request(kind);
        if attempt != self.identity.attempt {
            let identity = IngressIdentity { attempt, ..IngressIdentity::clone(&self.identity) };
            self.identity = Arc::new(identity);
        }
        if !knows_address {
            let (address, mac) = (self.machine.address, self.port.mac(self.machine));
            self.port.attempts.record(&Event::Address { address, mac });
        }
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// Whether the client runs iPXE scripts.
    pub fn is_ipxe(&self) -> bool {
        let agent = self.parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        agent.is_some_and(ipxe::is_ipxe)
    }

    /// The value of the header with its id.
    pub fn id_value(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.id.to_string()).ok()
    }

    /// Logs that a request failed, if the port's share of the log has room.
    pub fn warn(&self, kind: Kind, reason: &str) {
        if self.port.log.has_room() {
            let (IngressIdentity { port, attempt, .. }, request) = (&*self.identity, self.id);
            let reason = Printable(reason).to_string();
            warn!(%port, %attempt, %request, %kind, reason, "request failed");
        }
    }

    /// The response when a request to a server failed: 502 if the server gave an answer that cannot be used, and would
    /// most likely give the same again; else 503.
    pub fn failed(
        &self,
        kind: Kind,
        server: &str,
        error: &dyn Display,
        problem: UpstreamProblem,
    ) -> Answered {
        let reason = format!("the {server}: {error}");
        self.warn(kind, &reason);
        if problem != UpstreamProblem::Unusable {
            return self.unavailable(kind, problem, &reason);
        }
        let response = responses::text(StatusCode::BAD_GATEWAY, format!("{}\n", self.message(&reason)));
        let outcome = Outcome::Failed { problem, reason: Text::new(&reason) };
        Answered { response, outcome, images: None, own_script: None }
    }

    /// The response to a request that cannot be served now. iPXE that asked for a script gets a script that waits and
    /// asks again; all other requests get 503.
    pub fn unavailable(&self, kind: Kind, problem: UpstreamProblem, reason: &str) -> Answered {
        let is_script = kind == Kind::Script && self.is_ipxe();
        let response = if is_script {
            let script = self.with_unavailable(reason, |unavailable| ipxe::retry(unavailable, self.target()));
            responses::text(StatusCode::OK, script)
        } else {
            responses::unavailable(&self.message(reason), fastrand::u64(RETRY_AFTER))
        };
        let outcome = Outcome::Failed { problem, reason: Text::new(reason) };
        Answered { response, outcome, images: None, own_script: is_script.then_some(OwnScript::Error) }
    }

    /// Calls `write`, which makes a text for a machine's console, with the `reason` why there is no answer.
    pub fn with_unavailable<T>(&self, reason: &str, write: impl FnOnce(&Unavailable) -> T) -> T {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let IngressIdentity { leaf, port, .. } = &*self.identity;
        write(&Unavailable { leaf, port, reason, time: &time, wait: fastrand::u64(RETRY_AFTER) })
    }

    /// `reason` as the text of a response: it also names the leaf and the port.
    fn message(&self, reason: &str) -> String {
        let IngressIdentity { leaf, port, .. } = &*self.identity;
        format!("leafboot on {leaf} {port}: {reason}")
    }

    /// Logs and counts a request that was refused.
    pub fn finish_refused(&self, kind: Option<Kind>, answered: Answered) -> Response<Body> {
        let Answered { response, own_script, .. } = answered;
        if tracing::enabled!(tracing::Level::DEBUG) && self.port.log.has_room() {
            let (IngressIdentity { port, attempt, .. }, request) = (&*self.identity, self.id);
            debug!(%port, %attempt, %request, status = response.status().as_u16(), "request refused");
        }
        self.finish(kind, response, own_script)
    }

    /// Logs, counts and records a request that was relayed.
    pub fn finish_relayed(&self, kind: Kind, answered: Answered) -> Response<Body> {
        let Answered { response, outcome, images, own_script } = answered;
        let elapsed = self.began.elapsed().as_millis();
        if tracing::enabled!(tracing::Level::INFO) && self.port.log.has_room() {
            let (IngressIdentity { port, attempt, .. }, request) = (&*self.identity, self.id);
            let (method, path) = (self.parts.method.as_str(), Printable(self.parts.uri.path()).to_string());
            let (status, ms) = (response.status().as_u16(), elapsed);
            info!(%port, %attempt, %request, %kind, method, path, status, ms, "request relayed");
        }
        let record = RequestRecord {
            request: Text::new(&self.id.to_string()),
            path: Text::new(self.parts.uri.path()),
            ms: u32::try_from(elapsed).unwrap_or(u32::MAX),
            outcome,
        };
        self.port.attempts.record(&Event::Request(RequestEvent { kind, record, images }));
        self.finish(Some(kind), response, own_script)
    }

    /// Counts the request, charges the response to the port, and adds the request's id to the response.
    fn finish(
        &self,
        kind: Option<Kind>,
        mut response: Response<Body>,
        own_script: Option<OwnScript>,
    ) -> Response<Body> {
        self.port.requests.answered(kind.map(Kind::as_str), response.status().as_u16(), own_script);
        if let Body::Full(bytes) = response.body() {
            // Only the port's next work is delayed by this charge.
            self.port.limiter.charge(Work::Answer(bytes.len()));
        }
        if let Some(id) = self.id_value() {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
}
