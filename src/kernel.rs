//! What the kernel knows: its clocks, and over rtnetlink links and their addresses, routes, neighbours.
//!
//! Must never: change anything in the kernel.

pub mod clock;
pub mod links;
pub mod neighbours;
pub mod netlink;
pub mod process;
pub mod routes;
