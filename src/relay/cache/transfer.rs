//! Receives one image from the partition cache into its entry, and resumes where a connection broke.
//!
//! Must never: join bytes of two versions, or complete an entry before its last byte is there.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::buffer::BLOCK;
use super::client::{Client, TransferError};
use super::store::Store;
use super::writer::Writer;
use crate::relay::body::Body;
use crate::relay::port_log::PortLog;

/// A broken transfer is resumed at once, and then after these pauses: a partition cache that restarts is back within
/// seconds.
const RESUME_AFTER: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// A transfer fails after it broke this often in a row without a block received.
const FRUITLESS_MAX: u32 = 3;
/// A transfer without readers goes on for this long: a machine whose connection broke comes back.
const UNREAD_MAX: Duration = Duration::from_secs(10);
/// Waiting readers are given less than a batch after this time.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// One transfer.
pub struct Transfer {
    /// The partition cache.
    pub client: Client,
    /// Where the entry is kept.
    pub store: Arc<Store>,
    /// The image's path.
    pub path: String,
    /// The log of the port whose machine asked.
    pub log: PortLog,
    /// Whether all bytes are kept, or a window of the last ones.
    pub is_whole: bool,
}

impl Transfer {
    /// Receives the image from `body` on. `permit` is released at the end.
    pub async fn run(self, mut writer: Writer, body: Body, permit: OwnedSemaphorePermit) {
        let (started, entry) = (Instant::now(), Arc::clone(writer.entry()));
        let received = tokio::select! {
            received = self.receive(&mut writer, body) => received,
            () = entry.unread_for(UNREAD_MAX) => Err(io::Error::other("no machine reads it")),
            () = entry.evicted() => {
                if self.log.has_room() {
                    info!(port = %self.log.port(), path = self.path, "image transfer evicted: others need its memory");
                }
                return;
            }
        };
        drop(permit);
        let bytes = writer.written();
        let ended = match received {
            Ok(()) => writer.complete(),
            Err(error) => {
                writer.fail(&error.to_string());
                Err(error)
            }
        };
        self.log_end(&ended, bytes, started);
        if ended.is_err() || !self.is_whole {
            self.store.remove(&self.path, &entry);
        }
    }

    fn log_end(&self, ended: &io::Result<()>, bytes: u64, started: Instant) {
        if !self.log.has_room() {
            return;
        }
        let (port, path, ms) = (self.log.port(), &self.path, started.elapsed().as_millis());
        match ended {
            Ok(()) => info!(%port, path, bytes, ms, "image transfer completed"),
            Err(error) => warn!(%port, path, %error, "image transfer failed"),
        }
    }

    /// Receives everything, and resumes where a connection broke.
    async fn receive(&self, writer: &mut Writer, mut body: Body) -> io::Result<()> {
        let mut fruitless = 0;
        loop {
            let at = writer.written();
            let error = match self.receive_body(writer, body).await {
                Ok(()) => return Ok(()),
                Err(TransferError::Interrupted(error)) => error,
                Err(TransferError::Fatal(error)) => return Err(error),
            };
            writer.publish();
            fruitless = if writer.written() >= at + BLOCK as u64 { 0 } else { fruitless + 1 };
            if fruitless == FRUITLESS_MAX {
                return Err(error);
            }
            body = self.resume(writer, error).await?;
        }
    }

    /// The rest of a transfer that broke with `error`.
    async fn resume(&self, writer: &Writer, error: io::Error) -> io::Result<Body> {
        let (entry, at) = (Arc::clone(writer.entry()), writer.written());
        let mut last = None;
        for pause in RESUME_AFTER {
            sleep(pause).await;
            debug!(path = self.path, %error, at, "image transfer broke; resuming");
            match self.client.resume(&self.path, &entry.version, at).await {
                Ok(rest) => return Ok(rest),
                Err(TransferError::Interrupted(reason)) => last = Some(reason),
                Err(TransferError::Fatal(reason)) => {
                    return Err(io::Error::other(format!("{error}; {reason}")));
                }
            }
        }
        Err(last.unwrap_or(error))
    }

    /// Receives one response's body.
    async fn receive_body(&self, writer: &mut Writer, mut body: Body) -> Result<(), TransferError> {
        let mut publisher = Publisher::default();
        // The shaper's, before the next piece.
        let mut pause = Duration::ZERO;
        loop {
            self.wait_for_window(writer).await;
            let piece = async {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                next(&mut body).await
            };
            let piece = publisher.publish_while_waiting(writer, piece).await;
            let Some(bytes) = piece.map_err(TransferError::Interrupted)? else {
                let is_short = writer.entry().version.length.is_some_and(|length| length != writer.written());
                return match is_short {
                    true => Err(TransferError::Interrupted(io::ErrorKind::UnexpectedEof.into())),
                    false => Ok(()),
                };
            };
            pause = self.client.shaper.shared(bytes.len());
            self.grow(writer, bytes.len()).map_err(TransferError::Fatal)?;
            publisher.published(writer.append(&bytes).map_err(TransferError::Fatal)?);
        }
    }

    /// Waits until the fastest reader is at most half a window behind: the other half is for slower readers.
    async fn wait_for_window(&self, writer: &Writer) {
        if !self.is_whole {
            let ahead = (self.store.limit() / 8) as u64;
            writer.wait_for_reader(writer.written().saturating_sub(ahead)).await;
        }
    }

    /// Reserves memory for the next `bytes` of an image of unknown length.
    fn grow(&self, writer: &mut Writer, bytes: usize) -> io::Result<()> {
        if writer.entry().version.length.is_some() {
            return Ok(());
        }
        let too_long =
            || io::Error::other("the response has no Content-Length, and is too long to be kept in memory");
        let after = usize::try_from(writer.written()).unwrap_or(usize::MAX).saturating_add(bytes);
        if after > self.store.limit() / 2 {
            return Err(too_long());
        }
        let more = after.next_multiple_of(BLOCK).saturating_sub(writer.entry().reserved());
        if more > 0 {
            writer.grow(self.store.reserve(more).ok_or_else(too_long)?);
        }
        Ok(())
    }
}

/// Publishes what was received when readers have waited for `PUBLISH_INTERVAL`.
#[derive(Default)]
struct Publisher {
    /// When readers were last given something.
    last: Option<Instant>,
}

impl Publisher {
    /// Waits for the next piece, and publishes the ones before it if that takes a while.
    async fn publish_while_waiting<T>(&mut self, writer: &Writer, piece: impl Future<Output = T>) -> T {
        let due = self.last.map_or_else(Instant::now, |last| last + PUBLISH_INTERVAL);
        if due <= Instant::now() {
            self.published(writer.publish());
        }
        tokio::pin!(piece);
        match timeout_at(due, piece.as_mut()).await {
            Ok(piece) => piece,
            Err(_) => {
                self.published(writer.publish());
                piece.await
            }
        }
    }

    fn published(&mut self, is_published: bool) {
        if is_published {
            self.last = Some(Instant::now());
        }
    }
}

/// The next bytes of a body. Trailers are ignored: no machine needs them.
async fn next(body: &mut Body) -> io::Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data()
            && !bytes.is_empty()
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
