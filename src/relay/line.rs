//! A machine's connection beside what is said over it: whether its requests could be read in two ways, and whether the
//! machine is still there while nothing is said.
//!
//! Must never: take a machine that has said all for one that is gone, until that has lasted.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::body::Body;

/// Between two looks after a machine that is silent.
const LOOK: Duration = Duration::from_secs(5);
/// A machine that has shut its side down hears nothing for so long, and is taken for gone: most that do so have closed
/// both sides, which looks the same from here.
const SHUT_MAX: Duration = Duration::from_secs(15);

/// One connection.
#[derive(Debug, Default)]
pub struct Line {
    is_ambiguous: AtomicBool,
    /// What the kernel says of its socket; none: nobody looks after the machine.
    events: Option<Epoll>,
}

impl Line {
    /// The connection over `socket`.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // Errors are told of in any case (epoll_ctl(2)).
        events.add(socket, EpollEvent::new(EpollFlags::EPOLLRDHUP, 0))?;
        Ok(Self { events: Some(events), ..Self::default() })
    }

    /// A request came whose end two readers could see differently.
    pub fn is_read_in_two_ways(&self) {
        self.is_ambiguous.store(true, Ordering::Relaxed);
    }

    /// Whether such a request came.
    pub fn is_ambiguous(&self) -> bool {
        self.is_ambiguous.load(Ordering::Relaxed)
    }

    fn state(&self) -> State {
        let mut seen = [EpollEvent::empty()];
        match self.events.as_ref().map(|events| events.wait(&mut seen, EpollTimeout::ZERO)) {
            Some(Ok(1..)) if seen[0].events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) => {
                State::Broken
            }
            Some(Ok(1..)) => State::Shut,
            Some(Ok(0) | Err(_)) | None => State::Open,
        }
    }
}

/// What the kernel says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Both sides may speak.
    Open,
    /// The machine will say nothing more.
    Shut,
    /// It was reset, or the machine does not answer the kernel any more.
    Broken,
}

/// Looks after a machine while it is to be told something.
#[derive(Debug)]
pub struct Watch {
    looks: Interval,
    /// Since when its side is shut, and it has heard nothing.
    shut: Option<Instant>,
}

impl Watch {
    /// Begins.
    pub fn begin() -> Self {
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { looks, shut: None }
    }

    /// The machine was told something.
    pub fn told(&mut self) {
        self.shut = None;
    }

    /// Waits until the machine at the end of `line` is gone.
    pub async fn gone(&mut self, line: &Line) {
        poll_fn(|context| self.poll_gone(line, context)).await;
    }

    /// Ready when the machine is gone.
    pub fn poll_gone(&mut self, line: &Line, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = ready!(self.looks.poll_tick(context));
            match line.state() {
                State::Open => self.shut = None,
                State::Shut if now - *self.shut.get_or_insert(now) < SHUT_MAX => {}
                State::Shut | State::Broken => return Poll::Ready(()),
            }
        }
    }
}

/// What a machine is told, as long as it is there.
struct Watched {
    body: Body,
    line: Arc<Line>,
    watch: Watch,
}

/// `body`, which breaks when the machine at the end of `line` is gone.
pub fn watched(body: Body, line: &Arc<Line>, watch: Watch) -> Body {
    Body::coming(Watched { body, line: Arc::clone(line), watch })
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { body, line, watch } = &mut *self;
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(frame) => {
                watch.told();
                Poll::Ready(frame)
            }
            Poll::Pending => {
                ready!(watch.poll_gone(line, context));
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the machine has gone"))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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

    /// How long the machine is looked after, of a minute.
    async fn looked_after(line: &Line, watch: &mut Watch) -> Option<u64> {
        let begun = Instant::now();
        let gone = tokio::time::timeout(Duration::from_secs(60), watch.gone(line)).await;
        gone.ok().map(|()| begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_said_all_is_there_for_a_while_and_who_is_reset_is_not() {
        let (ours, mut machine) = pair();
        let line = Line::of(&ours).unwrap();
        assert_eq!(looked_after(&line, &mut Watch::begin()).await, None);
        machine.write_all(b"more").unwrap();
        machine.shutdown(Shutdown::Write).unwrap();
        assert_eq!(
            looked_after(&line, &mut Watch::begin()).await,
            Some(20),
            "a look, and then as long as it may be"
        );
        let mut watch = Watch::begin();
        for _ in 0..4 {
            tokio::time::timeout(Duration::from_secs(12), watch.gone(&line)).await.unwrap_err();
            watch.told();
        }
        socket2::SockRef::from(&machine).set_linger(Some(Duration::ZERO)).unwrap();
        drop(machine);
        assert_eq!(looked_after(&line, &mut Watch::begin()).await, Some(5));
        assert_eq!(looked_after(&Line::default(), &mut Watch::begin()).await, None);
    }
}
