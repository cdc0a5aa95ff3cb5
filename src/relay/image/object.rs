//! One version of an object while it arrives and while it is kept: one `Filler` appends, any number of `Follower`s
//! read the same bytes as soon as they are there.
//!
//! Must never: show an object that is not whole as one that is, or keep more than the room that was reserved for it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::HeaderMap;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::room::Room;
use leafboot_core::relay::validators::Version;

/// Kept bytes lie in blocks of this size, whatever the pieces in which they came: what is reserved is what is used. A piece
/// as it came is a part of the buffer that it was read into, and would keep all of that.
pub const BLOCK: usize = 256 * 1024;
/// What an object takes beside its bytes and its texts, in bytes: itself, its entry on the shelf, its channels, its list of
/// blocks, and what the allocator adds to each.
const OVERHEAD: usize = 2 * 1024;
/// Readers that wait are woken for so much, not for every packet: to wake 48 costs more than the bytes of one. And
/// while they wait they acknowledge nothing: where a policer drops, their acknowledgements are what the transfer's own
/// packets compete with.
const HELPING: u64 = 4 << 20;

/// One version of an object.
#[derive(Debug)]
pub struct Object {
    /// Which one.
    pub version: Version,
    /// Its other headers: `Content-Type`, `Content-Encoding`.
    pub headers: HeaderMap,
    bytes: watch::Sender<Kept>,
    /// How far the fastest reader is.
    front: watch::Sender<u64>,
    displaced: Notify,
    /// For the object itself: it lives as long as somebody has it, also when its bytes are gone.
    _own: Room,
}

/// What an object takes beside its bytes, in bytes. `path`: what it is asked for by.
pub fn overhead(path: &str, version: &Version, headers: &HeaderMap) -> usize {
    let tags = [&version.etag, &version.last_modified].into_iter().flatten().map(String::len);
    let headers = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    // The shelf and the transfer have the path each.
    OVERHEAD + 2 * path.len() + tags.chain(headers).sum::<usize>()
}

#[derive(Debug)]
struct Kept {
    /// Where the first kept byte stands in the object; more than 0 once a window has moved on.
    start: u64,
    blocks: VecDeque<Bytes>,
    /// What readers see of the block that is being filled.
    tail: Vec<Bytes>,
    /// What they do not see yet, with the place for the rest of the block.
    fresh: Vec<u8>,
    /// The length of both.
    tail_length: usize,
    /// How far it was when those who wait were woken.
    told: u64,
    end: End,
    /// For its bytes.
    room: Room,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Filling,
    Whole,
    Broken(Arc<str>),
    /// Others needed its room: who reads it fetches the rest for himself.
    Displaced,
}

impl Object {
    /// A new object and what fills it. `own`: room for its `overhead`. `room` bounds which of its bytes are kept: an object
    /// that is longer, of which the room is then whole blocks, keeps its last bytes only. `headers` share no buffer with
    /// anybody.
    pub fn new(version: Version, headers: HeaderMap, own: Room, room: Room) -> (Arc<Self>, Filler) {
        let kept = Kept {
            start: 0,
            blocks: VecDeque::new(),
            tail: Vec::new(),
            fresh: Vec::new(),
            tail_length: 0,
            told: 0,
            end: End::Filling,
            room,
        };
        let object = Arc::new(Self {
            version,
            headers,
            bytes: watch::Sender::new(kept),
            front: watch::Sender::new(0),
            displaced: Notify::new(),
            _own: own,
        });
        (Arc::clone(&object), Filler { object })
    }

    /// Whether somebody who comes now can have it from its first byte.
    pub fn can_be_joined(&self) -> bool {
        let kept = self.bytes.borrow();
        kept.start == 0 && matches!(kept.end, End::Filling | End::Whole)
    }

    /// How much room its bytes have, in bytes.
    pub fn room(&self) -> usize {
        self.bytes.borrow().room.bytes()
    }

    /// Whether bytes are still to come.
    pub fn is_filling(&self) -> bool {
        self.bytes.borrow().end == End::Filling
    }

    /// Whether the bytes from `first` on are there, or at most `ahead` bytes away.
    pub fn has(&self, first: u64, ahead: u64) -> bool {
        let kept = self.bytes.borrow();
        let near = match kept.end {
            End::Filling => first <= kept.filled().saturating_add(ahead),
            End::Whole => true,
            End::Broken(_) | End::Displaced => false,
        };
        near && kept.start <= first
    }

    /// The object's length; where the upstream did not say it, known when everything is there.
    pub async fn length(&self) -> io::Result<u64> {
        if let Some(length) = self.version.length {
            return Ok(length);
        }
        let mut bytes = self.bytes.subscribe();
        let ended = bytes.wait_for(|kept| kept.end != End::Filling).await;
        let kept = ended.map_err(|_| io::ErrorKind::BrokenPipe)?;
        match &kept.end {
            End::Broken(reason) => Err(io::Error::other(reason.to_string())),
            End::Filling | End::Whole | End::Displaced => Ok(kept.filled()),
        }
    }

