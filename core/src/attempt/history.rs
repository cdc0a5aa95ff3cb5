//! The attempts of one port: which event begins or ends one, and which stage an event shows.
//!
//! - An attempt begins with a carrier, and ends when that is lost or the port is released.
//! - A machine that resets keeps its carrier. The next attempt begins when the machine does again what comes early in a boot:
//!   firmware solicits a router after the boot script, iPXE solicits one after a good boot script, or iPXE asks for the boot
//!   script after the kernel.
//! - iPXE and Linux solicit alike: from a link-local address, with the source link-layer address option (iPXE `ndp.c:
//!   ipv6conf_tx_rs`, Linux `net/ipv6/ndisc.c: ndisc_send_rs`). The order tells them apart: Linux comes after the kernel. If
//!   a boot script is asked for next, it was iPXE.
//!
//! Must never: grow. A machine may reset a thousand times a minute.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::event::{Event, Limit, RequestEvent};
use super::stage::{Detail, Solicitor, Stage, StageRecord};
use super::text::Text;
use super::{Attempt, AttemptEnd, AttemptId, Moment, Now};
use crate::relay::ipxe::ScriptImages;
use crate::relay::kinds::Kind;

/// The most attempts that are kept.
pub const ATTEMPTS_MAX: usize = 16;
/// A solicitation that is older when the boot script is asked for belongs to the attempt before: iPXE asks for the script
/// within seconds.
const SOLICITATION_AGE_MAX: u64 = 30_000_000;
/// The kernel's event of a new carrier comes up to a second late, in microseconds (Linux `net/core/link_watch.c`). A
/// solicitation that came just before it came over the new carrier.
const LINK_DELAY: u64 = 1_000_000;

/// The last attempts on one port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHistory {
    attempts: VecDeque<Attempt>,
    total: u64,
    /// How often the port had got a carrier when the last event came.
    carriers: Option<u32>,
    /// The images that the current attempt's boot script names.
    images: Option<ScriptImages>,
    /// When a TLS handshake of the current attempt last failed, and why.
    handshake_failure: Option<(Moment, Text)>,
    /// When a machine of the current attempt last exceeded a limit, and which.
    limited: Option<(Moment, Limit)>,
}

/// What an event has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The attempt that has ended.
    pub ended: Option<AttemptEnd>,
    /// Whether an attempt has begun.
    pub has_begun: bool,
    /// The stage that was reached for the first time in the attempt.
    pub reached: Option<Stage>,
}

