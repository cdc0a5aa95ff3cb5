//! The API's answers as JSON. `sonic/openapi.yaml` describes them.
//!
//! Must never: leave out a port that the document names, or sort ports as text: Ethernet4 comes before Ethernet10.

use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::event_body::EventBody;
use crate::attempts::Recorder;
use crate::events::time;
use leafboot_core::attempt::{Attempt, StageRecord};
use leafboot_core::names::PortName;
use leafboot_core::observed::Links;
use leafboot_core::status::{Condition, PortStatus, RequestReason, Status};
use leafboot_core::verdict::{Diagnosis, Verdict};

/// A body: whole, or of events as they come.
pub(super) type Body = Either<Full<Bytes>, EventBody>;
/// An answer.
pub(super) type Reply = Response<Body>;

/// The answer that describes all ports.
#[derive(Serialize)]
struct PortsAnswer<'a> {
    generation: Option<u64>,
    settled: bool,
    error: Option<&'a Condition>,
    anycast: Option<&'a Condition>,
    state_error: Option<Condition>,
    ports: PortMap<'a>,
}

/// One port. `name` stands beside `alias`, so that a client that knows either of them finds the port.
#[derive(Serialize)]
struct PortAnswer<'a> {
    name: &'a str,
    #[serde(flatten)]
    status: &'a PortStatus,
    link: Option<Link>,
    #[serde(flatten)]
    boot: Boot<'a>,
}

/// The kernel's view of a port's link.
#[derive(Serialize)]
struct Link {
    admin_up: bool,
    carrier: bool,
}

/// How far the boot of the port's machine is.
#[derive(Serialize, Default)]
pub(super) struct Boot<'a> {
    /// The machine's Ethernet address, by its own word.
    pub machine: Option<String>,
    /// The identifier of the attempt that goes on.
    pub attempt: Option<String>,
    /// Its last stage.
    pub stage: Option<&'static str>,
    /// When the stage was reached.
    pub since: Option<String>,
    /// What the machine waits for, or what is wrong.
    pub verdict: Option<&'a Verdict>,
}

/// What is known of ports beside their status.
pub(super) struct Machines<'a> {
    /// The kernel's view.
    pub links: &'a Links,
    /// The machines' attempts to boot.
    pub attempts: &'a Recorder,
    /// The verdicts.
    pub diagnosis: &'a Diagnosis,
}

impl<'a> Machines<'a> {
    fn port(&'a self, name: &'a str, status: &'a PortStatus) -> PortAnswer<'a> {
        let port: Option<PortName> = name.parse().ok();
        let link = port.as_ref().and_then(|port| self.links.get(port));
        let link = link.map(|link| Link { admin_up: link.admin_up, carrier: link.carrier });
        let verdict = port.as_ref().and_then(|port| Some(&self.diagnosis.get(port)?.verdict));
        let attempts = port.and_then(|port| self.attempts.get(&port));
        let boot = attempts.and_then(|attempts| attempts.read(|history| history.current().map(Boot::of)));
        PortAnswer { name, status, link, boot: Boot { verdict, ..boot.unwrap_or_default() } }
    }
}

impl Boot<'_> {
    fn of(attempt: &Attempt) -> Self {
        let last = attempt.last_stage();
        let since =
            |record: &StageRecord| time(attempt.began_unix_ms + record.first.since(attempt.began) / 1000);
        Self {
            machine: attempt.mac.map(|mac| mac.to_string()),
            attempt: Some(attempt.id.to_string()),
            stage: last.map(|record| record.stage.as_str()),
            since: last.map(since),
            verdict: None,
        }
    }
}

#[derive(Serialize)]
struct ErrorAnswer<'a> {
    error: &'a Condition,
}

/// The ports by name, in their natural order.
struct PortMap<'a>(&'a Status, &'a Machines<'a>);

impl Serialize for PortMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ports = serializer.serialize_map(None)?;
        for (name, status) in self.0.all() {
            ports.serialize_entry(name, &self.1.port(name, status))?;
        }
        ports.end()
    }
}

/// The answer that describes all ports. `state_error` says why the document is not saved.
pub(super) fn ports(
    code: StatusCode,
    status: &Status,
    machines: &Machines<'_>,
    state_error: Option<Condition>,
) -> Reply {
    let answer = PortsAnswer {
        generation: status.generation,
        settled: status.is_settled(),
        error: status.database_error.as_ref().or(status.write_error.as_ref()),
        anycast: status.anycast.as_ref(),
        state_error,
        ports: PortMap(status, machines),
    };
    json(code, &answer)
}

/// The answer that describes one port.
pub(super) fn port(name: &str, status: &PortStatus, machines: &Machines<'_>) -> Reply {
    json(StatusCode::OK, &machines.port(name, status))
}

/// The answer that refuses a request.
pub(super) fn refusal(reason: RequestReason, message: &str) -> Reply {
    let code = StatusCode::from_u16(reason.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(code, &Condition::new(reason, message))
}

/// An answer without a result.
pub(super) fn error(code: StatusCode, error: &Condition) -> Reply {
    json(code, &ErrorAnswer { error })
}

/// An answer with a text of this type.
pub(super) fn text(content_type: &'static str, text: String) -> Reply {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(text))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer with a JSON value.
pub(super) fn json(code: StatusCode, body: &impl Serialize) -> Reply {
    // The maps' keys are strings, so serializing cannot fail.
    let body = serde_json::to_string(body).unwrap_or_default();
    let mut response = text("application/json", body + "\n");
    *response.status_mut() = code;
    response
}
