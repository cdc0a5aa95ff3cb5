//! When the steps of the slow scan are due.

use super::*;

#[test]
fn a_rest_separates_rounds_and_a_lost_event_shortens_it() {
    let paces = Paces::default();
    let mut now = Instant::now();
    let mut scan = Scan::new(paces, now);
    let mut wait = |scan: &Scan| {
        let wait = scan.due() - now;
        now = scan.due();
        (wait, now)
    };
    let (first, at) = wait(&scan);
    assert_eq!((first, scan.next_step()), (paces.rest, (0, paces.later.keys)));
    scan.record_step(7, at);
    let (pause, at) = wait(&scan);
    assert_eq!((pause, scan.next_step().0), (paces.later.pause, 7));
    scan.record_lost_event(at);
    scan.record_step(0, at);
    let (rest, at) = wait(&scan);
    assert_eq!(rest, paces.rest_after_loss, "the round had passed some rows before the event was lost");
    scan.record_step(0, at);
    scan.record_lost_event(at);
    assert_eq!(wait(&scan).0, paces.rest_after_loss);
    scan.record_step(0, scan.due());
    assert_eq!(scan.due() - at, paces.rest_after_loss + paces.rest);
}
