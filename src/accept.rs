//! Taking connections: a shortage, or a peer that is gone before it was taken, ends no listener.
//!
//! Must never: give up, or say the same of one shortage twice.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

/// Between attempts to take a connection.
const AGAIN: Duration = Duration::from_millis(500);

/// The next connection that `accept` takes. `listener`: which one it is, for the log.
pub async fn next<T, F>(listener: impl Display, mut accept: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    let mut is_told = false;
    loop {
        match accept().await {
            Ok(connection) => return connection,
            // The peer was gone before it was taken.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // A shortage, or an error of the connection's own (accept(2)). What waits would be reset with the listener.
            Err(error) => {
                if is_told {
                    debug!(%listener, %error, "still cannot take connections");
                } else {
                    warn!(%listener, %error, "cannot take connections; trying again");
                }
                is_told = true;
                sleep(AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_waited_for() {
        let errors = [ErrorKind::ConnectionAborted.into(), io::Error::from_raw_os_error(24)];
        let mut answers = errors.into_iter().map(Err).chain([Ok("taken")]);
        assert_eq!(next("a test", || std::future::ready(answers.next().unwrap())).await, "taken");
    }
}
