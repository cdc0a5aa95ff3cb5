//! `/v1/ports`: takes the desired document and reports the ports' states.
//!
//! Must never: await between checking a document and publishing it. Two pushes could then overtake each other.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, StatusCode};
use tokio::time::timeout;
use tracing::{info, warn};

use super::answer::{self, Machines, Reply, refusal};
use super::attempts;
use super::{Api, BODY_MAX, BODY_TIMEOUT, WAIT_MAX};
use leafboot_core::desired::{self, Desired, Document, DocumentError, PortRows};
use leafboot_core::names::PortName;
use leafboot_core::plan::Waiting;
use leafboot_core::printable::Printable;
use leafboot_core::status::{AgentReason, Condition, PortStatus, RequestReason, Status};

/// Accepts a pushed document, and answers when its ports are settled or `wait` is over.
pub(super) async fn put(api: &Api, request: Request<Incoming>) -> Reply {
    let wait = match parse_wait(request.uri().query()) {
        Ok(wait) => wait,
        Err(message) => return refusal(RequestReason::InvalidQuery, &message),
    };
    let body = match read(api, request).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    match accept(api, &body) {
        Ok(desired) => settle(api, &desired, wait).await,
        Err(refusal) => *refusal,
    }
}

/// Reports all ports.
pub(super) fn get_all(api: &Api) -> Reply {
    document(api, StatusCode::OK, &api.status.borrow())
}

/// Reports one port, by its name or its alias, or a rejected entry by the name that was pushed.
pub(super) fn get_one(api: &Api, segment: &str) -> Reply {
    let name = percent_decoded(segment);
    let status = api.status.borrow();
    let (links, diagnosis) = (api.links.borrow(), api.diagnosis.borrow());
    let machines = Machines { links: &links, attempts: &api.attempts, diagnosis: &diagnosis };
    match (resolve(api, &name, &status), status.names.get(&name)) {
        (Ok(port), _) => {
            let alias = api.ports.borrow().as_ref().and_then(|rows| rows.get(&port)?.alias.clone());
            let released = PortStatus { alias, ..PortStatus::RELEASED };
            answer::port(port.as_str(), status.ports.get(&port).unwrap_or(&released), &machines)
        }
        (Err(_), Some(rejected)) => answer::port(&name, rejected, &machines),
        (Err(refusal), None) => *refusal,
    }
}

/// Reports the last attempts to boot on one port, by its name or its alias.
pub(super) fn get_attempts(api: &Api, segment: &str) -> Reply {
    match resolve(api, &percent_decoded(segment), &api.status.borrow()) {
        Ok(port) => attempts::of_port(&port, &api.attempts, &api.diagnosis.borrow()),
        Err(refusal) => *refusal,
    }
}

/// The port of a name or an alias. A port that leafboot has or had is known while CONFIG_DB cannot be read.
fn resolve(api: &Api, name: &str, status: &Status) -> Result<PortName, Box<Reply>> {
    if let Some(port) = name.parse().ok().filter(|port| status.ports.contains_key(port)) {
        return Ok(port);
    }
    let rows = api.ports.borrow();
    let Some(rows) = rows.as_ref() else { return Err(Box::new(ports_unknown(status))) };
    match desired::resolve(name, rows) {
        Some((port, _)) => Ok(port.clone()),
        None => {
            let message = desired::unknown_port_message(name, rows);
            Err(Box::new(refusal(RequestReason::UnknownPort, &message)))
        }
    }
}

/// Reads a request's body whole. At most a few are read at a time.
async fn read(api: &Api, request: Request<Incoming>) -> Result<Bytes, Box<Reply>> {
    let reading = async {
        // The semaphore is never closed, so this cannot fail.
        let _permit = api.bodies.acquire().await;
        Limited::new(request.into_body(), BODY_MAX).collect().await
    };
    let (reason, message) = match timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => return Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            (RequestReason::DocumentTooLarge, format!("the document is longer than {BODY_MAX} bytes"))
        }
        Ok(Err(error)) => (RequestReason::IncompleteDocument, format!("the document broke off: {error}")),
        Err(_) => {
            let message = format!("the document did not arrive within {BODY_TIMEOUT:?}");
            (RequestReason::DocumentTimeout, message)
        }
    };
    Err(Box::new(refusal(reason, &message)))
}

