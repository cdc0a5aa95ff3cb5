//! Accepts connections. Neither a shortage of resources nor a peer that has gone ends a listener.
//!
//! Must never: give up, or log a warning twice about the same shortage.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

/// The pause after an error.
const RETRY: Duration = Duration::from_millis(500);

/// Accepts the next connection. `listener` is its name for the log.
pub async fn next<T, F>(listener: impl Display, mut accept: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    let mut is_logged = false;
    loop {
        match accept().await {
            Ok(connection) => return connection,
            // The peer has gone before its connection was accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // A shortage of resources, or an error of the connection (accept(2)). A closed listener would reset all
            // connections that wait.
            Err(error) => {
                if is_logged {
                    debug!(%listener, %error, "still cannot accept connections");
                } else {
                    warn!(%listener, %error, "cannot accept connections; retrying");
                }
                is_logged = true;
                sleep(RETRY).await;
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
