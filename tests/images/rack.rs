//! A rack of 48 machines that boot at once, each with a namespace and a port of its own.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use leafboot::internals::Metrics;

use super::support::namespace::{self, Namespace};
use super::support::origin::{Image, Origin};
use super::support::{eventually, output};
use super::{MB, PATH, UNLIMITED, relay};

const MACHINES: usize = 48;

/// A client process on a machine, killed at the end of the test.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The machines on `Ethernet0`, `Ethernet1` …
struct Rack {
    machines: Vec<Namespace>,
}

impl Rack {
    fn plug() -> Self {
        namespace::enter_leaf();
        let machines: Vec<Namespace> = (0..MACHINES).map(|_| Namespace::start()).collect();
        for (port, machine) in machines.iter().enumerate() {
            namespace::batch(&format!(
                "link add Ethernet{port} type veth peer name eth0 netns {}\nlink set Ethernet{port} up\n\
                 address add 2001:db8:b007:{port:x}::1/64 dev Ethernet{port} nodad\n",
                machine.pid()
            ));
            machine.batch(&format!(
                "link set lo up\nlink set eth0 up\naddress add 2001:db8:b007:{port:x}::7/64 dev eth0 nodad\n"
            ));
        }
        Self { machines }
    }

    fn ports() -> Vec<(String, String)> {
        (0..MACHINES)
            .map(|port| (format!("Ethernet{port}"), format!("2001:db8:b007:{port:x}::/64")))
            .collect()
    }

    /// Runs a shell command on a machine, with the image's URL as `$1`.
    fn download(&self, machine: usize, what: &str) -> Client {
        let url = format!("http://[2001:db8:b007:{machine:x}::1]{PATH}");
        let mut command = self.machines[machine].command("sh");
        let command = command.args(["-c", &format!("exec {what}"), "sh", &url]);
        Client(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

/// The SHA-256 sum of the image, fetched from the origin itself.
fn sum_of_origin() -> String {
    let fetch = format!("curl -sSg 'http://[::1]:8080{PATH}' | sha256sum");
    String::from_utf8(output("sh", &["-c", &fetch]).stdout).unwrap()
}

#[test]
fn forty_eight_machines_share_one_transfer_that_survives_the_first_of_them() {
    let rack = Rack::plug();
    let origin = Origin::start(8080);
    origin.put(PATH, Image::new(1, 64 * MB));
    let expected = sum_of_origin();
    origin.sent();
    origin.answers.store(0, Ordering::Relaxed);
    relay("", UNLIMITED, Arc::new(Metrics::default()), Rack::ports());
    for (port, machine) in rack.machines.iter().enumerate() {
        let url = format!("http://[2001:db8:b007:{port:x}::1]/");
        eventually("every machine reaches the relay", || {
            machine.run("curl", &["-sg", "-m", "5", &url]).contains("relays")
        });
    }

    origin.rate.store(10 * MB, Ordering::Relaxed);
    let mut leader = rack.download(0, "curl -sSg -o /dev/null \"$1\"");
    eventually("the transfer has begun", || origin.sent.load(Ordering::Relaxed) > 0);
    let sums = "bash -o pipefail -c 'curl -sSg \"$0\" | sha256sum' \"$1\"";
    let readers: Vec<Client> = (1..MACHINES).map(|machine| rack.download(machine, sums)).collect();
    eventually("half of it has come", || origin.sent.load(Ordering::Relaxed) > 32 * MB);
    assert!(leader.0.try_wait().unwrap().is_none(), "it still downloads");
    drop(leader);
    for mut reader in readers {
        let mut said = String::new();
        std::io::Read::read_to_string(reader.0.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert!(reader.0.wait().unwrap().success());
        assert_eq!(said, expected);
    }
    assert_eq!((origin.sent(), origin.answers.load(Ordering::Relaxed)), (64 * MB, 1));
}
