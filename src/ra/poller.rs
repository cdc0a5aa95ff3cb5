//! Waits for all ports' sockets at once, and for a bell that another thread rings.
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

/// Among the sockets' keys.
const BELL: u64 = u64::MAX;

/// Wakes who waits in `Ears`.
#[derive(Clone)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    /// Ends the wait that is under way, or the next one. Never waits itself.
    pub fn ring(&self) {
        // It cannot fail but for having been rung too often, and then it is heard.
        let _ = self.0.write(1);
    }
}

/// What is listened to.
pub struct Ears {
    epoll: Epoll,
    bell: Bell,
}

impl Ears {
    /// That hear nothing yet but their bell.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Self { epoll, bell: Bell(Arc::new(bell)) })
    }

    /// The bell that they hear.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Listens to a socket, until it is closed; `key` names it.
    pub fn open(&self, socket: &RaSocket, key: usize) -> io::Result<()> {
        Ok(self.epoll.add(socket, event(EpollFlags::EPOLLIN, key))?)
    }

    /// Goes on listening to a socket, or has a rest from all but its errors.
    pub fn listen(&self, socket: &RaSocket, key: usize, listens: bool) -> io::Result<()> {
        let flags = if listens { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        Ok(self.epoll.modify(socket.as_fd(), &mut event(flags, key))?)
    }

    /// Waits until some sockets have a frame or an error, the bell has rung, or it is `until`; returns the sockets' keys.
    pub fn hear(&self, until: Option<Instant>) -> io::Result<Vec<usize>> {
        const AT_ONCE: usize = 64;
        let mut events = [EpollEvent::empty(); AT_ONCE];
        let count = match self.epoll.wait(&mut events, until.map_or(EpollTimeout::NONE, timeout)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let heard = events.iter().take(count).map(EpollEvent::data);
        let mut keys = Vec::with_capacity(count);
        for data in heard {
            if data == BELL {
                self.bell.0.read()?;
            } else {
                keys.extend(usize::try_from(data));
            }
        }
        Ok(keys)
    }
}

/// In whole milliseconds, rather too late than too early: who is woken too early would spin.
fn timeout(until: Instant) -> EpollTimeout {
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_nanos(999_999);
    EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
}

fn event(flags: EpollFlags, key: usize) -> EpollEvent {
    EpollEvent::new(flags, key as u64)
}
