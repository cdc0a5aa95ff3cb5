//! A machine that speaks in whole Ethernet frames, so that it can send what no kernel would: bad checksums, hop limits,
//! options, fragments. What it receives has the kernel's timestamp.

use std::io::{IoSliceMut, Write};
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use leafboot_core::names::Mac;
use leafboot_core::nd::frame::Neighbour;

use super::panel::{Panel, machine_mac};

const ETHERTYPE: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

/// How a solicitation is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragments {
    /// Whole.
    None,
    /// One fragment that is all of it (RFC 6946).
    Atomic,
    /// Two.
    Two,
}

/// A solicitation, good or bad.
#[derive(Debug, Clone)]
pub struct Solicitation {
    /// Its source.
    pub from: Ipv6Addr,
    /// 255 in a good one.
    pub hop_limit: u8,
    /// The whole ICMPv6 message; its checksum is filled in.
    pub message: Vec<u8>,
    /// Whether the checksum is right.
    pub checksum: bool,
    /// How it is cut.
    pub fragments: Fragments,
}

/// An advertisement as it was received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When the kernel had it.
    pub at: SystemTime,
    /// The Ethernet addresses of its destination and its source.
    pub ethernet: ([u8; 6], [u8; 6]),
    /// Its source.
    pub from: Ipv6Addr,
    /// Its destination.
    pub to: Ipv6Addr,
    /// Its hop limit.
    pub hop_limit: u8,
    /// Whether its checksum is right.
    pub checksum: bool,
    /// The ICMPv6 message.
    pub message: Vec<u8>,
}

impl Seen {
    /// To all nodes.
    pub fn is_multicast(&self) -> bool {
        self.to.is_multicast()
    }

    /// Its sender.
    pub fn sender(&self) -> Neighbour {
        Neighbour { mac: Mac(self.ethernet.1), address: self.from }
    }

    /// Seconds that its sender is a router.
    pub fn router_lifetime(&self) -> u16 {
        u16::from_be_bytes([self.message[6], self.message[7]])
    }
}

/// One port's machine.
pub struct Solicitor {
    socket: Socket,
    mac: [u8; 6],
    /// Its link-local address.
    pub address: Ipv6Addr,
}

impl Solicitor {
    /// Opens the machine's end of a port.
    pub fn open(panel: &Panel, port: usize) -> Self {
        panel.inside(|| {
            let protocol = Protocol::from(i32::from(0x86ddu16.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
            // The one way to a device's `sockaddr_ll` without unsafe code.
            let device = nix::ifaddrs::getifaddrs()
                .unwrap()
                .filter(|interface| interface.interface_name == format!("eth{port}"))
                .find_map(|interface| interface.address.filter(|address| address.as_link_addr().is_some()))
                .unwrap();
            nix::sys::socket::bind(socket.as_raw_fd(), &device).unwrap();
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
            let mac = machine_mac(port);
            let [_, _, _, _, high, low] = mac;
            let address =
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe01, u16::from_be_bytes([high, low]));
            let solicitor = Self { socket, mac, address };
            // Before the bind, the socket received the frames of every port.
            solicitor.drain();
            solicitor
        })
    }

    /// A good solicitation from the machine's link-local address with its Ethernet address.
    pub fn good(&self) -> Solicitation {
        let mut message = vec![133, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        message.extend(self.mac);
        let from = self.address;
        Solicitation { from, hop_limit: 255, message, checksum: true, fragments: Fragments::None }
    }

    /// A good solicitation from a machine that has no address yet, as firmware sends it.
    pub fn unspecified(&self) -> Solicitation {
        let message = vec![133, 0, 0, 0, 0, 0, 0, 0];
        Solicitation { from: Ipv6Addr::UNSPECIFIED, message, ..self.good() }
    }

    /// Sends a solicitation to all routers; returns when it was sent.
    pub fn send(&self, solicitation: &Solicitation) -> SystemTime {
        let frames = self.frames(solicitation);
        let at = SystemTime::now();
        frames.iter().for_each(|frame| (&self.socket).write_all(frame).unwrap());
        at
    }

    /// The Ethernet frames of a solicitation.
    pub fn frames(&self, solicitation: &Solicitation) -> Vec<Vec<u8>> {
        let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
        let mut message = solicitation.message.clone();
        let sum = checksum(solicitation.from, to, &message) ^ u16::from(!solicitation.checksum);
        if let Some(field) = message.get_mut(2..4) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
        let packet = |next: u8, payload: &[u8]| {
            let mut frame = vec![0x33, 0x33, 0, 0, 0, 2];
            frame.extend(self.mac);
            frame.extend(ETHERTYPE);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            frame.extend([next, solicitation.hop_limit]);
            frame.extend(solicitation.from.octets());
            frame.extend(to.octets());
            frame.extend(payload);
            frame
        };
        let fragment = |offset: u16, more: u16, part: &[u8]| {
            let mut payload = vec![ICMPV6, 0];
            payload.extend((offset | more).to_be_bytes());
            payload.extend(self.mac[2..].iter());
            payload.extend(part);
            packet(FRAGMENT, &payload)
        };
        match solicitation.fragments {
            Fragments::None => vec![packet(ICMPV6, &message)],
            Fragments::Atomic => vec![fragment(0, 0, &message)],
            Fragments::Two => vec![fragment(0, 1, &message[..8]), fragment(8, 0, &message[8..])],
        }
    }

    /// The next advertisement, if one comes in time.
    pub fn advertisement(&self, within: Duration) -> Option<Seen> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            if let Some(seen) = self.receive().ok().and_then(|(at, frame)| advertisement(at, &frame)) {
                return Some(seen);
            }
        }
    }

