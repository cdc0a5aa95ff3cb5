//! The rate and the burst of a rate limiter.

use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn rate_and_burst_are_kept_and_a_refusal_costs_nothing() {
    let mut limiter = RateLimiter::new(ms(1000));
    let start = Instant::now();
    let mut allowed = |at| limiter.try_charge(ms(100), start + ms(at));
    assert_eq!((0..1000).filter(|_| allowed(0)).count(), 10, "the burst");
    assert_eq!((1..=1000).filter(|at| allowed(*at)).count(), 10, "the rate");
    assert_eq!((0..1000).filter(|_| allowed(60_000)).count(), 10, "a pause saves one burst");
}

#[test]
fn a_charge_waits_until_earlier_charges_are_paid_for() {
    let mut limiter = RateLimiter::new(ms(30));
    let start = Instant::now();
    let due: Vec<u128> = (0..6).map(|_| (limiter.charge(ms(10), start) - start).as_millis()).collect();
    assert_eq!(due, [0, 0, 0, 0, 10, 20], "the burst, and then one after the other");
    assert_eq!(limiter.idle(start + ms(65)), ms(5));
    let later = start + ms(100);
    assert_eq!(limiter.charge(ms(1000), later), later, "a high cost is due at once after a pause");
    assert_eq!(limiter.charge(ms(10), later) - later, ms(970), "and delays what follows");
    limiter.refund(ms(1000));
    assert_eq!(limiter.charge(ms(10), later), later, "less the refund");
}

#[test]
fn a_refund_of_more_than_was_charged_is_no_credit() {
    let (mut limiter, start) = (RateLimiter::new(ms(30)), Instant::now());
    limiter.charge(ms(10), start);
    limiter.refund(ms(1000));
    assert_eq!(limiter.charge(ms(40), start), start);
    assert_eq!(limiter.charge(ms(10), start) - start, ms(10));
}

proptest! {
    /// A client that does everything when it is due gets no more than the rate, one burst and the last charge.
    #[test]
    fn the_rate_holds(charges in prop::collection::vec((0u64..10_000, 0u64..50), 1..200)) {
        let (mut limiter, start) = (RateLimiter::new(ms(100)), Instant::now());
        let (mut now, mut charged, mut last) = (start, ms(0), ms(0));
        for (cost, pause) in charges {
            last = ms(cost);
            now = limiter.charge(last, now + ms(pause));
            charged += last;
        }
        prop_assert!(charged <= now - start + ms(100) + last);
    }

    /// Several clients get their turns in the order of their charges.
    #[test]
    fn charges_are_due_in_their_order(costs in prop::collection::vec(0u64..10_000, 1..100)) {
        let (mut limiter, now) = (RateLimiter::new(ms(100)), Instant::now());
        let due: Vec<Instant> = costs.iter().map(|cost| limiter.charge(ms(*cost), now)).collect();
        prop_assert!(due.is_sorted());
    }
}
