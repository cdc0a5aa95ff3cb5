//! The rtnetlink(7) sockets: requests, which the kernel answers at once, and events.
//!
//! This file uses netlink-sys and not the rtnetlink crate, for two reasons. First, that crate keeps its socket after lost events
//! (ENOBUFS). The socket's queue then has events that are older than the next list, and a port would get an old state from
//! them. This file closes the socket and opens a new one before it requests the list. Second, a decoded device takes 13 KB,
//! and a leaf has hundreds. This file decodes one datagram at a time.
//!
//! Must never: change anything in the kernel.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket};
use nix::libc::ENOBUFS;

/// A list that changes while the kernel sends it is requested again, at most so many times.
const LISTS_MAX: usize = 10;

/// Requests one entry. None: there is none, or it cannot be decoded.
pub fn get(wanted: RouteNetlinkMessage) -> io::Result<Option<RouteNetlinkMessage>> {
    let mut found = None;
    request(wanted, NLM_F_ACK, |answer| found = Some(answer))?;
    Ok(found)
}

/// Requests a list and calls `each` with every entry. It may call it more than once with the same entry. Entries that cannot be
/// decoded are left out.
pub fn list(wanted: RouteNetlinkMessage, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
    for _ in 0..LISTS_MAX {
        if request(wanted.clone(), NLM_F_DUMP, &mut each)? {
            break;
        }
    }
    Ok(())
}

/// Sends a request and calls `each` with the answers. Returns whether the list is complete: the kernel may skip entries of
/// a list that changes in that time, and sets a flag then (netlink.h: NLM_F_DUMP_INTR).
///
/// Does not wait: the kernel answers within send(2), and has the next part of a list ready when one has been received
/// (`af_netlink.c: netlink_recvmsg`).
fn request(
    wanted: RouteNetlinkMessage,
    flags: u16,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<bool> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(wanted);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut is_whole = true;
    loop {
        let (datagram, from) = socket.recv_from_full()?;
        if !is_kernel(&from) {
            continue;
        }
        for message in messages(&datagram) {
            is_whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
            if let NetlinkPayload::InnerMessage(message) = message.payload {
                each(message);
            } else if let NetlinkPayload::Error(end) = message.payload {
                // Code 0 is an acknowledgement.
                return end.code.map_or(Ok(is_whole), |_| Err(end.to_io()));
            } else if let NetlinkPayload::Done(end) = message.payload {
                return if end.code < 0 {
                    Err(io::Error::from_raw_os_error(-end.code))
                } else {
                    Ok(is_whole)
                };
            }
        }
    }
}

/// A multicast group of events (rtnetlink.h: `enum rtnetlink_groups`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// RTNLGRP_LINK: devices.
    Links = 1,
    /// RTNLGRP_IPV4_IFADDR: IPv4 addresses.
    Ipv4Addresses = 5,
    /// RTNLGRP_IPV6_IFADDR: IPv6 addresses.
    Ipv6Addresses = 9,
}

/// A socket that receives the kernel's events.
pub struct KernelEvents(TokioSocket);

impl KernelEvents {
    /// Subscribes to some groups.
    pub fn subscribe(groups: &[Group]) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        for group in groups {
            socket.socket_ref().add_membership(*group as u32)?;
        }
        Ok(Self(socket))
    }

    /// The events of the next datagram. None: events were lost, because they came faster than they were received
    /// (netlink(7), ENOBUFS). Those that are still queued are older than the lost ones, so this socket must not be used any
    /// more: subscribe anew, and then request a list.
    pub async fn next(&self) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        loop {
            match self.0.recv_from_full().await {
                Ok((datagram, from)) if is_kernel(&from) => return Ok(Some(changes(&datagram))),
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Other processes can send to a netlink socket, too.
fn is_kernel(from: &SocketAddr) -> bool {
    from.port_number() == 0
}

fn changes(datagram: &[u8]) -> Vec<RouteNetlinkMessage> {
    let change = |message: NetlinkMessage<RouteNetlinkMessage>| {
        if let NetlinkPayload::InnerMessage(change) = message.payload { Some(change) } else { None }
    };
    messages(datagram).filter_map(change).collect()
}

/// The messages of a datagram that can be decoded.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> {
    const ALIGNMENT: usize = 4;
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(bytes).ok()?.length() as usize;
        let message = bytes.get(..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(message)
    })
    .filter_map(|message| NetlinkMessage::deserialize(message).ok())
}
