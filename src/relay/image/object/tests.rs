//! Objects under readers of every kind; the paused clock makes waiting free.

use std::future::poll_fn;
use std::time::Duration;

use super::*;
use crate::relay::image::room::{PAGE, Store};
use proptest::prelude::*;

/// Room for so many blocks.
fn store(blocks: usize) -> Store {
    Store::new((blocks * BLOCK) as u64)
}

fn made(version: Version, store: &Store) -> (Arc<Object>, Filler) {
    Object::new(version, HeaderMap::new(), store.take(0).unwrap(), store.take(store.bytes()).unwrap())
}

fn object(length: Option<u64>, blocks: usize) -> (Arc<Object>, Filler) {
    made(Version { length, ..Version::default() }, &store(blocks))
}

/// Byte `at` of every test's object.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn bytes(range: std::ops::Range<u64>) -> Bytes {
    range.map(byte).collect()
}

/// Reads to the end: what came, or the error with what came before it.
async fn read(mut follower: Follower, most: usize, pause: Duration) -> Result<Vec<u8>, (Vec<u8>, io::Error)> {
    let mut all = Vec::new();
    loop {
        match poll_fn(|context| follower.poll_next(context, most)).await {
            Ok(Next::Bytes(bytes)) => all.extend_from_slice(&bytes),
            Ok(Next::End) => return Ok(all),
            Ok(Next::Passed { at }) => return Err((all, io::Error::other(format!("passed at {at}")))),
            Err(error) => return Err((all, error)),
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

const LENGTH: u64 = 3 * BLOCK as u64 + 1000;

async fn fill(mut filler: Filler, piece: usize) {
    while filler.filled() < LENGTH {
        let at = filler.filled();
        filler.append(&bytes(at..LENGTH.min(at + piece as u64))).unwrap();
        filler.tell();
        sleep(Duration::from_millis(1)).await;
    }
    filler.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_followers_of_every_speed_read_the_same_bytes() {
    let (object, filler) = object(Some(LENGTH), 4);
    let readers: Vec<_> = (0..50u64)
        .map(|i| {
            let follower = object.follow(0, LENGTH);
            tokio::spawn(read(follower, 1 + 7000 * i as usize, Duration::from_millis(i)))
        })
        .collect();
    let filling = tokio::spawn(fill(filler, 70_000));
    for reader in readers {
        assert!(reader.await.unwrap().unwrap() == bytes(0..LENGTH));
    }
    filling.await.unwrap();
    let late =
        read(object.follow(BLOCK as u64 - 5, BLOCK as u64 + 5), usize::MAX, Duration::ZERO).await.unwrap();
    assert_eq!(late, bytes(BLOCK as u64 - 5..BLOCK as u64 + 5));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_when_told_or_for_a_helping_and_gets_few_pieces() {
    let (object, mut filler) = object(None, 20);
    let mut follower = object.follow(0, u64::MAX);
    for at in [0, 3] {
        assert!(!filler.append(&bytes(at..at + 3)).unwrap());
    }
    assert_eq!(there(&mut follower).await, None, "nobody told of them");
    assert!(filler.tell() && !filler.tell());
    assert_eq!(there(&mut follower).await, Some(bytes(0..6)));
    assert_eq!(there(&mut follower).await, None, "that was all");
    let (block, helping) = (BLOCK as u64, HELPING + BLOCK as u64);
    assert!(!filler.append(&bytes(6..helping - 1)).unwrap());
    assert_eq!(there(&mut follower).await, None, "it is no helping yet");
    let awake = there(&mut object.follow(6, u64::MAX)).await;
    assert_eq!(awake, Some(bytes(6..block)), "who does not wait sees whole blocks");
    assert!(filler.append(&bytes(helping - 1..helping + 9)).unwrap());
    for start in [6].into_iter().chain((block..helping).step_by(BLOCK)) {
        let end = (start / block + 1) * block;
        assert!(there(&mut follower).await == Some(bytes(start..end)), "from {start}");
    }
    assert_eq!(there(&mut follower).await, None, "nobody told of the next block");
    assert!(filler.tell());
    assert_eq!(there(&mut follower).await, Some(bytes(helping..helping + 9)));
}

#[tokio::test(start_paused = true)]
async fn a_window_moves_on_for_a_reader_that_begins_ahead_of_it() {
    let (object, filler) = object(Some(LENGTH), 4);
    let ahead = object.follow(1000, LENGTH);
    let moves = tokio::time::timeout(Duration::from_secs(1), filler.reader_at(1000)).await;
    moves.expect("somebody waits there");
    drop(ahead);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_full_is_told_of_before_its_filler_waits() {
    let (object, mut filler) = object(Some(LENGTH), 4);
    let reader = tokio::spawn(read(object.follow(0, 5), usize::MAX, Duration::ZERO));
    sleep(Duration::from_millis(10)).await;
    filler.append(&bytes(0..5)).unwrap();
    let read_all = tokio::time::timeout(Duration::from_secs(1), filler.reader_at(5)).await;
    read_all.expect("the reader was woken");
    assert_eq!(reader.await.unwrap().unwrap(), bytes(0..5));
}

/// The next bytes, if they are there within a second.
async fn there(follower: &mut Follower) -> Option<Bytes> {
    let next = poll_fn(|context| follower.poll_next(context, usize::MAX));
    let next = tokio::time::timeout(Duration::from_secs(1), next).await.ok()?.unwrap();
    let Next::Bytes(bytes) = next else { panic!("{next:?}") };
    Some(bytes)
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_fails_is_an_error_for_everybody() {
    for end in 0..4 {
        let (object, mut filler) = object(Some(LENGTH), 4);
        let reader = tokio::spawn(read(object.follow(0, LENGTH), 4096, Duration::ZERO));
        filler.append(&bytes(0..300_000)).unwrap();
        filler.tell();
        sleep(Duration::from_millis(10)).await;
        match end {
            0 => filler.fail("the cache is gone"),
            1 => drop(filler),
            2 => assert!(filler.finish().is_err(), "it is too short"),
            _ => {
                assert!(filler.append(&bytes(0..LENGTH)).is_err(), "it is too long");
                drop(filler);
            }
        }
        let (came, _) = reader.await.unwrap().unwrap_err();
        assert!(came == bytes(0..300_000), "{} bytes came", came.len());
        assert!(!object.can_be_joined());
        assert!(read(object.follow(0, 10), 10, Duration::ZERO).await.is_err(), "late ones too");
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_that_nobody_knew_is_known_at_the_end() {
    let (whole, mut filler) = object(None, 1);
    filler.append(&bytes(0..5)).unwrap();
    filler.tell();
    let length = tokio::spawn({
        let whole = Arc::clone(&whole);
        async move { whole.length().await }
    });
    sleep(Duration::from_secs(5)).await;
    assert!(!length.is_finished());
    filler.finish().unwrap();
    assert_eq!(length.await.unwrap().unwrap(), 5);

    let (broken, filler) = object(None, 1);
    filler.fail("it broke");
    assert_eq!(broken.length().await.unwrap_err().to_string(), "it broke");
}

#[tokio::test(start_paused = true)]
async fn a_window_moves_on_and_tells_who_fell_behind() {
    let length = 20 * BLOCK as u64;
    let (object, mut filler) = object(Some(length), 4);
    let mut slow = object.follow(0, length);
    let fast = tokio::spawn(read(object.follow(0, length), usize::MAX, Duration::ZERO));
    while filler.filled() < length {
        let at = filler.filled();
        filler.reader_at(at.saturating_sub(2 * BLOCK as u64)).await;
        filler.append(&bytes(at..at + 100_000.min(length - at))).unwrap();
        filler.tell();
        tokio::task::yield_now().await;
        assert!(object.bytes.borrow().blocks.len() <= 4);
    }
    filler.finish().unwrap();
    assert!(fast.await.unwrap().unwrap() == bytes(0..length));
    assert!(!object.can_be_joined());
    let next = poll_fn(|context| slow.poll_next(context, 10)).await.unwrap();
    assert!(matches!(next, Next::Passed { at: 0 }));
    assert!(!object.has(0, 0) && object.has(length - 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_object_is_abandoned_when_nobody_has_read_it_for_some_time() {
    let (object, _filler) = object(Some(LENGTH), 1);
    let begun = tokio::time::Instant::now();
    for (comes, goes) in [(0, 3), (5, 8), (10, 20)] {
        let follower = object.follow(0, LENGTH);
        tokio::spawn(async move {
            sleep(Duration::from_secs(goes - comes)).await;
            drop(follower);
        });
        if goes < 20 {
            let patience = sleep(Duration::from_secs(5));
            tokio::select! {
                () = object.abandoned(Duration::from_secs(4)) => panic!("it is read again and again"),
                () = patience => {}
            }
        }
    }
    object.abandoned(Duration::from_secs(4)).await;
    assert_eq!(begun.elapsed().as_secs(), 24);
}

#[test]
fn what_is_not_needed_of_the_room_goes_back() {
    let all = store(8);
    let (object, mut filler) = made(Version::default(), &all);
    filler.append(&bytes(0..BLOCK as u64 + 1)).unwrap();
    filler.tell();
    filler.finish().unwrap();
    assert_eq!(all.free(), all.bytes() - BLOCK - PAGE);
    drop(object);
    assert_eq!(all.free(), all.bytes());
}

/// What an object's bytes take of memory, in bytes.
fn taken(object: &Object) -> usize {
    let kept = object.bytes.borrow();
    kept.blocks.iter().chain(&kept.tail).map(Bytes::len).sum::<usize>() + kept.fresh.capacity()
}

#[tokio::test]
async fn its_bytes_take_no_more_than_their_room_however_they_come() {
    for (length, blocks) in [(Some(LENGTH), 4), (None, 4), (Some(9 * BLOCK as u64), 2)] {
        let (object, mut filler) = object(length, blocks);
        for (number, piece) in [1, 3, 5000, 1, 70_000, 1].into_iter().cycle().enumerate() {
            let at = filler.filled();
            let end = length.unwrap_or(LENGTH).min(at + piece);
            if at == end {
                break;
            }
            filler.append(&bytes(at..end)).unwrap();
            if number % 4 == 0 {
                filler.tell();
            }
            assert!(taken(&object) <= object.room(), "{} of {} at {at}", taken(&object), object.room());
        }
        filler.finish().unwrap();
        assert!(taken(&object) <= object.room());
    }
}

#[test]
fn what_it_takes_beside_its_bytes_grows_with_its_texts() {
    let version = |length| Version { etag: Some("x".repeat(length)), ..Version::default() };
    let headers: HeaderMap =
        [(hyper::header::CONTENT_TYPE, "y".repeat(500).parse().unwrap())].into_iter().collect();
    let least = overhead("", &version(0), &HeaderMap::new());
    assert!(overhead("/path", &version(3000), &headers) >= least + 3500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However the pieces are cut, every part is what it should be.
    #[test]
    fn every_part_has_its_bytes(
        pieces in prop::collection::vec(1u64..200_000, 1..20),
        first in 0u64..1_500_000,
        count in 1u64..600_000,
        most in 1usize..300_000,
    ) {
        let length: u64 = pieces.iter().sum();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (object, mut filler) = object(Some(length), 20);
            for piece in &pieces {
                let at = filler.filled();
                filler.append(&bytes(at..at + piece)).unwrap();
                filler.tell();
            }
            filler.finish().unwrap();
            let (first, end) = (first.min(length), (first + count).min(length));
            let all = read(object.follow(first, end), most, Duration::ZERO).await.unwrap();
            assert!(all == bytes(first..end.max(first)));
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_displaced_object_gives_its_room_back_and_its_readers_go_on_from_where_they_are() {
    let all = store(4);
    let (object, mut filler) = made(Version { length: Some(LENGTH), ..Version::default() }, &all);
    let here = BLOCK as u64 + 7;
    filler.append(&bytes(0..here)).unwrap();
    filler.tell();
    let (waits, late) = (object.follow(0, LENGTH), object.follow(0, LENGTH));
    let waits = tokio::spawn(read(waits, usize::MAX, Duration::ZERO));
    sleep(Duration::from_secs(1)).await;
    object.displace();
    assert_eq!(all.free(), all.bytes());
    object.displaced().await;
    let (came, error) = waits.await.unwrap().unwrap_err();
    assert!(came == bytes(0..here) && error.to_string() == format!("passed at {here}"), "{error}");
    let (came, error) = read(late, usize::MAX, Duration::ZERO).await.unwrap_err();
    assert!(came.is_empty() && error.to_string() == "passed at 0", "{error}");
    assert!(!object.can_be_joined() && !object.is_filling() && !object.has(here, 0));
    assert!(!filler.append(&bytes(here..LENGTH)).unwrap());
    filler.finish().unwrap_err();
    assert!(!object.can_be_joined(), "it stays away");
}
