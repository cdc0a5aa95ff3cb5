//! Documents that are taken, and each way to be refused: whole, and naming port and field.

use super::*;

fn rows() -> PortRows {
    let row = |alias: &str, index| PortRow { alias: Some(alias.to_owned()), index };
    BTreeMap::from([
        ("Ethernet0".parse().unwrap(), row("Eth1/1", Some(1))),
        ("Ethernet4".parse().unwrap(), row("Eth1/2", Some(2))),
        ("Ethernet5".parse().unwrap(), row("Eth1/3", Some(2))),
        ("Ethernet8".parse().unwrap(), row("Eth1/4", None)),
        ("Ethernet12".parse().unwrap(), row("Eth1/5", Some(128))),
        ("Ethernet120".parse().unwrap(), row("Eth1/31", Some(31))),
    ])
}

fn boot() -> Boot {
    Boot {
        vrf: "Vrfboot".parse().unwrap(),
        prefix: "2001:db8:b007::/57".parse().unwrap(),
        supernet: "2001:db8:b000::/36".parse().unwrap(),
        protected: vec!["Eth1/31".to_owned()],
        anycast: None,
        loopback: "Loopback64".parse().unwrap(),
    }
}

fn taken(body: &str) -> Vec<(String, String)> {
    let ports = parse(body.as_bytes(), &rows(), &boot()).unwrap();
    ports.iter().map(|(port, prefix)| (port.to_string(), prefix.to_string())).collect()
}

fn refused(body: &str) -> String {
    parse(body.as_bytes(), &rows(), &boot()).unwrap_err().to_string()
}

