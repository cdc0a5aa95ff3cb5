//! Tasks that make a daemon's code throw: the effect on the daemon, by release.
//!
//! Owns: those tests. Must never: run the model on a thread of its own, except in tests of its end.

use leafboot_lab::sonic::Swss;
use leafboot_lab::sonic::behaviour::SonicRelease;
use leafboot_lab::sonic::by_hand::ByHand;

use crate::leaf::Leaf;

/// A leaf on which all that is pending has been tried.
fn leaf(release: SonicRelease, rows: &[(&str, &[(&str, &str)])]) -> (Leaf, Swss) {
    let mut leaf = Leaf::prepare();
    leaf.behaviour.release = release;
    for (row, fields) in rows {
        leaf.set(row, fields);
    }
    let swss = leaf.held();
    (leaf, swss)
}

fn is_bound(leaf: &mut Leaf, port: &str) -> bool {
    leaf.state.row("INTERFACE_TABLE", port).unwrap().is_some()
}

#[test]
fn a_bad_prefix_blocks_every_interface_sorted_behind_it_also_after_its_row_is_gone() {
    for release in [SonicRelease::R202605, SonicRelease::Head] {
        for bad in ["nonsense", "2001:db8::1/640", "192.0.2.1/33"] {
            let bad = format!("INTERFACE|Ethernet4|{bad}");
            let rows: [(&str, &[(&str, &str)]); 3] =
                [("INTERFACE|Ethernet0", &[]), (&bad, &[]), ("INTERFACE|Ethernet8", &[])];
            let (mut leaf, mut swss) = leaf(release, &rows);
            assert!(is_bound(&mut leaf, "Ethernet0"), "it is sorted before {bad}");
            assert!(!is_bound(&mut leaf, "Ethernet8"), "it is sorted behind {bad}");

            leaf.delete(&bad);
            leaf.set("INTERFACE|Ethernet8", &[]);
            leaf.set("INTERFACE|Ethernet0|2001:db8:0:1::1/64", &[]);
            leaf.set("LOOPBACK_INTERFACE|Loopback7", &[]);
            swss.run_until_idle().unwrap();
            assert!(!is_bound(&mut leaf, "Ethernet8"), "the DEL of {bad} throws as well");
            assert!(leaf.is_routed("2001:db8:0:1::1/128"), "what is sorted before it goes on");
            assert!(is_bound(&mut leaf, "Loopback7"), "another table has a queue of its own");

            swss.restart().unwrap();
            swss.run_until_idle().unwrap();
            assert!(is_bound(&mut leaf, "Ethernet8"), "only a restart forgets it");
        }
    }
}

#[test]
fn a_bad_prefix_ends_an_older_intfmgrd() {
    let mut leaf = Leaf::prepare();
    leaf.behaviour.release = SonicRelease::R202511;
    leaf.initialised("1");
    leaf.start();
    leaf.set("INTERFACE|Ethernet0|2001:db8::1/640", &[]);
    let end = leaf.end();
    assert_eq!(end, "intfmgrd exits: Ethernet0: 2001:db8::1/640 is not an IP prefix");
}

#[test]
fn a_vrf_name_that_is_no_device_name_ends_an_older_vrfmgrd() {
    let mut leaf = Leaf::prepare();
    leaf.behaviour.release = SonicRelease::R202511;
    leaf.initialised("1");
    leaf.start();
    leaf.set("VRF|Vrf1234567890123", &[]);
    let end = leaf.end();
    assert!(end.starts_with("vrfmgrd exits: Vrf1234567890123: "), "{end}");
}

#[test]
fn a_vrf_name_that_is_no_device_name_blocks_the_vrfs_sorted_behind_it() {
    let rows: [(&str, &[(&str, &str)]); 3] =
        [("VRF|Vrf0", &[]), ("VRF|Vrf1234567890123", &[]), ("VRF|Vrfboot", &[])];
    let (mut leaf, swss) = leaf(SonicRelease::Head, &rows);
    drop(swss);
    assert!(leaf.state.row("VRF_TABLE", "Vrf0").unwrap().is_some());
    assert_eq!(leaf.state.row("VRF_TABLE", "Vrf1234567890123").unwrap(), None);
    assert_eq!(leaf.state.row("VRF_TABLE", "Vrfboot").unwrap(), None);
}

#[test]
fn the_vrf_row_of_a_device_that_was_deleted_by_hand_can_never_be_deleted_and_holds_up_the_others() {
    let (mut leaf, mut swss) = leaf(SonicRelease::Head, &[("VRF|Vrfboot", &[])]);
    swss.meddle_kernel(&ByHand::DeleteDevice { device: "Vrfboot".to_owned() }).unwrap();
    leaf.delete("VRF|Vrfboot");
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.state.row("VRF_TABLE", "Vrfboot").unwrap(), None);
    assert_eq!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap(), None);
    leaf.set("VRF|Vrftenant", &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.state.row("VRF_TABLE", "Vrftenant").unwrap(), None, "sorted behind it");
    // The SET behind a DEL that throws is not tried either.
    leaf.set("VRF|Vrfboot", &[]);
    swss.run_until_idle().unwrap();
    assert_eq!(leaf.state.row("VRF_TABLE", "Vrfboot").unwrap(), None);

    // With a device to delete it goes on.
    swss.meddle_kernel(&ByHand::AddVrf { vrf: "Vrfboot".to_owned(), table: 1001 }).unwrap();
    swss.run_until_idle().unwrap();
    assert!(leaf.state.row("VRF_OBJECT_TABLE", "Vrfboot").unwrap().is_some());
    assert!(leaf.state.row("VRF_OBJECT_TABLE", "Vrftenant").unwrap().is_some());
}