/// Checks, saves and publishes a document.
fn accept(api: &Api, body: &[u8]) -> Result<Desired, Box<Reply>> {
    let document = Document::parse(body).map_err(|error| Box::new(document_refusal(&error)))?;
    let before = api.desired.borrow().clone();
    let checked = match api.ports.borrow().as_ref() {
        Some(rows) => desired::check_entries(&document, rows, &api.boot, before.as_ref()),
        None => return Err(Box::new(ports_unknown(&api.status.borrow()))),
    };
    let now = Instant::now();
    api.pushed.with(|pushed| *pushed = Some(now));
    api.metrics.pushed();
    let desired = Desired::after(before.as_ref(), checked, now);
    if before.as_ref().is_none_or(|before| before.generation != desired.generation) {
        api.keeper.keep(&desired);
        let (ports, rejected) = (desired.ports.len(), desired.rejected.iter().count());
        info!(generation = desired.generation, ports, rejected, "document accepted");
        warn_of_rejected(before.as_ref(), &desired);
    }
    api.desired.send_if_modified(|current| {
        let changed = current.as_ref() != Some(&desired);
        *current = Some(desired.clone());
        changed
    });
    Ok(desired)
}

/// Logs each rejected entry once.
fn warn_of_rejected(before: Option<&Desired>, desired: &Desired) {
    let known: Vec<_> = before.iter().flat_map(|before| before.rejected.iter()).collect();
    for (name, rejection) in desired.rejected.iter().filter(|rejected| !known.contains(rejected)) {
        warn!(port = %Printable(name), %rejection, "rejected a port of the document");
    }
}

/// Answers with the ports' states when the document is settled, or `wait` is over.
async fn settle(api: &Api, desired: &Desired, wait: Duration) -> Reply {
    let mut status = api.status.clone();
    // After a timeout too, the answer has the current states.
    let _ = timeout(wait, status.wait_for(|status| status.is_complete_for(desired.generation))).await;
    let now = api.status.borrow();
    if now.is_for(desired.generation) {
        let code = if now.is_settled() { StatusCode::OK } else { StatusCode::ACCEPTED };
        return document(api, code, &now);
    }
    let none = PortRows::new();
    let rows = api.ports.borrow();
    document(api, StatusCode::ACCEPTED, &now.pending(desired, rows.as_ref().unwrap_or(&none)))
}

fn document(api: &Api, code: StatusCode, status: &Status) -> Reply {
    let state_error = api.keeper.error().map(|error| Condition::new(AgentReason::StateNotSaved, error));
    let (links, diagnosis) = (api.links.borrow(), api.diagnosis.borrow());
    let machines = Machines { links: &links, attempts: &api.attempts, diagnosis: &diagnosis };
    answer::ports(code, status, &machines, state_error)
}

/// Parses `wait=<duration>`, the only query parameter.
fn parse_wait(query: Option<&str>) -> Result<Duration, String> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(Duration::ZERO);
    };
    let value = query
        .strip_prefix("wait=")
        .ok_or(format!("unknown query \"{}\": there is wait=3s", Printable(query)))?;
    let wait = humantime::parse_duration(value)
        .map_err(|e| format!("wait: \"{}\": {e}; write wait=3s", Printable(value)))?;
    if wait <= WAIT_MAX {
        Ok(wait)
    } else {
        Err(format!("wait: {} is longer than {WAIT_MAX:?}", Printable(value)))
    }
}

/// Decodes a path segment's percent-encoding once (RFC 3986 2.1). A `%` without two hexadecimal digits stays.
fn percent_decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match byte.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn document_refusal(error: &DocumentError) -> Reply {
    warn!(%error, "document refused");
    let reason = match error {
        DocumentError::Shape(_) => RequestReason::InvalidDocument,
        DocumentError::Entries(_) => RequestReason::TooManyPorts,
        DocumentError::Name(_) => RequestReason::PortNameTooLong,
    };
    refusal(reason, &error.to_string())
}

/// Answers 503 while CONFIG_DB's ports cannot be read.
fn ports_unknown(status: &Status) -> Reply {
    let Condition { reason, message, .. } = unknown(status);
    let message = format!("the leaf's ports are not known, so nothing can be checked: {message}");
    answer::error(StatusCode::SERVICE_UNAVAILABLE, &Condition::new(reason, message))
}

/// Why the leaf's ports are not known.
pub(super) fn unknown(status: &Status) -> Condition {
    let not_loaded = || Condition::new(Waiting::ConfigDbNotLoaded.reason(), "CONFIG_DB is not loaded yet");
    status.database_error.clone().unwrap_or_else(not_loaded)
}
