//! Accepted documents, rejected entries, and refused documents.

use std::time::Duration;

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

/// Checks a document with these entries. `before`: the ports that had a prefix before.
fn checked(before: &[(&str, &str)], entries: &str) -> CheckedEntries {
    let had = before.iter().map(|(port, prefix)| (port.parse().unwrap(), prefix.parse().unwrap()));
    let before = Desired::after(None, had.collect::<Ports>(), Instant::now());
    let document = Document::parse(format!(r#"{{"ports": {entries}}}"#).as_bytes()).unwrap();
    check_entries(&document, &rows(), &boot(), Some(&before))
}

fn taken(checked: &CheckedEntries) -> Vec<(&str, String)> {
    checked.ports.iter().map(|(name, port)| (name.as_str(), port.prefix.to_string())).collect()
}

fn rejected(checked: &CheckedEntries) -> Vec<(&str, Reason)> {
    checked.rejected.iter().map(|(name, rejection)| (name, rejection.reason)).collect()
}

fn refused(body: &str) -> String {
    Document::parse(body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_prefix_is_pushed_or_derived_from_the_ports_index() {
    let checked = checked(
        &[],
        r#"{"Ethernet0": {"state": "boot", "prefix": "2001:db8:b007:50::/64"}, "Ethernet4": {"state": "boot", "prefix": null}}"#,
    );
    let expected = [("Ethernet0", "2001:db8:b007:50::/64"), ("Ethernet4", "2001:db8:b007:2::/64")];
    assert_eq!(taken(&checked), expected.map(|(port, prefix)| (port, prefix.to_owned())));
    assert!(checked.rejected.is_empty());
    assert_eq!(super::tests::checked(&[], "{}"), CheckedEntries::default());
}

#[test]
fn an_alias_names_its_port_and_name_and_alias_conflict() {
    assert_eq!(taken(&checked(&[], r#"{"Eth1/1": {"state": "boot"}}"#))[0].0, "Ethernet0");
    let twice = checked(&[], r#"{"Eth1/1": {"state": "boot"}, "Ethernet0": {"state": "boot"}}"#);
    assert_eq!((taken(&twice), rejected(&twice)), (vec![], vec![("Ethernet0", Reason::NamedTwice)]));
    assert_eq!(
        twice.rejected.to_string(),
        "Ethernet0 is rejected: NamedTwice: the entries Eth1/1 and Ethernet0 both name it\n"
    );
}

#[test]
fn a_faulty_entry_rejects_only_its_port_and_says_what_is_wrong() {
    let cases = [
        (
            r#""Ethernet1": {"state": "boot"}"#,
            r#"Ethernet1 is rejected: UnknownPort: "Ethernet1" is not a port"#,
        ),
        (r#""Eth1/99": {"state": "boot"}"#, r#"Eth1/99 is rejected: UnknownPort: "Eth1/99" is not a port"#),
        (
            r#""a\nb": {}"#,
            r#"a\nb is rejected: UnknownPort: "a\nb" is not a port of this leaf (it has 6 ports, Ethernet0 to Ethernet120)"#,
        ),
        (
            r#""Eth1/1.10": {"state": "boot"}"#,
            "Eth1/1.10 is rejected: SubInterface: it is a sub-interface of Ethernet0",
        ),
        (
            r#""Ethernet120": {"state": "boot"}"#,
            "Ethernet120 is rejected: Protected: boot.protected names it",
        ),
        (
            r#""Ethernet0": {"state": "tenant"}"#,
            r#"Ethernet0 is rejected: InvalidState: its state "tenant" is not"#,
        ),
        (
            r#""Ethernet0": {}"#,
            r#"Ethernet0 is rejected: InvalidState: its "state" is missing: write "boot""#,
        ),
        (r#""Ethernet0": {"state": null}"#, r#"Ethernet0 is rejected: InvalidState: its "state" is missing"#),
        (
            r#""Ethernet0": {"state": "boot", "vlan": []}"#,
            r#"Ethernet0 is rejected: InvalidField: it has the unknown field "vlan""#,
        ),
        (
            r#""Ethernet0": {"state": "boot", "prefix": "2001:db8::/63"}"#,
            "Ethernet0 is rejected: InvalidPrefix: 2001:db8::/63 is not a /64",
        ),
        (
            r#""Ethernet0": {"state": "boot", "prefix": "x"}"#,
            r#"Ethernet0 is rejected: InvalidPrefix: "x" is not an IPv6 prefix"#,
        ),
        (
            r#""Ethernet0": {"state": "boot", "prefix": "2001:db8:c000::/64"}"#,
            "Ethernet0 is rejected: PrefixOutsideSupernet: 2001:db8:c000::/64 is outside of boot.supernet",
        ),
        (
            r#""Ethernet8": {"state": "boot"}"#,
            "Ethernet8 is rejected: NoPrefix: no prefix is given, and its PORT row",
        ),
        (
            r#""Ethernet12": {"state": "boot"}"#,
            "Ethernet12 is rejected: NoPrefix: no prefix is given, and boot.prefix",
        ),
        (
            r#""Ethernet5": {"state": "boot"}"#,
            "Ethernet5 is rejected: PrefixOverlap: 2001:db8:b007:2::/64 is the prefix of Ethernet4",
        ),
    ];
    for (entry, expected) in cases {
        let checked = checked(&[], &format!(r#"{{"Ethernet4": {{"state": "boot"}}, {entry}}}"#));
        let said = checked.rejected.to_string();
        assert!(said.starts_with(expected) && said.lines().count() == 1, "{entry} gave {said}");
        assert_eq!(taken(&checked), [("Ethernet4", "2001:db8:b007:2::/64".to_owned())], "{entry}");
    }
}

/// A faulty entry does not release its port: the machine on the port goes on, and no tenant gets the port.
#[test]
fn a_port_whose_entry_is_rejected_keeps_its_prefix() {
    for entry in [
        r#"{"Ethernet0": {"state": "boot", "prefix": "x"}}"#,
        r#"{"Ethernet0": {"state": "tenant"}}"#,
        r#"{"Ethernet0": {}, "Eth1/1": {}}"#,
    ] {
        let checked = checked(&[("Ethernet0", A), ("Ethernet4", B)], entry);
        assert_eq!(taken(&checked), [("Ethernet0", A.to_owned())], "{entry}: Ethernet4 is released");
        let desired = Desired::after(None, checked, Instant::now());
        let releases = |port: &str| desired.releases(&port.parse().unwrap());
        assert_eq!((releases("Ethernet0"), releases("Ethernet4")), (false, true), "{entry}");
    }
    // Its row is gone, and so is its alias.
    let gone = checked(&[("Ethernet16", A)], r#"{"Ethernet16": {"state": "boot"}}"#);
    assert_eq!(taken(&gone), [("Ethernet16", A.to_owned())]);
    // The port's prefix is unknown, and the port is still not released.
    let desired = Desired::after(None, checked(&[], r#"{"Ethernet0": {}}"#), Instant::now());
    assert!(desired.ports.is_empty() && !desired.releases(&"Ethernet0".parse().unwrap()));
}

#[test]
fn a_port_keeps_its_prefix_and_a_new_claim_to_it_is_rejected() {
    let entry = |port: &str, prefix: &str| format!(r#""{port}": {{"state": "boot", "prefix": "{prefix}"}}"#);
    let both = format!("{{{}, {}}}", entry("Ethernet0", B), entry("Ethernet4", B));
    let cases: [(&[_], _, &[_]); 3] = [
        // Of two newcomers the one that sorts later is rejected.
        (&[], "Ethernet4", &[("Ethernet0", B)]),
        (&[("Ethernet4", B)], "Ethernet0", &[("Ethernet4", B)]),
        (&[("Ethernet0", A), ("Ethernet4", B)], "Ethernet0", &[("Ethernet0", A), ("Ethernet4", B)]),
    ];
    for (before, loser, expected) in cases {
        let checked = checked(before, &both);
        assert_eq!(rejected(&checked), [(loser, Reason::PrefixOverlap)], "{before:?}");
        let expected: Vec<_> = expected.iter().map(|(port, prefix)| (*port, (*prefix).to_owned())).collect();
        assert_eq!(taken(&checked), expected, "{before:?}");
    }
    let before = [("Ethernet0", A), ("Ethernet4", B)];
    let swap = checked(&before, &format!("{{{}, {}}}", entry("Ethernet0", B), entry("Ethernet4", A)));
    assert_eq!(
        (taken(&swap), rejected(&swap)),
        (vec![("Ethernet0", B.to_owned()), ("Ethernet4", A.to_owned())], vec![])
    );
    // Ethernet8 asks for the prefix that Ethernet0 leaves, and Ethernet0 must keep it.
    let chain = [entry("Ethernet0", B), entry("Ethernet4", B), entry("Ethernet8", A)].join(", ");
    let chain = checked(&before, &format!("{{{chain}}}"));
    assert_eq!(
        (taken(&chain), rejected(&chain)),
        (
            vec![("Ethernet0", A.to_owned()), ("Ethernet4", B.to_owned())],
            vec![("Ethernet0", Reason::PrefixOverlap), ("Ethernet8", Reason::PrefixOverlap)]
        )
    );
}

#[test]
fn a_malformed_document_is_refused_as_a_whole() {
    let cases = [
        ("", "EOF"),
        ("\u{0}", "expected value"),
        ("[]", "it is not an object such as"),
        ("{}", "it has no field"),
        (r#"{"ports": []}"#, "its field \"ports\" is not an object"),
        (r#"{"ports": {}, "x": 1}"#, "it has the unknown field \"x\""),
        (r#"{"ports": {"Ethernet0": []}}"#, "the entry of \"Ethernet0\" is not an object"),
        (r#"{"ports": {"Ethernet0": {"state": 1}}}"#, "the field \"state\" of \"Ethernet0\" is not a text"),
        (r#"{"ports": {}, "ports": {}}"#, "\"ports\" stands twice"),
        (r#"{"ports": {"Ethernet0": {}, "Ethernet0": {}}}"#, "\"Ethernet0\" stands twice"),
        (r#"{"ports": {"Ethernet0": {"state": "tenant", "state": "boot"}}}"#, "\"state\" stands twice"),
        (r#"{"ports": {"Ethernet0": {"x": [{"y": {"z": 1, "z": 1}}]}}}"#, "\"z\" stands twice"),
    ];
    for (body, expected) in cases {
        let error = refused(body);
        assert!(
            error.starts_with("not a port document: ") && error.contains(expected),
            "{body} gave {error}"
        );
    }
    let entries: Vec<String> =
        (0..=ENTRIES_MAX).map(|number| format!(r#""Ethernet{number}": {{}}"#)).collect();
    let error = refused(&format!(r#"{{"ports": {{{}}}}}"#, entries.join(", ")));
    assert!(error.starts_with("1025 entries are more than"), "{error}");
    let error = refused(&format!(r#"{{"ports": {{"{}": {{}}}}}}"#, "x".repeat(129)));
    assert!(error.starts_with("a port's name has 129 bytes"), "{error}");
}

#[test]
fn pushed_text_is_repeated_in_one_short_line() {
    let long = "x\\n".repeat(100_000);
    for entry in [
        format!(r#"{{"Ethernet0": {{"state": "{long}"}}}}"#),
        format!(r#"{{"Ethernet0": {{"state": "boot", "{long}": 1}}}}"#),
        format!(r#"{{"Ethernet0": {{"state": "boot", "prefix": "{long}"}}}}"#),
    ] {
        let said = checked(&[], &entry).rejected.to_string();
        assert!(said.lines().count() == 1 && said.len() < 1000, "{said}");
    }
    for body in [format!(r#"{{"{long}": 1, "ports": {{}}}}"#), format!(r#"{{"{long}": 1, "{long}": 1}}"#)] {
        let said = refused(&body);
        assert!(said.lines().count() == 1 && said.len() < 1000, "{said}");
    }
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
fn a_lost_prefix_is_withdrawn_for_two_hours() {
    let now = Instant::now();
    let first = Desired::after(None, has(A), now);
    assert_eq!((first.generation, first.provenance, old(&first)), (1, Provenance::Pushed, vec![]));
    let again =
        Desired::after(Some(&Desired { provenance: Provenance::Restored, ..first.clone() }), has(A), now);
    assert_eq!(again, first, "only the provenance changes");
    let second = Desired::after(Some(&first), has(B), now);
    let a = (A.to_owned(), now + s(7200));
    assert_eq!((second.generation, old(&second)), (2, vec![a.clone()]));
    let released = Desired::after(Some(&second), has(""), now + s(60));
    let b = (B.to_owned(), now + s(7260));
    assert_eq!(old(&released), [b.clone(), a], "the latest first");
    let back = Desired::after(Some(&released), has(A), now + s(120));
    assert_eq!(old(&back), [b], "the first is current again");
    let late = Desired::after(Some(&back), has(B), now + s(8000));
    assert_eq!(old(&late), [(A.to_owned(), now + s(15_200))], "a prefix from long ago is dropped");
}

#[test]
fn old_prefixes_fit_into_one_advertisement() {
    let now = Instant::now();
    let number = |i: u32| format!("2001:db8:b007:{i}::/64");
    let first = Desired::after(None, has(&number(0)), now);
    let last = (1..20).fold(first, |before, i| Desired::after(Some(&before), has(&number(i)), now));
    let kept: Vec<String> = old(&last).into_iter().map(|(prefix, _)| prefix).collect();
    assert_eq!(kept, [18, 17, 16, 15].map(number));
}

#[test]
fn a_kept_document_is_restored_without_an_order_to_release() {
    let now = Now { instant: Instant::now(), unix: s(1_800_000_000) };
    let ports = has("2001:db8:b007:1::/64");
    let pushed = Desired { generation: 7, ..Desired::after(None, ports, now.instant) };
    let restored = Desired::from_kept(&pushed.to_kept(now), now).unwrap();
    let desired = Desired { provenance: Provenance::Restored, ..pushed };
    assert_eq!(restored, KeptDocument { desired, newer: None });
    let before = r#"{"generation": 7, "ports": {"Ethernet0": "2001:db8:b007:1::/64"}}"#;
    assert_eq!(Desired::from_kept(before, now).unwrap(), restored, "a file without version and old prefixes");
    assert!(Desired::from_kept("{\"generation\": 1", now).is_err());
}

/// Reads a file of `core/tests/state_files` at a time when its old prefix is still withdrawn.
fn kept(text: &str) -> Result<KeptDocument, DocumentError> {
    Desired::from_kept(text, Now { instant: Instant::now(), unix: s(1_800_000_000) })
}

#[test]
fn files_of_each_version_are_read() {
    let first = kept(include_str!("../../tests/state_files/version-0.json")).unwrap();
    let second = kept(include_str!("../../tests/state_files/version-1.json")).unwrap();
    for KeptDocument { desired, newer } in [&first, &second] {
        assert_eq!((desired.generation, desired.provenance, newer), (3, Provenance::Restored, &None));
        let ports: Vec<_> =
            desired.prefixes().into_iter().map(|(name, net)| (name.to_string(), net.to_string())).collect();
        let expected = [("Ethernet4", "2001:db8:b007:2::/64"), ("Ethernet120", "2001:db8:b007:1f::/64")];
        assert_eq!(ports, expected.map(|(name, net)| (name.to_owned(), net.to_owned())));
        assert_eq!(
            old(desired).iter().map(|(net, _)| net.as_str()).collect::<Vec<_>>(),
            ["2001:db8:b007::/64"]
        );
    }
}

/// An older leafboot reads the known part of a newer file, and reports the parts that it skips.
#[test]
fn the_known_part_of_a_newer_file_is_read() {
    let text = include_str!("../../tests/state_files/version-2.json");
    let KeptDocument { desired, newer } = kept(text).unwrap();
    assert_eq!(
        desired,
        kept(include_str!("../../tests/state_files/version-1.json"))
            .map(|kept| {
                let until = desired.old.values().flatten().next().unwrap().until;
                let mut desired = kept.desired;
                desired.old.values_mut().flatten().for_each(|old| old.until = until);
                desired
            })
            .unwrap()
    );
    assert_eq!(
        newer.unwrap(),
        "it has version 2, and this leafboot knows version 1; 6 parts were skipped: writer, \
         ports.Ethernet120.dns, ports.Ethernet4.dns, ports.Ethernet8, ports.Port-channel 1 …"
    );
    // In a file of this version the same part is an error.
    let error = kept(&text.replace("\"version\": 2", "\"version\": 1")).unwrap_err().to_string();
    assert!(error.contains("writer: unknown field"), "{error}");
}

#[test]
fn a_withdrawal_goes_on_after_a_restart_and_ends_at_the_same_time() {
    let now = Now { instant: Instant::now(), unix: s(1_800_000_000) };
    let first = Desired::after(None, has(A), now.instant);
    let text = Desired::after(Some(&first), has(B), now.instant).to_kept(now);
    // Another process: its monotonic clock is independent of the earlier process's clock.
    let instant = now.instant + s(1_000_000);
    let left = |unix: u64| {
        let restored = Desired::from_kept(&text, Now { instant, unix: s(unix) }).unwrap().desired;
        old(&restored).first().map(|(prefix, until)| (prefix.clone(), *until - instant))
    };
    assert_eq!(left(1_800_000_300), Some((A.to_owned(), s(6900))));
    assert_eq!(left(1_800_007_200), None);
    assert_eq!(left(0), Some((A.to_owned(), s(7200))), "the clock was set back");
}
