//! Route lookups in the kernel, one address at a time: the prefix that matches, and the devices of all next hops.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use leafboot::internals::routes;
use leafboot_core::uplinks::KernelRoute;
use support::namespace;

fn to(address: &str) -> Option<KernelRoute> {
    routes::to(address.parse().unwrap(), None).unwrap()
}

fn route(prefix: &str, devices: &[&str]) -> Option<KernelRoute> {
    let devices = devices.iter().map(|device| (*device).to_owned()).collect();
    Some(KernelRoute { prefix: prefix.parse().unwrap(), devices })
}

#[test]
fn the_kernel_says_which_route_matches_and_all_its_next_hops() {
    namespace::enter_leaf();
    for (port, net) in [("Ethernet112", 1), ("Ethernet116", 2), ("Ethernet120", 3)] {
        namespace::batch(&format!(
            "link add {port} type veth peer name peer{net}\nlink set {port} up\nlink set peer{net} up\n\
             address add 10.0.{net}.1/24 dev {port}\naddress add 2001:db8:{net}::1/64 dev {port}\n"
        ));
    }
    assert_eq!((to("192.0.2.1"), to("100::1")), (None, None), "there is no default route");
    namespace::batch(
        "route add default nexthop via 10.0.1.2 nexthop via 10.0.2.2\n\
         route add ::/0 nexthop via 2001:db8:1::2 nexthop via 2001:db8:2::2\n\
         route add 2001:db8:ffff::/48 via 2001:db8:3::2\n\
         route add 192.0.2.0/24 via 10.0.3.2\n\
         route add blackhole 100::/64\n\
         route add blackhole 198.51.100.0/24\n",
    );
    let both = ["Ethernet112", "Ethernet116"];
    assert_eq!(to("3fff::1"), route("::/0", &both));
    assert_eq!(to("203.0.113.1"), route("0.0.0.0/0", &both));
    assert_eq!(to("2001:db8:ffff::80"), route("2001:db8:ffff::/48", &["Ethernet120"]), "more specific");
    assert_eq!(to("192.0.2.1"), route("192.0.2.0/24", &["Ethernet120"]));
    assert_eq!(to("2001:db8:3::9"), route("2001:db8:3::/64", &["Ethernet120"]), "on the link");
    assert_eq!((to("100::1"), to("198.51.100.1")), (None, None), "a black hole leads nowhere");
    // A lookup by a device uses the table of the device's VRF.
    let by = |device| routes::to("2001:db8:ffff::80".parse().unwrap(), Some(device)).unwrap();
    assert_eq!(by("Ethernet120"), route("2001:db8:ffff::/48", &["Ethernet120"]));
    assert_eq!((by("lo"), by("mgmt")), (None, None), "not by this one, and there is none of that name");
    // FRR's routes use nexthop objects.
    namespace::batch(
        "nexthop add id 1 via 2001:db8:1::2 dev Ethernet112\nnexthop add id 3 via 2001:db8:3::2 dev Ethernet120\n\
         nexthop add id 9 group 1/3\nroute add 2001:db8:fffe::/48 nhid 9\n",
    );
    assert_eq!(to("2001:db8:fffe::1"), route("2001:db8:fffe::/48", &["Ethernet112", "Ethernet120"]));
}
