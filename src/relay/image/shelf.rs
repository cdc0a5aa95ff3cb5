//! The objects that are kept or on their way, by path. Whoever asks first for a path has to fetch it, everybody else
//! waits for what comes of it: one question to the cache at a time.
//!
//! Must never: give out an object that the cache did not confirm within `FRESH`, hold more bytes than its bound, or let a
//! port keep room that another needs with what nobody else wants.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::sync::watch;

use super::object::Object;
use super::room::{Room, Store};
use crate::held::Held;
use crate::metrics::CacheState;
use crate::relay::upstream::UpstreamError;
use leafboot_core::names::PortName;

/// So long after the cache was asked its answer holds: machines of one rack start within it, and a changed image is
/// seen soon.
const FRESH: Duration = Duration::from_secs(2);
/// That an object is too large to be shared holds for longer: nothing depends on it but memory.
const FRESH_TOO_LARGE: Duration = Duration::from_secs(60);
/// An object that nobody asked for in this time goes: the memory is the switch's.
const KEPT_UNUSED: Duration = Duration::from_secs(600);
/// A leaf serves a handful of images; more paths than this are not images. (What an entry takes is counted with its object;
/// so many without one take some 200 KB.)
const ENTRIES_MAX: usize = 256;

/// What came of a question to the cache.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// An object that everybody reads.
    Shared(Arc<Object>),
    /// An object that there can never be room for: everybody streams it for himself.
    TooLarge,
    /// An object that there is no room for now: the same.
    NoRoom,
    /// An answer that is not an object.
    Other(Arc<(StatusCode, HeaderMap)>),
    /// No answer, and why.
    Failed(Arc<str>),
    /// An answer that cannot be used, and why.
    Unusable(Arc<str>),
}

impl Outcome {
    /// What comes of a question that has no answer.
    pub fn failed(error: &UpstreamError) -> Self {
        let reason = error.to_string().into();
        if error.is_of_an_answer() { Self::Unusable(reason) } else { Self::Failed(reason) }
    }
}

/// Where the outcome is told to everybody who waits for it.
pub type Told = watch::Sender<Option<Outcome>>;
/// Where it is waited for.
pub type Telling = watch::Receiver<Option<Outcome>>;

/// What is known of a path.
#[derive(Debug)]
pub enum Found {
    /// Somebody has asked already.
    Asked(Telling),
    /// The caller has to ask, and tell. The object is what the path was when it was asked for last.
    Ask(Told, Option<Arc<Object>>),
    /// Nothing, and nobody is to ask now: the caller may not fetch, or what is read and asked for leaves no entry.
    Nothing,
}

/// The shelf of one leaf.
#[derive(Debug)]
pub struct Shelf {
    entries: Held<BTreeMap<String, Entry>>,
    room: Store,
}

#[derive(Debug)]
struct Entry {
    outcome: Telling,
    /// When the question was asked; none: the cache has to be asked in any case.
    asked: Option<Instant>,
    used: Instant,
    wanted: Wanted,
}

/// By which ports an object was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    By(PortName),
    BySeveral,
}

impl Wanted {
    fn also(&mut self, port: &PortName) {
        if !matches!(self, Self::By(first) if first == port) {
            *self = Self::BySeveral;
        }
    }
}

impl Entry {
    fn object(&self) -> Option<Arc<Object>> {
        match self.outcome.borrow().as_ref() {
            Some(Outcome::Shared(object)) => Some(Arc::clone(object)),
            _ => None,
        }
    }

    /// Whether its object is on its way.
    fn is_filling(&self) -> bool {
        matches!(self.outcome.borrow().as_ref(), Some(Outcome::Shared(object)) if object.is_filling())
    }

    /// Whether its outcome is there, and all of its object.
    fn has_come(&self) -> bool {
        match self.outcome.borrow().as_ref() {
            Some(Outcome::Shared(object)) => !object.is_filling(),
            Some(_) => true,
            None => false,
        }
    }

    /// Whether nobody reads its object, and nobody waits for its outcome.
    fn is_idle(&self) -> bool {
        match self.outcome.borrow().as_ref() {
            Some(Outcome::Shared(object)) => Arc::strong_count(object) == 1,
            Some(_) => true,
            None => false,
        }
    }

    /// Its object and the one port that wants it, where that port's machine could fetch the rest for itself.
    fn displaceable(&self) -> Option<(&PortName, Arc<Object>)> {
        match &self.wanted {
            Wanted::By(port) => Some((port, self.object().filter(|object| object.can_be_displaced())?)),
            Wanted::BySeveral => None,
        }
    }

