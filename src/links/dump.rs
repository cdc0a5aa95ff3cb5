//! The kernel's whole list of something, given out message by message.
//!
//! Not by a `Handle`: its connection takes a list in faster than anybody reads it, and a device takes 13 KB when it is
//! decoded.
//!
//! Must never: wait. The kernel has the next part of a list ready whenever one has been taken (`af_netlink.c:
//! netlink_recvmsg`).

use std::io;

use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Asks for a list and calls `each` with all that is in it. A message that cannot be decoded is left out.
pub fn dump(wanted: RouteNetlinkMessage, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
    let kernel = SocketAddr::new(0, 0);
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.connect(&kernel)?;
    let mut request = NetlinkMessage::from(wanted);
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (datagram, from) = socket.recv_from_full()?;
        if from != kernel {
            continue;
        }
        for message in messages(&datagram) {
            if let NetlinkPayload::InnerMessage(message) = message.payload {
                each(message);
            } else if let NetlinkPayload::Error(error) = message.payload {
                return Err(error.to_io());
            } else if let NetlinkPayload::Done(done) = message.payload {
                let refused = (done.code < 0).then(|| io::Error::from_raw_os_error(-done.code));
                return refused.map_or(Ok(()), Err);
            }
        }
    }
}

/// The messages of a datagram.
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
