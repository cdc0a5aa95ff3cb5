//! The API's answers as JSON. `sonic/openapi.yaml` describes them.
//!
//! Must never: leave out a port that the document names, or sort ports as text: Ethernet4 comes before Ethernet10.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use leafboot_core::status::{Condition, PortStatus, RequestReason, Status};

/// An answer with its whole body.
pub(super) type Reply = Response<Full<Bytes>>;

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
}

#[derive(Serialize)]
struct ErrorAnswer<'a> {
    error: &'a Condition,
}

/// The ports by name, in their natural order.
struct PortMap<'a>(&'a Status);

impl Serialize for PortMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ports = serializer.serialize_map(None)?;
        for (name, status) in self.0.all() {
            ports.serialize_entry(name, &PortAnswer { name, status })?;
        }
        ports.end()
    }
}

/// The answer that describes all ports. `state_error` says why the document is not saved.
pub(super) fn ports(code: StatusCode, status: &Status, state_error: Option<Condition>) -> Reply {
    let answer = PortsAnswer {
        generation: status.generation,
        settled: status.is_settled(),
        error: status.database_error.as_ref().or(status.write_error.as_ref()),
        anycast: status.anycast.as_ref(),
        state_error,
        ports: PortMap(status),
    };
    json(code, &answer)
}

/// The answer that describes one port.
pub(super) fn port(name: &str, status: &PortStatus) -> Reply {
    json(StatusCode::OK, &PortAnswer { name, status })
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
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json(code: StatusCode, body: &impl Serialize) -> Reply {
    // The maps' keys are strings, so serializing cannot fail.
    let body = serde_json::to_string(body).unwrap_or_default();
    let mut response = text("application/json", body + "\n");
    *response.status_mut() = code;
    response
}