    fn holds(&self, now: Instant) -> bool {
        let Some(asked) = self.asked else {
            return false;
        };
        let age = now.saturating_duration_since(asked);
        match self.outcome.borrow().as_ref() {
            None => self.outcome.has_changed().is_ok(),
            Some(Outcome::Shared(object)) => {
                // Without a validator the cache cannot be asked for a change; a transfer under way is one version.
                let fresh = age < FRESH || (object.is_filling() && object.version.question().is_none());
                fresh && object.can_be_joined()
            }
            Some(Outcome::TooLarge) => age < FRESH_TOO_LARGE,
            Some(Outcome::NoRoom) => age < FRESH,
            Some(Outcome::Other(_) | Outcome::Failed(_) | Outcome::Unusable(_)) => false,
        }
    }
}

impl Shelf {
    /// An empty shelf for objects that take `bytes` bytes of memory.
    pub fn new(bytes: u64) -> Self {
        Self { entries: Held::default(), room: Store::new(bytes) }
    }

    /// How many bytes it has room for, used or not.
    pub fn bytes(&self) -> usize {
        self.room.bytes()
    }

    /// What it holds at the moment.
    pub fn state(&self) -> CacheState {
        CacheState {
            taken: self.room.bytes().saturating_sub(self.room.free()) as u64,
            limit: self.room.bytes() as u64,
            transfers: self
                .entries
                .with(|entries| entries.values().filter(|entry| entry.is_filling()).count()),
        }
    }

    /// What `port` may know of `path`, or the order to ask for it. Who may not fetch may ask only whether an object that
    /// is there still is the path's.
    pub fn find(&self, path: &str, port: &PortName, may_fetch: bool, now: Instant) -> Found {
        self.entries.with(|entries| {
            let mut wanted = Wanted::By(port.clone());
            if let Some(entry) = entries.get_mut(path) {
                entry.used = now;
                entry.wanted.also(port);
                wanted = entry.wanted.clone();
                if entry.holds(now) {
                    return Found::Asked(entry.outcome.clone());
                }
            }
            let known = entries.get(path).and_then(Entry::object).filter(|object| object.can_be_joined());
            if (known.is_none() && !may_fetch) || !has_room_for(entries, path) {
                return Found::Nothing;
            }
            let (told, outcome) = watch::channel(None);
            entries.insert(path.to_owned(), Entry { outcome, asked: Some(now), used: now, wanted });
            Found::Ask(told, known)
        })
    }

    /// A question that was answered with no object is off the shelf, and what was known before it is there again, to be
    /// asked for anew. `told`: whose question it was.
    pub fn take_back(&self, path: &str, told: &Told, known: Option<Arc<Object>>) {
        self.entries.with(|entries| {
            let Some(entry) =
                entries.get_mut(path).filter(|entry| entry.outcome.same_channel(&told.subscribe()))
            else {
                return;
            };
            match known.filter(|known| known.can_be_joined()) {
                Some(known) => {
                    entry.outcome = watch::channel(Some(Outcome::Shared(known))).1;
                    entry.asked = None;
                }
                None => drop(entries.remove(path)),
            }
        });
    }

    /// An object of `path` that was confirmed just now; asks nobody.
    pub fn look(&self, path: &str, now: Instant) -> Option<Arc<Object>> {
        self.entries.with(|entries| {
            let entry = entries.get_mut(path)?;
            entry.used = now;
            if entry.holds(now) { entry.object() } else { None }
        })
    }

    /// Takes an object off the shelf, if it still is the path's. Those who read it go on.
    pub fn forget(&self, path: &str, object: &Arc<Object>) {
        self.entries.with(|entries| {
            let is_it = |entry: &Entry| entry.object().is_some_and(|kept| Arc::ptr_eq(&kept, object));
            if entries.get(path).is_some_and(is_it) {
                entries.remove(path);
            }
        });
    }

    /// Takes away what nobody has asked for in `KEPT_UNUSED`; those who read it go on. Returns when to look again.
    pub fn expire(&self, now: Instant) -> Instant {
        self.entries.with(|entries| {
            let ends = |entry: &Entry| entry.used + KEPT_UNUSED;
            // What is under way is somebody's: he takes it away when it fails.
            entries.retain(|_, entry| !entry.has_come() || ends(entry) > now);
            let next = entries.values().filter(|entry| entry.has_come()).map(ends).min();
            // What comes or is asked for meanwhile stays longer.
            next.unwrap_or(now + KEPT_UNUSED)
        })
    }

