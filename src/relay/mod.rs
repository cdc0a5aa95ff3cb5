//! The relay: boot script, token and image requests of the machines, port by port.
//!
//! `task` runs a `server` on each port that serves a machine; each `connection` of it (over a `reader` with `patience`)
//! hands its requests to `respond`. What HTTP does not tell of it `heads` and `line`
//! see.
//! What becomes of it `intake`, `route` and `decide` say; what it costs stands in the port's `account`, and waits at its `gate`
//! when that is too much; `log` bounds what is said of it. `claim` is what leafboot vouches for
//! (`vouched`: ready to be sent), `script` what iPXE is told while something is wrong, `reply` everybody. `upstream` asks
//! the servers behind, over `tls` where they want it, and `cache` serves images in proxy mode.

pub mod body;
mod cache;
pub mod connection;
pub mod gate;
mod line;
pub mod log;
mod reader;
pub mod reply;
mod respond;
pub mod server;
pub mod task;
pub mod tls;
mod upload;
pub mod upstream;
mod vouched;
