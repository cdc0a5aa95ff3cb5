//! The rate and the burst of an allowance.

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_second_holds_the_rate_and_asking_too_much_costs_nothing() {
    let mut allowance = Allowance::new(ms(100), 10);
    let start = Instant::now();
    assert_eq!((0..1000).filter(|_| allowance.take(start)).count(), 10);
    assert_eq!((1..=1000).filter(|at| allowance.take(start + ms(*at))).count(), 10);
    let paused = (0..1000).filter(|_| allowance.take(start + ms(60_000))).count();
    assert_eq!(paused, 10, "a pause saves one second");
}

#[test]
fn what_is_charged_waits_until_what_was_before_it_is_earned() {
    let mut allowance = Allowance::new(ms(10), 3);
    let start = Instant::now();
    let due: Vec<u128> = (0..6).map(|_| (allowance.charge(ms(10), start) - start).as_millis()).collect();
    assert_eq!(due, [0, 0, 0, 0, 10, 20], "the burst, and then one after the other");
    assert_eq!(allowance.quiet(start + ms(65)), ms(5));
    let later = start + ms(100);
    assert_eq!(allowance.charge(ms(1000), later), later, "what costs much begins at once after a pause");
    assert_eq!(allowance.charge(ms(10), later) - later, ms(970), "and is paid by what follows");
}
