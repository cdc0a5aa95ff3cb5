//! GRUB as a machine: Debian's own, which runs as a program here and puts its frames into a tap device.

use super::partition::{Relayed, Server, boot_service_of, ok};
use super::support::cable::Cable;

/// What GRUB does. It cannot wait for its device to be plugged in, so it sleeps.
const COMMANDS: &str = "insmod net\ninsmod http\ninsmod emunet\n\
    net_add_addr here emu0 2001:db8:b007::9\nnet_add_route port 2001:db8:b007::/64 here\nsleep 2\n\
    cat (http,[2001:db8:b007::1])/boot.ipxe\necho That was all.\nhalt\n";
/// Plugs GRUB's device in beside the machine's, and runs GRUB, which waits for ever for a header that it does not know.
const RUN: &str =
    "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up && ip link set eth0 master br0 &&
    { for _ in $(seq 100); do ip link set tap0 master br0 up 2>/dev/null && break; sleep 0.05; done & } &&
    TERM=dumb timeout 30 grub-emu --directory=\"$0\" </dev/null";

#[test]
fn grub_reads_what_it_asks_for() {
    let cable = Cable::plug();
    let server = Server::says(&ok("#!ipxe\necho GRUB has read it.\n"));
    let relayed = Relayed::with(cable, &boot_service_of(&[&server.origin]));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("grub.cfg"), COMMANDS).unwrap();
    let said = relayed.cable.machine("sh", &["-c", RUN, directory.path().to_str().unwrap()]);
    assert!(!said.contains("not found"), "{said}: install it with tests/lab/setup");
    assert!(said.contains("GRUB has read it.") && said.contains("That was all."), "{said}");
}
