//! A value that tasks share and that no task waits for: a mutex that is locked for one closure at a time.
//!
//! Must never: be locked over an await. Tasks that wait for a value follow a `watch` channel.

#[expect(clippy::disallowed_types, reason = "the lock is released before anything else happens")]
use std::sync::Mutex;
use std::sync::PoisonError;

/// A shared value.
#[derive(Debug, Default)]
#[expect(clippy::disallowed_types, reason = "see above")]
pub struct Guarded<T>(Mutex<T>);

impl<T> Guarded<T> {
    /// Shares `value`.
    #[expect(clippy::disallowed_types, reason = "see above")]
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Calls `access` with the value locked. `access` must not call `with` on the same value: that deadlocks.
    pub fn with<R>(&self, access: impl FnOnce(&mut T) -> R) -> R {
        // A task that panicked while it held the lock has ended; the value is usable.
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
