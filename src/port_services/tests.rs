//! Tests of the published roles, and of a service on ports that has a UDP socket.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::*;
use crate::guarded::Guarded;
use leafboot_core::names::Mac;
use leafboot_core::observed::Link;

const SOCKET: ServiceSocket = ServiceSocket { service: "echo", number: 7 };

fn port(name: &str) -> PortName {
    name.parse().unwrap()
}

fn prefix(text: &str) -> BootPrefix {
    text.parse().unwrap()
}

fn serving(carriers: u32, net: &str) -> Serving {
    Serving {
        ifindex: 7,
        carrier_ups: carriers,
        mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
        mtu: 9100,
        link_local: "fe80::1".parse().unwrap(),
        prefix: prefix(net),
        old: Vec::new(),
    }
}

/// The roles of a document that names Ethernet0 and Ethernet4. Ethernet0 has this role.
fn roles(role: Option<PortRole>) -> PortRoles {
    let desired = [("Ethernet0", "2001:db8::/64"), ("Ethernet4", "2001:db8:0:4::/64")];
    PortRoles {
        roles: role.into_iter().map(|role| (port("Ethernet0"), role)).collect(),
        desired: desired.map(|(name, net)| (port(name), prefix(net))).into(),
        is_pushed: true,
    }
}

/// A service that sends each datagram back, and a log of the calls to it.
#[derive(Default)]
struct Echo(Arc<Guarded<Vec<String>>>);

impl PortService for Echo {
    type Port = Arc<Guarded<Vec<String>>>;

    fn sockets(&self) -> Vec<ServiceSocket> {
        vec![SOCKET]
    }

    fn start(&self, port: &PortName, serving: &Serving) -> Self::Port {
        self.0.with(|log| log.push(format!("start {port} {}", serving.prefix)));
        Arc::clone(&self.0)
    }

    fn stop(&self, port: &Self::Port, reason: StopReason) {
        port.with(|log| log.push(format!("{reason:?}")));
    }

    fn open_socket(_: &PortName, _: ServiceSocket) -> io::Result<Socket> {
        let socket = UdpSocket::bind("[::1]:0")?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    async fn serve(port: Self::Port, _: ServiceSocket, opened: Socket) -> io::Error {
        let serve = async {
            let socket = tokio::net::UdpSocket::from_std(opened.into())?;
            let address = socket.local_addr()?;
            port.with(|log| log.push(address.to_string()));
            let mut buffer = [0; 100];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await?;
                socket.send_to(&buffer[..length], from).await?;
            }
        };
        let end: io::Result<std::convert::Infallible> = serve.await;
        match end {
            Err(error) => error,
        }
    }
}

#[tokio::test]
async fn a_udp_service_starts_updates_and_stops_with_its_port() {
    let service = Echo::default();
    let log = Arc::clone(&service.0);
    let take_log = || log.with(std::mem::take);
    let mut services = PortServices::new(service, Inherited::default());

    services.apply(&roles(Some(PortRole::Serve(serving(1, "2001:db8::/64")))));
    assert_eq!(take_log(), ["start Ethernet0 2001:db8::/64"]);
    let client = tokio::net::UdpSocket::bind("[::1]:0").await.unwrap();
    tokio::task::yield_now().await;
    let address: SocketAddr = take_log().concat().parse().unwrap();
    client.send_to(b"hello", address).await.unwrap();
    let mut answer = [0; 5];
    client.recv_from(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");

    services.apply(&roles(Some(PortRole::Serve(serving(2, "2001:db8::/64")))));
    assert!(take_log().is_empty(), "another carrier needs no new start");
    services.apply(&roles(Some(PortRole::Serve(serving(2, "2001:db8:0:1::/64")))));
    assert_eq!(take_log(), ["Interrupted", "start Ethernet0 2001:db8:0:1::/64"], "another prefix does");
    services.apply(&roles(Some(PortRole::Cease(serving(2, "2001:db8:0:1::/64")))));
    assert_eq!(take_log().last().unwrap(), "Interrupted", "it is still desired");
    services.apply(&roles(Some(PortRole::Serve(serving(2, "2001:db8::/64")))));
    take_log();
    services.apply(&PortRoles::default());
    assert_eq!(take_log().last().unwrap(), "Released");
    assert_eq!(services.ports().count(), 0);
    tokio::task::yield_now().await;
    assert!(UdpSocket::bind(address).is_ok(), "its socket is closed");
}

#[test]
fn a_kept_socket_has_a_name_that_says_service_and_port() {
    let https = ServiceSocket { service: "https", number: 443 };
    assert_eq!(https.name(&port("Ethernet0")), "https-443-Ethernet0");
    assert_eq!(port_of(&[SOCKET, https], "https-443-Ethernet0"), Some(port("Ethernet0")));
    for other in ["https-4430-Ethernet0", "http-443-Ethernet0", "https-443-", "Ethernet0-443", "unknown", ""]
    {
        assert_eq!(port_of(&[SOCKET, https], other), None, "{other}");
    }
}

#[tokio::test]
async fn roles_are_published_when_one_changes_and_only_then() {
    let net = prefix("2001:db8::/64");
    let link = Link {
        ifindex: 7,
        mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
        mtu: 9100,
        up: true,
        admin_up: true,
        carrier: true,
        carrier_ups: 1,
        vrf: Some("Vrfboot".to_owned()),
        link_local: Some("fe80::1".parse().unwrap()),
        usable_addresses: BTreeSet::from([net.gateway_net()]),
        assigned_addresses: BTreeSet::from([net.gateway_net().into()]),
        duplicate_addresses: BTreeSet::new(),
    };
    let links = Links {
        ports: BTreeMap::from([(port("Ethernet0"), link)]),
        loopbacks: BTreeMap::new(),
        vrfs: BTreeMap::from([("Vrfboot".to_owned(), true)]),
    };
    let (desired_out, desired) = watch::channel(None);
    let (links_out, links) = watch::channel(links);
    let (unrouted_out, unrouted) = watch::channel(BTreeSet::new());
    let (roles_out, mut roles) = watch::channel(PortRoles::default());
    let inputs = RoleInputs { desired, links, unrouted };
    tokio::spawn(async move { publish_roles(&"Vrfboot".parse().unwrap(), inputs, roles_out).await });

    desired_out.send_replace(Some(Desired {
        generation: 1,
        provenance: Provenance::Pushed,
        ports: BTreeMap::from([(port("Ethernet0"), net.into())]),
        old: Default::default(),
        rejected: Default::default(),
    }));
    roles.wait_for(|roles| roles.is_pushed).await.unwrap();
    assert!(matches!(roles.borrow_and_update().roles[&port("Ethernet0")], PortRole::Serve(_)));
    links_out.send_modify(|links| _ = links.vrfs.insert("Vrf7".to_owned(), true));
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    assert!(!roles.has_changed().unwrap(), "another VRF changes no role");
    unrouted_out.send_replace(BTreeSet::from([port("Ethernet0")]));
    roles.changed().await.unwrap();
    let now = roles.borrow().clone();
    assert!(now.roles.is_empty() && now.desired.contains_key(&port("Ethernet0")), "it is interrupted");
}