    /// Room for `bytes` bytes: objects that nobody reads go first, the least recently used one before the others; then
    /// those that one port alone wants, of the port that holds most. Nothing, where the others leave no room.
    pub fn reserve(&self, bytes: usize) -> Option<Room> {
        let has_room = |entries: &mut BTreeMap<String, Entry>| {
            let can_go = |entry: &&Entry| entry.is_idle() || entry.displaceable().is_some();
            let can_go = entries.values().filter(can_go).filter_map(Entry::object);
            self.room.free() + can_go.map(|object| object.room()).sum::<usize>() >= bytes
        };
        self.room.take(bytes).or_else(|| {
            // What is thrown out for nothing would have to be fetched again.
            let mut has_room = self.entries.with(has_room);
            while has_room {
                has_room = self
                    .entries
                    .with(|entries| remove_least_used(entries, Entry::is_idle) || displace_one(entries));
                if let Some(room) = self.room.take(bytes) {
                    return Some(room);
                }
            }
            None
        })
    }
}

/// Makes room for one more entry. What is asked for or read stays: it would be fetched twice.
fn has_room_for(entries: &mut BTreeMap<String, Entry>, path: &str) -> bool {
    // An object is worth more than that there is none.
    entries.contains_key(path)
        || entries.len() < ENTRIES_MAX
        || remove_least_used(entries, |entry| entry.is_idle() && entry.object().is_none())
        || remove_least_used(entries, Entry::is_idle)
}

/// Gives the room of an object back that one port alone wants: of the port with the most room in such, the least
/// recently used one.
fn displace_one(entries: &mut BTreeMap<String, Entry>) -> bool {
    let mut held: BTreeMap<&PortName, usize> = BTreeMap::new();
    for (port, object) in entries.values().filter_map(Entry::displaceable) {
        *held.entry(port).or_default() += object.room();
    }
    let candidates = entries.iter().filter_map(|(path, entry)| {
        let (port, object) = entry.displaceable()?;
        Some(((Reverse(held.get(port)), entry.used), path.clone(), object))
    });
    let Some((_, path, object)) = candidates.min_by_key(|(rank, ..)| *rank) else {
        return false;
    };
    entries.remove(&path);
    object.displace();
    true
}

