//! The rate and the burst of an allowance.

use super::*;

#[test]
fn a_second_holds_the_rate_and_asking_too_much_costs_nothing() {
    let mut allowance = Allowance::per_second(NonZeroU32::new(10).unwrap());
    let start = Instant::now();
    assert_eq!((0..1000).filter(|_| allowance.take(start)).count(), 10);
    let later = |ms| start + Duration::from_millis(ms);
    assert_eq!((1..=1000).filter(|ms| allowance.take(later(*ms))).count(), 10);
    let paused = (0..1000).filter(|_| allowance.take(later(60_000))).count();
    assert_eq!(paused, 10, "a pause saves one second");
}
