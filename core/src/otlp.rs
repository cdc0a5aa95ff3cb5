//! OpenTelemetry's spans, and the protobuf of an OTLP trace export: the body of `POST /v1/traces`.
//!
//! The field numbers are those of opentelemetry-proto 1.x (`collector/trace/v1/trace_service.proto`, `trace/v1/trace.proto`,
//! `common/v1/common.proto`, `resource/v1/resource.proto`). They are stable. leafboot writes five messages and reads none, so
//! that a protobuf library would be larger than this file.
//!
//! Must never: decide what is traced.

/// The name of the instrumentation scope, and of the service.
const NAME: &str = "leafboot";
/// Protobuf's wire types (protobuf.dev, "Encoding").
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
/// `Status.StatusCode.STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// An attribute of a span or of a resource.
pub type Attribute = (&'static str, Value);

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}

/// `Span.SpanKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Something that happens on the leaf or on the machine.
    Internal = 1,
    /// A request that the leaf has answered.
    Server = 2,
}

/// A span. Times are nanoseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: [u8; 16],
    /// The span's id within the trace.
    pub id: [u8; 8],
    /// The id of the span that contains it; none: it is the trace's root.
    pub parent: Option<[u8; 8]>,
    /// What it is.
    pub name: &'static str,
    /// Its kind.
    pub kind: SpanKind,
    /// When it began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// What else is known of it.
    pub attributes: Vec<Attribute>,
    /// Why it failed; none: it did not.
    pub error: Option<String>,
}

/// The protobuf of an `ExportTraceServiceRequest` with `spans` of the leaf named `leaf`. `version`: leafboot's.
pub fn export_request(leaf: &str, version: &str, spans: &[Span]) -> Vec<u8> {
    let resource = [
        ("service.name", Value::Text(NAME.to_owned())),
        ("service.version", Value::Text(version.to_owned())),
        ("host.name", Value::Text(leaf.to_owned())),
    ];
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |message| message.attributes(1, &resource));
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.bytes(1, NAME.as_bytes());
                scope.bytes(2, version.as_bytes());
            });
            for span in spans {
                scope_spans.message(2, |message| message.span(span));
            }
        });
    });
    request.0
}

/// A protobuf message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn span(&mut self, span: &Span) {
        self.bytes(1, &span.trace);
        self.bytes(2, &span.id);
        if let Some(parent) = &span.parent {
            self.bytes(4, parent);
        }
        self.bytes(5, span.name.as_bytes());
        self.number(6, span.kind as u64);
        self.fixed_64(7, span.start);
        self.fixed_64(8, span.end);
        self.attributes(9, &span.attributes);
        if let Some(reason) = &span.error {
            self.message(15, |status| {
                status.bytes(2, reason.as_bytes());
                status.number(3, ERROR);
            });
        }
    }

    fn attributes(&mut self, field: u64, attributes: &[Attribute]) {
        for (key, value) in attributes {
            self.message(field, |attribute| {
                attribute.bytes(1, key.as_bytes());
                attribute.message(2, |any| match value {
                    Value::Text(text) => any.bytes(1, text.as_bytes()),
                    Value::Number(number) => any.number(3, *number),
                });
            });
        }
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3 | VARINT);
        self.varint(number);
    }

    fn fixed_64(&mut self, field: u64, number: u64) {
        self.varint(field << 3 | FIXED_64);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Seven bits a byte, the lowest first; all bytes but the last have the highest bit set.
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::default();
        write(&mut message);
        message.0
    }

    /// The examples of protobuf.dev, "Encoding".
    #[test]
    fn fields_are_written_as_protobuf_says() {
        assert_eq!(written(|message| message.number(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(
            written(|message| message.bytes(2, b"testing")),
            [0x12, 7, b't', b'e', b's', b't', b'i', b'n', b'g']
        );
        let nested = written(|message| message.message(3, |inner| inner.number(1, 150)));
        assert_eq!(nested, [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(written(|message| message.fixed_64(7, 1)), [0x39, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(|message| message.varint(u64::MAX)).len(), 10);
    }
}
