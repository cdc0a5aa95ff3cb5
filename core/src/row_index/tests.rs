//! Which keys are read after which events, scans and reads.

use super::*;
use crate::rows::tables::{ALL, ASIC, CONFIG};

fn keys(index: &Index) -> Vec<&str> {
    index.keys().map(|(key, _)| key).collect()
}

fn gone(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn keys_come_by_events_and_scans_and_keys_of_other_tables_do_not() {
    let mut index = Index::new(&ASIC);
    let route = r#"ASIC_STATE:SAI_OBJECT_TYPE_ROUTE_ENTRY:{"dest":"10.0.0.0/24"}"#;
    let [port, interface] =
        ["PORT", "ROUTER_INTERFACE"].map(|kind| format!("ASIC_STATE:SAI_OBJECT_TYPE_{kind}:oid:0x1"));
    index.name(route);
    index.name(&interface);
    index.name(&interface);
    assert!(index.add(&port) && !index.add(&port) && !index.add(route));
    let all: Vec<_> = index.keys().collect();
    let fields = ASIC.fields(&interface).unwrap();
    assert_eq!(all, [(port.as_str(), ALL), (interface.as_str(), fields)]);
}

#[test]
fn a_row_that_is_gone_is_forgotten_until_an_event_names_it() {
    let mut index = Index::new(&CONFIG);
    for key in ["VRF|Vrfboot", "PORT|Ethernet0"] {
        index.name(key);
    }
    index.forget(gone(&["VRF|Vrfboot"]));
    assert_eq!(keys(&index), ["PORT|Ethernet0"]);
    index.name("VRF|Vrfboot");
    assert_eq!(keys(&index), ["PORT|Ethernet0", "VRF|Vrfboot"]);
}

#[test]
fn what_comes_or_goes_with_an_event_is_explained_also_when_that_is_late() {
    let mut index = Index::new(&CONFIG);
    index.add("PORT|Ethernet0");
    index.add("PORT|Ethernet4");
    assert_eq!(index.unexplained(), None, "the first scan finds what was there before");
    index.name("PORT|Ethernet0");
    index.forget(gone(&["PORT|Ethernet0", "PORT|Ethernet4"]));
    index.name("PORT|Ethernet4");
    assert_eq!(index.unexplained(), None, "a row went between the last event and the read");
    index.forget([]);
    assert!(index.find("PORT|Ethernet8"));
    index.name("PORT|Ethernet8");
    assert_eq!(index.unexplained(), None, "a scan was faster than the event");
}

#[test]
fn what_comes_or_goes_without_an_event_is_noticed_once() {
    let mut index = Index::new(&CONFIG);
    index.add("PORT|Ethernet0");
    index.forget(gone(&["PORT|Ethernet0"]));
    assert_eq!(index.unexplained().as_deref(), Some("PORT|Ethernet0"));
    assert_eq!(index.unexplained(), None);
    assert!(index.find("VRF|Vrfboot"));
    assert_eq!(index.unexplained().as_deref(), Some("VRF|Vrfboot"));
    assert!(!index.find("VRF|Vrfboot") && index.unexplained().is_none());
    assert_eq!(keys(&index), ["VRF|Vrfboot"]);
}
