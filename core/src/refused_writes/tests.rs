//! When refused rows are tried again, and how they are reported.

use super::*;
use crate::rows::Fields;

const FULL: &str = "OOM command not allowed when used memory > 'maxmemory'.";

fn interface(port: &str) -> Step {
    Step::Set(RowKey::Interface(port.parse().unwrap()), Fields::new())
}

fn refused(steps: &[Step], reason: &str) -> Vec<RefusedWrite> {
    let refused = |step: &Step| RefusedWrite { key: step.key().clone(), reason: reason.to_owned() };
    steps.iter().map(refused).collect()
}

#[test]
fn a_refused_row_is_tried_again_after_a_pause_that_doubles_up_to_a_minute() {
    let (steps, mut now) = ([interface("Ethernet0"), interface("Ethernet4")], Instant::now());
    let mut refusals = RefusedWrites::default();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        refusals.record(&steps[..1], refused(&steps[..1], FULL), now);
        let pause = (1..)
            .find(|seconds| refusals.due(&steps[..1], now + Duration::from_secs(*seconds)) == steps[..1]);
        pauses.push(pause.unwrap());
        assert_eq!(refusals.due(&steps, now), steps[1..], "the other row is not held back");
        now += Duration::from_secs(pause.unwrap());
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
    refusals.record(&steps[..1], Vec::new(), now);
    assert_eq!(refusals.due(&steps, now), steps, "what was taken is free at once");
}

#[test]
fn refusals_are_reported_once_with_one_line_for_each_reason() {
    let steps: Vec<Step> = (0..512).map(|port| interface(&format!("Ethernet{port}"))).collect();
    let mut refusals = RefusedWrites::default();
    let now = Instant::now();
    let news = refusals.record(&steps, refused(&steps, FULL), now);
    let line = format!("Redis refuses to write INTERFACE|Ethernet0 and 511 more: {FULL}");
    assert_eq!(news.iter().map(ToString::to_string).collect::<Vec<_>>(), [line]);
    assert_eq!(refusals.record(&steps, refused(&steps, FULL), now), []);
    assert_eq!(refusals.record(&steps[..1], refused(&steps[..1], "READONLY"), now).len(), 1);
}

#[test]
fn a_rule_is_not_written_while_its_tables_row_is_refused() {
    let table = "LEAFBOOT".parse().unwrap();
    let rule = RowKey::AclRule("LEAFBOOT".parse().unwrap(), "DEFAULT_RULE".to_owned());
    let steps = [
        Step::Set(RowKey::AclTable(table), Fields::new()),
        Step::Set(rule.clone(), Fields::new()),
        Step::Delete(rule),
    ];
    let (mut refusals, now) = (RefusedWrites::default(), Instant::now());
    assert_eq!(refusals.due(&steps, now), steps);
    refusals.record(&steps[..1], refused(&steps[..1], FULL), now);
    assert_eq!(refusals.due(&steps, now), steps[2..]);
    let later = now + LAST_PAUSE;
    assert_eq!(refusals.due(&steps, later), [steps[0].clone(), steps[2].clone()]);
    assert_eq!((refusals.shared().len(), refusals.of_ports().len()), (1, 0));
}

#[test]
fn an_unplanned_row_is_forgotten_after_its_pause() {
    let (steps, now) = ([interface("Ethernet0")], Instant::now());
    let mut refusals = RefusedWrites::default();
    refusals.record(&steps, refused(&steps, FULL), now);
    refusals.forget(&[], now);
    assert_eq!(refusals.of_ports().len(), 1);
    refusals.forget(&steps, now + LAST_PAUSE);
    assert_eq!(refusals.of_ports().len(), 1);
    refusals.forget(&[], now + LAST_PAUSE);
    assert_eq!(refusals.of_ports().len(), 0);
}

#[test]
fn a_ports_row_is_reported_on_the_port_and_a_shared_row_is_not() {
    let vrf = Step::Set(RowKey::Vrf("Vrfboot".parse().unwrap()), Fields::new());
    let steps = [vrf, interface("Ethernet0")];
    let mut refusals = RefusedWrites::default();
    refusals.record(&steps, refused(&steps, "READONLY"), Instant::now());
    let shared: Vec<String> = refusals.shared().iter().map(ToString::to_string).collect();
    assert_eq!(shared, ["Redis refuses to write VRF|Vrfboot: READONLY"]);
    let ports = refusals.of_ports();
    let ports: Vec<String> = ports.iter().map(|(port, refusal)| format!("{port}: {refusal}")).collect();
    assert_eq!(ports, ["Ethernet0: Redis refuses to write INTERFACE|Ethernet0: READONLY"]);
}
