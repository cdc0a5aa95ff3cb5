//! Tests that the server name is hidden from rustls, and that both sides still agree on the handshake.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

/// A `ClientHello` as a record, with these extensions.
fn hello(extensions: &[([u8; 2], &[u8])]) -> Vec<u8> {
    let long = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let mut listed = Vec::new();
    for (number, body) in extensions {
        listed.extend_from_slice(number);
        listed.extend_from_slice(&long(body.len()));
        listed.extend_from_slice(body);
    }
    let mut body = [&[3, 3][..], &[7; 32], &[4, 1, 2, 3, 4], &[0, 2, 0x13, 1], &[1, 0]].concat();
    body.extend_from_slice(&long(listed.len()));
    body.extend_from_slice(&listed);
    let message = [&[CLIENT_HELLO, 0][..], &long(body.len()), &body].concat();
    [&[HANDSHAKE, 3, 1][..], &long(message.len()), &message].concat()
}

/// The body of a `server_name` extension with this name.
fn named(name: &str) -> Vec<u8> {
    let long = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    [&long(name.len() + 3)[..], &[0], &long(name.len()), name.as_bytes()].concat()
}

/// The bytes that rustls reads from a machine that sends these pieces and closes the connection.
fn read(pieces: &[&[u8]]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = duplex(1 << 17);
        let mut stream = HiddenServerName::of(ours);
        let mut all = Vec::new();
        for piece in pieces {
            theirs.write_all(piece).await.unwrap();
            let mut now = [0; 1 << 17];
            // An incomplete record is waited for.
            if let std::task::Poll::Ready(read) = futures_util::poll!(Box::pin(stream.read(&mut now))) {
                all.extend_from_slice(&now[..read.unwrap()]);
            }
        }
        drop(theirs);
        stream.read_to_end(&mut all).await.unwrap();
        all
    })
}

const KEY_SHARE: [u8; 2] = [0, 51];

#[test]
fn the_name_gets_another_number_and_every_other_byte_stays() {
    let name = named("[2001:db8:b007::1]");
    let sent = hello(&[(KEY_SHARE, &[1, 2, 3]), (SERVER_NAME, &name), ([0, 16], &[0, 0])]);
    let expected = hello(&[(KEY_SHARE, &[1, 2, 3]), (HIDDEN, &name), ([0, 16], &[0, 0])]);
    assert_eq!(read(&[&sent]), expected);
    // A second ClientHello comes after a HelloRetryRequest. Encrypted records stay as they are.
    let change = [CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1];
    let application = [&[23, 3, 3, 0, 60][..], &sent[..60]].concat();
    let all = [&sent[..], &change, &sent, &change, &application, &sent].concat();
    let expected = [&expected[..], &change, &expected, &change, &application, &sent].concat();
    assert_eq!(read(&[&all]), expected);
    // The transcript has the bytes that the machine sent.
    let hash = ring::default_provider().cipher_suites[0].tls13().unwrap().common.hash_provider;
    let mut transcript = AsSent(hash).start();
    transcript.update(&hidden(&sent)[RECORD_HEADER..]);
    transcript.update(b"what follows");
    let whole = [&sent[RECORD_HEADER..], b"what follows"].concat();
    assert_eq!(transcript.finish().as_ref(), hash.hash(&whole).as_ref());
}

/// The record as rustls gets it.
fn hidden(record: &[u8]) -> Vec<u8> {
    let mut record = record.to_vec();
    hide(&mut record[RECORD_HEADER..]);
    record
}

#[test]
fn bytes_that_are_no_handshake_pass_unchanged_and_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: leaf\r\n\r\n"[..],
        &[HANDSHAKE, 3, 1, 0xff, 0xff, 1, 0, 0],
        &[HANDSHAKE, 3, 1, 0, 4, 11, 0, 0, 0],
        &[HANDSHAKE],
        &[],
    ] {
        assert_eq!(read(&[bytes]), bytes);
    }
}

proptest! {
    #[test]
    fn it_is_the_same_in_whatever_pieces_it_comes(
        cuts in prop::collection::btree_set(0..300usize, 0..8),
        name in "[a-z:\\[\\]%.]{1,60}",
    ) {
        let sent = [&hello(&[(SERVER_NAME, &named(&name)), (KEY_SHARE, &[9; 40])])[..], b"the rest"].concat();
        let whole = read(&[&sent]);
        prop_assert_eq!(whole.len(), sent.len());
        let changed = whole.iter().zip(&sent).filter(|(now, before)| now != before).count();
        prop_assert_eq!(changed, 2);
        let mut pieces = Vec::new();
        let mut from = 0;
        for to in cuts.into_iter().map(|cut| cut.min(sent.len())).chain([sent.len()]) {
            pieces.push(&sent[from..to]);
            from = to;
        }
        prop_assert_eq!(read(&pieces), whole);
    }

    #[test]
    fn no_bytes_are_lost_or_made_whatever_they_are(mut bytes in prop::collection::vec(any::<u8>(), 0..400), begins: bool) {
        if begins && bytes.len() > 5 {
            bytes[..3].copy_from_slice(&[HANDSHAKE, 3, 1]);
            bytes[3] = 0;
            bytes[5] = CLIENT_HELLO;
        }
        let came = read(&[&bytes]);
        prop_assert_eq!(came.len(), bytes.len());
    }
}
