//! Who is woken when there is work to do for a connection: who waits for it, and nobody while he does it himself.
//!
//! Must never: forget that it rang while it was muted.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::held::Held;

/// A connection's bell.
#[derive(Debug, Default)]
pub(super) struct Bell(Held<State>);

#[derive(Debug, Default)]
struct State {
    /// Whom it wakes; none: it is muted.
    waiting: Option<Waker>,
    /// It rang while it was muted.
    rang: bool,
}

impl Bell {
    /// Mutes it, and forgets that it rang: what it rang for is done next.
    pub(super) fn mute(&self) {
        self.0.with(|state| *state = State::default());
    }

    /// From now on it wakes `waiting`: at once, if it rang meanwhile.
    pub(super) fn ring_for(&self, waiting: &Waker) {
        let rang = self.0.with(|state| {
            state.waiting = (!state.rang).then(|| waiting.clone());
            state.rang
        });
        if rang {
            waiting.wake_by_ref();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = self.0.with(|state| {
            state.rang = state.waiting.is_none();
            state.waiting.take()
        });
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_once_and_nobody_else() {
        let woken = Arc::new(Woken::default());
        let count = || woken.0.load(Ordering::Relaxed);
        let (waiting, bell) = (Waker::from(Arc::clone(&woken)), Arc::new(Bell::default()));
        let rope = Waker::from(Arc::clone(&bell));
        bell.mute();
        rope.wake_by_ref();
        assert_eq!(count(), 0, "muted");
        bell.ring_for(&waiting);
        assert_eq!(count(), 1, "it rang meanwhile");
        bell.mute();
        bell.ring_for(&waiting);
        assert_eq!(count(), 1, "what it rang for is done");
        rope.wake_by_ref();
        rope.wake_by_ref();
        assert_eq!(count(), 2, "once");
        bell.ring_for(&waiting);
        assert_eq!(count(), 3, "nobody had done yet what it rang for");
    }
}
