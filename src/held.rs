//! A value that tasks share and nobody waits for: whoever needs it looks at it, or changes it, for a moment.
//!
//! Must never: be held over an await. What somebody waits for is a `watch` channel.

#[expect(clippy::disallowed_types, reason = "its lock is out before anything else happens")]
use std::sync::Mutex;
use std::sync::PoisonError;

/// The value.
#[derive(Debug, Default)]
#[expect(clippy::disallowed_types, reason = "the same")]
pub struct Held<T>(Mutex<T>);

impl<T> Held<T> {
    /// Shares `value`.
    #[expect(clippy::disallowed_types, reason = "the same")]
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Does something with it. `doing` must not look at it again.
    pub fn with<R>(&self, doing: impl FnOnce(&mut T) -> R) -> R {
        // A task that panicked with it has ended its own work only.
        doing(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
