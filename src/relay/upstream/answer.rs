//! An answer's body as it comes from an origin. When it is through, its connection is kept for the next request, and the
//! origin is well; when it breaks, the origin is not.
//!
//! Must never: keep a connection that is not through.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::connection::Arriving;
use super::origin::Origin;
use super::standing::Standing;
use crate::relay::body::Patient;

/// The body of an origin's answer.
pub(super) struct AnswerBody {
    body: Patient<Arriving>,
    /// Who keeps its connection.
    origin: Arc<Origin>,
    /// Who hears what becomes of it.
    judged: Option<(Arc<Standing>, usize)>,
}

impl AnswerBody {
    /// `idle`: how long a piece may take.
    pub(super) fn new(body: Arriving, origin: Arc<Origin>, idle: Option<Duration>) -> Self {
        Self { body: Patient::new(body, idle), origin, judged: None }
    }

    /// The same, which tells `standing` what becomes of it: it is the answer of the origin with this index.
    pub(super) fn judged(mut self, standing: &Arc<Standing>, index: usize) -> Self {
        self.judged = Some((Arc::clone(standing), index));
        self
    }

    fn is_through(&mut self) {
        if let Some(connection) = self.body.inner().release() {
            self.origin.keep(connection);
        }
        if let Some((standing, index)) = self.judged.take() {
            standing.answered(index);
        }
    }

    fn broke(&mut self, reason: &io::Error) {
        drop(self.body.inner().release());
        if let Some((standing, index)) = self.judged.take() {
            standing.failed(index, &format!("its answer broke off: {reason}"));
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(error)) => self.broke(error),
            None => self.is_through(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // A body of known length is often not asked for its end.
        if self.body.is_end_stream() {
            self.is_through();
        }
    }
}
