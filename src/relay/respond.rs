//! One request of a machine: judged, sent where its route leads, answered. Whatever goes wrong, iPXE gets a script that
//! says so and asks again.
//!
//! Must never: log a query, a header, a body or an answer: they may hold secrets; or keep a token for later.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{self, Ready, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::Either;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::http::request::Parts;
use hyper::http::response;
use hyper::{Request, Response, StatusCode, Uri, Version};
use tokio::time::sleep;
use tracing::{Level, debug, enabled, info, warn};

use super::body::{self, Body};
use super::cache::{ImageRequest, PortImages};
use super::line::{self, Line, Watch};
use super::reply;
use super::server::{Service, Stage};
use super::upload::{self, Upload};
use super::upstream::Outgoing;
use leafboot_core::printable::Printable;
use leafboot_core::relay::identity::{self, Claim, Machine, RequestId};
use leafboot_core::relay::ipxe::{self, Trouble};
use leafboot_core::relay::kinds::Kind;
use leafboot_core::relay::kinds::{self};
use leafboot_core::relay::port_limits::Work;
use leafboot_core::relay::validate::{self, Head};

/// metal-hammer gives its configuration request 5 s and has no second try; the answer must be back before that.
const TOKEN_DEADLINE: Duration = Duration::from_millis(4500);
/// iPXE gives up a download that stands still for 120 s.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(60);
/// When a connection is to end, a script is waited for so long: less than the connection's grace.
const LAST_WORD: Duration = Duration::from_secs(4);
/// Scripts and configurations are a few kilobytes.
const ANSWER_MAX: usize = 256 * 1024;
/// A request to metal-apiserver is some kilobytes.
const REQUEST_MAX: u64 = 4 * 1024 * 1024;
const REQUEST: HeaderName = HeaderName::from_static(identity::REQUEST);
const TRACEPARENT: HeaderName = HeaderName::from_static(identity::TRACEPARENT);
const TRACESTATE: HeaderName = HeaderName::from_static(identity::TRACESTATE);
/// Seconds until a machine looks again: at random, so that a rack does not come back at once.
const AGAIN: std::ops::RangeInclusive<u64> = 3..=8;

/// A request that is being answered.
struct Asked<'a> {
    service: &'a Service,
    claim: Arc<Claim>,
    machine: Machine,
    line: &'a Arc<Line>,
    id: RequestId,
    /// Of a trace that starts here: the same whenever the request is sent.
    random: u64,
    parts: Parts,
    began: Instant,
}

/// An answer that is there, or that comes when somebody behind has been asked: boxed, for that needs kilobytes, which no
/// silent connection is to hold, and no redirect to go through.
type Answer<'a> = Either<Ready<Answered>, Pin<Box<dyn Future<Output = Answered> + Send + 'a>>>;
type Answered = Result<Response<Body>, Infallible>;

/// Answers one request, when its port's account has paid for it.
pub(super) fn respond<'a>(
    service: &'a Service,
    machine: Machine,
    line: &'a Arc<Line>,
    request: Request<Incoming>,
) -> Answer<'a> {
    match service.gate.charge(Work::Request) {
        None => answer(service, machine, line, request),
        due => Either::Right(Box::pin(async move {
            service.gate.wait(due).await;
            answer(service, machine, line, request).await
        })),
    }
}

fn answer<'a>(
    service: &'a Service,
    machine: Machine,
    line: &'a Arc<Line>,
    request: Request<Incoming>,
) -> Answer<'a> {
    let (claim, stage) = {
        let phase = service.phase.borrow();
        (Arc::clone(&phase.claim), phase.stage)
    };
    let (parts, incoming) = request.into_parts();
    let (id, random) = (RequestId::new(fastrand::u64(..)), fastrand::u64(..));
    let mut asked = Asked { service, claim, machine, line, id, random, parts, began: Instant::now() };
    let at_once = |answered| Either::Left(future::ready(answered));
    let kind = match asked.judge() {
        Ok(kind) => kind,
        Err(refusal) => return at_once(asked.turn_away(None, *refusal)),
    };
    if let Some(response) = asked.hindrance(kind, stage) {
        return at_once(asked.turn_away(Some(kind), response));
    }
    Either::Right(match (kind, &service.images) {
        (Kind::Image, None) => {
            let response = asked.redirect();
            return at_once(asked.relayed(kind, response));
        }
        (Kind::Image, Some(images)) => {
            Box::pin(async move { asked.relayed(kind, asked.image(images).await) })
        }
        (Kind::Script, _) => Box::pin(async move { asked.relayed(kind, asked.script().await) }),
        (Kind::Token, _) => Box::pin(async move { asked.relayed(kind, asked.token().await) }),
        (Kind::Api, _) => Box::pin(async move { asked.relayed(kind, asked.api(incoming).await) }),
    })
}

