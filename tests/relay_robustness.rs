//! The relay against bytes that no well-behaved machine or upstream sends: a check per requirement, over a veth, with a
//! scripted upstream. nginx and HAProxy run in the same place, which tests the suite itself: what they are known to
//! fail is listed here, and a different set fails the test. Each test prints its table (`cargo test -- --nocapture`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "relay_robustness/answer.rs"]
mod answer;
#[path = "relay_robustness/api.rs"]
mod api;
#[path = "relay_robustness/body.rs"]
mod body;
#[path = "relay_robustness/framing.rs"]
mod framing;
#[path = "relay_robustness/header.rs"]
mod header;
#[path = "relay_robustness/peers.rs"]
mod peers;
#[path = "relay_robustness/room.rs"]
mod room;
mod support;
#[path = "relay_robustness/target.rs"]
mod target;
#[path = "relay_robustness/upstream.rs"]
mod upstream;

use std::thread::JoinHandle;

use room::{Case, Room, Verdict};
use support::cable::Cable;
use support::front::{self, Pair, Peer};

/// The first of the TCP ports that machines ask; every case has its own.
const FIRST_PORT: u16 = 8000;

fn cases() -> Vec<&'static Case> {
    let all = [
        header::CASES,
        framing::CASES,
        target::CASES,
        upstream::CASES,
        answer::CASES,
        body::CASES,
        api::CASES,
    ];
    all.into_iter().flatten().collect()
}

/// Each front gets 251 machines at once: only one front runs at a time, or a late answer counts as a failure.
#[expect(clippy::disallowed_types, reason = "tests are threads, not tasks")]
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs every case at once, each with a listener and an upstream of its own, prints the table, and returns what failed.
fn judge<T>(front: &str, start: impl FnOnce(&[Pair]) -> T) -> Vec<&'static str> {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cases = cases();
    let cable = Cable::plug();
    cable.boot();
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    let rooms: Vec<Room> = (FIRST_PORT..).take(cases.len()).map(Room::open).collect();
    let pairs: Vec<Pair> = rooms.iter().map(Room::pair).collect();
    let _running = start(&pairs);
    let run = |(case, room): (&&'static Case, Room)| {
        let check = case.check;
        cable.inside(move || check(&room))
    };
    let running: Vec<_> = cases.iter().zip(rooms).map(run).collect();
    let verdict = |case: JoinHandle<Verdict>| case.join().unwrap_or_else(|_| Err("it panicked".to_owned()));
    let verdicts: Vec<Verdict> = running.into_iter().map(verdict).collect();
    let mut table = format!("\n| source | requirement | {front} |\n|---|---|---|\n");
    for (case, verdict) in cases.iter().zip(&verdicts) {
        let said = verdict.as_ref().map_or_else(|reason| format!("FAIL: {reason}"), |()| "pass".to_owned());
        table.push_str(&format!("| {} | {} | {} |\n", case.source, case.what, said.replace('\n', " ")));
    }
    println!("{table}");
    let failed = cases.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_err());
    failed.map(|(case, _)| case.what).collect()
}

#[test]
fn there_are_as_many_checks_as_promised_and_no_two_have_one_name() {
    let names: std::collections::BTreeSet<&str> = cases().iter().map(|case| case.what).collect();
    assert_eq!(names.len(), cases().len());
    assert_eq!(names.len(), 251, "CONTRIBUTING.md says how many there are");
}

#[test]
fn leafboot_meets_every_requirement() {
    assert_eq!(judge("leafboot", front::leafboot), Vec::<&str>::new());
}

#[test]
fn nginx_fails_what_it_is_known_to_fail() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(judge("nginx", |pairs| Peer::nginx(directory.path(), pairs)), peers::NGINX);
}

#[test]
fn haproxy_fails_what_it_is_known_to_fail() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(judge("HAProxy", |pairs| Peer::haproxy(directory.path(), pairs)), peers::HAPROXY);
}
