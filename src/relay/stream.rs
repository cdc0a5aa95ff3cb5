//! Wraps a machine's connection with a filter below HTTP. It passes through everything that the filter does not change.
//!
//! Must never: buffer, or wait for anything but what its filter waits for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Filters a stream. The default methods change nothing.
pub trait Filter: Unpin {
    /// Reads from `stream` (as `AsyncRead::poll_read`).
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(stream).poll_read(context, buffer)
    }

    /// Sees the result of each attempt to write, and may replace it.
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let _ = context;
        written
    }
}

/// A stream behind a filter.
pub struct Filtered<S, F> {
    stream: S,
    filter: F,
}

impl<S, F> Filtered<S, F> {
    /// `stream` behind `filter`.
    pub fn new(stream: S, filter: F) -> Self {
        Self { stream, filter }
    }
}

impl<S: AsyncRead + Unpin, F: Filter> AsyncRead for Filtered<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, filter } = &mut *self;
        filter.poll_read(stream, context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, F: Filter> AsyncWrite for Filtered<S, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.filter.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.filter.wrote(context, written)
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
