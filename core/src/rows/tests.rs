//! Keys and rows as SONiC spells them.

use super::*;

#[test]
fn an_objects_id_names_its_row() {
    let row = |id| tables::object_row(id).unwrap_or_default();
    assert_eq!(row("oid:0x1000000000002"), "ASIC_STATE:SAI_OBJECT_TYPE_PORT:oid:0x1000000000002");
    assert_eq!(row("oid:0x3a000000000612"), "ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:oid:0x3a000000000612");
    // The second switch of a machine: bits 56 to 63.
    assert_eq!(
        row("oid:0x106000000000612"),
        "ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:oid:0x106000000000612"
    );
    for other in ["oid:0x15000000000002", "oid:0x0", "oid:", "0x1000000000002", "oid:0x1000000000002000000"] {
        assert_eq!(tables::object_row(other), None, "{other}");
    }
}

#[test]
fn keys_are_spelled_as_sonic_reads_them() {
    let port: PortName = "Ethernet0".parse().unwrap();
    let vrf: VrfName = "Vrfboot".parse().unwrap();
    let prefix: BootPrefix = "2001:db8:b007::/64".parse().unwrap();
    assert_eq!(RowKey::Vrf(vrf.clone()).to_string(), "VRF|Vrfboot");
    assert_eq!(RowKey::Interface(port.clone()).to_string(), "INTERFACE|Ethernet0");
    assert_eq!(configured_vrf(&interface_fields(&vrf)), "Vrfboot");
    assert_eq!(RowKey::Address(port, prefix).to_string(), "INTERFACE|Ethernet0|2001:db8:b007::1/64");
}

#[test]
fn keys_are_read_back_and_keys_of_another_shape_are_not_parsed() {
    assert_eq!(Row::parse("INTERFACE|Ethernet0"), Some(Row::Interface("Ethernet0")));
    assert_eq!(Row::parse("INTERFACE|Ethernet0|10.0.0.1/31"), Some(Row::Address("Ethernet0", "10.0.0.1/31")));
    assert_eq!(Row::parse("VLAN_MEMBER|Vlan4000|Ethernet0"), Some(Row::VlanMember("Vlan4000", "Ethernet0")));
    for other in ["MIRROR_SESSION|X", "PORT|a|b", "VLAN_MEMBER|Vlan1", "INTERFACE", ""] {
        assert_eq!(Row::parse(other), None, "{other}");
    }
}

#[test]
fn only_leafboots_spelling_of_a_gateway_is_a_gateway_row() {
    assert!(gateway_row("2001:db8:b007::1/64").is_some());
    for other in ["2001:DB8:b007::1/64", "2001:db8:b007:0::1/64", "2001:db8:b007::2/64", "10.0.0.1/31", ""] {
        assert_eq!(gateway_row(other), None, "{other}");
    }
}

#[test]
fn an_acl_entry_names_its_counter_in_either_spelling() {
    let key = "ASIC_STATE:SAI_OBJECT_TYPE_ACL_ENTRY:oid:0x8";
    for (action, counter) in [
        ("oid:0x9", Some("oid:0x9")),
        ("true:oid:0x9", Some("oid:0x9")),
        ("false:oid:0x9", None),
        ("disabled", None),
        ("oid:0x0", None),
    ] {
        let row = [(ENTRY_TABLE, "oid:0x7"), (ENTRY_COUNTER, action)];
        let row = fields(row.map(|(name, value)| (name, value.to_owned())));
        let entry = AsicRow::AclEntry { table: "oid:0x7", counter };
        assert_eq!(AsicRow::parse(key, &row), Some(entry), "{action}");
    }
}

#[test]
fn rules_are_found_by_counter_and_table() {
    let map = fields([
        ("LEAFBOOT:DEFAULT_RULE", "oid:0x9".to_owned()),
        ("LEAFBOOT2:DEFAULT_RULE", "oid:0xa".to_owned()),
        ("LEAFBOOT", "oid:0xb".to_owned()),
    ]);
    assert_eq!(rules_by_counter(&map, "LEAFBOOT"), BTreeMap::from([("oid:0x9", "DEFAULT_RULE")]));
}

#[test]
fn an_acl_tables_ports_are_a_list_and_an_empty_list_is_the_empty_text() {
    let ports = BTreeSet::from(["Ethernet0".parse().unwrap(), "Ethernet4".parse().unwrap()]);
    let row = acl_table_fields(&ports);
    assert_eq!(row.get(ACL_PORTS).unwrap(), "Ethernet0,Ethernet4");
    assert!(is_our_acl_table(&row));
    assert_eq!(acl_table_ports(&row).len(), 2);
    let parked = acl_table_fields(&BTreeSet::new());
    assert_eq!((parked.get(ACL_PORTS).unwrap().as_str(), acl_table_ports(&parked).len()), ("", 0));
}

#[test]
fn a_rule_is_spelled_as_yang_and_aclorch_accept_it() {
    let rule = Rule {
        name: "X".to_owned(),
        priority: 6990,
        action: Action::Forward,
        matches: crate::acl::Match {
            protocol: Some(17),
            source: Some("2001:db8:b000::/36".parse().unwrap()),
            destination_port: Some(53),
            ..Default::default()
        },
    };
    let text: Vec<String> =
        acl_rule_fields(&rule).iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        text.join(" "),
        "IP_PROTOCOL=17 IP_TYPE=IPV6ANY L4_DST_PORT=53 PACKET_ACTION=FORWARD PRIORITY=6990 \
         SRC_IPV6=2001:db8:b000::/36"
    );
}
