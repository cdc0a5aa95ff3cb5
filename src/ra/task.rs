//! Follows what the ports are to do, and has a thread do it.
//!
//! The advertisements have a thread of their own, so that neither a large push nor a slow database delays an answer.
//!
//! Must never: wait for the thread.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::error;

use super::driver::Driver;
use leafboot_core::desired::Desired;
use leafboot_core::names::PortName;
use leafboot_core::observed::Links;
use leafboot_core::port_role::{self, RaStates};
use leafboot_core::ra::withdrawn::Told;
use leafboot_core::settings::Settings;

/// Follows the ports' orders until the process or the thread ends, and withdraws what was `told` before. Dropped, it ends
/// the thread.
pub async fn run(
    config: Arc<Settings>,
    told: Arc<Told>,
    mut desired: watch::Receiver<Option<Desired>>,
    mut links: watch::Receiver<Links>,
    mut unrouted: watch::Receiver<BTreeSet<PortName>>,
    states: watch::Sender<RaStates>,
) {
    let vrf = config.boot.vrf.clone();
    let (driver, mut ended) = match Driver::start(config, told, states) {
        Ok(started) => started,
        Err(error) => return error!(%error, "cannot advertise"),
    };
    loop {
        driver.order(port_role::orders(
            desired.borrow_and_update().as_ref(),
            &links.borrow_and_update(),
            &unrouted.borrow_and_update(),
            &vrf,
        ));
        tokio::select! {
            biased;
            changed = links.changed() => if changed.is_err() { return },
            changed = desired.changed() => if changed.is_err() { return },
            changed = unrouted.changed() => if changed.is_err() { return },
            _ = &mut ended => return,
        }
    }
}