fn remove_least_used(entries: &mut BTreeMap<String, Entry>, may_go: impl Fn(&Entry) -> bool) -> bool {
    let candidates = entries.iter().filter(|(_, entry)| may_go(entry));
    let oldest = candidates.min_by_key(|(_, entry)| entry.used).map(|(path, _)| path.clone());
    oldest.is_some_and(|path| entries.remove(&path).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::image::object::{BLOCK, Filler};
    use leafboot_core::relay::validators::Version;

    const START: Duration = Duration::from_secs(1000);

    fn port(number: u8) -> PortName {
        format!("Ethernet{number}").parse().unwrap()
    }

    /// Puts an object of so many blocks there, of which nobody knows the length, asked for `second` seconds after the start.
    fn put(shelf: &Shelf, path: &str, blocks: usize, begun: Instant, second: u64) -> (Arc<Object>, Filler) {
        let version = Version { etag: Some("\"a\"".to_owned()), ..Version::default() };
        put_for(&port(0), version, shelf, path, blocks, begun + Duration::from_secs(second))
    }

    fn put_for(
        port: &PortName,
        version: Version,
        shelf: &Shelf,
        path: &str,
        blocks: usize,
        asked: Instant,
    ) -> (Arc<Object>, Filler) {
        let Found::Ask(told, _) = shelf.find(path, port, true, asked) else {
            panic!("{path} is known");
        };
        let room = shelf.reserve(blocks * BLOCK).expect("there is room");
        let own = shelf.reserve(0).unwrap();
        let (object, filler) = Object::new(version, HeaderMap::new(), own, room);
        told.send_replace(Some(Outcome::Shared(Arc::clone(&object))));
        (object, filler)
    }

    #[test]
    fn nothing_is_thrown_out_for_what_finds_no_room_all_the_same() {
        let (shelf, begun) = (Shelf::new(10 * BLOCK as u64), Instant::now());
        let read = put(&shelf, "/read", 5, begun, 0);
        for path in ["/a", "/b"] {
            drop(put(&shelf, path, 2, begun, 1));
        }
        assert!(shelf.reserve(6 * BLOCK).is_none());
        let taken = |shelf: &Shelf| shelf.state().taken / BLOCK as u64;
        assert_eq!(taken(&shelf), 9, "both idle ones are still there");
        assert!(shelf.reserve(3 * BLOCK).is_some());
        assert_eq!(taken(&shelf), 7, "one of them went");
        drop(read);
    }

    #[test]
    fn what_one_port_alone_reads_makes_room_first_of_the_port_that_holds_most() {
        let (shelf, begun) = (Shelf::new(10 * BLOCK as u64), Instant::now());
        let put = |number, path: &str, blocks, second| {
            let length = Some((blocks * BLOCK) as u64);
            let version = Version { etag: Some("\"a\"".to_owned()), length, ..Version::default() };
            put_for(&port(number), version, &shelf, path, blocks, begun + Duration::from_secs(second))
        };
        let (modest, first, second) = (put(4, "/m", 3, 0), put(0, "/1", 3, 1), put(0, "/2", 3, 2));
        assert!(shelf.reserve(8 * BLOCK).is_some(), "all three");
        let is_there = |put: &(Arc<Object>, Filler)| put.0.can_be_joined();
        assert!(!is_there(&modest) && !is_there(&first) && !is_there(&second));

        let (modest, first, second) = (put(4, "/m", 3, 3), put(0, "/1", 3, 4), put(0, "/2", 3, 5));
        let room = shelf.reserve(3 * BLOCK).unwrap();
        assert_eq!([&modest, &first, &second].map(is_there), [true, false, true]);
        let shared = shelf.find("/2", &port(4), true, begun + Duration::from_secs(5));
        assert!(matches!(shared, Found::Asked(_)));
        assert!(shelf.reserve(4 * BLOCK).is_some(), "the modest one's");
        assert_eq!([&modest, &second].map(is_there), [false, true], "two ports want it");
        drop(room);
        assert!(shelf.reserve(8 * BLOCK).is_none());
    }

    #[test]
    fn what_nobody_asks_for_goes_but_nothing_that_is_under_way() {
        let (shelf, begun) = (Shelf::new(10 * BLOCK as u64), Instant::now());
        let at = |second| begun + Duration::from_secs(second);
        assert_eq!(shelf.expire(at(0)), at(0) + KEPT_UNUSED, "there is nothing");
        for (path, second) in [("/a", 0), ("/b", 100)] {
            put(&shelf, path, 2, begun, second).1.finish().unwrap();
        }
        let (object, filler) = put(&shelf, "/slow", 2, begun, 0);
        let asked = shelf.find("/asked", &port(0), true, begun);
        let taken = |shelf: &Shelf| shelf.state().taken / BLOCK as u64;
        assert_eq!(shelf.expire(at(599)), at(600));
        assert_eq!(shelf.expire(at(600)), at(700), "/b is next");
        assert_eq!(taken(&shelf), 2, "/a is gone, and /b has nothing in it; /slow stays");
        assert!(shelf.look("/b", at(650)).is_none(), "nobody confirmed it, but it was asked for");
        filler.finish().unwrap();
        assert_eq!(shelf.expire(at(700)), at(1250));
        assert!(!object.is_filling() && taken(&shelf) == 0);
        assert!(
            matches!(asked, Found::Ask(..))
                && matches!(shelf.find("/asked", &port(1), true, begun), Found::Asked(_))
        );
    }

    #[test]
    fn what_is_asked_for_or_read_is_not_pushed_out() {
        let (shelf, begun) = (Shelf::new(10 * BLOCK as u64), Instant::now());
        let read = put(&shelf, "/read", 1, begun, 0);
        let ask = |path: &str| shelf.find(path, &port(0), true, begun);
        let asked: Vec<Found> = (1..ENTRIES_MAX).map(|number| ask(&format!("/{number}"))).collect();
        assert!(matches!(ask("/more"), Found::Nothing));
        let told =
            asked.iter().find_map(|found| if let Found::Ask(told, _) = found { Some(told) } else { None });
        told.unwrap().send_replace(Some(Outcome::NoRoom));
        assert!(matches!(ask("/more"), Found::Ask(..)), "it takes the place of what nobody needs");
        assert!(shelf.look("/read", begun).is_some());
        let later = begun + START;
        assert!(
            matches!(shelf.find("/1", &port(0), false, later), Found::Nothing),
            "who may not fetch does not"
        );
        assert!(matches!(shelf.find("/read", &port(0), false, later), Found::Ask(_, Some(_))), "but may ask");
        drop(read);
    }

    #[test]
    fn a_question_without_an_object_leaves_what_was_known() {
        let (shelf, begun) = (Shelf::new(10 * BLOCK as u64), Instant::now());
        let (object, filler) = put(&shelf, "/a", 2, begun, 0);
        let later = begun + START;
        let Found::Ask(told, Some(known)) = shelf.find("/a", &port(0), true, later) else {
            panic!("it is to be asked for")
        };
        shelf.take_back("/a", &told, Some(known));
        assert!(shelf.look("/a", later).is_none(), "nobody confirmed it");
        let Found::Ask(told, Some(known)) = shelf.find("/a", &port(0), true, later) else {
            panic!("it is to be asked for")
        };
        assert!(Arc::ptr_eq(&known, &object));
        filler.fail("it broke");
        shelf.take_back("/a", &told, Some(known));
        assert!(matches!(shelf.find("/a", &port(0), true, later), Found::Ask(_, None)));
    }
}