#[test]
fn a_prefix_is_taken_or_derived_from_the_ports_index() {
    let got = taken(
        r#"{"ports": {"Ethernet0": {"state": "boot", "prefix": "2001:db8:b007:50::/64"}, "Ethernet4": {"state": "boot"}}}"#,
    );
    assert_eq!(
        got,
        [
            ("Ethernet0".to_owned(), "2001:db8:b007:50::/64".to_owned()),
            ("Ethernet4".to_owned(), "2001:db8:b007:2::/64".to_owned())
        ]
    );
    assert_eq!(taken(r#"{"ports": {}}"#), []);
}

#[test]
fn an_alias_means_its_port() {
    assert_eq!(taken(r#"{"ports": {"Eth1/1": {"state": "boot"}}}"#)[0].0, "Ethernet0");
    let error = refused(r#"{"ports": {"Eth1/1": {"state": "boot"}, "Ethernet0": {"state": "boot"}}}"#);
    assert_eq!(error, "Ethernet0: port: Ethernet0 and another entry both mean Ethernet0");
}

#[test]
fn a_fault_names_port_and_field() {
    let cases = [
        (r#"{"Ethernet1": {"state": "boot"}}"#, r#"Ethernet1: port: "Ethernet1" is not a port of this leaf"#),
        (r#"{"Ethernet120": {"state": "boot"}}"#, "Ethernet120: port: it is protected"),
        (r#"{"Ethernet0": {"state": "tenant"}}"#, r#"Ethernet0: state: "tenant" is not "boot""#),
        (r#"{"Ethernet0": {}}"#, "Ethernet0: state: it is missing: write"),
        (r#"{"Ethernet0": {"state": "boot", "vlan": 1}}"#, "Ethernet0: vlan: no such field"),
        (
            r#"{"Ethernet0": {"state": "boot", "prefix": "2001:db8::/63"}}"#,
            "Ethernet0: prefix: 2001:db8::/63",
        ),
        (r#"{"Ethernet0": {"state": "boot", "prefix": "x"}}"#, r#"Ethernet0: prefix: "x" is not an IPv6"#),
        (
            r#"{"Ethernet0": {"state": "boot", "prefix": "2001:db8:c000::/64"}}"#,
            "Ethernet0: prefix: 2001:db8:c000::/64 is outside",
        ),
        (r#"{"Ethernet0": {"state": 1}}"#, "Ethernet0: state: 1 is not a text"),
        (r#"{"Ethernet0": []}"#, "Ethernet0: port: its entry is not an object"),
        (
            r#"{"Ethernet8": {"state": "boot"}}"#,
            "Ethernet8: prefix: none given, and the port's PORT row has no",
        ),
        (
            r#"{"Ethernet12": {"state": "boot"}}"#,
            "Ethernet12: prefix: none given, and boot.prefix 2001:db8:b007",
        ),
        (
            r#"{"Ethernet4": {"state": "boot"}, "Ethernet5": {"state": "boot"}}"#,
            "Ethernet5: prefix: 2001:db8:b007:2::/64 overlaps the prefix of Ethernet4",
        ),
    ];
    for (ports, expected) in cases {
        let error = refused(&format!(r#"{{"ports": {ports}}}"#));
        assert!(error.starts_with(expected), "{ports} gave {error}");
    }
}

#[test]
fn every_fault_of_a_document_is_named_at_once() {
    let error = refused(r#"{"ports": {"Ethernet1": {"state": "boot"}, "Ethernet4": {"state": "x"}}}"#);
    assert!(error.contains("Ethernet1: port:") && error.contains("Ethernet4: state:"), "{error}");
}

#[test]
fn what_is_not_the_documents_shape_is_refused() {
    for body in ["", "[]", "{}", r#"{"ports": []}"#, r#"{"ports": {}, "x": 1}"#, "\u{0}"] {
        assert!(refused(body).starts_with("not a port document"), "{body}");
    }
    let twice = refused(r#"{"ports": {"Ethernet0": {"state": "boot"}, "Ethernet0": {"state": "boot"}}}"#);
    assert!(twice.contains(r#"port "Ethernet0" is named twice"#), "{twice}");
}

type Ports = BTreeMap<PortName, BootPrefix>;

/// A port with a prefix, or none.
fn has(prefix: &str) -> Ports {
    let port = |prefix: &str| ("Ethernet0".parse().unwrap(), prefix.parse().unwrap());
    Some(prefix).filter(|prefix| !prefix.is_empty()).map(port).into_iter().collect()
}

fn old(desired: &Desired) -> Vec<(String, Instant)> {
    desired.old.values().flatten().map(|old| (old.prefix.to_string(), old.until)).collect()
}

const A: &str = "2001:db8:b007:a::/64";
const B: &str = "2001:db8:b007:b::/64";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// RFC 9096 3.5.
#[test]
fn what_a_port_loses_is_withdrawn_for_two_hours() {
    let now = Instant::now();
    let first = Desired::after(None, has(A), now);
    assert_eq!((first.generation, first.provenance, old(&first)), (1, Provenance::Pushed, vec![]));
    let again =
        Desired::after(Some(&Desired { provenance: Provenance::Restored, ..first.clone() }), has(A), now);
    assert_eq!(again, first, "nothing changes but that it is an order now");
    let second = Desired::after(Some(&first), has(B), now);
    let a = (A.to_owned(), now + s(7200));
    assert_eq!((second.generation, old(&second)), (2, vec![a.clone()]));
    let released = Desired::after(Some(&second), has(""), now + s(60));
    let b = (B.to_owned(), now + s(7260));
    assert_eq!(old(&released), [b.clone(), a], "the latest first");
    let back = Desired::after(Some(&released), has(A), now + s(120));
    assert_eq!(old(&back), [b], "the first is current again");
    let late = Desired::after(Some(&back), has(B), now + s(8000));
    assert_eq!(old(&late), [(A.to_owned(), now + s(15_200))], "and nobody remembers what was long ago");
}

#[test]
fn no_more_old_prefixes_are_kept_than_an_advertisement_has_room_for() {
    let now = Instant::now();
    let number = |i: u32| format!("2001:db8:b007:{i}::/64");
    let first = Desired::after(None, has(&number(0)), now);
    let last = (1..20).fold(first, |before, i| Desired::after(Some(&before), has(&number(i)), now));
    let kept: Vec<String> = old(&last).into_iter().map(|(prefix, _)| prefix).collect();
    assert_eq!(kept, [18, 17, 16, 15].map(number));
}

#[test]
fn a_kept_document_comes_back_as_a_memory() {
    let ports = parse(br#"{"ports": {"Ethernet0": {"state": "boot"}}}"#, &rows(), &boot()).unwrap();
    let now = Now { instant: Instant::now(), unix: s(1_800_000_000) };
    let pushed = Desired { generation: 7, provenance: Provenance::Pushed, ports, old: OldPrefixes::new() };
    let restored = Desired::from_kept(&pushed.to_kept(now), now).unwrap();
    assert_eq!(restored, Desired { provenance: Provenance::Restored, ..pushed });
    let before = r#"{"generation": 7, "ports": {"Ethernet0": "2001:db8:b007:1::/64"}}"#;
    assert_eq!(Desired::from_kept(before, now).unwrap(), restored, "a file without old prefixes");
    assert!(Desired::from_kept("{\"generation\": 1", now).is_err());
}

#[test]
fn what_is_being_withdrawn_still_is_after_a_restart_and_no_longer_than_it_would_have_been() {
    let now = Now { instant: Instant::now(), unix: s(1_800_000_000) };
    let first = Desired::after(None, has(A), now.instant);
    let text = Desired::after(Some(&first), has(B), now.instant).to_kept(now);
    // Another process: its clock that never jumps has nothing to do with the former one's.
    let instant = now.instant + s(1_000_000);
    let left = |unix: u64| {
        let restored = Desired::from_kept(&text, Now { instant, unix: s(unix) }).unwrap();
        old(&restored).first().map(|(prefix, until)| (prefix.clone(), *until - instant))
    };
    assert_eq!(left(1_800_000_300), Some((A.to_owned(), s(6900))));
    assert_eq!(left(1_800_007_200), None);
    assert_eq!(left(0), Some((A.to_owned(), s(7200))), "the clock was set back");
}