    /// Whether its readers could fetch the rest for themselves.
    pub fn can_be_displaced(&self) -> bool {
        self.version.length.is_some() && self.version.strong().is_some()
    }

    /// Gives its room back. Its readers fetch the rest for themselves.
    pub fn displace(&self) {
        if self.bytes.send_if_modified(Kept::displace) {
            self.displaced.notify_one();
        }
    }

    /// Waits until others needed its room. Its filler's to wait for, and nobody else's.
    pub async fn displaced(&self) {
        self.displaced.notified().await;
    }

    /// Waits until nobody reads it, now and `time` ago.
    pub async fn abandoned(&self, time: Duration) {
        loop {
            self.bytes.closed().await;
            sleep(time).await;
            if self.bytes.receiver_count() == 0 {
                return;
            }
        }
    }

    /// A reader of the bytes `first..end`.
    pub fn follow(self: &Arc<Self>, first: u64, end: u64) -> Follower {
        let bytes = Some(self.bytes.subscribe());
        // It wants those before it fetched, too: a window moves on for it.
        self.front.send_if_modified(|front| raise(front, first));
        Follower { object: Arc::clone(self), at: first, end, bytes, change: None }
    }
}

impl Kept {
    fn filled(&self) -> u64 {
        self.start + (self.blocks.len() * BLOCK + self.tail_length) as u64
    }

    /// Some of the bytes from `at` on that are there.
    fn read(&self, at: u64) -> Option<Bytes> {
        let mut offset = usize::try_from(at.checked_sub(self.start)?).ok()?;
        if let Some(block) = self.blocks.get(offset / BLOCK) {
            return Some(block.slice(offset % BLOCK..));
        }
        offset -= self.blocks.len() * BLOCK;
        for piece in &self.tail {
            if offset < piece.len() {
                return Some(piece.slice(offset..));
            }
            offset -= piece.len();
        }
        None
    }

    /// Whether there is a helping.
    fn append(&mut self, mut bytes: &[u8]) -> bool {
        if self.end != End::Filling {
            return false;
        }
        while !bytes.is_empty() {
            if self.tail_length == 0 {
                self.fresh = Vec::with_capacity(self.place());
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(BLOCK - self.tail_length));
            self.fresh.extend_from_slice(piece);
            self.tail_length += piece.len();
            bytes = rest;
            if self.tail_length == BLOCK {
                self.seal();
            }
        }
        let blocks = self.filled() - self.tail_length as u64;
        let is_helping = blocks >= self.told + HELPING;
        if is_helping {
            self.told = blocks;
        }
        is_helping
    }

    /// How long the next block is at most: where there is no room for one more the first one goes.
    fn place(&mut self) -> usize {
        loop {
            let free = self.room.bytes().saturating_sub(self.blocks.len() * BLOCK);
            if free > 0 || self.blocks.pop_front().is_none() {
                return free.min(BLOCK);
            }
            self.start += BLOCK as u64;
        }
    }

    /// The block that was being filled is whole.
    fn seal(&mut self) {
        let last = Bytes::from(std::mem::take(&mut self.fresh));
        let block = if self.tail.is_empty() {
            last
        } else {
            self.tail.push(last);
            Bytes::from(self.tail.concat())
        };
        self.blocks.push_back(block);
        self.tail.clear();
        self.tail_length = 0;
    }

    /// Whether there was something that those who wait do not know.
    fn tell(&mut self) -> bool {
        if !self.fresh.is_empty() {
            let rest = self.fresh.capacity() - self.fresh.len();
            // In one piece, for each costs every reader a write; and without the place for the rest.
            let piece = std::mem::replace(&mut self.fresh, Vec::with_capacity(rest));
            self.tail.push(Bytes::from(piece.into_boxed_slice()));
        }
        let is_news = self.told < self.filled();
        self.told = self.filled();
        is_news
    }

    /// The last pieces get a block of their own size, and room that is not needed goes back.
    fn finish(&mut self) {
        if self.end != End::Filling {
            return;
        }
        self.tell();
        self.fresh = Vec::new();
        if self.tail.len() > 1 {
            self.tail = vec![Bytes::from(self.tail.concat())];
        }
        self.room.shrink(self.blocks.len() * BLOCK + self.tail_length);
        self.end = End::Whole;
    }

    /// Whether it was on its way.
    fn break_off(&mut self, reason: &str) -> bool {
        let was_filling = self.end == End::Filling;
        if was_filling {
            self.end = End::Broken(reason.into());
        }
        was_filling
    }

    /// Whether it was there.
    fn displace(&mut self) -> bool {
        let was_there = matches!(self.end, End::Filling | End::Whole);
        if was_there {
            self.start = self.filled();
            self.blocks.clear();
            self.tail.clear();
            self.fresh = Vec::new();
            self.tail_length = 0;
            self.room.shrink(0);
            self.end = End::Displaced;
        }
        was_there
    }
}

