//! Idle connections to an origin, kept for the next request.
//!
//! Must never: hold more than `IDLE_MAX` connections, or one that was idle for `IDLE_AGE`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::driver::Connection;
use crate::guarded::Guarded;

/// One for each port of a large leaf: all ports may send a request at once.
const IDLE_MAX: usize = 512;
/// Servers close an idle connection after a time of their own; this is shorter than most servers'.
const IDLE_AGE: Duration = Duration::from_secs(8);

/// The idle connections of one origin. A clone is the same pool.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Guarded<Idle>>);

#[derive(Default)]
struct Idle {
    /// Each connection and since when it is idle. The most recently used is at the back.
    connections: VecDeque<(Instant, Connection)>,
    /// Whether a sweep task runs.
    is_sweeping: bool,
}

impl Pool {
    /// Removes the open connection that was used last.
    pub(super) fn take(&self) -> Option<Connection> {
        self.0.with(|idle| {
            let open = idle.connections.iter().rposition(|(_, connection)| !connection.is_closed());
            // All connections behind it are closed.
            idle.connections.truncate(open.map_or(0, |last| last + 1));
            idle.connections.pop_back().map(|(_, connection)| connection)
        })
    }

    /// Puts back a connection whose answer was read to its end. If the pool is full, the longest idle one is closed.
    pub(super) fn keep(&self, connection: Connection) {
        if connection.is_closed() {
            return;
        }
        let is_sweeping = self.0.with(|idle| {
            if idle.connections.len() == IDLE_MAX {
                idle.connections.pop_front();
            }
            idle.connections.push_back((Instant::now(), connection));
            std::mem::replace(&mut idle.is_sweeping, true)
        });
        if !is_sweeping {
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Closes connections that have been idle for `IDLE_AGE`. Ends when the pool is empty.
    async fn sweep(self) {
        let mut oldest = Some(Instant::now());
        while let Some(since) = oldest {
            sleep_until(since + IDLE_AGE).await;
            oldest = self.0.with(|idle| {
                let fresh = idle.connections.iter().position(|(since, _)| since.elapsed() < IDLE_AGE);
                idle.connections.drain(..fresh.unwrap_or(idle.connections.len()));
                idle.is_sweeping = !idle.connections.is_empty();
                idle.connections.front().map(|(since, _)| *since)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;

    fn count(pool: &Pool) -> usize {
        pool.0.with(|idle| idle.connections.len())
    }

    async fn keep(pool: &Pool) -> DuplexStream {
        let (ours, theirs) = duplex(1024);
        pool.keep(Connection::start(ours, 8192, None).await.unwrap());
        theirs
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_are_closed_and_no_others() {
        let pool = Pool::default();
        let _theirs = [keep(&pool).await, keep(&pool).await, keep(&pool).await];
        let begun = Instant::now();
        while begun.elapsed() < 2 * IDLE_AGE {
            let expected = if begun.elapsed() < IDLE_AGE { 3 } else { 1 };
            assert_eq!(count(&pool), expected, "one is in use: {:?}", begun.elapsed());
            pool.keep(pool.take().unwrap());
            sleep(Duration::from_millis(700)).await;
        }
        sleep(IDLE_AGE + Duration::from_millis(1)).await;
        assert_eq!(count(&pool), 0);
        assert!(!pool.0.with(|idle| idle.is_sweeping), "the next connection is swept, too");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_its_server_closed_is_not_taken() {
        let pool = Pool::default();
        let _open = keep(&pool).await;
        drop(keep(&pool).await);
        sleep(Duration::from_millis(1)).await;
        assert!(pool.take().is_some_and(|connection| !connection.is_closed()));
        assert!(pool.take().is_none());
    }
}
