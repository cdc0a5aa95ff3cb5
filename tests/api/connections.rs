//! The API's connections: how many there may be, and how long one stays open.
//!
//! Must never: look at what the answers say.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::support::agent::Agent;
use super::support::eventually;
use super::support::switch::Switch;

/// 500 connections, each with a document under way: most are refused at once, and memory stays bounded.
#[test]
fn connections_and_documents_under_way_are_bounded() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let before = agent.resident();
    let head = b"PUT /v1/ports HTTP/1.1\r\nHost: leafboot\r\nContent-Length: 1000000\r\n\r\n";
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..500 {
        let mut stream = UnixStream::connect(agent.socket()).unwrap();
        stream.set_nonblocking(true).unwrap();
        // A connection that is refused can no longer be written to.
        let _ = stream.write(&[&head[..], &vec![b' '; 200_000]].concat());
        kept.push(stream);
    }
    eventually("those beyond the bound are refused", || {
        for stream in &mut kept {
            let mut answer = [0; 64];
            let length = stream.read(&mut answer).unwrap_or_default();
            refused += usize::from(answer[..length].starts_with(b"HTTP/1.1 503 "));
        }
        refused >= 400
    });
    let grown = agent.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    drop(kept);
    eventually("others are served again", || agent.get("/v1/ports").0 == 200);
}

/// metal-core pushes each 10 s over a connection that it keeps.
#[test]
fn a_kept_connection_outlives_metal_cores_tick() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    let mut ask = || {
        stream.write_all(b"HEAD /v1/ports HTTP/1.1\r\nHost: leafboot\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{length}");
    };
    ask();
    std::thread::sleep(Duration::from_secs(12));
    ask();
}
