//! The keys that are read after events, scans and reads.

use super::*;
use crate::rows::tables::{ALL, ASIC, CONFIG};

fn keys(index: &RowIndex) -> Vec<&str> {
    index.keys().map(|(key, _)| key).collect()
}

fn absent(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn keys_come_by_events_and_scans_and_keys_of_other_tables_do_not() {
    let mut index = RowIndex::new(&ASIC);
    let route = r#"ASIC_STATE:SAI_OBJECT_TYPE_ROUTE_ENTRY:{"dest":"10.0.0.0/24"}"#;
    let [port, interface] =
        ["PORT", "ROUTER_INTERFACE"].map(|kind| format!("ASIC_STATE:SAI_OBJECT_TYPE_{kind}:oid:0x1"));
    index.record_event(route);
    index.record_event(&interface);
    index.record_event(&interface);
    assert!(index.add(&port) && !index.add(&port) && !index.add(route));
    let all: Vec<_> = index.keys().collect();
    let fields = ASIC.fields(&interface).unwrap();
    assert_eq!(all, [(port.as_str(), ALL), (interface.as_str(), fields)]);
}

#[test]
fn the_key_of_an_absent_row_goes_until_an_event_names_it() {
    let mut index = RowIndex::new(&CONFIG);
    for key in ["VRF|Vrfboot", "PORT|Ethernet0"] {
        index.record_event(key);
    }
    index.record_read(absent(&["VRF|Vrfboot"]));
    assert_eq!(keys(&index), ["PORT|Ethernet0"]);
    index.record_event("VRF|Vrfboot");
    assert_eq!(keys(&index), ["PORT|Ethernet0", "VRF|Vrfboot"]);
}

#[test]
fn a_late_event_is_not_a_lost_one() {
    let mut index = RowIndex::new(&CONFIG);
    index.add("PORT|Ethernet0");
    index.add("PORT|Ethernet4");
    assert_eq!(index.lost_event(), None, "the first scan finds what was there before");
    index.record_event("PORT|Ethernet0");
    index.record_read(absent(&["PORT|Ethernet0", "PORT|Ethernet4"]));
    index.record_event("PORT|Ethernet4");
    assert_eq!(index.lost_event(), None, "a row went between the last event and the read");
    index.record_read([]);
    assert!(index.add_late("PORT|Ethernet8"));
    index.record_event("PORT|Ethernet8");
    assert_eq!(index.lost_event(), None, "a scan was faster than the event");
}

#[test]
fn a_lost_event_is_reported_once() {
    let mut index = RowIndex::new(&CONFIG);
    index.add("PORT|Ethernet0");
    index.record_read(absent(&["PORT|Ethernet0"]));
    assert_eq!(index.lost_event().as_deref(), Some("PORT|Ethernet0"));
    assert_eq!(index.lost_event(), None);
    assert!(index.add_late("VRF|Vrfboot"));
    assert_eq!(index.lost_event().as_deref(), Some("VRF|Vrfboot"));
    assert!(!index.add_late("VRF|Vrfboot") && index.lost_event().is_none());
    assert_eq!(keys(&index), ["VRF|Vrfboot"]);
}
