//! The Router Advertisements of one port: its role, its engine and its socket. An error affects this port only.
//!
//! Must never: answer a message that is not a valid solicitation, or give up after an error.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{trace, warn};

use super::poller::Poller;
use super::socket::{FRAME_MAX, RaSocket, is_down};
use crate::attempts::PortRecorder;
use crate::metrics::{Discarded, RaCounters, Sent};
use leafboot_core::attempt::{Event, Limit};
use leafboot_core::names::PortName;
use leafboot_core::nd;
use leafboot_core::nd::frame::Envelope;
use leafboot_core::nd::message::{self, Advertisement, ROUTER_ADVERTISEMENT};
use leafboot_core::port_role::PortRole;
use leafboot_core::ra::engine::{DueAdvertisement, Engine};
use leafboot_core::ra::variables::RouterVariables;
use leafboot_core::ra::withdrawn::WithdrawnOptions;

/// The most frames that are received in a row. A full receive buffer has fewer.
const FRAMES_MAX: usize = 64;
/// The pause after the first error. It doubles with each error.
const RETRY_MIN: Duration = Duration::from_millis(5);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A device that is down is logged once, when the pause has reached this. Usually its port is released earlier.
const DOWN_LOGGED: Duration = RETRY_MIN.saturating_mul(16);

/// A port that has or had a role.
pub struct RaPort {
    name: PortName,
    attempts: Arc<PortRecorder>,
    counters: Arc<RaCounters>,
    /// Its key in the poller.
    key: usize,
    role: Option<PortRole>,
    engine: Engine,
    socket: Option<RaSocket>,
    /// The pause after the next error.
    pause: Duration,
    /// Nothing is sent before this time: there was an error.
    retry_at: Option<Instant>,
    /// Nothing is received before this time: the machine is over its rate limit.
    throttled_until: Option<Instant>,
    /// When the solicitation came that is not answered yet.
    unanswered: Option<Instant>,
}

impl RaPort {
    /// A silent port. `withdrawn` and `epoch` are the same for every port.
    pub fn new(
        name: PortName,
        key: usize,
        variables: &RouterVariables,
        withdrawn: &Arc<WithdrawnOptions>,
        epoch: Instant,
        attempts: Arc<PortRecorder>,
        counters: Arc<RaCounters>,
    ) -> Self {
        let engine = Engine::new(variables, withdrawn, epoch);
        Self {
            name,
            attempts,
            counters,
            key,
            role: None,
            engine,
            socket: None,
            pause: RETRY_MIN,
            retry_at: None,
            throttled_until: None,
            unanswered: None,
        }
    }

    /// Its SONiC name.
    pub fn name(&self) -> &PortName {
        &self.name
    }

    /// Its current role. None: it is silent.
    pub fn role(&self) -> Option<&PortRole> {
        self.role.as_ref()
    }

    /// When to call `send_due` next.
    pub fn deadline(&self) -> Option<Instant> {
        // `send_due` returns at once before `retry_at`, so an earlier deadline would make the thread spin.
        if self.retry_at.is_some() {
            return self.retry_at;
        }
        let due = self.role.as_ref().and_then(|_| self.engine.deadline());
        [due, self.throttled_until].into_iter().flatten().min()
    }

    /// Sets the role. Returns whether it has changed.
    pub fn set_role(&mut self, role: Option<&PortRole>, now: Instant) -> bool {
        if self.role.as_ref() == role {
            return false;
        }
        self.role = role.cloned();
        self.unanswered = None;
        self.engine.set_role(role, now);
        (self.pause, self.retry_at) = (RETRY_MIN, None);
        if self.socket.as_ref().map(RaSocket::ifindex) != self.ifindex() {
            (self.socket, self.throttled_until) = (None, None);
        }
        true
    }

    fn ifindex(&self) -> Option<u32> {
        self.role.as_ref().map(|role| match role {
            PortRole::Serve(serving) | PortRole::Cease(serving) => serving.ifindex,
        })
    }

    /// Opens the socket if the port has a role, sends what is due, and ends a throttling whose time is over.
    pub fn send_due(&mut self, poller: &Poller, now: Instant) {
        self.retry_at = self.retry_at.filter(|at| *at > now);
        if self.retry_at.is_some() {
            return;
        }
        if let Err(error) = self.send(poller, now) {
            // A device that goes down is no fault: usually the role ends with it.
            let log_at = if is_down(&error) { DOWN_LOGGED } else { RETRY_MIN };
            if self.pause == log_at {
                warn!(port = %self.name, %error, "cannot send Router Advertisements; retrying");
            }
            if is_down(&error) {
                self.back_off(now);
            } else {
                self.close(now);
            }
        }
    }

    fn send(&mut self, poller: &Poller, now: Instant) -> io::Result<()> {
        let Some(ifindex) = self.ifindex() else { return Ok(()) };
        let socket = match &mut self.socket {
            Some(socket) => socket,
            empty => {
                let socket = empty.insert(RaSocket::open(ifindex)?);
                poller.add(socket, self.key)?;
                self.throttled_until = None;
                socket
            }
        };
        if self.throttled_until.is_some_and(|until| until <= now) {
            self.throttled_until = None;
            poller.unmute(socket, self.key)?;
        }
        while let Some(send) = self.engine.due(now, fastrand::u32(..)) {
            let Some(frame) = self.engine.frame(send, now) else { break };
            if let Err(error) = socket.send(&frame) {
                self.engine.reschedule(send, now);
                return Err(error);
            }
            self.pause = RETRY_MIN;
            self.counters.sent(match send {
                DueAdvertisement::Current => Sent::Multicast,
                DueAdvertisement::Answer(_) => Sent::Answer,
                DueAdvertisement::Final => Sent::Final,
                DueAdvertisement::FormerAddress(_) => Sent::FormerAddress,
            });
            if matches!(send, DueAdvertisement::Current | DueAdvertisement::Answer(_))
                && let Some(came) = self.unanswered.take()
            {
                self.attempts.record(&Event::SolicitationAnswered { us: micros(came) });
            }
        }
        Ok(())
    }

