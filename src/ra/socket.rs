//! The raw ICMPv6 socket of one port: receives Router Solicitations, sends Router Advertisements.
//!
//! Bound to the port, never to the VRF: neighbour discovery is not re-injected on a VRF device, so a socket bound
//! there hears nothing. One socket each, so that a flood fills its own port's queue only; each costs one descriptor,
//! some 2 KiB of kernel memory, and at most `RECEIVE_BUFFER` twice while packets wait.
//!
//! Must never: decode or decide.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::libc::{self, IPPROTO_ICMPV6, IPPROTO_IPV6, IPV6_RECVFRAGSIZE, in6_addr, in6_pktinfo};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::packet::{Envelope, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};
use crate::net::PortName;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 4861 4.1, 4.2: every neighbour discovery packet has this hop limit, so that none comes from beyond the link.
const HOP_LIMIT: u32 = 255;
/// Room for some 40 solicitations; what a flood adds is dropped by the kernel, on this port only, without waking us.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// The largest frame of a SONiC port; longer messages come in fragments, which are discarded anyway.
const LARGEST: usize = 9216;
/// `ICMP6_FILTER` of RFC 3542 3.2, `linux/icmpv6.h`.
const ICMP6_FILTER: libc::c_int = 1;

// RFC 3542 3.2: one bit for each ICMPv6 type; a 1 blocks it (Linux).
#[derive(Clone)]
struct Icmp6Filter;
nix::setsockopt_impl!(Icmp6Filter, IPPROTO_ICMPV6, ICMP6_FILTER, [u32; 8], sockopt::SetStruct<[u32; 8]>);

// Linux tells the size of the largest fragment of a packet that had a fragment header, atomic ones included.
#[derive(Clone)]
struct RecvFragSize;
nix::setsockopt_impl!(RecvFragSize, IPPROTO_IPV6, IPV6_RECVFRAGSIZE, bool, sockopt::SetBool);

/// A message as it came in.
#[derive(Debug)]
pub struct Received {
    /// What the kernel says about it.
    pub envelope: Envelope,
    /// The ICMPv6 message.
    pub message: Vec<u8>,
}

/// A port's socket.
pub struct RaSocket {
    /// A raw socket. tokio has no type of its own for one; as a datagram socket it waits for it all the same, and
    /// messages go in and out through `recvmsg` and `sendmsg` only.
    socket: UdpSocket,
    ifindex: u32,
}

impl RaSocket {
    /// Opens a socket on a port. Needs CAP_NET_RAW.
    pub fn open(port: &PortName, ifindex: u32) -> io::Result<Self> {
        let kind = Type::RAW.nonblocking();
        let socket = Socket::new(Domain::IPV6, kind, Some(Protocol::from(IPPROTO_ICMPV6)))?;
        setsockopt(&socket, Icmp6Filter, &only([ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT]))?;
        socket.bind_device(Some(port.as_str().as_bytes()))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_unicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_loop_v6(false)?;
        // RFC 4861 6.2.2: the kernel joins it on a port that forwards; without that nothing would be heard.
        socket.join_multicast_v6(&ALL_ROUTERS, ifindex)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, RecvFragSize, &true)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, ifindex })
    }

    /// The kernel's number of the device that the socket was opened on.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Waits for the next message. Cancel-safe.
    pub async fn receive(&self) -> io::Result<Received> {
        loop {
            let received = self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await?;
            // Between `socket` and `bind_device` the socket heard every port.
            if received.0 == self.ifindex {
                return Ok(received.1);
            }
        }
    }

    /// Drops what waits, as far as a full receive buffer goes.
    pub fn drain(&self) {
        const MOST: usize = 256;
        let mut byte = [0];
        let again =
            |byte: &mut [u8]| nix::sys::socket::recv(self.socket.as_raw_fd(), byte, MsgFlags::MSG_DONTWAIT);
        for _ in 0..MOST {
            if again(&mut byte).is_err() {
                return;
            }
        }
    }

    /// Sends a message to all nodes on the port.
    pub fn multicast(&self, from: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        self.send(from, ALL_NODES, message)
    }

    /// Sends a message to all nodes on the port from an address that the port may have no more.
    pub fn multicast_from_former(&self, from: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        socket.set_freebind_v6(true)?;
        let sent = self.multicast(from, message);
        socket.set_freebind_v6(false)?;
        sent
    }

    /// Sends a message to one address, from the port's link-local address (RFC 4861 6.1.2).
    pub fn send(&self, from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, self.ifindex));
        let source =
            in6_pktinfo { ipi6_addr: in6_addr { s6_addr: from.octets() }, ipi6_ifindex: self.ifindex };
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message)],
            &[ControlMessage::Ipv6PacketInfo(&source)],
            MsgFlags::MSG_DONTWAIT,
            Some(&to),
        )?;
        Ok(())
    }
}

/// Lets the process have as many descriptors as it may: a port takes two (this socket and the relay's), and the usual
/// soft limit is 1024. Where that cannot be, the ports beyond the limit say so and try again.
pub fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The next message, and the ifindex of the device that it came in on.
fn receive(socket: &UdpSocket) -> io::Result<(u32, Received)> {
    let mut message = [0; LARGEST];
    let mut control = nix::cmsg_space!(libc::c_int, in6_pktinfo, libc::c_int);
    let mut buffers = [IoSliceMut::new(&mut message)];
    let received =
        recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let (mut hop_limit, mut fragment, mut ifindex) = (0, false, 0);
    for control in received.cmsgs()? {
        if let ControlMessageOwned::Ipv6HopLimit(limit) = control {
            hop_limit = u8::try_from(limit).unwrap_or(0);
        } else if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
            ifindex = info.ipi6_ifindex;
        } else if let ControlMessageOwned::Unknown(unknown) = control {
            let header = unknown.cmsg_header;
            fragment |= (header.cmsg_level, header.cmsg_type) == (IPPROTO_IPV6, IPV6_RECVFRAGSIZE);
        }
    }
    let from = received.address.map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
    let length = received.bytes;
    let message = message.get(..length).unwrap_or_default().to_vec();
    Ok((ifindex, Received { envelope: Envelope { from, hop_limit, fragment }, message }))
}

/// A filter that lets two ICMPv6 types through, so that nothing else on the port wakes us.
fn only(kinds: [u8; 2]) -> [u32; 8] {
    let mut blocked = [u32::MAX; 8];
    for kind in kinds {
        if let Some(word) = blocked.get_mut(usize::from(kind / 32)) {
            *word &= !(1 << (kind % 32));
        }
    }
    blocked
}
