//! Entries with readers of every kind. The paused clock makes waiting free.

use std::future::poll_fn;
use std::time::Duration;

use super::*;
use crate::relay::cache::buffer::{BLOCK, WAKE_BATCH};
use crate::relay::cache::memory::{Memory, PAGE};
use crate::relay::cache::reader::{Next, Reader};
use crate::relay::cache::writer::Writer;
use hyper::body::Bytes;
use proptest::prelude::*;

/// Memory for so many blocks.
fn memory(blocks: usize) -> Memory {
    Memory::new((blocks * BLOCK) as u64)
}

/// An entry that has all of `memory`.
fn entry_in(memory: &Memory, version: Version) -> (Arc<Entry>, Writer) {
    let (overhead, bytes) = (memory.reserve(0).unwrap(), memory.reserve(memory.limit()).unwrap());
    let writer = Writer::new(version, HeaderMap::new(), overhead, bytes);
    (Arc::clone(writer.entry()), writer)
}

fn entry(length: Option<u64>, blocks: usize) -> (Arc<Entry>, Writer) {
    entry_in(&memory(blocks), Version { length, ..Version::default() })
}

/// Byte `at` of every test's image.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn bytes(range: std::ops::Range<u64>) -> Bytes {
    range.map(byte).collect()
}

/// Reads to the end. Returns all bytes, or the error with the bytes before it.
async fn read(mut reader: Reader, most: usize, pause: Duration) -> Result<Vec<u8>, (Vec<u8>, io::Error)> {
    let mut all = Vec::new();
    loop {
        match poll_fn(|context| reader.poll_next(context, most)).await {
            Ok(Next::Bytes(bytes)) => all.extend_from_slice(&bytes),
            Ok(Next::End) => return Ok(all),
            Ok(Next::Gone { at }) => return Err((all, io::Error::other(format!("gone at {at}")))),
            Err(error) => return Err((all, error)),
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

const LENGTH: u64 = 3 * BLOCK as u64 + 1000;

async fn write(mut writer: Writer, piece: usize) {
    while writer.written() < LENGTH {
        let at = writer.written();
        writer.append(&bytes(at..LENGTH.min(at + piece as u64))).unwrap();
        writer.publish();
        sleep(Duration::from_millis(1)).await;
    }
    writer.complete().unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_every_speed_read_the_same_bytes() {
    let (entry, writer) = entry(Some(LENGTH), 4);
    let readers: Vec<_> = (0..50u64)
        .map(|i| {
            let reader = Reader::new(&entry, 0, LENGTH);
            tokio::spawn(read(reader, 1 + 7000 * i as usize, Duration::from_millis(i)))
        })
        .collect();
    let writing = tokio::spawn(write(writer, 70_000));
    for reader in readers {
        assert!(reader.await.unwrap().unwrap() == bytes(0..LENGTH));
    }
    writing.await.unwrap();
    let late = read(Reader::new(&entry, BLOCK as u64 - 5, BLOCK as u64 + 5), usize::MAX, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(late, bytes(BLOCK as u64 - 5..BLOCK as u64 + 5));
}

#[tokio::test(start_paused = true)]
async fn waiting_readers_are_woken_for_a_batch_or_by_publish_and_get_few_pieces() {
    let (entry, mut writer) = entry(None, 20);
    let mut reader = Reader::new(&entry, 0, u64::MAX);
    for at in [0, 3] {
        assert!(!writer.append(&bytes(at..at + 3)).unwrap());
    }
    assert_eq!(next_bytes(&mut reader).await, None, "they are not published");
    assert!(writer.publish() && !writer.publish());
    assert_eq!(next_bytes(&mut reader).await, Some(bytes(0..6)));
    assert_eq!(next_bytes(&mut reader).await, None, "there is no more");
    let (block, batch) = (BLOCK as u64, WAKE_BATCH + BLOCK as u64);
    assert!(!writer.append(&bytes(6..batch - 1)).unwrap());
    assert_eq!(next_bytes(&mut reader).await, None, "it is not a batch yet");
    let awake = next_bytes(&mut Reader::new(&entry, 6, u64::MAX)).await;
    assert_eq!(awake, Some(bytes(6..block)), "a reader that does not wait sees whole blocks");
    assert!(writer.append(&bytes(batch - 1..batch + 9)).unwrap());
    for start in [6].into_iter().chain((block..batch).step_by(BLOCK)) {
        let end = (start / block + 1) * block;
        assert!(next_bytes(&mut reader).await == Some(bytes(start..end)), "from {start}");
    }
    assert_eq!(next_bytes(&mut reader).await, None, "the next block is not published");
    assert!(writer.publish());
    assert_eq!(next_bytes(&mut reader).await, Some(bytes(batch..batch + 9)));
}

#[tokio::test(start_paused = true)]
async fn a_window_moves_on_to_a_reader_that_begins_ahead_of_it() {
    let (entry, writer) = entry(Some(LENGTH), 4);
    let ahead = Reader::new(&entry, 1000, LENGTH);
    let moves = tokio::time::timeout(Duration::from_secs(1), writer.wait_for_reader(1000)).await;
    moves.expect("a reader waits there");
    drop(ahead);
}

#[tokio::test(start_paused = true)]
async fn a_full_window_is_published_before_its_writer_waits() {
    let (entry, mut writer) = entry(Some(LENGTH), 4);
    let reader = tokio::spawn(read(Reader::new(&entry, 0, 5), usize::MAX, Duration::ZERO));
    sleep(Duration::from_millis(10)).await;
    writer.append(&bytes(0..5)).unwrap();
    let read_all = tokio::time::timeout(Duration::from_secs(1), writer.wait_for_reader(5)).await;
    read_all.expect("the reader was woken");
    assert_eq!(reader.await.unwrap().unwrap(), bytes(0..5));
}

/// The next bytes, if they are there within a second.
async fn next_bytes(reader: &mut Reader) -> Option<Bytes> {
    let next = poll_fn(|context| reader.poll_next(context, usize::MAX));
    let next = tokio::time::timeout(Duration::from_secs(1), next).await.ok()?.unwrap();
    let Next::Bytes(bytes) = next else { panic!("{next:?}") };
    Some(bytes)
}

#[tokio::test(start_paused = true)]
async fn a_failed_transfer_is_an_error_for_all_readers() {
    for end in 0..4 {
        let (entry, mut writer) = entry(Some(LENGTH), 4);
        let reader = tokio::spawn(read(Reader::new(&entry, 0, LENGTH), 4096, Duration::ZERO));
        writer.append(&bytes(0..300_000)).unwrap();
        writer.publish();
        sleep(Duration::from_millis(10)).await;
        match end {
            0 => writer.fail("the cache is gone"),
            1 => drop(writer),
            2 => assert!(writer.complete().is_err(), "it is too short"),
            _ => {
                assert!(writer.append(&bytes(0..LENGTH)).is_err(), "it is too long");
                drop(writer);
            }
        }
        let (came, _) = reader.await.unwrap().unwrap_err();
        assert!(came == bytes(0..300_000), "{} bytes came", came.len());
        assert!(!entry.is_joinable());
        assert!(read(Reader::new(&entry, 0, 10), 10, Duration::ZERO).await.is_err(), "late ones too");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_length_is_known_at_the_end() {
    let (whole, mut writer) = entry(None, 1);
    writer.append(&bytes(0..5)).unwrap();
    writer.publish();
    let length = tokio::spawn({
        let whole = Arc::clone(&whole);
        async move { whole.length().await }
    });
    sleep(Duration::from_secs(5)).await;
    assert!(!length.is_finished());
    writer.complete().unwrap();
    assert_eq!(length.await.unwrap().unwrap(), 5);

    let (broken, writer) = entry(None, 1);
    writer.fail("it broke");
    assert_eq!(broken.length().await.unwrap_err().to_string(), "it broke");
}

#[tokio::test(start_paused = true)]
async fn a_window_moves_on_and_slow_readers_learn_that() {
    let length = 20 * BLOCK as u64;
    let (entry, mut writer) = entry(Some(length), 4);
    let mut slow = Reader::new(&entry, 0, length);
    let fast = tokio::spawn(read(Reader::new(&entry, 0, length), usize::MAX, Duration::ZERO));
    while writer.written() < length {
        let at = writer.written();
        writer.wait_for_reader(at.saturating_sub(2 * BLOCK as u64)).await;
        writer.append(&bytes(at..at + 100_000.min(length - at))).unwrap();
        writer.publish();
        tokio::task::yield_now().await;
        assert!(entry.buffer.borrow().block_count() <= 4);
    }
    writer.complete().unwrap();
    assert!(fast.await.unwrap().unwrap() == bytes(0..length));
    assert!(!entry.is_joinable());
    let next = poll_fn(|context| slow.poll_next(context, 10)).await.unwrap();
    assert!(matches!(next, Next::Gone { at: 0 }));
    assert!(!entry.covers(0, 0) && entry.covers(length - 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_entry_without_readers_is_noticed_after_some_time() {
    let (entry, _writer) = entry(Some(LENGTH), 1);
    let begun = tokio::time::Instant::now();
    for (comes, goes) in [(0, 3), (5, 8), (10, 20)] {
        let reader = Reader::new(&entry, 0, LENGTH);
        tokio::spawn(async move {
            sleep(Duration::from_secs(goes - comes)).await;
            drop(reader);
        });
        if goes < 20 {
            let pause = sleep(Duration::from_secs(5));
            tokio::select! {
                () = entry.unread_for(Duration::from_secs(4)) => panic!("it is read again and again"),
                () = pause => {}
            }
        }
    }
    entry.unread_for(Duration::from_secs(4)).await;
    assert_eq!(begun.elapsed().as_secs(), 24);
}

#[test]
fn a_complete_entry_frees_unneeded_memory() {
    let memory = memory(8);
    let (entry, mut writer) = entry_in(&memory, Version::default());
    writer.append(&bytes(0..BLOCK as u64 + 1)).unwrap();
    writer.publish();
    writer.complete().unwrap();
    assert_eq!(memory.free(), memory.limit() - BLOCK - PAGE);
    drop(entry);
    assert_eq!(memory.free(), memory.limit());
}

#[tokio::test]
async fn bytes_use_no_more_than_their_reservation_whatever_the_pieces() {
    for (length, blocks) in [(Some(LENGTH), 4), (None, 4), (Some(9 * BLOCK as u64), 2)] {
        let (entry, mut writer) = entry(length, blocks);
        for (number, piece) in [1, 3, 5000, 1, 70_000, 1].into_iter().cycle().enumerate() {
            let at = writer.written();
            let end = length.unwrap_or(LENGTH).min(at + piece);
            if at == end {
                break;
            }
            writer.append(&bytes(at..end)).unwrap();
            if number % 4 == 0 {
                writer.publish();
            }
            let (used, reserved) = (entry.buffer.borrow().used(), entry.reserved());
            assert!(used <= reserved, "{used} of {reserved} at {at}");
        }
        writer.complete().unwrap();
        assert!(entry.buffer.borrow().used() <= entry.reserved());
    }
}

#[test]
fn the_overhead_grows_with_the_texts() {
    let version = |length| Version { etag: Some("x".repeat(length)), ..Version::default() };
    let headers: HeaderMap =
        [(hyper::header::CONTENT_TYPE, "y".repeat(500).parse().unwrap())].into_iter().collect();
    let least = overhead("", &version(0), &HeaderMap::new());
    assert!(overhead("/path", &version(3000), &headers) >= least + 3500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_part_has_its_bytes_whatever_the_pieces(
        pieces in prop::collection::vec(1u64..200_000, 1..20),
        first in 0u64..1_500_000,
        count in 1u64..600_000,
        most in 1usize..300_000,
    ) {
        let length: u64 = pieces.iter().sum();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (entry, mut writer) = entry(Some(length), 20);
            for piece in &pieces {
                let at = writer.written();
                writer.append(&bytes(at..at + piece)).unwrap();
                writer.publish();
            }
            writer.complete().unwrap();
            let (first, end) = (first.min(length), (first + count).min(length));
            let all = read(Reader::new(&entry, first, end), most, Duration::ZERO).await.unwrap();
            assert!(all == bytes(first..end.max(first)));
        });
    }
}

#[tokio::test(start_paused = true)]
async fn an_evicted_entry_frees_its_memory_and_its_readers_know_where_to_go_on() {
    let memory = memory(4);
    let (entry, mut writer) = entry_in(&memory, Version { length: Some(LENGTH), ..Version::default() });
    let here = BLOCK as u64 + 7;
    writer.append(&bytes(0..here)).unwrap();
    writer.publish();
    let (waits, late) = (Reader::new(&entry, 0, LENGTH), Reader::new(&entry, 0, LENGTH));
    let waits = tokio::spawn(read(waits, usize::MAX, Duration::ZERO));
    sleep(Duration::from_secs(1)).await;
    entry.evict();
    assert_eq!(memory.free(), memory.limit());
    entry.evicted().await;
    let (came, error) = waits.await.unwrap().unwrap_err();
    assert!(came == bytes(0..here) && error.to_string() == format!("gone at {here}"), "{error}");
    let (came, error) = read(late, usize::MAX, Duration::ZERO).await.unwrap_err();
    assert!(came.is_empty() && error.to_string() == "gone at 0", "{error}");
    assert!(!entry.is_joinable() && !entry.is_fetching() && !entry.covers(here, 0));
    assert!(!writer.append(&bytes(here..LENGTH)).unwrap());
    writer.complete().unwrap_err();
    assert!(!entry.is_joinable(), "it stays evicted");
}
