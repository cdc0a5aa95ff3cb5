//! The API's answers: their shape in JSON.
//!
//! Must never: leave out a port that the document names, or have ports in another order than people count them.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use leafboot_core::status::{PortStatus, Status};

/// An answer.
pub(super) type Reply = Response<Full<Bytes>>;

/// All ports.
#[derive(Serialize)]
struct Document<'a> {
    generation: Option<u64>,
    settled: bool,
    error: Option<&'a String>,
    anycast: &'a Option<String>,
    state_error: Option<&'a str>,
    ports: Ports<'a>,
}

/// One port. Its name stands beside its alias, so that who knows one of them finds the port.
#[derive(Serialize)]
struct Port<'a> {
    name: &'a str,
    #[serde(flatten)]
    status: &'a PortStatus,
}

#[derive(Serialize)]
struct Error<'a> {
    error: &'a str,
}

struct Ports<'a>(&'a Status);

impl Serialize for Ports<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ports = serializer.serialize_map(None)?;
        for (name, status) in self.0.all() {
            ports.serialize_entry(name, &Port { name, status })?;
        }
        ports.end()
    }
}

/// What is said of all ports; `state_error`: why the document is not kept.
pub(super) fn document(code: StatusCode, status: &Status, state_error: Option<&str>) -> Reply {
    let document = Document {
        generation: status.generation,
        settled: status.is_settled(),
        error: status.database_error.as_ref().or(status.write_error.as_ref()),
        anycast: &status.anycast,
        state_error,
        ports: Ports(status),
    };
    json(code, &document)
}

/// What is said of one port.
pub(super) fn port(name: &str, status: &PortStatus) -> Reply {
    json(StatusCode::OK, &Port { name, status })
}

/// Why there is no answer.
pub(super) fn error(code: StatusCode, reason: &str) -> Reply {
    json(code, &Error { error: reason })
}

/// A text of this type.
pub(super) fn text(content_type: &'static str, text: String) -> Reply {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json(code: StatusCode, body: &impl Serialize) -> Reply {
    // Their keys are texts, and nothing in them fails.
    let body = serde_json::to_string(body).unwrap_or_default();
    let mut response = text("application/json", body + "\n");
    *response.status_mut() = code;
    response
}
