//! Tests which entries the store keeps, evicts and drops.

use super::*;
use std::time::Duration;

use hyper::header::HeaderMap;

use crate::relay::cache::buffer::BLOCK;
use crate::relay::cache::slots::{SLOTS_MAX, UNUSED_MAX};
use crate::relay::cache::writer::Writer;
use leafboot_core::relay::validators::Version;

const START: Duration = Duration::from_secs(1000);

fn port(number: u8) -> PortName {
    format!("Ethernet{number}").parse().unwrap()
}

/// Adds an entry of so many blocks and of unknown length, requested `second` seconds after `begun`.
fn put(store: &Store, path: &str, blocks: usize, begun: Instant, second: u64) -> (Arc<Entry>, Writer) {
    let version = Version { etag: Some("\"a\"".to_owned()), ..Version::default() };
    put_for(&port(0), version, store, path, blocks, begun + Duration::from_secs(second))
}

fn put_for(
    port: &PortName,
    version: Version,
    store: &Store,
    path: &str,
    blocks: usize,
    asked: Instant,
) -> (Arc<Entry>, Writer) {
    let Lookup::Fetch(result, _) = store.lookup(path, port, true, asked) else {
        panic!("{path} is not to be fetched");
    };
    let bytes = store.reserve(blocks * BLOCK).expect("there is memory");
    let overhead = store.reserve(0).unwrap();
    let writer = Writer::new(version, HeaderMap::new(), overhead, bytes);
    let entry = Arc::clone(writer.entry());
    result.send_replace(Some(FetchOutcome::Shared(Arc::clone(&entry))));
    (entry, writer)
}

#[test]
fn nothing_is_evicted_for_an_image_that_does_not_fit_anyway() {
    let (store, begun) = (Store::new(10 * BLOCK as u64), Instant::now());
    let read = put(&store, "/read", 5, begun, 0);
    for path in ["/a", "/b"] {
        drop(put(&store, path, 2, begun, 1));
    }
    assert!(store.reserve(6 * BLOCK).is_none());
    let used = |store: &Store| store.state().used / BLOCK as u64;
    assert_eq!(used(&store), 9, "both idle entries are still there");
    assert!(store.reserve(3 * BLOCK).is_some());
    assert_eq!(used(&store), 7, "one of them was removed");
    drop(read);
}

#[test]
fn images_of_one_port_are_evicted_first_from_the_port_that_uses_most() {
    let (store, begun) = (Store::new(10 * BLOCK as u64), Instant::now());
    let put = |number, path: &str, blocks, second| {
        let length = Some((blocks * BLOCK) as u64);
        let version = Version { etag: Some("\"a\"".to_owned()), length, ..Version::default() };
        put_for(&port(number), version, &store, path, blocks, begun + Duration::from_secs(second))
    };
    let (small, first, second) = (put(4, "/m", 3, 0), put(0, "/1", 3, 1), put(0, "/2", 3, 2));
    assert!(store.reserve(8 * BLOCK).is_some(), "all three");
    let is_kept = |put: &(Arc<Entry>, Writer)| put.0.is_joinable();
    assert!(!is_kept(&small) && !is_kept(&first) && !is_kept(&second));

    let (small, first, second) = (put(4, "/m", 3, 3), put(0, "/1", 3, 4), put(0, "/2", 3, 5));
    let reservation = store.reserve(3 * BLOCK).unwrap();
    assert_eq!([&small, &first, &second].map(is_kept), [true, false, true]);
    let shared = store.lookup("/2", &port(4), true, begun + Duration::from_secs(5));
    assert!(matches!(shared, Lookup::Wait(_)));
    assert!(store.reserve(4 * BLOCK).is_some(), "by evicting /m");
    assert_eq!([&small, &second].map(is_kept), [false, true], "two ports want /2");
    drop(reservation);
    assert!(store.reserve(8 * BLOCK).is_none());
}

#[test]
fn unused_images_expire_but_transfers_under_way_do_not() {
    let (store, begun) = (Store::new(10 * BLOCK as u64), Instant::now());
    let at = |second| begun + Duration::from_secs(second);
    assert_eq!(store.expire(at(0)), at(0) + UNUSED_MAX, "the store is empty");
    for (path, second) in [("/a", 0), ("/b", 100)] {
        put(&store, path, 2, begun, second).1.complete().unwrap();
    }
    let (entry, writer) = put(&store, "/slow", 2, begun, 0);
    let asked = store.lookup("/asked", &port(0), true, begun);
    let used = |store: &Store| store.state().used / BLOCK as u64;
    assert_eq!(store.expire(at(599)), at(600));
    assert_eq!(store.expire(at(600)), at(700), "/b is next");
    assert_eq!(used(&store), 2, "/a expired, /b is empty, /slow is under way");
    assert!(store.fresh("/b", at(650)).is_none(), "it is not fresh, but it was asked for");
    writer.complete().unwrap();
    assert_eq!(store.expire(at(700)), at(1250));
    assert!(!entry.is_fetching() && used(&store) == 0);
    assert!(
        matches!(asked, Lookup::Fetch(..))
            && matches!(store.lookup("/asked", &port(1), true, begun), Lookup::Wait(_))
    );
}

#[test]
fn slots_in_use_are_not_removed() {
    let (store, begun) = (Store::new(10 * BLOCK as u64), Instant::now());
    let read = put(&store, "/read", 1, begun, 0);
    let ask = |path: &str| store.lookup(path, &port(0), true, begun);
    let asked: Vec<Lookup> = (1..SLOTS_MAX).map(|number| ask(&format!("/{number}"))).collect();
    assert!(matches!(ask("/more"), Lookup::Bypass));
    let result = asked
        .iter()
        .find_map(|lookup| if let Lookup::Fetch(result, _) = lookup { Some(result) } else { None });
    result.unwrap().send_replace(Some(FetchOutcome::NoMemory));
    assert!(matches!(ask("/more"), Lookup::Fetch(..)), "it replaces a slot that nothing needs");
    assert!(store.fresh("/read", begun).is_some());
    let later = begun + START;
    assert!(
        matches!(store.lookup("/1", &port(0), false, later), Lookup::Bypass),
        "without a permit nothing is fetched"
    );
    assert!(
        matches!(store.lookup("/read", &port(0), false, later), Lookup::Fetch(_, Some(_))),
        "but an entry is revalidated"
    );
    drop(read);
}

#[test]
fn a_request_without_an_entry_restores_the_known_one() {
    let (store, begun) = (Store::new(10 * BLOCK as u64), Instant::now());
    let (entry, writer) = put(&store, "/a", 2, begun, 0);
    let later = begun + START;
    let Lookup::Fetch(result, Some(known)) = store.lookup("/a", &port(0), true, later) else {
        panic!("/a is not to be revalidated")
    };
    store.restore("/a", &result, Some(known));
    assert!(store.fresh("/a", later).is_none(), "it is not fresh");
    let Lookup::Fetch(result, Some(known)) = store.lookup("/a", &port(0), true, later) else {
        panic!("/a is not to be revalidated")
    };
    assert!(Arc::ptr_eq(&known, &entry));
    writer.fail("it broke");
    store.restore("/a", &result, Some(known));
    assert!(matches!(store.lookup("/a", &port(0), true, later), Lookup::Fetch(_, None)));
}
