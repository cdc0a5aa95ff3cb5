//! Repairs over invented time: when each attempt is due, what it does, and when it is forgotten.

use super::*;

/// A plan that misses this of Ethernet0.
fn missing(fact: Option<Waiting>) -> Plan {
    let subject = || Subject::Port("Ethernet0".parse().unwrap());
    Plan { missing: fact.into_iter().map(|fact| (subject(), fact)).collect(), ..Plan::default() }
}

/// Passes each second over what is missing then; what was done, and at which second.
fn story(
    repairs: &mut Repairs,
    seconds: u64,
    fact: impl Fn(u64) -> Option<Waiting>,
) -> Vec<(u64, &'static str)> {
    let start = Instant::now();
    let mut done = Vec::new();
    for second in 0..seconds {
        let now = start + Duration::from_secs(second);
        let remedies = repairs.remedies(now, true);
        if !remedies.rewrite.is_empty() {
            done.push((second, "rewrite"));
        }
        let mut plan = missing(fact(second));
        if !remedies.recreate.is_empty() {
            done.push((second, "recreate"));
            plan.removed = remedies.recreate.clone();
        }
        repairs.record(&plan, &remedies, now);
    }
    done
}

#[test]
fn a_row_is_written_again_and_then_the_port_is_recreated_with_doubling_pauses() {
    let done = story(&mut Repairs::default(), 70, |_| Some(Waiting::KernelVrfBound));
    let expected = [
        (2, "rewrite"),
        (4, "recreate"),
        (8, "recreate"),
        (16, "recreate"),
        (32, "recreate"),
        (64, "recreate"),
    ];
    assert_eq!(done, expected);
}

#[test]
fn a_fact_that_comes_in_time_is_not_repaired() {
    let late = |second| (second < 9).then_some(Waiting::InterfaceBound);
    assert_eq!(story(&mut Repairs::default(), 60, late), []);
    let advances =
        |second| Some(if second % 2 == 0 { Waiting::KernelVrfBound } else { Waiting::InterfaceBound });
    assert_eq!(story(&mut Repairs::default(), 60, advances), [], "each fact counts from its own beginning");
}

#[test]
fn another_writer_is_not_fought_in_a_tight_loop() {
    // Each repair helps at once, and somebody undoes it again and again.
    let mut repairs = Repairs::default();
    let start = Instant::now();
    let (mut is_broken, mut done) = (true, Vec::new());
    for second in 0..200 {
        let now = start + Duration::from_secs(second);
        let remedies = repairs.remedies(now, true);
        assert!(remedies.recreate.is_empty(), "the row alone has helped");
        repairs.record(&missing(is_broken.then_some(Waiting::KernelVrfBound)), &remedies, now);
        // The row that was written in this pass has helped by the next one, and that is undone by the one after it.
        is_broken = remedies.rewrite.is_empty();
        if !is_broken {
            done.push(second);
        }
    }
    let pauses: Vec<u64> = done.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses.last() == Some(&60), "{pauses:?}");
}

#[test]
fn after_a_minute_with_all_facts_the_attempts_are_forgotten() {
    let mut repairs = Repairs::default();
    let trouble = |second| matches!(second, 0..=2 | 70..=72).then_some(Waiting::KernelVrfBound);
    assert_eq!(story(&mut repairs, 80, trouble), [(2, "rewrite"), (72, "rewrite")]);
    assert_eq!(repairs.0.values().map(|repair| repair.attempts).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_a_daemon_has_not_reached_yet_is_not_late() {
    let subject = |port: u32| Subject::Port(format!("Ethernet{port}").parse().unwrap());
    let mut repairs = Repairs::default();
    let start = Instant::now();
    for second in 0..60 {
        // intfmgrd takes one port a second.
        let waiting = second..60;
        let missing = waiting.map(|port| (subject(port), Waiting::InterfaceBound)).collect();
        let now = start + Duration::from_secs(u64::from(second));
        let remedies = repairs.remedies(now, true);
        assert_eq!(remedies, Remedies::default(), "second {second}");
        repairs.record(&Plan { missing, ..Plan::default() }, &remedies, now);
    }
}

#[test]
fn no_repair_begins_while_redis_refuses_writes() {
    let mut repairs = Repairs::default();
    let start = Instant::now();
    repairs.record(&missing(Some(Waiting::KernelVrfBound)), &Remedies::default(), start);
    let late = start + Duration::from_secs(30);
    assert_eq!(repairs.remedies(late, false), Remedies::default());
    assert!(!repairs.remedies(late, true).rewrite.is_empty());
}

#[test]
fn a_slow_daemon_has_its_row_written_again_and_no_port_taken_out() {
    let done = story(&mut Repairs::default(), 30, |_| Some(Waiting::RouterInterfaceReady));
    assert_eq!(done, [(10, "rewrite"), (12, "rewrite"), (16, "rewrite"), (24, "rewrite")]);
}

#[test]
fn a_deletion_is_announced_again_and_nothing_more() {
    let done = story(&mut Repairs::default(), 30, |_| Some(Waiting::InterfaceGone("Vrfboot".to_owned())));
    assert_eq!(done, [(5, "rewrite"), (7, "rewrite"), (11, "rewrite"), (19, "rewrite")]);
}

#[test]
fn a_missing_denying_rule_evicts_the_ports_and_not_too_early() {
    let mut repairs = Repairs::default();
    let start = Instant::now();
    let fact = Waiting::AclDenyRuleMissing("LEAFBOOT".parse().unwrap());
    let plan = Plan { missing: BTreeMap::from([(Subject::AclDenials, fact)]), ..Plan::default() };
    repairs.record(&plan, &Remedies::default(), start);
    assert_eq!(repairs.next(start), Some(start + DENIAL_MISSING_MAX));
    assert_eq!(repairs.next(start + DENIAL_MISSING_MAX), None, "nobody is woken for what is so already");
    assert!(!repairs.remedies(start + DENIAL_MISSING_MAX - Duration::from_millis(1), true).evict_ports);
    assert!(repairs.remedies(start + DENIAL_MISSING_MAX, true).evict_ports);
    repairs.record(&Plan::default(), &Remedies::default(), start + DENIAL_MISSING_MAX);
    assert_eq!(repairs.remedies(start + DENIAL_MISSING_MAX, true), Remedies::default(), "it is there again");
}
