//! Keeps the name that a machine asks for over TLS from rustls. leafboot has one certificate and no use for the name, and
//! RFC 6066 3 lets a server ignore it; rustls ends the handshake when it is no DNS name, and iPXE sends `[2001:db8::1]`
//! where a URL has an address.
//!
//! rustls gets the `ClientHello` with `server_name` under a number that means nothing to it. The transcript, by which both
//! sides see that nobody changed the handshake, is hashed over what the machine has sent. Once a release of rustls has
//! `ServerConfig::invalid_sni_policy` (0.24), that takes this file's place.
//!
//! Must never: change another byte, or what was sent after the `ClientHello`.

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::crypto::hash::{self, Hash, HashAlgorithm};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::{CipherSuiteCommon, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};

/// The extension's number (RFC 6066 1.1).
const SERVER_NAME: [u8; 2] = [0, 0];
/// A number for private use (RFC 8447 7). A machine that sends it itself has a broken transcript, and no handshake.
const HIDDEN: [u8; 2] = [0xff, 0x6e];
/// Types of records (RFC 8446 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
/// Before a record's content: its type, version and length.
const RECORD_HEADER: usize = 5;
/// The longest content of a record that is not encrypted (RFC 8446 5.1).
const RECORD_MAX: usize = 1 << 14;
/// A handshake message's type (RFC 8446 4).
const CLIENT_HELLO: u8 = 1;
/// Before the session's id in a `ClientHello`: the message's type and length, version, random.
const BEFORE_SESSION: usize = 4 + 2 + 32;

/// Where the number of an extension stands in a `ClientHello` (RFC 8446 4.1.2), which may lack its end.
fn find(message: &[u8], number: [u8; 2]) -> Option<usize> {
    if *message.first()? != CLIENT_HELLO {
        return None;
    }
    let long = |at: usize| Some(usize::from(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?])));
    let short = |at: usize| Some(usize::from(*message.get(at)?));
    let mut at = BEFORE_SESSION;
    at += 1 + short(at)?;
    // Cipher suites, and compression methods.
    at += 2 + long(at)?;
    at += 1 + short(at)?;
    let end = at + 2 + long(at)?;
    at += 2;
    while at < end {
        if message.get(at..at + 2)? == number {
            return Some(at);
        }
        at += 4 + long(at + 2)?;
    }
    None
}

/// What rustls is to do its cryptography with so that it takes what [`Unnamed`] passes on.
pub fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: SUITES.clone(), ..ring::default_provider() }
}

static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
    // rustls wants them to live as long as the process, and they are made once.
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: Box::leak(Box::new(AsSent(common.hash_provider))),
        confidentiality_limit: common.confidentiality_limit,
    };
    let suites = ring::default_provider().cipher_suites.into_iter();
    let suites = suites.map(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) => {
            let suite = Tls12CipherSuite { common: common(&suite.common), ..*suite };
            SupportedCipherSuite::Tls12(Box::leak(Box::new(suite)))
        }
        SupportedCipherSuite::Tls13(suite) => {
            let suite = Tls13CipherSuite { common: common(&suite.common), ..*suite };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
        }
    });
    suites.collect()
});

