//! Waits for a fact: asks again and again until it is true or the deadline has passed.
//!
//! Must never: wait for a fixed time.

use std::time::{Duration, Instant};

use super::Error;

/// Asks for a fact until there is one.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut fact: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let start = Instant::now();
    loop {
        if let Some(found) = fact()? {
            return Ok(found);
        }
        if start.elapsed() > deadline {
            return Err(Error::Late { what: what.to_owned(), after: deadline });
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}
