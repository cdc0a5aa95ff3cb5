//! One port's advertisements: its order, its engine and its socket. Its errors are its own.
//!
//! Must never: answer a message that is not a valid solicitation, or end over an error.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{trace, warn};

use super::poller::Ears;
use super::socket::{LARGEST, RaSocket, is_down};
use leafboot_core::names::PortName;
use leafboot_core::nd::frame;
use leafboot_core::nd::message::{self, Advertisement, Envelope, ROUTER_ADVERTISEMENT};
use leafboot_core::port_role::PortRole;
use leafboot_core::ra::engine::Engine;
use leafboot_core::ra::variables::RouterVariables;
use leafboot_core::ra::withdrawn::Told;

/// Frames that are taken at one time: more than a full receive buffer has.
const AT_ONCE: usize = 64;
/// The pause after a port's first error, and the longest one.
const RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// One of the pauses between them. Whose device is down for that long, and is yet to serve, is said.
const DOWN_LONG: Duration = RETRY.0.saturating_mul(16);

/// A port that has or had an order.
pub struct Port {
    name: PortName,
    /// By which `Ears` know it.
    key: usize,
    order: Option<PortRole>,
    engine: Engine,
    socket: Option<RaSocket>,
    /// After an error: the next pause, and until when nothing is tried.
    pause: Duration,
    retry_at: Option<Instant>,
    /// While the port's machine sends too much.
    deaf_until: Option<Instant>,
}