/// A hash of the `ClientHello` as the machine has sent it, and of everything else as it is.
struct AsSent(&'static dyn Hash);

impl Hash for AsSent {
    fn start(&self) -> Box<dyn hash::Context> {
        Box::new(Transcript(self.0.start()))
    }

    fn hash(&self, data: &[u8]) -> hash::Output {
        self.0.hash(data)
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }
}

struct Transcript(Box<dyn hash::Context>);

impl hash::Context for Transcript {
    fn fork_finish(&self) -> hash::Output {
        self.0.fork_finish()
    }

    fn fork(&self) -> Box<dyn hash::Context> {
        Box::new(Self(self.0.fork()))
    }

    fn finish(self: Box<Self>) -> hash::Output {
        self.0.finish()
    }

    /// rustls gives each message whole, but for a `ClientHello` without the end that says what the message's hash is.
    fn update(&mut self, data: &[u8]) {
        let Some((before, after)) =
            find(data, HIDDEN).and_then(|at| Some((data.get(..at)?, data.get(at + HIDDEN.len()..)?)))
        else {
            return self.0.update(data);
        };
        self.0.update(before);
        self.0.update(&SERVER_NAME);
        self.0.update(after);
    }
}

/// Gives a `ClientHello`'s name the other number.
fn hide(hello: &mut [u8]) {
    if let Some(number) = find(hello, SERVER_NAME).and_then(|at| hello.get_mut(at..at + HIDDEN.len())) {
        number.copy_from_slice(&HIDDEN);
    }
}

/// What comes next while a handshake begins. Lengths are the record's, with its header.
enum Next {
    /// A record whose end has not come yet.
    IsNotWhole,
    /// One with a `ClientHello`: the first, or the second after a `HelloRetryRequest`.
    Hello(usize),
    /// One that may stand between the two (RFC 8446 D.4).
    Follows(usize),
    /// Something after which there is no `ClientHello` any more.
    Else,
}

impl Next {
    fn of(bytes: &[u8]) -> Self {
        let (kind, content, length) = match *bytes {
            [kind @ (HANDSHAKE | CHANGE_CIPHER_SPEC), _, _, high, low, ref content @ ..] => {
                (kind, content, usize::from(u16::from_be_bytes([high, low])))
            }
            [] | [HANDSHAKE | CHANGE_CIPHER_SPEC, ..] => return Self::IsNotWhole,
            _ => return Self::Else,
        };
        match (kind, content.first()) {
            _ if length > RECORD_MAX => Self::Else,
            _ if content.len() < length => Self::IsNotWhole,
            (CHANGE_CIPHER_SPEC, _) => Self::Follows(RECORD_HEADER + length),
            (_, Some(&CLIENT_HELLO)) => Self::Hello(RECORD_HEADER + length),
            _ => Self::Else,
        }
    }
}

/// A connection from which rustls reads no `server_name`.
pub struct Unnamed<S> {
    stream: S,
    /// What has come of the records up to the last `ClientHello`; none: that is over.
    begins: Option<Vec<u8>>,
    /// What is to be read next, and how much of it was.
    ready: (Vec<u8>, usize),
}

impl<S> Unnamed<S> {
    /// Whatever `stream` brings, but for the name.
    pub fn new(stream: S) -> Self {
        Self { stream, begins: Some(Vec::new()), ready: (Vec::new(), 0) }
    }

    /// Takes what has come, and passes on the records that are whole.
    fn take(&mut self, bytes: &[u8]) {
        let Some(mut begins) = self.begins.take() else { return };
        begins.extend_from_slice(bytes);
        let mut ready = Vec::new();
        loop {
            match Next::of(&begins) {
                Next::IsNotWhole => break self.begins = Some(begins),
                Next::Follows(length) => ready.extend(begins.drain(..length)),
                Next::Hello(length) => {
                    let mut record: Vec<u8> = begins.drain(..length).collect();
                    hide(record.get_mut(RECORD_HEADER..).unwrap_or_default());
                    ready.append(&mut record);
                }
                Next::Else => break ready.append(&mut begins),
            }
        }
        self.ready = (ready, 0);
    }

    /// Passes on what has come, whole or not.
    fn end(&mut self) {
        self.ready = (self.begins.take().unwrap_or_default(), 0);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unnamed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let (ready, read) = &mut this.ready;
            let left = ready.get(*read..).unwrap_or_default();
            if let Some(now) = left.get(..left.len().min(buffer.remaining())).filter(|now| !now.is_empty()) {
                buffer.put_slice(now);
                *read += now.len();
                return Poll::Ready(Ok(()));
            }
            if this.begins.is_none() {
                this.ready = (Vec::new(), 0);
                return Pin::new(&mut this.stream).poll_read(context, buffer);
            }
            let mut piece = [0; 4096];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut piece))?;
            match piece.filled() {
                [] => this.end(),
                bytes => this.take(bytes),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unnamed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
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

#[cfg(test)]
mod tests;