    /// Every advertisement that comes in a time.
    pub fn advertisements(&self, within: Duration) -> Vec<Seen> {
        let deadline = Instant::now() + within;
        std::iter::from_fn(|| self.advertisement(deadline.saturating_duration_since(Instant::now())))
            .collect()
    }

    /// Forgets what has come in.
    pub fn drain(&self) {
        self.socket.set_nonblocking(true).unwrap();
        // An error, such as that the machine's end has gone down, comes before the frames that wait.
        while self.receive() != Err(Errno::EAGAIN) {}
        self.socket.set_nonblocking(false).unwrap();
    }

    fn receive(&self) -> nix::Result<(SystemTime, Vec<u8>)> {
        let mut frame = vec![0; 2048];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        let mut buffers = [IoSliceMut::new(&mut frame)];
        let received =
            recvmsg::<()>(self.socket.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::empty())?;
        let at = received.cmsgs().unwrap().find_map(|control| {
            if let ControlMessageOwned::ScmTimestampns(time) = control {
                Some(SystemTime::UNIX_EPOCH + Duration::from(time))
            } else {
                None
            }
        });
        let length = received.bytes;
        frame.truncate(length);
        Ok((at.unwrap(), frame))
    }
}

fn advertisement(at: SystemTime, frame: &[u8]) -> Option<Seen> {
    let packet = frame.get(14..)?;
    let address =
        |range: std::ops::Range<usize>| <[u8; 16]>::try_from(packet.get(range)?).ok().map(Ipv6Addr::from);
    let (from, to) = (address(8..24)?, address(24..40)?);
    let message = packet.get(40..)?;
    // A fragmented advertisement does not count: receivers discard it (RFC 6980 5).
    if packet[6] != ICMPV6 || message.first() != Some(&134) {
        return None;
    }
    let checksum = checksum(from, to, message) == 0;
    let mac = |range: std::ops::Range<usize>| <[u8; 6]>::try_from(frame.get(range)?).ok();
    let ethernet = (mac(0..6)?, mac(6..12)?);
    Some(Seen { at, ethernet, from, to, hop_limit: packet[7], checksum, message: message.to_vec() })
}

/// RFC 4443 2.3. Over a message whose checksum is right it is 0.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap();
    let all = [&from.octets()[..], &to.octets(), &length.to_be_bytes(), &[0, 0, 0, ICMPV6], message].concat();
    let word = |bytes: &[u8]| u32::from(bytes[0]) << 8 | u32::from(bytes.get(1).copied().unwrap_or(0));
    let mut sum: u32 = all.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
