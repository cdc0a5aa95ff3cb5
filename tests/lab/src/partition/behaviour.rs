//! How a server of the partition behaves.
//!
//! A test writes the behaviour to a file, which the server reads for every request, so it holds from the next request
//! on. A server that is away has no behaviour: its process does not run.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::CONTENT_LENGTH;
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::{Sleep, sleep};

/// The time between the first half of an answer that is cut off and the end of its connection.
const CUT_AFTER: Duration = Duration::from_millis(100);

/// How a server behaves; by default without a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// The delay before each answer.
    pub delay: Duration,
    /// A status that replaces that of every answer, with an answer of no use.
    pub status: Option<u16>,
    /// Whether the connection ends in the middle of each answer.
    pub cut: bool,
    /// The text by which boot.ipxe names itself on the console.
    pub edition: String,
}

impl Behaviour {
    /// Reads the behaviour from a file; a missing file means the default.
    pub fn read(path: &Path) -> io::Result<Behaviour> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Behaviour::default()),
            other => Ok(serde_json::from_str(&other?)?),
        }
    }

    /// Replaces the file at once: a server that reads at this moment gets the earlier or the new behaviour.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, serde_json::to_string(self)?)?;
        std::fs::rename(unfinished, path)
    }

    /// The status that replaces every other, if there is one.
    pub(super) fn status(&self) -> Option<StatusCode> {
        self.status.and_then(|status| StatusCode::from_u16(status).ok())
    }

    /// Gives an answer as this behaviour has it.
    pub(super) async fn give(&self, answer: Response<Full<Bytes>>) -> Response<Given> {
        sleep(self.delay).await;
        let (mut head, body) = answer.into_parts();
        if !self.cut {
            return Response::from_parts(head, Given::Whole(body));
        }
        let whole = body.size_hint().lower();
        head.headers.insert(CONTENT_LENGTH, whole.into());
        let half = Half { rest: Some(body), whole, end: Box::pin(sleep(CUT_AFTER)) };
        Response::from_parts(head, Given::Half(half))
    }
}

/// An answer's body.
pub(super) enum Given {
    /// All of it.
    Whole(Full<Bytes>),
    /// The first half, and then the end of the connection.
    Half(Half),
}

pub(super) struct Half {
    rest: Option<Full<Bytes>>,
    whole: u64,
    end: Pin<Box<Sleep>>,
}

impl Body for Given {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Given::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Given::Half(half) => match half.rest.take() {
                Some(mut body) => Pin::new(&mut body)
                    .poll_frame(context)
                    .map_ok(|frame| frame.map_data(|bytes| bytes.slice(..bytes.len() / 2)))
                    .map_err(|never| match never {}),
                None => {
                    half.end.as_mut().poll(context).map(|()| Some(Err(io::ErrorKind::ConnectionReset.into())))
                }
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Given::Whole(body) => body.size_hint(),
            Given::Half(half) => SizeHint::with_exact(half.whole),
        }
    }
}
