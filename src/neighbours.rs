//! The rtnetlink edge of the neighbour table: which Ethernet address an IPv6 address on a port has.
//!
//! Must never: change anything in the kernel, or make a request wait longer than `PATIENCE`.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::time::timeout;

use crate::net::Mac;

/// The kernel answers at once or not at all.
const PATIENCE: Duration = Duration::from_millis(100);

/// The kernel's neighbour table.
#[derive(Debug, Clone)]
pub struct Neighbours(Handle);

impl Neighbours {
    /// Opens a netlink socket; its work is done in a task of its own, on the calling runtime.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// The Ethernet address that answers for `address` on the device `ifindex`, where the kernel knows one.
    pub async fn mac(&self, ifindex: u32, address: Ipv6Addr) -> Option<Mac> {
        let mut wanted = NeighbourMessage::default();
        wanted.header.family = AddressFamily::Inet6;
        wanted.header.ifindex = ifindex;
        wanted.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(IpAddr::V6(address))));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(wanted));
        // Not a dump: one entry (Linux 5.0, rtnetlink.c: neigh_get).
        request.header.flags = NLM_F_REQUEST;
        let answers = self.0.clone().request(request).ok()?;
        timeout(PATIENCE, first(answers)).await.ok().flatten()
    }
}

async fn first(mut answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin) -> Option<Mac> {
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) =
        answers.next().await?.payload
    else {
        return None;
    };
    entry.attributes.into_iter().find_map(|attribute| {
        if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
            <[u8; 6]>::try_from(bytes).ok().map(Mac)
        } else {
            None
        }
    })
}
