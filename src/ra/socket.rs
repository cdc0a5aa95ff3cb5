//! The packet socket of one port, which receives Router Solicitations and sends Router Advertisements as whole frames.
//!
//! Not a raw ICMPv6 socket: with one of those, the kernel looks for the route to ff02::1 among those of all ports, one
//! after the other, and asks for a machine's Ethernet address, which some SONiC releases do not get done in a VRF. A
//! frame goes out where its socket is bound, to the Ethernet address that the solicitation came from. A socket each,
//! bound to the port (a VRF makes no difference to it), so that a flood fills its own port's queue only; each costs one
//! descriptor, some 2 KiB of kernel memory, and at most `RECEIVE_BUFFER` twice while frames wait.
//!
//! The kernel learns its neighbours (RFC 4861 6.2.6) and joins ff02::2 (6.2.2) by itself on a port that forwards.
//!
//! Must never: decode or decide.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};

use nix::libc::{self, PACKET_QDISC_BYPASS, SKF_AD_OFF, SKF_AD_PKTTYPE, SOL_PACKET};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use pnet_datalink::{ChannelType, Config, NetworkInterface};
use socket2::{Domain, SockFilter, Socket, Type};

use leafboot_core::nd::message::{ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};

/// Room for some 20 solicitations; what a flood adds is dropped by the kernel, on this port only, without waking us.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// The largest frame of a SONiC port, with its Ethernet header.
pub const LARGEST: usize = 9216 + 14;
const ETHERTYPE_IPV6: u16 = 0x86dd;

// packet(7): straight to the device. A queue that waits for the kernel to notice a carrier would drop the frame.
#[derive(Clone)]
struct QdiscBypass;
nix::setsockopt_impl!(QdiscBypass, SOL_PACKET, PACKET_QDISC_BYPASS, bool, sockopt::SetBool);

/// A port's socket.
pub struct RaSocket {
    socket: Socket,
    ifindex: u32,
}

impl RaSocket {
    /// Opens a socket on a port. Needs CAP_NET_RAW.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        // Of protocol 0 it hears nothing before it is bound.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
        socket.attach_filter(&solicitations_and_advertisements())?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        setsockopt(&socket, QdiscBypass, &true)?;
        bind(&socket, ifindex)?;
        Ok(Self { socket, ifindex })
    }

    /// The kernel's number of the device that the socket was opened on.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The next frame's length; none while there is no frame. An error that `is_down` comes once, when the device goes
    /// down. It may be the last that the socket says: when the device is removed then, the kernel takes the socket off it
    /// without a word, and a new device with the same number is not the socket's. Only sending tells (ENXIO).
    pub fn receive(&self, frame: &mut [u8; LARGEST]) -> io::Result<Option<usize>> {
        match (&self.socket).read(frame) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(|_| ())
    }
}

impl AsFd for RaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether an error says no more than that the device is down. Unless the device is removed, its socket is as good as
/// before: when the device is up, the kernel has it listen again (`af_packet.c: packet_notifier`).
pub fn is_down(error: &io::Error) -> bool {
    // ENOBUFS: it has no carrier.
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS))
}

/// Binds a packet socket to a device. pnet does it with a descriptor of its own, which it then closes; neither the
/// standard library nor nix can without unsafe code.
fn bind(socket: &Socket, ifindex: u32) -> io::Result<()> {
    let device = NetworkInterface {
        name: String::new(),
        description: String::new(),
        index: ifindex,
        mac: None,
        ips: Vec::new(),
        flags: 0,
    };
    let config = Config {
        socket_fd: Some(socket.try_clone()?.into_raw_fd()),
        channel_type: ChannelType::Layer3(ETHERTYPE_IPV6),
        promiscuous: false,
        read_buffer_size: 0,
        write_buffer_size: 0,
        ..Config::default()
    };
    pnet_datalink::channel(&device, config).map(drop)
}

/// The kernel's filter: frames to this port's or to a multicast address that are IPv6, with ICMPv6 right behind the
/// header, a Router Solicitation or a Router Advertisement; nothing else on the port wakes us. With the IPv6 header
/// that must be followed by ICMPv6, fragments are gone, even atomic ones (RFC 6980 5), and all that hides from those who
/// filter behind other headers (RFC 7113 2.1).
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

/// Lets the process have as many descriptors as it may: a port takes two (this socket and the relay's), and the usual
/// soft limit is 1024. Where that cannot be, the ports beyond the limit say so and try again.
pub fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
