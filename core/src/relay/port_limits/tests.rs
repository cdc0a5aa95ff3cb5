//! What work costs, and when a port is muted.

use super::*;

fn account() -> (Account, Instant) {
    (Account::new(NonZeroU32::new(100).unwrap()), Instant::now())
}

/// So many connections repeat this work as soon as it is done, for so many seconds. Returns how often it was done, and the
/// mutes.
fn flood(
    account: &mut Account,
    (begun, seconds): (Instant, u64),
    many: usize,
    work: Work,
) -> (usize, Vec<Mute>) {
    let ends = begun + Duration::from_secs(seconds);
    let mut due = vec![begun; many];
    let (mut done, mut mutes) = (0, Vec::new());
    while let Some(next) = due.iter_mut().min().filter(|next| **next < ends) {
        let charged = account.charge(work, *next);
        mutes.extend(charged.muted);
        *next = charged.due;
        done += 1;
    }
    (done, mutes)
}

#[test]
fn each_kind_of_work_is_limited_by_its_cost() {
    for (work, least, most) in [
        (Work::Request, 300, 330),
        (Work::Connection, 150, 165),
        (Work::Handshake, 30, 34),
        (Work::Read(100), 1200, 1300),
        (Work::Read(16 * 1024), 240, 265),
        (Work::Answer(160 * 1024), 30, 34),
    ] {
        let (mut account, start) = account();
        let (done, mutes) = flood(&mut account, (start, 3), 1, work);
        assert!((least..=most).contains(&done) && mutes.is_empty(), "{work:?}: {done} in 3 s, {mutes:?}");
    }
}

#[test]
fn a_machine_with_one_request_at_a_time_is_never_muted() {
    let (mut account, start) = account();
    let (done, mutes) = flood(&mut account, (start, 3600), 1, Work::Request);
    assert_eq!(mutes, []);
    assert!((360_000..360_020).contains(&done), "{done}");
}

#[test]
fn a_flood_is_muted_for_longer_each_time_up_to_a_limit() {
    let (mut account, start) = account();
    let (done, mutes) = flood(&mut account, (start, 120), 16, Work::Request);
    let seconds: Vec<u64> = mutes.iter().map(|mute| mute.time.as_secs()).collect();
    assert_eq!(seconds[..6], [1, 2, 4, 8, 8, 8]);
    let first = mutes.iter().map(|mute| mute.is_first).collect::<Vec<_>>();
    assert!(first[0] && !first[1..].contains(&true), "{first:?}");
    assert!(done < 12_000 / 2, "less than half of its limit: {done}");
}

#[test]
fn a_machine_that_boots_behind_a_flood_waits_no_longer_than_the_longest_mute() {
    let (mut account, start) = account();
    let end = start + Duration::from_secs(120);
    flood(&mut account, (start, 120), 16, Work::Request);
    let due = account.charge(Work::Connection, end).due;
    assert!(due <= end + MUTE_MAX + Duration::from_millis(200), "{:?}", due - end);
    let at = account.charge(Work::Request, due).due;
    assert!(at <= due + Duration::from_millis(50), "then it goes on: {:?}", at - due);
}

#[test]
fn a_quiet_port_starts_again_with_the_shortest_mute() {
    let (mut account, start) = account();
    flood(&mut account, (start, 60), 16, Work::Request);
    let later = start + Duration::from_secs(60) + MUTE_MAX + FORGIVEN_AFTER;
    let (_, mutes) = flood(&mut account, (later + Duration::from_secs(1), 7), 16, Work::Request);
    assert_eq!(mutes, [Mute { time: MUTE, is_first: true }]);
}
