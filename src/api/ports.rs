//! `/v1/ports`: takes the desired document and reports the ports' states.
//!
//! Must never: await between checking a document and publishing it. Two pushes could then overtake each other.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, StatusCode};
use tokio::time::timeout;
use tracing::{info, warn};

use super::answer::{self, Reply, refusal};
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
    let (status, rows) = (api.status.borrow(), api.ports.borrow());
    let port = match name.parse::<PortName>() {
        Ok(port) if status.ports.contains_key(&port) => Some(port),
        _ => rows.as_ref().and_then(|rows| desired::resolve(&name, rows)).map(|(port, _)| port.clone()),
    };
    match (port, rows.as_ref()) {
        (Some(port), rows) => {
            let alias = rows.and_then(|rows| rows.get(&port)?.alias.clone());
            let released = PortStatus { alias, ..PortStatus::RELEASED };
            answer::port(port.as_str(), status.ports.get(&port).unwrap_or(&released))
        }
        (None, _) if let Some(rejected) = status.names.get(&name) => answer::port(&name, rejected),
        (None, Some(rows)) => {
            refusal(RequestReason::UnknownPort, &desired::unknown_port_message(&name, rows))
        }
        (None, None) => ports_unknown(api),
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
        None => return Err(Box::new(ports_unknown(api))),
    };
    let desired = Desired::after(before.as_ref(), checked, Instant::now());
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
    let _ = timeout(wait, status.wait_for(|status| status.is_done(desired.generation))).await;
    let now = api.status.borrow();
    if now.is_of(desired.generation) {
        let code = if now.is_settled() { StatusCode::OK } else { StatusCode::ACCEPTED };
        return document(api, code, &now);
    }
    let none = PortRows::new();
    let rows = api.ports.borrow();
    document(api, StatusCode::ACCEPTED, &now.pending(desired, rows.as_ref().unwrap_or(&none)))
}

fn document(api: &Api, code: StatusCode, status: &Status) -> Reply {
    let state_error = api.keeper.error().map(|error| Condition::new(AgentReason::StateNotSaved, error));
    answer::ports(code, status, state_error)
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
fn ports_unknown(api: &Api) -> Reply {
    let status = api.status.borrow();
    let (reason, cause) = match &status.database_error {
        Some(error) => (error.reason, error.message.as_str()),
        None => (Waiting::ConfigDbNotLoaded.reason(), "CONFIG_DB is not loaded yet"),
    };
    let message = format!("the leaf's ports are not known, so nothing can be checked: {cause}");
    answer::error(StatusCode::SERVICE_UNAVAILABLE, &Condition::new(reason, message))
}