/// The one that appends. Dropping it before `finish` breaks the object for everybody who reads it.
#[derive(Debug)]
pub struct Filler {
    object: Arc<Object>,
}

impl Filler {
    /// The object that is filled.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// How many bytes are there.
    pub fn filled(&self) -> u64 {
        self.object.bytes.borrow().filled()
    }

    /// Appends what came. Readers see it when its block is whole, or at the next `tell`; those who wait are woken for a
    /// helping, or then. Whether they were. More than the object's length is an error.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let filled = self.filled() + bytes.len() as u64;
        if self.object.version.length.is_some_and(|length| filled > length) {
            return Err(io::Error::other("it is longer than its Content-Length"));
        }
        Ok(self.object.bytes.send_if_modified(|kept| kept.append(bytes)))
    }

    /// Gives readers all that is there, and wakes those who wait; whether there was something.
    pub fn tell(&self) -> bool {
        self.object.bytes.send_if_modified(Kept::tell)
    }

    /// Adds to the room of an object whose length nobody knows.
    pub fn extend(&mut self, room: Room) {
        self.object.bytes.send_modify(|kept| kept.room.grow(room));
    }

    /// Everything is there; an error, where it is not.
    pub fn finish(self) -> io::Result<()> {
        if self.object.version.length.is_some_and(|length| length != self.filled()) {
            return Err(io::Error::other("it is shorter than its Content-Length"));
        }
        self.object.bytes.send_modify(Kept::finish);
        Ok(())
    }

    /// Breaks the object: its readers' connections break too.
    pub fn fail(self, reason: &str) {
        self.object.bytes.send_if_modified(|kept| kept.break_off(reason));
    }

    /// Waits until the fastest reader has come as far as `at`, which takes that it is given all that is there.
    pub async fn reader_at(&self, at: u64) {
        let mut front = self.object.front.subscribe();
        if *front.borrow() < at {
            self.tell();
            // The sender lives as long as the object.
            let _ = front.wait_for(|front| *front >= at).await;
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.object.bytes.send_if_modified(|kept| kept.break_off("its transfer ended"));
    }
}

type Change = Pin<Box<dyn Future<Output = watch::Receiver<Kept>> + Send>>;

/// One reader of an object.
pub struct Follower {
    object: Arc<Object>,
    at: u64,
    end: u64,
    /// Away while `change` has it.
    bytes: Option<watch::Receiver<Kept>>,
    change: Option<Change>,
}

/// What a follower sees next.
#[derive(Debug)]
pub enum Next {
    /// Some bytes.
    Bytes(Bytes),
    /// The window has moved on, or others needed the room: the bytes from here on are not kept any more.
    Passed {
        /// The next byte that the reader needs.
        at: u64,
    },
    /// That was all.
    End,
}

impl Follower {
    /// The object that is read.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// The next bytes, at most `most`, as soon as there are some; an error, when the object broke.
    pub fn poll_next(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<Next>> {
        loop {
            if let Some(change) = &mut self.change {
                self.bytes = Some(ready!(change.as_mut().poll(context)));
                self.change = None;
            }
            if self.at >= self.end {
                return Poll::Ready(Ok(Next::End));
            }
            let Some(mut bytes) = self.bytes.take() else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let next = look(&bytes.borrow_and_update(), self.at);
            match next {
                Some(next) => {
                    self.bytes = Some(bytes);
                    return Poll::Ready(next.map(|next| self.advance(next, most)));
                }
                None => {
                    self.change = Some(Box::pin(async move {
                        // The sender lives as long as the object, which this follower has.
                        let _ = bytes.changed().await;
                        bytes
                    }));
                }
            }
        }
    }

    fn advance(&mut self, next: Next, most: usize) -> Next {
        let Next::Bytes(mut bytes) = next else {
            return next;
        };
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        bytes.truncate(most.min(left));
        self.at += bytes.len() as u64;
        let at = self.at;
        self.object.front.send_if_modified(|front| raise(front, at));
        Next::Bytes(bytes)
    }
}

/// Whether `at` is beyond `front`, which it is then.
fn raise(front: &mut u64, at: u64) -> bool {
    let is_beyond = *front < at;
    *front = at.max(*front);
    is_beyond
}

/// What is at `at`; nothing, while it is still to come.
fn look(kept: &Kept, at: u64) -> Option<io::Result<Next>> {
    if let End::Broken(reason) = &kept.end {
        return Some(Err(io::Error::other(reason.to_string())));
    }
    if at < kept.start || kept.end == End::Displaced {
        return Some(Ok(Next::Passed { at }));
    }
    match kept.read(at) {
        Some(bytes) => Some(Ok(Next::Bytes(bytes))),
        // A length that nobody knew turned out to be shorter than the reader hoped.
        None => (kept.end == End::Whole).then(|| Err(io::ErrorKind::UnexpectedEof.into())),
    }
}

#[cfg(test)]
mod tests;
