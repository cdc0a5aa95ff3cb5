//! The edge to the kernel: its clocks, and over rtnetlink its links with their addresses, its routes and its neighbours.
//!
//! Must never: change anything in the kernel.

pub mod clock;
pub mod links;
pub mod neighbours;
pub mod netlink;
pub mod process;
pub mod routes;