impl Asked<'_> {
    /// What the request is relayed as, or why it is turned away.
    fn judge(&self) -> Result<Kind, Box<Response<Body>>> {
        let (is_1_1, has_both) = (self.parts.version == Version::HTTP_11, self.line.is_ambiguous());
        let mut head = Head { is_1_1, has_both, ..Head::default() };
        for (name, value) in &self.parts.headers {
            head.take(name.as_str(), value.as_bytes());
        }
        validate::check(&head).map_err(|fault| Box::new(reply::faulty(fault)))?;
        let routes = &self.service.shared.settings.routes;
        let uri = &self.parts.uri;
        let kind = kinds::kind_of(routes, self.parts.method.as_str(), uri.path(), uri.query())
            .map_err(|refusal| Box::new(reply::refused(routes, refusal)))?;
        validate::check_body(kind, &head, REQUEST_MAX).map_err(|fault| Box::new(reply::faulty(fault)))?;
        Ok(kind)
    }

    /// The answer to a request that nobody is to be asked for now.
    fn hindrance(&self, kind: Kind, stage: Stage) -> Option<Response<Body>> {
        let over = match stage {
            Stage::Released => Some("this port is not in boot any more"),
            Stage::Interrupted => {
                Some("this port has lost its link or its address since the connection began")
            }
            Stage::Serves | Stage::Drains | Stage::Stops => None,
        };
        if let Some(reason) = over {
            return Some(reply::closing(self.trouble(kind, reason)));
        }
        (stage == Stage::Drains && kind == Kind::Image && self.service.images.is_some())
            .then(|| self.trouble(kind, "leafboot is about to be restarted"))
    }

    /// Sends the machine to the partition cache.
    fn redirect(&mut self) -> Response<Body> {
        let location = [&self.service.shared.cache_name, self.parts.uri.path()].concat();
        // What it sent is judged: nothing else looks at it.
        reply::redirect(location, std::mem::take(&mut self.parts.headers))
    }

    /// A boot script: the boot service's, the last known good one, or one that says what is wrong.
    async fn script(&self) -> Response<Body> {
        let shared = &self.service.shared;
        let deadline = self.began + SCRIPT_DEADLINE;
        let request = || self.forwarded(Kind::Script, Body::empty());
        let is_script = |answer: &Response<Bytes>| script_flaw(answer).is_none();
        let fetched =
            shared.boot_service.fetch(Outgoing::Idempotent(&request), deadline, ANSWER_MAX, is_script);
        let answer = tokio::select! {
            biased;
            answer = fetched => answer.map_err(|error| error.to_string()),
            () = self.ends() => Err("it has not answered, and the relay ends".to_owned()),
        };
        let reason = match answer {
            Ok(answer) => match script_flaw(&answer) {
                Some(flaw) => format!("the boot service {flaw}"),
                None => {
                    if let Some(scripts) = &shared.scripts {
                        let (target, port) = (self.target(), &self.claim.port);
                        let now = shared.started.elapsed();
                        scripts.with(|scripts| scripts.store(port, target, answer.body(), now));
                    }
                    return passed_on(answer.map(Body::whole));
                }
            },
            Err(reason) => format!("the boot service: {reason}"),
        };
        self.warn(Kind::Script, &reason);
        self.with_trouble(&reason, |trouble| {
            let now = shared.started.elapsed();
            let scripts = shared.scripts.as_ref().filter(|_| self.is_ipxe())?;
            scripts.with(|scripts| scripts.get(self.target(), trouble, now))
        })
        .map_or_else(|| self.trouble(Kind::Script, &reason), |script| reply::text(StatusCode::OK, script))
    }

    /// Waits until the connection has little time left: no script would be a dead end. The connection, which is the same
    /// task, is woken when its port ends.
    async fn ends(&self) {
        let is_over = || self.service.phase.borrow().ends();
        poll_fn(|_| if is_over() { Poll::Ready(()) } else { Poll::Pending }).await;
        sleep(LAST_WORD).await;
    }

    /// metal-hammer's configuration with its token: passed on as it is, asked for once.
    async fn token(&self) -> Response<Body> {
        let deadline = self.began + TOKEN_DEADLINE;
        let request = Outgoing::Once(self.forwarded(Kind::Token, Body::empty()));
        match self.service.shared.boot_service.fetch(request, deadline, ANSWER_MAX, |_| true).await {
            Ok(answer) => passed_on(answer.map(Body::whole)),
            Err(error) => self.failed(Kind::Token, "boot service", &error, error.is_of_an_answer()),
        }
    }

    /// A call of metal-apiserver: both ways as it comes. A stream of its own may be silent for as long as it likes.
    async fn api(&self, incoming: Incoming) -> Response<Body> {
        let Some(api) = &self.service.shared.api else {
            return reply::refused(&self.service.shared.settings.routes, kinds::Refusal::Path);
        };
        let (body, reason) = self.upload(incoming);
        let mut watch = Watch::begin();
        let answer = tokio::select! {
            biased;
            answer = api.send(Outgoing::Once(self.forwarded(Kind::Api, body)), None) => answer,
            () = watch.gone(self.line) => return reply::closing(self.trouble(Kind::Api, "the machine has gone")),
        };
        match (answer, reason.get()) {
            (Ok(mut answer), _) => {
                drop_hop_by_hop(answer.headers_mut());
                answer.map(|body| line::watched(body, self.line, watch))
            }
            (Err(_), Some(fault)) => reply::faulty(fault),
            (Err(error), None) => self.failed(Kind::Api, "metal-apiserver", &error, error.is_of_an_answer()),
        }
    }

    /// What the machine sends after its request's head, and where it is said why it was not taken.
    fn upload(&self, incoming: Incoming) -> (Body, upload::Reason) {
        if incoming.is_end_stream() {
            return (Body::empty(), upload::Reason::default());
        }
        let settings = &self.service.shared.settings;
        let most = usize::try_from(REQUEST_MAX).unwrap_or(usize::MAX);
        let upload = Upload::new(incoming, most, settings.min_rate.unwrap_or_default(), settings.patience);
        let reason = upload.reason();
        (Body::coming(upload), reason)
    }

    /// An image of the partition cache, for sites whose machines cannot reach it.
    async fn image(&self, images: &PortImages) -> Response<Body> {
        let mut headers = HeaderMap::new();
        self.pass(Kind::Image, &mut headers);
        let asked = ImageRequest {
            method: self.parts.method.clone(),
            path: self.parts.uri.path().to_owned(),
            headers,
        };
        // From its question on: a process that ends waits for it.
        let under_way = self.service.shared.streams.subscribe();
        match images.respond(asked).await {
            Ok(answer) => answer.map(|body| body::holding(body, under_way)),
            Err(error) => self.failed(Kind::Image, "partition cache", &error, error.is_of_an_answer()),
        }
    }

    /// What a machine gets when what it asked for does not come: to ask again is of no use where there was an answer that
    /// cannot be used (`is_of_an_answer`).
    fn failed(&self, kind: Kind, who: &str, error: &dyn Display, is_of_an_answer: bool) -> Response<Body> {
        let reason = format!("the {who}: {error}");
        self.warn(kind, &reason);
        if is_of_an_answer {
            return reply::text(StatusCode::BAD_GATEWAY, format!("{}\n", self.said(&reason)));
        }
        self.trouble(kind, &reason)
    }

    /// A reason as a machine is told it.
    fn said(&self, reason: &str) -> String {
        let Claim { leaf, port, .. } = &*self.claim;
        format!("leafboot on {leaf} {port}: {reason}")
    }

    /// What a machine gets while something is wrong: iPXE a script, if it asked for one, everybody else a 503.
    fn trouble(&self, kind: Kind, reason: &str) -> Response<Body> {
        if kind == Kind::Script && self.is_ipxe() {
            let script = self.with_trouble(reason, |trouble| ipxe::retry(trouble, self.target()));
            return reply::text(StatusCode::OK, script);
        }
        reply::unavailable(&self.said(reason), fastrand::u64(AGAIN))
    }

    fn with_trouble<T>(&self, reason: &str, tell: impl FnOnce(&Trouble) -> T) -> T {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let Claim { leaf, port, .. } = &*self.claim;
        tell(&Trouble { leaf, port, reason, time: &time, wait: fastrand::u64(AGAIN) })
    }

    /// The header with its id.
    fn id(&self) -> Option<(HeaderName, HeaderValue)> {
        Some((REQUEST, HeaderValue::try_from(self.id.to_string()).ok()?))
    }

    fn is_ipxe(&self) -> bool {
        let agent = self.parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        agent.is_some_and(ipxe::is_ipxe)
    }

    /// Path and query.
    fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// The request as a server behind gets it.
    fn forwarded(&self, kind: Kind, body: Body) -> Box<Request<Body>> {
        let mut request = Box::new(Request::new(body));
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        let headers = request.headers_mut();
        *headers = self.service.vouched(&self.claim, self.machine, self.began);
        self.pass(kind, headers);
        let texts = |name| -> Vec<&str> {
            self.parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
        };
        let (id, random) = (&self.id, self.random);
        let (parent, state) = identity::trace(&texts(TRACEPARENT), || texts(TRACESTATE), id, random);
        let trace = [(TRACEPARENT, Some(parent)), (TRACESTATE, state)];
        let trace = trace.into_iter().filter_map(|(name, text)| Some((name, text?.try_into().ok()?)));
        for (name, value) in trace.chain(self.id()) {
            headers.insert(name, value);
        }
        request
    }

    /// Adds the machine's headers that go on: none of them is one that leafboot says.
    fn pass(&self, kind: Kind, to: &mut HeaderMap) {
        let connection = connection(&self.parts.headers);
        for (name, value) in &self.parts.headers {
            if identity::passes(kind, name.as_str(), &connection) {
                to.append(name.clone(), value.clone());
            }
        }
    }

    fn warn(&self, kind: Kind, reason: &str) {
        if self.service.log.has_room() {
            let reason = Printable(reason).to_string();
            warn!(port = %self.claim.port, request = %self.id, %kind, reason, "cannot be relayed");
        }
    }

    /// Ends a request that was turned away.
    fn turn_away(&self, kind: Option<Kind>, response: Response<Body>) -> Answered {
        let (Claim { port, session, .. }, request) = (&*self.claim, self.id);
        if enabled!(Level::DEBUG) && self.service.log.has_room() {
            debug!(%port, %session, %request, status = response.status().as_u16(), "turned away");
        }
        self.answered(kind, response)
    }

    /// Ends a request that was relayed.
    fn relayed(&self, kind: Kind, response: Response<Body>) -> Answered {
        let (Claim { port, session, .. }, request) = (&*self.claim, self.id);
        if enabled!(Level::INFO) && self.service.log.has_room() {
            let (method, path) = (self.parts.method.as_str(), Printable(self.parts.uri.path()).to_string());
            let (status, ms) = (response.status().as_u16(), self.began.elapsed().as_millis());
            info!(%port, %session, %request, %kind, method, path, status, ms, "relayed");
        }
        self.answered(Some(kind), response)
    }

    /// Counts the request; its answer says which one it was.
    fn answered(&self, kind: Option<Kind>, mut response: Response<Body>) -> Answered {
        let (kind, status) = (kind.map(Kind::as_str), response.status().as_u16());
        self.service.kept.with(|kept| kept.requests.answered(kind, status));
        if let Body::Here(bytes) = response.body() {
            self.service.gate.charge_for_answer(bytes.len());
        }
        if let Some((name, id)) = self.id() {
            response.headers_mut().insert(name, id);
        }
        Ok(response)
    }
}

