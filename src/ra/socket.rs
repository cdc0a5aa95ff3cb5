//! The raw ICMPv6 socket of one port: receives Router Solicitations, sends Router Advertisements.
//!
//! Bound to the port, never to the VRF: neighbour discovery is not re-injected on a VRF device, so a socket bound
//! there hears nothing.
//!
//! Must never: decode or decide.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::libc::{IPPROTO_ICMPV6, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::packet::ROUTER_SOLICITATION;
use crate::net::PortName;
use crate::serving::Serving;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 4861 4.1, 4.2: every neighbour discovery packet has this hop limit, so that none comes from beyond the link.
const HOP_LIMIT: u32 = 255;
/// Room for some 40 solicitations; what a flood adds is dropped by the kernel, on this port only.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// Larger than any solicitation that is worth reading: 8 bytes and a few options.
const LARGEST: usize = 1500;

/// A message as it came in.
#[derive(Debug)]
pub struct Received {
    /// The sender's address.
    pub from: Ipv6Addr,
    /// Its hop limit; 0 if the kernel told none.
    pub hop_limit: u8,
    /// The ICMPv6 message.
    pub message: Vec<u8>,
}

/// A port's socket.
pub struct RaSocket {
    /// A raw socket. tokio has no type of its own for one; as a datagram socket it waits for it all the same, and
    /// messages go in and out through `recvmsg` and `sendmsg` only.
    socket: UdpSocket,
    source: in6_pktinfo,
}

impl RaSocket {
    /// Opens a socket on a port. Needs CAP_NET_RAW.
    pub fn open(port: &PortName, serving: &Serving) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(IPPROTO_ICMPV6)))?;
        socket.attach_filter(&only(ROUTER_SOLICITATION))?;
        socket.bind_device(Some(port.as_str().as_bytes()))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_unicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_if_v6(serving.ifindex)?;
        socket.join_multicast_v6(&ALL_ROUTERS, serving.ifindex)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        socket.set_nonblocking(true)?;
        let source = in6_pktinfo {
            ipi6_addr: in6_addr { s6_addr: serving.link_local.octets() },
            ipi6_ifindex: serving.ifindex,
        };
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, source })
    }

    /// Waits for the next solicitation. Cancel-safe.
    pub async fn receive(&self) -> io::Result<Received> {
        self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await
    }

    /// Sends a message to all nodes on the port.
    pub fn multicast(&self, message: &[u8]) -> io::Result<()> {
        self.send(ALL_NODES, message)
    }

    /// Sends a message to one address, from the port's link-local address (RFC 4861 6.1.2).
    pub fn send(&self, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, self.source.ipi6_ifindex));
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message)],
            &[ControlMessage::Ipv6PacketInfo(&self.source)],
            MsgFlags::MSG_DONTWAIT,
            Some(&to),
        )?;
        Ok(())
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Received> {
    let mut message = vec![0; LARGEST];
    let mut control = nix::cmsg_space!(i32);
    let (length, from, hop_limit) = {
        let mut buffers = [IoSliceMut::new(&mut message)];
        let received = recvmsg::<SockaddrIn6>(
            socket.as_raw_fd(),
            &mut buffers,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let hop_limit = received.cmsgs()?.find_map(|control| {
            if let ControlMessageOwned::Ipv6HopLimit(limit) = control {
                u8::try_from(limit).ok()
            } else {
                None
            }
        });
        let from = received.address.map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
        (received.bytes, from, hop_limit.unwrap_or(0))
    };
    message.truncate(length);
    Ok(Received { from, hop_limit, message })
}

/// A classic BPF program that lets one ICMPv6 type through, so that nothing else on the port wakes us: load the
/// message's first byte; if it is `kind` take the packet, else drop it.
fn only(kind: u8) -> [SockFilter; 4] {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, kind.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
