//! The machine at the other end of a connection: whether the framing of its requests is ambiguous, and whether it is
//! still there while neither side sends.
//!
//! Must never: treat a machine that has closed only its sending side as gone before `HALF_CLOSED_MAX` is over.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Bytes, Frame};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::monitored::Monitor;

/// The interval at which the connection of a silent machine is checked.
const INTERVAL: Duration = Duration::from_secs(5);
/// A machine that has closed its sending side and is sent nothing for this time counts as gone. Most such machines have
/// closed both sides, which the leaf cannot tell apart.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(15);

/// The machine at the other end of one connection.
#[derive(Debug, Default)]
pub struct Peer {
    is_ambiguous: AtomicBool,
    /// The events of the connection's socket; none: the machine counts as present.
    events: Option<Epoll>,
}

impl Peer {
    /// The machine at the other end of `socket`.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // Errors are reported in any case (epoll_ctl(2)).
        events.add(socket, EpollEvent::new(EpollFlags::EPOLLRDHUP, 0))?;
        Ok(Self { events: Some(events), ..Self::default() })
    }

    /// Records that a request has come whose end two readers could see in different places.
    pub fn mark_ambiguous(&self) {
        self.is_ambiguous.store(true, Ordering::Relaxed);
    }

    /// Whether such a request has come.
    pub fn is_ambiguous(&self) -> bool {
        self.is_ambiguous.load(Ordering::Relaxed)
    }

    fn state(&self) -> ConnectionState {
        let mut seen = [EpollEvent::empty()];
        match self.events.as_ref().map(|events| events.wait(&mut seen, EpollTimeout::ZERO)) {
            Some(Ok(1..)) if seen[0].events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) => {
                ConnectionState::Broken
            }
            Some(Ok(1..)) => ConnectionState::HalfClosed,
            Some(Ok(0) | Err(_)) | None => ConnectionState::Open,
        }
    }
}

/// The state of a connection, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    /// Both sides may send.
    Open,
    /// The machine will send nothing more.
    HalfClosed,
    /// It was reset, or the machine no longer acknowledges.
    Broken,
}

/// Watches whether a machine is there while it waits for something.
#[derive(Debug)]
pub struct Presence {
    peer: Arc<Peer>,
    checks: Interval,
    /// Since when its sending side has been closed, and it has been sent nothing.
    half_closed: Option<Instant>,
}

impl Presence {
    /// Begins to watch.
    pub fn watch(peer: &Arc<Peer>) -> Self {
        let mut checks = interval_at(Instant::now() + INTERVAL, INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { peer: Arc::clone(peer), checks, half_closed: None }
    }

    /// Waits until the machine is gone.
    pub async fn gone(&mut self) {
        poll_fn(|context| self.poll_gone(context)).await;
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = ready!(self.checks.poll_tick(context));
            match self.peer.state() {
                ConnectionState::Open => self.half_closed = None,
                ConnectionState::HalfClosed
                    if now - *self.half_closed.get_or_insert(now) < HALF_CLOSED_MAX => {}
                ConnectionState::HalfClosed | ConnectionState::Broken => return Poll::Ready(()),
            }
        }
    }
}

/// Monitors a body that is sent to the machine: the body breaks when the machine is gone.
impl Monitor for Presence {
    fn received(&mut self, _: &Frame<Bytes>) {
        self.half_closed = None;
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.poll_gone(context).map(|()| io::Error::new(io::ErrorKind::BrokenPipe, "the machine has gone"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let machine = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, machine)
    }

    /// After how many seconds the machine is taken for gone; none: not within a minute.
    async fn gone_after(presence: &mut Presence) -> Option<u64> {
        let begun = Instant::now();
        let gone = tokio::time::timeout(Duration::from_secs(60), presence.gone()).await;
        gone.ok().map(|()| begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_machine_stays_for_a_while_and_one_that_is_reset_does_not() {
        let (ours, mut machine) = pair();
        let peer = Arc::new(Peer::of(&ours).unwrap());
        assert_eq!(gone_after(&mut Presence::watch(&peer)).await, None);
        machine.write_all(b"more").unwrap();
        machine.shutdown(Shutdown::Write).unwrap();
        assert_eq!(gone_after(&mut Presence::watch(&peer)).await, Some(20), "one look, and the longest wait");
        let mut presence = Presence::watch(&peer);
        for _ in 0..4 {
            tokio::time::timeout(Duration::from_secs(12), presence.gone()).await.unwrap_err();
            presence.received(&Frame::data(Bytes::new()));
        }
        socket2::SockRef::from(&machine).set_linger(Some(Duration::ZERO)).unwrap();
        drop(machine);
        assert_eq!(gone_after(&mut Presence::watch(&peer)).await, Some(5));
        assert_eq!(gone_after(&mut Presence::watch(&Arc::default())).await, None);
    }
}
