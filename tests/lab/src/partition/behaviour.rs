//! How a server of the partition behaves. The story tells it in a file, which the server reads for every request: what is
//! told holds from the next request on.
//!
//! It says nothing about a server that is away: that one's process is not there.

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

/// Between the first half of an answer that is cut off and the end of its connection.
const CUT_AFTER: Duration = Duration::from_millis(100);

/// How a server behaves; by default as it should.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// How long it thinks before each answer.
    pub delay: Duration,
    /// The status that every answer has instead of its own, with nothing of use in it.
    pub status: Option<u16>,
    /// Whether the connection ends in the middle of each answer.
    pub cut: bool,
    /// What boot.ipxe says of itself on the console.
    pub edition: String,
}

impl Behaviour {
    /// The behaviour that a file tells; a file that is not there tells nothing.
    pub fn read(path: &Path) -> io::Result<Behaviour> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Behaviour::default()),
            other => Ok(serde_json::from_str(&other?)?),
        }
    }

    /// Tells it; a server that reads at this moment has the one before or this one, and never a half.
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
