//! Compares the checker with verdicts of SONiC's own models, which were recorded once.
//!
//! Owns: that table. Must never: need the model to run.

use leafboot_lab::sonic::yang::{Release, Rows, check};

use crate::leaf::{Leaf, fields};

/// A port in the boot VRF behind its ACL: valid in every release.
fn base() -> Rows {
    let mut rows = Rows::new();
    for (name, row) in [
        ("PORT|Ethernet0", &[("lanes", "0"), ("speed", "25000")][..]),
        ("PORT|Ethernet4", &[("lanes", "4"), ("speed", "25000")]),
        ("VLAN|Vlan100", &[("vlanid", "100")]),
        ("VRF|Vrfboot", &[("NULL", "NULL")]),
        ("INTERFACE|Ethernet0", &[("vrf_name", "Vrfboot")]),
        ("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[("NULL", "NULL")]),
        ("LOOPBACK_INTERFACE|Loopback7", &[("vrf_name", "Vrfboot")]),
        ("LOOPBACK_INTERFACE|Loopback7|2001:db8:0:ff::2/127", &[("NULL", "NULL")]),
        (
            "ACL_TABLE|boot",
            &[
                ("policy_desc", "boot"),
                ("type", "L3V6"),
                ("stage", "ingress"),
                ("ports@", "Ethernet0,Ethernet4"),
            ],
        ),
        (
            "ACL_RULE|boot|nd",
            &[
                ("PRIORITY", "9000"),
                ("PACKET_ACTION", "FORWARD"),
                ("IP_TYPE", "IPV6ANY"),
                ("IP_PROTOCOL", "58"),
                ("ICMPV6_TYPE", "135"),
            ],
        ),
        (
            "ACL_RULE|boot|http",
            &[
                ("PRIORITY", "8000"),
                ("PACKET_ACTION", "FORWARD"),
                ("IP_TYPE", "IPV6ANY"),
                ("IP_PROTOCOL", "6"),
                ("DST_IPV6", "2001:db8::80/128"),
                ("L4_DST_PORT_RANGE", "80-81"),
            ],
        ),
    ] {
        rows.insert(name.to_owned(), fields(row));
    }
    rows
}

/// Valid in the releases 202311, 202505 and today's?
fn verdicts(rows: &Rows) -> [bool; 3] {
    Release::ALL.map(|release| check(release, rows).is_empty())
}

const VALID: [bool; 3] = [true; 3];
const REFUSED: [bool; 3] = [false; 3];
const ONLY_OLD: [bool; 3] = [true, false, false];

#[test]
fn the_base_is_valid() {
    for release in Release::ALL {
        assert_eq!(check(release, &base()), [""; 0], "{release:?}");
    }
}

#[test]
fn rows_are_checked_as_redis_has_them() {
    let mut leaf = Leaf::prepare();
    leaf.initialised("1");
    for (name, row) in base() {
        let (table, key) = name.split_once('|').unwrap();
        leaf.config.set(table, key, &row).unwrap();
    }
    let mut rows = leaf.config.raw_rows().unwrap();
    assert_eq!(check(Release::Head, &rows), [""; 0]);
    rows.retain(|name, _| base().contains_key(name));
    rows.get_mut("PORT|Ethernet0").unwrap().remove("admin_status");
    rows.get_mut("PORT|Ethernet4").unwrap().remove("admin_status");
    assert_eq!(rows, base());
}

#[test]
fn a_field_more_or_another_value() {
    for (name, field, value, expected) in [
        ("VRF|Vrfboot", "owner", "leafboot", REFUSED),
        ("VRF|Vrfboot", "vni", "4000", VALID),
        ("INTERFACE|Ethernet0", "owner", "leafboot", REFUSED),
        ("INTERFACE|Ethernet0", "proxy_arp", "enabled", REFUSED),
        ("INTERFACE|Ethernet0", "ipv6_use_link_local_only", "enable", VALID),
        ("INTERFACE|Ethernet0", "vrf_name", "Vrfother", REFUSED),
        ("INTERFACE|Ethernet0|2001:db8:0:1::1/64", "owner", "leafboot", REFUSED),
        ("INTERFACE|Ethernet0|2001:db8:0:1::1/64", "family", "IPv4", REFUSED),
        ("LOOPBACK_INTERFACE|Loopback7", "owner", "leafboot", REFUSED),
        ("ACL_TABLE|boot", "owner", "leafboot", REFUSED),
        ("ACL_TABLE|boot", "stage", "Ingress", REFUSED),
        ("ACL_TABLE|boot", "ports", "Ethernet0", REFUSED),
        ("ACL_TABLE|boot", "ports@", "", VALID),
        ("ACL_TABLE|boot", "ports@", "Ethernet8", REFUSED),
        ("ACL_TABLE|boot", "ports@", "Ethernet0,Ethernet0", REFUSED),
        ("ACL_TABLE|boot", "type", "BOOT", REFUSED),
        ("ACL_RULE|boot|nd", "NEXT_HEADER", "58", REFUSED),
        ("ACL_RULE|boot|nd", "PACKET_ACTION", "COPY", REFUSED),
        ("ACL_RULE|boot|nd", "IP_TYPE", "IP", VALID),
        ("ACL_RULE|boot|nd", "IP_PROTOCOL", "0", REFUSED),
        ("ACL_RULE|boot|http", "TCP_FLAGS", "0x02/0x02", [true, true, false]),
        ("ACL_RULE|boot|http", "IP_TYPE", "IPV4ANY", REFUSED),
        ("ACL_RULE|boot|http", "DST_IPV6", "2001:db8::80/129", REFUSED),
    ] {
        let mut rows = base();
        rows.get_mut(name).unwrap().insert(field.to_owned(), value.to_owned());
        assert_eq!(verdicts(&rows), expected, "{name} {field} {value}");
    }
}

#[test]
fn a_row_more() {
    let long = "VRF|Vrf4567890123456";
    for (name, row, expected) in [
        (long, &[("NULL", "NULL")][..], ONLY_OLD),
        ("VRF|vrfBoot", &[("NULL", "NULL")], REFUSED),
        ("INTERFACE|Ethernet8", &[("NULL", "NULL")], REFUSED),
        ("INTERFACE|Ethernet4|2001:db8:0:4::1/64", &[("NULL", "NULL")], REFUSED),
        ("INTERFACE|Ethernet0|2001:db8:0:1::2", &[("NULL", "NULL")], REFUSED),
        // No model refuses the overlap.
        ("INTERFACE|Ethernet0|2001:db8:0:1::2/64", &[("NULL", "NULL")], VALID),
        ("VLAN_MEMBER|Vlan100|Ethernet0", &[("tagging_mode", "untagged")], ONLY_OLD),
        ("VLAN_MEMBER|Vlan100|Ethernet4", &[("tagging_mode", "untagged")], VALID),
        ("VLAN_MEMBER|Vlan200|Ethernet4", &[("tagging_mode", "untagged")], REFUSED),
        ("PORTCHANNEL_MEMBER|PortChannel1|Ethernet0", &[("NULL", "NULL")], VALID),
        ("ACL_RULE|other|nd", &[("PRIORITY", "1"), ("PACKET_ACTION", "DROP")], REFUSED),
        ("ACL_RULE|boot|deny", &[("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")], REFUSED),
        (
            "ACL_RULE|boot|deny",
            &[("PRIORITY", "1"), ("PACKET_ACTION", "DROP"), ("IP_TYPE", "IPV6ANY")],
            VALID,
        ),
        ("ACL_RULE|boot", &[("PRIORITY", "1")], REFUSED),
        ("LEAFBOOT|private", &[("NULL", "NULL")], VALID),
    ] {
        let mut rows = base();
        rows.insert(name.to_owned(), fields(row));
        assert_eq!(verdicts(&rows), expected, "{name} {row:?}");
    }
}

#[test]
fn a_row_less() {
    for name in ["VRF|Vrfboot", "INTERFACE|Ethernet0", "PORT|Ethernet0", "PORT|Ethernet4", "ACL_TABLE|boot"] {
        let mut rows = base();
        rows.remove(name);
        assert_eq!(verdicts(&rows), REFUSED, "{name}");
    }
}

#[test]
fn a_table_of_its_own_type_is_welcome() {
    let mut rows = base();
    rows.get_mut("ACL_TABLE|boot").unwrap().insert("type".to_owned(), "BOOT".to_owned());
    rows.insert("ACL_TABLE_TYPE|BOOT".to_owned(), fields(&[("MATCHES@", "DST_IPV6")]));
    assert_eq!(verdicts(&rows), VALID);
}
