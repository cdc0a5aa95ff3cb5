//! Bodies: what goes from a server behind to a machine, whole or as it comes.
//!
//! Must never: end a broken body as if it were whole. An error of a body ends the connection that it goes over.

use std::io;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;

/// A body of a request or an answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there whole; its length is known.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body; its length is known: 0.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