impl PortHistory {
    /// The attempt that goes on.
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.back().filter(|attempt| attempt.is_open())
    }

    /// The kept attempts, the newest last: at most [`ATTEMPTS_MAX`].
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = &Attempt> + ExactSizeIterator {
        self.attempts.iter()
    }

    /// How many attempts there were.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When a TLS handshake of the current attempt last failed, and why.
    pub fn handshake_failure(&self) -> Option<&(Moment, Text)> {
        self.handshake_failure.as_ref()
    }

    /// When a machine of the current attempt last exceeded a limit, and which.
    pub fn limited(&self) -> Option<(Moment, Limit)> {
        self.limited
    }

    /// Whether the attempt that goes on has an address of its machine.
    pub fn knows_address(&self) -> bool {
        self.has_reached(|stage| stage == Stage::Address)
    }

    /// Whether a carrier's state would change nothing.
    pub fn knows_link(&self, carrier: bool, carriers: u32) -> bool {
        self.carriers == Some(carriers) && carrier == self.current().is_some()
    }

    /// Ends the attempt that goes on.
    pub fn end(&mut self, end: AttemptEnd, at: Moment) {
        if let Some(attempt) = self.attempts.back_mut().filter(|attempt| attempt.is_open()) {
            attempt.end = Some((at, end));
        }
    }

    /// The attempt that a request of this kind belongs to, before the request is forwarded. `random` identifies the attempt
    /// if one begins.
    pub fn begin_request(&mut self, kind: Kind, now: Now, random: u128) -> (AttemptId, Changes) {
        let mut changes = Changes::default();
        if kind == Kind::Script && self.has_reached(|stage| stage > Stage::Script) {
            let is_linux = |stage| stage == Stage::Linux;
            let solicitation = self.take_last_solicitation(now.moment, SOLICITATION_AGE_MAX, is_linux);
            self.begin_next(now, random, &mut changes);
            if let (Some(record), Some(attempt)) = (solicitation, self.attempts.back_mut()) {
                attempt.began = record.first;
                attempt.began_unix_ms -= now.moment.since(record.first) / 1000;
                attempt.stages.push(record);
            }
        }
        self.ensure_open(now, random, &mut changes);
        let id = self.attempts.back().map_or(AttemptId::new(random), |attempt| attempt.id);
        (id, changes)
    }

    /// Records an event. `random` identifies the attempt if one begins.
    pub fn apply(&mut self, event: &Event, now: Now, random: u128) -> Changes {
        let mut changes = Changes::default();
        match event {
            Event::Link { carrier, carriers } => self.link(*carrier, *carriers, now, random, &mut changes),
            Event::Solicitation { from, mac } => {
                let solicitor = self.solicitor(from.is_unspecified());
                if self.is_early(solicitor) {
                    self.begin_next(now, random, &mut changes);
                }
                self.ensure_open(now, random, &mut changes);
                // Another station on the link may solicit, too. The one that has used an address is the machine.
                let has_address = self.has_reached(|stage| stage == Stage::Address);
                if let Some(attempt) = self.attempts.back_mut().filter(|_| !has_address) {
                    attempt.mac = Some(*mac);
                }
                let stage = if solicitor == Solicitor::Linux { Stage::Linux } else { Stage::Solicitation };
                let detail = Detail::Solicitation { solicitor, answered_us: None };
                self.record(stage, detail, now, &mut changes);
            }
            Event::SolicitationAnswered { us } => self.answered(*us),
            Event::Address { address, mac } => {
                self.ensure_open(now, random, &mut changes);
                if let Some(attempt) = self.attempts.back_mut() {
                    attempt.mac = mac.or(attempt.mac);
                }
                self.record(Stage::Address, Detail::Address(*address), now, &mut changes);
            }
            Event::Request(request) => {
                self.ensure_open(now, random, &mut changes);
                self.request(request, now, &mut changes);
            }
            Event::HandshakeFailed(reason) => {
                self.ensure_open(now, random, &mut changes);
                self.handshake_failure = Some((now.moment, reason.clone()));
            }
            Event::RateLimited(limit) => self.limited = Some((now.moment, *limit)),
            Event::Lldp(system) => {
                // A network card's firmware sends LLDP, too. Only Linux's counts.
                if self.has_reached(|stage| matches!(stage, Stage::Kernel | Stage::Linux | Stage::Token)) {
                    self.record(Stage::Lldp, Detail::Lldp(system.clone()), now, &mut changes);
                }
            }
            Event::Released => {
                if self.current().is_some() {
                    self.record(Stage::Released, Detail::Released, now, &mut changes);
                    self.end_with(AttemptEnd::Released, now.moment, &mut changes);
                }
            }
        }
        changes
    }

    fn link(&mut self, carrier: bool, carriers: u32, now: Now, random: u128, changes: &mut Changes) {
        let is_another = self.carriers.is_some_and(|before| before != carriers);
        self.carriers = Some(carriers);
        let is_new = carrier && is_another;
        if is_new && self.has_begun_early(now.moment) {
            return self.record(Stage::Link, Detail::Link, now, changes);
        }
        let is_solicitation = |stage| matches!(stage, Stage::Solicitation | Stage::Linux);
        let early = is_new.then(|| self.take_last_solicitation(now.moment, LINK_DELAY, is_solicitation));
        let mac = self.current().and_then(|attempt| attempt.mac);
        if (!carrier || is_another) && self.current().is_some() {
            self.end_with(AttemptEnd::Carrier, now.moment, changes);
        }
        if carrier && self.current().is_none() {
            self.ensure_open(now, random, changes);
            self.record(Stage::Link, Detail::Link, now, changes);
            if let (Some(Some(record)), Some(attempt)) = (early, self.attempts.back_mut()) {
                attempt.mac = mac;
                attempt.stages.push(record);
            }
        }
    }

    /// Whether the attempt began without a carrier just now: the machine was faster than the kernel's event of its carrier.
    fn has_begun_early(&self, now: Moment) -> bool {
        self.current().is_some_and(|attempt| {
            let is_next = self
                .attempts
                .iter()
                .rev()
                .nth(1)
                .is_some_and(|before| before.end == Some((attempt.began, AttemptEnd::Next)));
            !is_next && attempt.stage(Stage::Link).is_none() && now.since(attempt.began) < LINK_DELAY
        })
    }

    /// Notes when the newest solicitation was answered.
    fn answered(&mut self, us: u32) {
        let records = self.attempts.back_mut().into_iter().flat_map(|attempt| &mut attempt.stages);
        let solicitations = records.filter(|record| matches!(record.detail, Detail::Solicitation { .. }));
        if let Some(newest) = solicitations.max_by_key(|record| record.last)
            && let Detail::Solicitation { answered_us, .. } = &mut newest.detail
        {
            *answered_us = Some(us);
        }
    }

    fn request(&mut self, request: &RequestEvent, now: Now, changes: &mut Changes) {
        let stage = match request.kind {
            Kind::Script => Stage::Script,
            Kind::Token => Stage::Token,
            Kind::Image => self.image_stage(request.record.path.as_str()),
            // metal-hammer's calls while it installs say nothing about how far the boot is.
            Kind::Api => return,
        };
        if let Some(images) = &request.images {
            self.images = Some(images.clone());
        }
        self.record(stage, Detail::Request(Box::new(request.record.clone())), now, changes);
    }

    /// Which image a path is: as the boot script says, or else by the order of a boot.
    fn image_stage(&self, path: &str) -> Stage {
        if self.has_reached(|stage| matches!(stage, Stage::Linux | Stage::Token)) {
            return Stage::Image;
        }
        match &self.images {
            Some(images) if images.is_kernel(path) => Stage::Kernel,
            Some(images) if images.is_initrd(path) => Stage::Initrd,
            _ => {
                let is_other = |record: &StageRecord| {
                    record.detail.request().is_some_and(|kernel| kernel.path.as_str() != path)
                };
                let kernel = self.current().and_then(|attempt| attempt.stage(Stage::Kernel));
                if kernel.is_some_and(is_other) { Stage::Initrd } else { Stage::Kernel }
            }
        }
    }

    fn solicitor(&self, is_unspecified: bool) -> Solicitor {
        if is_unspecified {
            Solicitor::Firmware
        } else if self.has_reached(|stage| matches!(stage, Stage::Kernel | Stage::Initrd | Stage::Linux)) {
            Solicitor::Linux
        } else {
            Solicitor::Ipxe
        }
    }

    /// Whether a solicitation shows that the machine has begun anew.
    fn is_early(&self, solicitor: Solicitor) -> bool {
        match solicitor {
            Solicitor::Firmware => self.has_reached(|stage| stage >= Stage::Script),
            // An error script has iPXE solicit again (`relay::ipxe: retry`).
            Solicitor::Ipxe => {
                self.current().and_then(|attempt| attempt.stage(Stage::Script)).is_some_and(|record| {
                    record.detail.request().is_some_and(|request| request.outcome.is_success())
                })
            }
            Solicitor::Linux => false,
        }
    }

    fn has_reached(&self, is: impl Fn(Stage) -> bool) -> bool {
        self.current().is_some_and(|attempt| attempt.stages.iter().any(|record| is(record.stage)))
    }

    /// Takes a solicitation that belongs to the next attempt out of the current one, if it is the last thing that was seen,
    /// and not older than `age`.
    fn take_last_solicitation(
        &mut self,
        at: Moment,
        age: u64,
        is: impl Fn(Stage) -> bool,
    ) -> Option<StageRecord> {
        let attempt = self.attempts.back_mut().filter(|attempt| attempt.is_open())?;
        let newest = attempt.stages.iter().map(|record| record.last).max()?;
        let index = attempt.stages.iter().position(|record| record.last == newest && is(record.stage))?;
        if at.since(newest) >= age {
            return None;
        }
        let mut taken = if attempt.stages[index].count == 1 {
            attempt.stages.remove(index)
        } else {
            // There was one before.
            attempt.stages[index].count -= 1;
            attempt.stages[index].clone()
        };
        (taken.stage, taken.first, taken.count) = (Stage::Solicitation, taken.last, 1);
        if let Detail::Solicitation { solicitor, .. } = &mut taken.detail
            && *solicitor == Solicitor::Linux
        {
            *solicitor = Solicitor::Ipxe;
        }
        Some(taken)
    }

    fn begin_next(&mut self, now: Now, random: u128, changes: &mut Changes) {
        self.end_with(AttemptEnd::Next, now.moment, changes);
        let mac = self.attempts.back().and_then(|attempt| attempt.mac);
        self.ensure_open(now, random, changes);
        if let Some(attempt) = self.attempts.back_mut() {
            attempt.mac = mac;
        }
    }

    fn end_with(&mut self, end: AttemptEnd, at: Moment, changes: &mut Changes) {
        self.end(end, at);
        changes.ended = Some(end);
    }

    fn ensure_open(&mut self, now: Now, random: u128, changes: &mut Changes) {
        if self.current().is_some() {
            return;
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.attempts.pop_front();
        }
        self.total += 1;
        (self.images, self.handshake_failure, self.limited) = (None, None, None);
        self.attempts.push_back(Attempt {
            id: AttemptId::new(random),
            number: self.total,
            began: now.moment,
            began_unix_ms: now.unix_ms,
            end: None,
            mac: None,
            stages: Vec::new(),
        });
        changes.has_begun = true;
    }

    fn record(&mut self, stage: Stage, detail: Detail, now: Now, changes: &mut Changes) {
        let Some(attempt) = self.attempts.back_mut() else { return };
        match attempt.stages.binary_search_by_key(&stage, |record| record.stage) {
            Ok(index) => {
                let record = &mut attempt.stages[index];
                (record.last, record.count) = (now.moment, record.count.saturating_add(1));
                record.detail = detail;
            }
            Err(index) => {
                let (first, last) = (now.moment, now.moment);
                attempt.stages.insert(index, StageRecord { stage, first, last, count: 1, detail });
                changes.reached = Some(stage);
            }
        }
    }
}

#[cfg(test)]
mod tests;
