//! The laboratory: a leaf, a partition and machines on one computer, with nothing faked.
//!
//! ```text
//!   this computer, in a network namespace of its own
//!  ┌───────────────────────────────────────────────────────────────────────────────┐
//!  │  leaf01: user-mode-linux with VRF                   machines: QEMU            │
//!  │ ┌───────────────────────────────────┐  one bridge  ┌────────────────────────┐ │
//!  │ │ redis-server · SONiC model · FRR's│  per port    │ iPXE from a CD image,  │ │
//!  │ │ routes · leafboot       Ethernet0 ├──────────────┤ then Debian's kernel   │ │
//!  │ │                         Ethernet4 ├──────────────┤ and a busybox initramfs│ │
//!  │ │ eth0              Ethernet120     │              └────────────────────────┘ │
//!  │ └──┬──────────────────────┬─────────┘                                         │
//!  │    │ management           │ uplink    partition: boot service, cache, DNS     │
//!  │    └ control              └──────────────────────────────────────             │
//!  └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! * [`site`]: every name and address.
//! * [`leaf`]: what runs in the guest; [`sonic`]: a model of SONiC's daemons.
//! * [`partition`]: the servers behind the uplink.
//! * [`host`]: starts all of it, follows a machine's boot, and checks the result.

pub mod host;
pub mod leaf;
pub mod partition;
pub mod site;
pub mod sonic;
