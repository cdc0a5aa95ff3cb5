//! A boot attempt that has ended comes to an OpenTelemetry collector as a trace. OpenTelemetry's own protobuf messages decode it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use leafboot::internals::{Recorder, trace_export};
use leafboot_core::attempt::{Event, Outcome, RequestEvent, RequestRecord, Text, UpstreamProblem};
use leafboot_core::names::{HttpOrigin, Mac};
use leafboot_core::relay::kinds::Kind;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

/// A request's head in lower case, and its body.
type Received = (String, Vec<u8>);

/// A collector that answers its first request with 503 and then with 200. It reports each request.
fn collector() -> (HttpOrigin, Receiver<Received>) {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (requests_out, requests) = channel();
    std::thread::spawn(move || {
        for status in ["503 Service Unavailable"].into_iter().chain(std::iter::repeat("200 OK")) {
            answer(&listener, status, &requests_out);
        }
    });
    (origin, requests)
}

fn answer(listener: &TcpListener, status: &str, requests: &Sender<Received>) {
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
    let _ = requests.send((head, body));
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()? {
        AnyValue { value: Some(Value::StringValue(text)) } => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}

fn spans(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let [resource_spans] = request.resource_spans.as_slice() else { panic!("{request:?}") };
    let resource = &resource_spans.resource.as_ref().unwrap().attributes;
    assert_eq!(text(resource, "service.name"), Some("leafboot"));
    assert_eq!(text(resource, "host.name"), Some("leaf01"));
    let [scope_spans] = resource_spans.scope_spans.as_slice() else { panic!("{request:?}") };
    assert_eq!(scope_spans.scope.as_ref().unwrap().name, "leafboot");
    scope_spans.spans.clone()
}

#[test]
fn a_collector_gets_each_ended_attempt_as_a_trace() {
    let (origin, requests) = collector();
    let recorder = Arc::new(Recorder::default());
    let port = recorder.port(&"Ethernet0".parse().unwrap());
    port.enter_boot();
    // This one has ended before the process starts.
    port.link(true, 1);
    port.link(false, 1);
    let exported = Arc::clone(&recorder);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match runtime.block_on(trace_export::run(origin, "leaf01".to_owned(), exported)) {}
    });
    assert!(requests.recv_timeout(Duration::from_millis(1500)).is_err(), "there is nothing to send");

    port.link(true, 2);
    let mac = Mac([0x52, 0x54, 0, 0xb0, 7, 0]);
    port.record(&Event::Solicitation { from: "fe80::7".parse().unwrap(), mac });
    let (attempt, _) = port.begin_request(Kind::Script);
    let outcome =
        Outcome::Failed { problem: UpstreamProblem::Unreachable, reason: Text::new("connection refused") };
    let path = Text::new("/boot.ipxe");
    let record = RequestRecord { request: Text::new("00f067aa0ba902b7"), path, ms: 4, outcome };
    port.record(&Event::Request(RequestEvent { kind: Kind::Script, record, images: None }));
    assert!(requests.recv_timeout(Duration::from_millis(1500)).is_err(), "the attempt goes on");
    port.leave_boot();

    let next = || requests.recv_timeout(Duration::from_secs(20)).unwrap();
    let (refused, again) = (next(), next());
    assert_eq!(refused, again, "503: it is sent again");
    let (head, body) = again;
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf\r\n") && head.contains("host: [::1]:"),
        "{head}"
    );
    let spans = spans(&body);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["boot", "link", "solicitation", "script", "released"]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for span in &spans {
        assert_eq!(hex(&span.trace_id), attempt.to_string(), "the trace is leafboot-session");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    }
    let (root, script) = (&spans[0], &spans[3]);
    assert!(root.parent_span_id.is_empty() && root.span_id.len() == 8);
    assert_eq!(text(&root.attributes, "leafboot.port"), Some("Ethernet0"));
    assert_eq!(text(&root.attributes, "leafboot.mac"), Some("52:54:00:b0:07:00"));
    assert_eq!(text(&root.attributes, "leafboot.end"), Some("released"));
    assert!(spans[1..].iter().all(|span| span.parent_span_id == root.span_id));
    assert_eq!(hex(&script.span_id), "00f067aa0ba902b7", "the span of traceparent");
    assert_eq!(script.kind(), SpanKind::Server);
    let status = script.status.as_ref().unwrap();
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "connection refused"));
    assert!(requests.recv_timeout(Duration::from_secs(2)).is_err(), "an attempt is sent once");
}