impl Port {
    /// A silent port. `told` and `epoch` are the same for every port.
    pub fn new(
        name: PortName,
        key: usize,
        settings: &RouterVariables,
        told: &Arc<Told>,
        epoch: Instant,
    ) -> Self {
        let engine = Engine::new(settings, told, epoch);
        Self {
            name,
            key,
            order: None,
            engine,
            socket: None,
            pause: RETRY.0,
            retry_at: None,
            deaf_until: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &PortName {
        &self.name
    }

    /// Its order.
    pub fn order(&self) -> Option<&PortRole> {
        self.order.as_ref()
    }

    /// When `act` is to be called next.
    pub fn wake(&self) -> Option<Instant> {
        // Nothing is done before.
        if self.retry_at.is_some() {
            return self.retry_at;
        }
        let due = self.order.as_ref().and_then(|_| self.engine.deadline());
        [due, self.deaf_until].into_iter().flatten().min()
    }

    /// Takes an order; whether it is another one.
    pub fn take(&mut self, order: Option<&PortRole>, now: Instant) -> bool {
        if self.order.as_ref() == order {
            return false;
        }
        self.order = order.cloned();
        self.engine.order(order, now);
        (self.pause, self.retry_at) = (RETRY.0, None);
        if self.socket.as_ref().map(RaSocket::ifindex) != self.ifindex() {
            (self.socket, self.deaf_until) = (None, None);
        }
        true
    }

    fn ifindex(&self) -> Option<u32> {
        self.order.as_ref().map(|order| match order {
            PortRole::Serve(serving) | PortRole::Cease(serving) => serving.ifindex,
        })
    }

    /// Opens the socket where that is to be, sends what is due, and listens again to who has sent too much.
    pub fn act(&mut self, ears: &Ears, now: Instant) {
        self.retry_at = self.retry_at.filter(|at| *at > now);
        if self.retry_at.is_some() {
            return;
        }
        if let Err(error) = self.send(ears, now) {
            // That a device goes down is no fault, and usually the order ends with it.
            if self.pause == if is_down(&error) { DOWN_LONG } else { RETRY.0 } {
                warn!(port = %self.name, %error, "cannot advertise; trying again");
            }
            if is_down(&error) {
                self.rest(now);
            } else {
                self.close(now);
            }
        }
    }

    fn send(&mut self, ears: &Ears, now: Instant) -> io::Result<()> {
        let Some(ifindex) = self.ifindex() else { return Ok(()) };
        let socket = match &mut self.socket {
            Some(socket) => socket,
            closed => {
                let socket = closed.insert(RaSocket::open(ifindex)?);
                ears.open(socket, self.key)?;
                self.deaf_until = None;
                socket
            }
        };
        if self.deaf_until.is_some_and(|until| until <= now) {
            self.deaf_until = None;
            ears.listen(socket, self.key, true)?;
        }
        while let Some(send) = self.engine.due(now, fastrand::u32(..)) {
            let Some(frame) = self.engine.frame(send, now) else { break };
            if let Err(error) = socket.send(&frame) {
                self.engine.unsent(send, now);
                return Err(error);
            }
            self.pause = RETRY.0;
        }
        Ok(())
    }

    /// Closes the socket; it is opened again after a pause.
    fn close(&mut self, now: Instant) {
        (self.socket, self.deaf_until) = (None, None);
        self.rest(now);
    }

    /// Sends nothing for a pause, which grows.
    fn rest(&mut self, now: Instant) {
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    /// Takes what waits in the socket, and answers it.
    pub fn hear(&mut self, ears: &Ears, buffer: &mut [u8; LARGEST], now: Instant) {
        for _ in 0..AT_ONCE {
            let Some(socket) = &self.socket else { return };
            match socket.receive(buffer) {
                Ok(None) => return,
                Ok(Some(_)) if self.deaf_until.is_some() => {}
                Ok(Some(length)) if self.engine.hears(now) => {
                    // What comes in shows that the port is up.
                    self.retry_at = None;
                    self.understand(buffer.get(..length).unwrap_or_default(), now);
                    self.act(ears, now);
                }
                Ok(Some(_)) => {
                    // Not listened to, the kernel drops what comes without waking anybody.
                    let until = now + self.engine.deaf_for();
                    self.deaf_until = Some(until);
                    if ears.listen(socket, self.key, false).is_err() {
                        self.close(now);
                    }
                }
                Err(error) if is_down(&error) => {
                    // Its order stands: either nobody has told yet that it is down, or by now it is up again, perhaps
                    // as another device with the same number. The next advertisement finds out: it is tried until it
                    // is sent, on a new socket if the device is another one.
                    self.engine.interrupted(now);
                    return self.act(ears, now);
                }
                Err(error) => {
                    trace!(port = %self.name, %error, "cannot listen");
                    self.close(now);
                }
            }
        }
    }

    fn understand(&mut self, bytes: &[u8], now: Instant) {
        let (envelope, message) = match frame::decode(bytes) {
            Ok(decoded) => decoded,
            Err(reason) => return trace!(port = %self.name, %reason, "discarded a frame"),
        };
        let from = envelope.from;
        if message.first() == Some(&ROUTER_ADVERTISEMENT) {
            return self.see_rogue(message, &envelope, now);
        }
        match message::check_solicitation(message, &envelope) {
            Ok(()) => self.engine.solicited(from, now, fastrand::u32(..)),
            Err(reason) => trace!(port = %self.name, from = %from.address, %reason, "discarded a message"),
        }
    }

    /// RFC 4861 6.2.7 wants a log of what contradicts one's own; on a boot port every other router does.
    fn see_rogue(&mut self, message: &[u8], envelope: &Envelope, now: Instant) {
        if let Ok(rogue) = Advertisement::decode(message, envelope)
            && self.engine.reports_rogue(now)
        {
            let (port, from, mac) = (&self.name, envelope.from.address, envelope.from.mac);
            let prefixes: Vec<String> = rogue.prefixes().map(|prefix| prefix.to_string()).collect();
            let lifetime = rogue.router_lifetime;
            let contradicts = self.engine.contradictions(&rogue, now).join(", ");
            let prefixes = prefixes.join(" ");
            warn!(%port, %from, %mac, lifetime, prefixes, contradicts, "rogue Router Advertisement");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::settings::Settings;

    #[test]
    fn nothing_wakes_a_port_that_rests() {
        let text = "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\n\
                    boot_service = { origins = [\"http://a\"] }\ncache = { name = \"http://c\" }\n";
        let settings = Settings::parse(text).unwrap().ra;
        let now = Instant::now();
        let mut port = Port::new("Ethernet0".parse().unwrap(), 0, &settings, &Arc::default(), now);
        port.deaf_until = Some(now + RETRY.0 / 2);
        assert_eq!(port.wake(), port.deaf_until);
        // `act` does nothing before, so an earlier time would come again and again.
        port.rest(now);
        assert_eq!(port.wake(), Some(now + RETRY.0));
        port.act(&Ears::new().unwrap(), now + RETRY.0 / 2);
        assert_eq!(port.wake(), Some(now + RETRY.0));
    }
}