/// A `Connection` field's values as one text.
fn connection(headers: &HeaderMap) -> String {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// What is wrong with a boot service's answer to a question for a script, as it goes on after «the boot service».
fn script_flaw(answer: &Response<Bytes>) -> Option<String> {
    match answer.status() {
        StatusCode::OK if answer.body().is_empty() => Some("gives an empty script".to_owned()),
        // Nobody asked for it, and iPXE would not decode it.
        StatusCode::OK if answer.headers().contains_key(CONTENT_ENCODING) => {
            Some("gives a script with a Content-Encoding".to_owned())
        }
        StatusCode::OK if !ipxe::is_script(answer.body()) => Some("gives what is no iPXE script".to_owned()),
        StatusCode::OK => None,
        status => Some(format!("says {status}")),
    }
}

/// A whole answer of the boot service, with the headers that mean something to a machine.
fn passed_on(answer: Response<Body>) -> Response<Body> {
    let (response::Parts { status, mut headers, .. }, body) = answer.into_parts();
    let passed = [
        (CONTENT_TYPE, headers.get(CONTENT_TYPE).cloned()),
        (CONTENT_ENCODING, headers.get(CONTENT_ENCODING).cloned()),
        (RETRY_AFTER, headers.get(RETRY_AFTER).and_then(reply::retry_after)),
    ];
    // The map is the one that it came in: there is room in it.
    headers.clear();
    headers.extend(passed.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

/// Takes away what was for the connection to the server only.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let connection = connection(headers);
    let is_theirs = |name: &str| identity::is_hop_by_hop(name) || identity::is_named(&connection, name);
    let theirs: Vec<HeaderName> = headers.keys().filter(|name| is_theirs(name.as_str())).cloned().collect();
    for name in theirs {
        headers.remove(name);
    }
}
