//! Hides the server name of a machine's TLS handshake from rustls. iPXE sends `[2001:db8::1]` as the name when its URL
//! has an address. That is no DNS name, and rustls ends the handshake. leafboot has one certificate and does not need
//! the name; RFC 6066 3 lets a server ignore it.
//!
//! rustls gets the `ClientHello` with the extension `server_name` under a number that it does not know. The transcript,
//! by which both sides detect a changed handshake, is hashed over what the machine sent. A release of rustls with
//! `ServerConfig::invalid_sni_policy` (0.24) makes this file unnecessary.
//!
//! Must never: change another byte, or anything after the `ClientHello`.

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::rustls::crypto::hash::{self, Hash, HashAlgorithm};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::{CipherSuiteCommon, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};

use crate::relay::stream::{Filter, Filtered};

/// The extension's number (RFC 6066 1.1).
const SERVER_NAME: [u8; 2] = [0, 0];
/// A number for private use (RFC 8447 7). A machine that sends it itself gets a wrong transcript, and no handshake.
const HIDDEN: [u8; 2] = [0xff, 0x6e];
/// Types of records (RFC 8446 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
/// Bytes before a record's content: its type, version and length.
const RECORD_HEADER: usize = 5;
/// The longest content of an unencrypted record in bytes (RFC 8446 5.1).
const RECORD_MAX: usize = 1 << 14;
/// A handshake message's type (RFC 8446 4).
const CLIENT_HELLO: u8 = 1;
/// Bytes before the session id in a `ClientHello`: the message's type and length, version, random.
const BEFORE_SESSION: usize = 4 + 2 + 32;

/// The index of an extension's number in a `ClientHello` (RFC 8446 4.1.2), which may be incomplete.
fn find(message: &[u8], number: [u8; 2]) -> Option<usize> {
    if *message.first()? != CLIENT_HELLO {
        return None;
    }
    let read_u16 =
        |at: usize| Some(usize::from(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?])));
    let read_u8 = |at: usize| Some(usize::from(*message.get(at)?));
    let mut at = BEFORE_SESSION;
    at += 1 + read_u8(at)?;
    // Cipher suites, and compression methods.
    at += 2 + read_u16(at)?;
    at += 1 + read_u8(at)?;
    let end = at + 2 + read_u16(at)?;
    at += 2;
    while at < end {
        if message.get(at..at + 2)? == number {
            return Some(at);
        }
        at += 4 + read_u16(at + 2)?;
    }
    None
}

/// The cryptography with which rustls accepts what [`HiddenServerName`] passes on.
pub fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: SUITES.clone(), ..ring::default_provider() }
}

static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
    // rustls needs them for the life of the process, and they are made once.
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

/// Hashes the `ClientHello` as the machine sent it, and everything else as it is.
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

    /// rustls passes each message as one, but for a `ClientHello` without the end that has the message's own hash.
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

/// Renumbers the name's extension in a `ClientHello`.
fn hide(hello: &mut [u8]) {
    if let Some(number) = find(hello, SERVER_NAME).and_then(|at| hello.get_mut(at..at + HIDDEN.len())) {
        number.copy_from_slice(&HIDDEN);
    }
}

/// What comes next at the beginning of a handshake. Lengths include the record's header, in bytes.
enum NextRecord {
    /// A record whose end has not come yet.
    Incomplete,
    /// A record with a `ClientHello`: the first, or the second after a `HelloRetryRequest`.
    Hello(usize),
    /// A record that may come between the two (RFC 8446 D.4).
    Between(usize),
    /// Something after which no `ClientHello` comes.
    Other,
}

impl NextRecord {
    fn of(bytes: &[u8]) -> Self {
        let (kind, content, length) = match *bytes {
            [kind @ (HANDSHAKE | CHANGE_CIPHER_SPEC), _, _, high, low, ref content @ ..] => {
                (kind, content, usize::from(u16::from_be_bytes([high, low])))
            }
            [] | [HANDSHAKE | CHANGE_CIPHER_SPEC, ..] => return Self::Incomplete,
            _ => return Self::Other,
        };
        match (kind, content.first()) {
            _ if length > RECORD_MAX => Self::Other,
            _ if content.len() < length => Self::Incomplete,
            (CHANGE_CIPHER_SPEC, _) => Self::Between(RECORD_HEADER + length),
            (_, Some(&CLIENT_HELLO)) => Self::Hello(RECORD_HEADER + length),
            _ => Self::Other,
        }
    }
}

/// A connection from which rustls reads no `server_name`.
pub type HiddenNameStream<S> = Filtered<S, HiddenServerName>;

/// Hides the `server_name` of a connection's `ClientHello`.
pub struct HiddenServerName {
    /// Received bytes that were not passed on yet; none: no further `ClientHello` comes.
    pending: Option<Vec<u8>>,
    /// Bytes to pass on, and how many of them were read.
    ready: (Vec<u8>, usize),
}

impl HiddenServerName {
    /// `stream` with its server name hidden.
    pub fn of<S>(stream: S) -> HiddenNameStream<S> {
        Filtered::new(stream, Self { pending: Some(Vec::new()), ready: (Vec::new(), 0) })
    }

    /// Adds received bytes, and passes on the records that are complete.
    fn received(&mut self, bytes: &[u8]) {
        let Some(mut pending) = self.pending.take() else { return };
        pending.extend_from_slice(bytes);
        let mut ready = Vec::new();
        loop {
            match NextRecord::of(&pending) {
                NextRecord::Incomplete => break self.pending = Some(pending),
                NextRecord::Between(length) => ready.extend(pending.drain(..length)),
                NextRecord::Hello(length) => {
                    let mut record: Vec<u8> = pending.drain(..length).collect();
                    hide(record.get_mut(RECORD_HEADER..).unwrap_or_default());
                    ready.append(&mut record);
                }
                NextRecord::Other => break ready.append(&mut pending),
            }
        }
        self.ready = (ready, 0);
    }

    /// The stream has ended: passes on all received bytes, complete or not.
    fn ended(&mut self) {
        self.ready = (self.pending.take().unwrap_or_default(), 0);
    }
}

impl Filter for HiddenServerName {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let (ready, read) = &mut self.ready;
            let left = ready.get(*read..).unwrap_or_default();
            if let Some(now) = left.get(..left.len().min(buffer.remaining())).filter(|now| !now.is_empty()) {
                buffer.put_slice(now);
                *read += now.len();
                return Poll::Ready(Ok(()));
            }
            if self.pending.is_none() {
                self.ready = (Vec::new(), 0);
                return Pin::new(stream).poll_read(context, buffer);
            }
            let mut piece = [0; 4096];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut piece))?;
            match piece.filled() {
                [] => self.ended(),
                bytes => self.received(bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests;
