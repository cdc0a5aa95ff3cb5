//! Waits for the sockets of all ports at once, and for wake-ups from other threads.
//!
//! Must never: read from a socket.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::socket::RaSocket;

/// The key of the waker, which no socket has.
const WAKER: u64 = u64::MAX;

/// Wakes a thread that waits in [`Poller::wait`].
#[derive(Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// Ends the current wait, or the next one. Does not block.
    pub fn wake(&self) {
        // Writing fails only when the counter is at its maximum, and then the poller is awake.
        let _ = self.0.write(1);
    }
}

/// The set of sockets that are waited for.
pub struct Poller {
    epoll: Epoll,
    waker: Waker,
}

impl Poller {
    /// A poller that has no sockets yet.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waker = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&waker, EpollEvent::new(EpollFlags::EPOLLIN, WAKER))?;
        Ok(Self { epoll, waker: Waker(Arc::new(waker)) })
    }

    /// The poller's waker, for other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Adds a socket. It is removed when it is closed. [`Self::wait`] returns its `key`.
    pub fn add(&self, socket: &RaSocket, key: usize) -> io::Result<()> {
        Ok(self.epoll.add(socket, event(EpollFlags::EPOLLIN, key))?)
    }

    /// Stops waiting for a socket's frames. An error of the socket still ends a wait.
    pub fn mute(&self, socket: &RaSocket, key: usize) -> io::Result<()> {
        self.modify(socket, EpollFlags::empty(), key)
    }

    /// Waits for a muted socket's frames again.
    pub fn unmute(&self, socket: &RaSocket, key: usize) -> io::Result<()> {
        self.modify(socket, EpollFlags::EPOLLIN, key)
    }

    fn modify(&self, socket: &RaSocket, flags: EpollFlags, key: usize) -> io::Result<()> {
        Ok(self.epoll.modify(socket.as_fd(), &mut event(flags, key))?)
    }

    /// Waits until a socket has a frame or an error, the waker is called, or `deadline` is reached. Returns the keys of
    /// the sockets.
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<Vec<usize>> {
        const EVENTS_MAX: usize = 64;
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let count = match self.epoll.wait(&mut events, deadline.map_or(EpollTimeout::NONE, timeout)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut keys = Vec::with_capacity(count);
        for key in events.iter().take(count).map(EpollEvent::data) {
            if key == WAKER {
                self.waker.0.read()?;
            } else {
                keys.extend(usize::try_from(key));
            }
        }
        Ok(keys)
    }
}

/// The time until `deadline`, rounded up to whole milliseconds: rounded down, the thread would spin.
fn timeout(deadline: Instant) -> EpollTimeout {
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_nanos(999_999);
    EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
}

fn event(flags: EpollFlags, key: usize) -> EpollEvent {
    EpollEvent::new(flags, key as u64)
}
