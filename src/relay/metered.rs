//! A machine's connection as HTTP uses it: counts the bytes that are sent, disconnects a machine that reads more slowly
//! than `relay.min_rate`, and finds requests with ambiguous framing, which the HTTP library does not report.
//!
//! Must never: count time in which there was nothing to send against the machine.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use leafboot_core::relay::framing::Heads;
use leafboot_core::relay::min_rate::MinRate;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::peer::Peer;
use super::stream::{Filter, Filtered};
use crate::metrics::Counter;

/// A metered connection.
pub type MeteredStream<S> = Filtered<S, Meter>;

/// Meters one connection.
pub struct Meter {
    min_rate: MinRate,
    /// Counts the bytes that the connection takes.
    sent: Counter,
    /// Counts the connection if its machine is disconnected.
    slow_client_disconnects: Counter,
    begun: Instant,
    /// While there is no room to send: ends when the machine may have read too slowly.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Reads the requests' heads, and the peer to mark as ambiguous; none: the framing does not matter.
    heads: Option<(Heads, Arc<Peer>)>,
}

impl Meter {
    /// The machine must read `rate` bytes per second over each `window` in which there is something to send; 0: any
    /// rate will do. `sent` counts the bytes, `slow_client_disconnects` the disconnect.
    pub fn new(rate: u64, window: Duration, sent: Counter, slow_client_disconnects: Counter) -> Self {
        Self {
            min_rate: MinRate::new(rate, window),
            sent,
            slow_client_disconnects,
            begun: Instant::now(),
            stalled: None,
            heads: None,
        }
    }

    /// Also marks `peer` when the framing of a request is ambiguous.
    pub fn with_heads(self, peer: &Arc<Peer>) -> Self {
        Self { heads: Some((Heads::default(), Arc::clone(peer))), ..self }
    }

    /// `stream`, metered.
    pub fn of<S>(self, stream: S) -> MeteredStream<S> {
        Filtered::new(stream, self)
    }

    /// Ready with an error when the machine has read too slowly.
    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let Ok(left) = self.min_rate.stalled(self.begun.elapsed()) else {
                self.slow_client_disconnects.inc();
                let reason = "the machine reads more slowly than relay.min_rate";
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, reason));
            };
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(left)));
            if stalled.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.stalled = None;
        }
    }
}

impl Filter for Meter {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(stream).poll_read(context, buffer);
        if let Some((heads, peer)) = &mut self.heads
            && heads.read(buffer.filled().get(before..).unwrap_or_default())
        {
            peer.mark_ambiguous();
        }
        read
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.stalled = None;
                self.min_rate.sent(bytes, || self.begun.elapsed());
                self.sent.inc_by(bytes as u64);
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => self.poll_stalled(context).map(Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn metered(stream: DuplexStream, window: u64, disconnects: &Counter) -> MeteredStream<DuplexStream> {
        Meter::new(100, Duration::from_secs(window), Counter::default(), disconnects.clone()).of(stream)
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_stops_reading_is_disconnected_after_the_window() {
        let (ours, _theirs) = duplex(1000);
        let disconnects = Counter::default();
        let mut stream = metered(ours, 20, &disconnects);
        let begun = Instant::now();
        let error = stream.write_all(&[0; 5000]).await.unwrap_err();
        assert_eq!(disconnects.get(), 1);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // What the connection held counts for the first 10 s: 1000 of 2000 bytes.
        assert_eq!(begun.elapsed().as_secs(), 20);
    }

    #[tokio::test]
    async fn sent_bytes_are_counted() {
        let (ours, mut theirs) = duplex(100);
        let sent = Counter::default();
        let mut stream = Meter::new(0, Duration::ZERO, sent.clone(), Counter::default()).of(ours);
        stream.write_all(b"12345").await.unwrap();
        let pieces = [io::IoSlice::new(b"67"), io::IoSlice::new(b"89")];
        assert!(stream.write_vectored(&pieces).await.unwrap() >= 2);
        let mut seen = [0; 7];
        theirs.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"1234567");
        assert!(sent.get() >= 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_reads_fast_enough_stays_connected() {
        let (ours, mut theirs) = duplex(100);
        let mut stream = metered(ours, 20, &Counter::default());
        let reading = async {
            let mut bytes = [0; 60];
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(550)).await;
                theirs.read_exact(&mut bytes).await.unwrap();
            }
        };
        tokio::select! {
            end = async { loop { stream.write_all(&[0; 1000]).await?; } } => {
                let end: io::Result<()> = end;
                end.unwrap();
            }
            () = reading => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_is_sent_nothing_may_wait() {
        let (ours, mut theirs) = duplex(100);
        let mut stream = metered(ours, 1, &Counter::default());
        for _ in 0..5 {
            stream.write_all(&[0; 60]).await.unwrap();
            let mut bytes = [0; 60];
            theirs.read_exact(&mut bytes).await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
}
