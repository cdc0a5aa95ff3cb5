//! The packet socket of one port. It receives Router Solicitations and sends Router Advertisements as whole frames.
//!
//! It is not a raw ICMPv6 socket. With one, the kernel would search the routes to ff02::1 port by port, and would
//! resolve the machine's Ethernet address, which fails in a VRF on some SONiC releases. A packet socket sends a frame
//! from the port that it is bound to, to the Ethernet address that the solicitation came from. A VRF makes no
//! difference to it.
//!
//! Each port has a socket of its own, so a flood fills only that port's queue. A socket costs one descriptor, about 2
//! KiB of kernel memory, and at most twice `RECEIVE_BUFFER` while frames wait. pnet_datalink's channel is not used: it
//! has a buffer per port, sets no socket filter, and waits for one socket at a time.
//!
//! On a port that forwards, the kernel itself learns neighbours (RFC 4861 6.2.6) and joins ff02::2 (6.2.2).
//!
//! Must never: decode a frame, or decide what is sent.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{self, PACKET_QDISC_BYPASS, SKF_AD_OFF, SKF_AD_PKTTYPE, SOL_PACKET};
use nix::sys::socket::{LinkAddr, SockaddrLike, setsockopt, sockopt};
use socket2::{Domain, SockFilter, Socket, Type};

use leafboot_core::nd::message::{ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};

/// Bytes: room for some 20 solicitations. In a flood, the kernel drops further frames of this port only.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// The largest frame of a SONiC port in bytes, with its Ethernet header.
pub const FRAME_MAX: usize = 9216 + 14;
const ETHERTYPE_IPV6: u16 = 0x86dd;

// packet(7): frames bypass the device's queue. The queue drops frames until the kernel has noticed a new carrier.
#[derive(Clone)]
struct QdiscBypass;
nix::setsockopt_impl!(QdiscBypass, SOL_PACKET, PACKET_QDISC_BYPASS, bool, sockopt::SetBool);

/// A packet socket that is bound to a port.
pub struct RaSocket {
    socket: Socket,
    ifindex: u32,
}

impl RaSocket {
    /// Opens a socket on a port. Needs CAP_NET_RAW.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        // A socket of protocol 0 receives nothing before it is bound.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
        socket.attach_filter(&solicitations_and_advertisements())?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        setsockopt(&socket, QdiscBypass, &true)?;
        bind(&socket, ifindex)?;
        Ok(Self { socket, ifindex })
    }

    /// The index of the device that the socket was opened on.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Receives a frame and returns its length. None: no frame waits. An error for which [`is_down`] holds comes once,
    /// when the device goes down. It may be the socket's last error: when the device is removed afterwards, the kernel
    /// detaches the socket without an error, and does not attach it to a new device with the same index. Only sending
    /// fails then (ENXIO).
    pub fn receive(&self, frame: &mut [u8; FRAME_MAX]) -> io::Result<Option<usize>> {
        match (&self.socket).read(frame) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a whole Ethernet frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(|_| ())
    }
}

impl AsFd for RaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether an error means only that the device is down. Unless the device is removed, the socket stays usable: the
/// kernel attaches it again when the device is up (`af_packet.c: packet_notifier`).
pub fn is_down(error: &io::Error) -> bool {
    // ENOBUFS: the device has no carrier.
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS))
}

/// Binds a packet socket to a device, for IPv6 frames.
#[expect(unsafe_code, reason = "no library that leafboot uses makes a sockaddr_ll of a device's index")]
fn bind(socket: &Socket, ifindex: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: ETHERTYPE_IPV6.to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a whole sockaddr_ll of family AF_PACKET, which is copied.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), None) };
    Ok(nix::sys::socket::bind(socket.as_raw_fd(), &address.ok_or(io::ErrorKind::InvalidInput)?)?)
}

/// The socket filter. It passes Router Solicitations and Router Advertisements to the port's own or a multicast
/// Ethernet address; nothing else on the port wakes the thread. ICMPv6 must follow the IPv6 header directly. That drops
/// fragments, even atomic ones (RFC 6980 5), and messages that hide from filters behind extension headers (RFC 7113
/// 2.1).
fn solicitations_and_advertisements() -> [SockFilter; 10] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const ICMPV6: u32 = 58;
    let load = |at: u32| SockFilter::new(LOAD_BYTE, 0, 0, at);
    let equal = |value: u32, then: u8, otherwise: u8| SockFilter::new(IF_EQUAL, then, otherwise, value);
    [
        load((SKF_AD_OFF + SKF_AD_PKTTYPE).cast_unsigned()),
        equal(libc::PACKET_HOST.into(), 1, 0),
        equal(libc::PACKET_MULTICAST.into(), 0, 6),
        load(14 + 6),
        equal(ICMPV6, 0, 4),
        load(14 + 40),
        equal(ROUTER_SOLICITATION.into(), 1, 0),
        equal(ROUTER_ADVERTISEMENT.into(), 0, 1),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
