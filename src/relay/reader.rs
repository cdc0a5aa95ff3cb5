//! A machine's connection: what it takes is counted, and it is cut when the machine reads more slowly than it must while
//! there is something to send.
//!
//! Must never: count time in which there was nothing to send against the machine.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::line::Line;
use crate::metrics::Counter;
use leafboot_core::relay::framing::Heads;
use leafboot_core::relay::min_rate::Patience;

/// Up to here, in bytes, a copy costs less than what the kernel makes of several pieces.
const SMALL: usize = 2048;

/// A connection with patience and a count.
pub struct Reader<S> {
    stream: S,
    patience: Patience,
    /// The bytes that it took.
    sent: Counter,
    /// Counts it when it is cut.
    cut: Counter,
    begun: Instant,
    /// Ends when it may have had no room for too long; none: it has room.
    late: Option<Pin<Box<Sleep>>>,
    /// The heads of its requests, and who is told of them; none: nobody looks at them.
    heads: Option<(Heads, Arc<Line>)>,
}

impl<S> Reader<S> {
    /// `rate`: bytes per second that the machine must read at least, over `window`; 0: any. `sent`
    /// counts the bytes that the connection takes, and `cut` that the machine was too slow.
    pub fn new(stream: S, rate: u64, window: Duration, sent: Counter, cut: Counter) -> Self {
        let patience = Patience::new(rate, window);
        Self { stream, patience, sent, cut, begun: Instant::now(), late: None, heads: None }
    }

    /// The same, which tells `line` of what the HTTP library does not tell of requests.
    pub fn telling(mut self, line: &Arc<Line>) -> Self {
        self.heads = Some((Heads::default(), Arc::clone(line)));
        self
    }

    fn judge(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.late = None;
                self.patience.took(bytes, || self.begun.elapsed());
                self.sent.inc_by(bytes as u64);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => loop {
                let Ok(left) = self.patience.full(self.begun.elapsed()) else {
                    self.cut.inc();
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "it reads too slowly")));
                };
                let late = self.late.get_or_insert_with(|| Box::pin(sleep(left)));
                if late.as_mut().poll(context).is_pending() {
                    break;
                }
                self.late = None;
            },
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Reader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some((heads, line)) = &mut self.heads
            && heads.take(buffer.filled().get(before..).unwrap_or_default())
        {
            line.is_read_in_two_ways();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reader<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bytes.iter().map(|piece| piece.len()).sum();
        let stream = Pin::new(&mut self.stream);
        let written = match bytes {
            [one] => stream.poll_write(context, one),
            several if length <= SMALL => stream.poll_write(context, together(several, &mut [0; SMALL])),
            several => stream.poll_write_vectored(context, several),
        };
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The pieces as one: the first of them that `room` has place for.
fn together<'a>(pieces: &[IoSlice<'_>], room: &'a mut [u8]) -> &'a [u8] {
    let mut length = 0;
    for piece in pieces {
        let Some(place) = room.get_mut(length..length + piece.len()) else { break };
        place.copy_from_slice(piece);
        length += piece.len();
    }
    &room[..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_stops_reading_is_cut_after_the_window() {
        let (ours, _theirs) = duplex(1000);
        let cut = Counter::default();
        let mut reader = Reader::new(ours, 100, Duration::from_secs(20), Counter::default(), cut.clone());
        let begun = Instant::now();
        let error = reader.write_all(&[0; 5000]).await.unwrap_err();
        assert_eq!(cut.get(), 1);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // What the connection held counts for the first 10 s: 1000 of 2000 bytes.
        assert_eq!(begun.elapsed().as_secs(), 20);
    }

    #[tokio::test]
    async fn pieces_go_out_in_their_order_and_small_ones_at_once() {
        for (length, all) in [(10, true), (SMALL, false)] {
            let (ours, mut theirs) = duplex(10_000);
            let mut reader = Reader::new(ours, 0, Duration::ZERO, Counter::default(), Counter::default());
            let pieces = [vec![1; length], vec![2; length]];
            let sent =
                reader.write_vectored(&pieces.each_ref().map(|piece| IoSlice::new(piece))).await.unwrap();
            let mut seen = vec![0; sent];
            theirs.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, pieces.concat()[..sent]);
            assert!(sent >= length && (!all || sent == 2 * length), "{sent} of 2 × {length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_reads_slowly_enough_is_not() {
        let (ours, mut theirs) = duplex(100);
        let mut reader =
            Reader::new(ours, 100, Duration::from_secs(20), Counter::default(), Counter::default());
        let reading = async {
            let mut bytes = [0; 60];
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(550)).await;
                theirs.read_exact(&mut bytes).await.unwrap();
            }
        };
        tokio::select! {
            end = async { loop { reader.write_all(&[0; 1000]).await?; } } => {
                let end: io::Result<()> = end;
                end.unwrap();
            }
            () = reading => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_is_sent_nothing_may_wait() {
        let (ours, mut theirs) = duplex(100);
        let mut reader =
            Reader::new(ours, 100, Duration::from_secs(1), Counter::default(), Counter::default());
        for _ in 0..5 {
            reader.write_all(&[0; 60]).await.unwrap();
            let mut bytes = [0; 60];
            theirs.read_exact(&mut bytes).await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
}
