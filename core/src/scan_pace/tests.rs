//! When the slow scan goes on.

use super::*;

#[test]
fn a_round_follows_the_one_before_after_a_rest_and_a_lost_event_shortens_it() {
    let paces = Paces::default();
    let mut now = Instant::now();
    let mut walk = Walk::new(paces, now);
    let mut wait = |walk: &Walk| {
        let wait = walk.due() - now;
        now = walk.due();
        (wait, now)
    };
    let (first, at) = wait(&walk);
    assert_eq!((first, walk.step()), (paces.rest, (0, paces.later.keys)));
    walk.stepped(7, at);
    let (pause, at) = wait(&walk);
    assert_eq!((pause, walk.step().0), (paces.later.pause, 7));
    walk.alarm(at);
    walk.stepped(0, at);
    let (rest, at) = wait(&walk);
    assert_eq!(rest, paces.alarm, "the round had passed some rows before the event was lost");
    walk.stepped(0, at);
    walk.alarm(at);
    assert_eq!(wait(&walk).0, paces.alarm);
    walk.stepped(0, walk.due());
    assert_eq!(walk.due() - at, paces.alarm + paces.rest);
}