    /// Closes the socket. `send_due` opens it again after a pause.
    fn close(&mut self, now: Instant) {
        (self.socket, self.throttled_until) = (None, None);
        self.back_off(now);
    }

    /// Sends nothing for a pause, which doubles each time.
    fn back_off(&mut self, now: Instant) {
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }

    /// Receives the frames that wait in the socket, and answers solicitations.
    pub fn receive(&mut self, poller: &Poller, buffer: &mut [u8; FRAME_MAX], now: Instant) {
        for _ in 0..FRAMES_MAX {
            let Some(socket) = &self.socket else { return };
            match socket.receive(buffer) {
                Ok(None) => return,
                Ok(Some(_)) if self.throttled_until.is_some() => {
                    self.counters.discarded(Discarded::RateLimit);
                }
                Ok(Some(length)) if self.engine.admit(now) => {
                    // The frame shows that the port is up.
                    self.retry_at = None;
                    self.handle(buffer.get(..length).unwrap_or_default(), now);
                    self.send_due(poller, now);
                }
                Ok(Some(_)) => {
                    // A muted socket does not wake the thread. The kernel drops the frames that its buffer has no room
                    // for.
                    self.counters.discarded(Discarded::RateLimit);
                    self.attempts.record(&Event::RateLimited(Limit::Solicitations));
                    let until = now + self.engine.throttle_time();
                    self.throttled_until = Some(until);
                    if poller.mute(socket, self.key).is_err() {
                        self.close(now);
                    }
                }
                Err(error) if is_down(&error) => {
                    // The role is unchanged: either leafboot does not know of the change yet, or the device is up
                    // again, perhaps a new device with the same index. The next advertisement is retried until it is
                    // sent, on a new socket if the device is new.
                    self.engine.interrupted(now);
                    return self.send_due(poller, now);
                }
                Err(error) => {
                    trace!(port = %self.name, %error, "cannot receive frames");
                    self.close(now);
                }
            }
        }
    }

    fn handle(&mut self, frame: &[u8], now: Instant) {
        let (envelope, message) = match nd::frame::decode(frame) {
            Ok(decoded) => decoded,
            Err(reason) => {
                self.counters.discarded(Discarded::Invalid(reason));
                return trace!(port = %self.name, %reason, "frame discarded");
            }
        };
        let from = envelope.from;
        if message.first() == Some(&ROUTER_ADVERTISEMENT) {
            return self.log_rogue(message, &envelope, now);
        }
        match message::check_solicitation(message, &envelope) {
            Ok(()) => {
                self.engine.solicited(from, now, fastrand::u32(..));
                self.counters.solicited();
                self.unanswered.get_or_insert(now);
                self.attempts.record(&Event::Solicitation { from: from.address, mac: from.mac });
            }
            Err(reason) => {
                self.counters.discarded(Discarded::Invalid(reason));
                trace!(port = %self.name, from = %from.address, %reason, "message discarded");
            }
        }
    }

    /// RFC 4861 6.2.7: advertisements that contradict the port's own are logged. On a boot port every other router is a
    /// rogue.
    fn log_rogue(&mut self, message: &[u8], envelope: &Envelope, now: Instant) {
        let rogue = match Advertisement::decode(message, envelope) {
            Ok(rogue) => rogue,
            Err(reason) => return self.counters.discarded(Discarded::Invalid(reason)),
        };
        self.counters.discarded(Discarded::Rogue);
        if self.engine.logs_rogue(now) {
            let (port, from, mac) = (&self.name, envelope.from.address, envelope.from.mac);
            let prefixes: Vec<String> = rogue.prefixes().map(|prefix| prefix.to_string()).collect();
            let lifetime = rogue.router_lifetime;
            let contradicts = self.engine.contradictions(&rogue, now).join(", ");
            let prefixes = prefixes.join(" ");
            warn!(%port, %from, %mac, lifetime, prefixes, contradicts, "rogue Router Advertisement");
        }
    }
}

/// The microseconds since a solicitation came.
fn micros(came: Instant) -> u32 {
    u32::try_from(came.elapsed().as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::settings::Settings;

    #[test]
    fn a_port_that_backs_off_has_no_earlier_deadline() {
        let text = "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\n\
                    boot_service = { origins = [\"http://a\"] }\ncache = { name = \"http://c\" }\n";
        let settings = Settings::parse(text).unwrap().ra;
        let now = Instant::now();
        let name: PortName = "Ethernet0".parse().unwrap();
        let attempts = crate::attempts::Recorder::default().port(&name);
        let mut port = RaPort::new(name, 0, &settings, &Arc::default(), now, attempts, Arc::default());
        port.throttled_until = Some(now + RETRY_MIN / 2);
        assert_eq!(port.deadline(), port.throttled_until);
        // `send_due` does nothing before, so the thread would spin on an earlier deadline.
        port.back_off(now);
        assert_eq!(port.deadline(), Some(now + RETRY_MIN));
        port.send_due(&Poller::new().unwrap(), now + RETRY_MIN / 2);
        assert_eq!(port.deadline(), Some(now + RETRY_MIN));
    }
}
