//! The room of a check: a machine's side and an upstream's side of one relay, and functions for the requirements.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::support::front::Pair;
use crate::support::scripted::{Conversation, Scripted};
use crate::support::wire::{Answer, End, Silence, Wire, is_token};

/// The result of a check: no error, or its reason.
pub type Verdict = Result<(), String>;

/// One requirement.
pub struct Case {
    /// Where it comes from: an RFC's section; `iPXE` for what iPXE needs of a server; `leafboot` for its own promises.
    pub source: &'static str,
    /// What is required.
    pub what: &'static str,
    /// The check.
    pub check: fn(&Room) -> Verdict,
}

macro_rules! case {
    ($source:literal, $what:literal, $check:expr) => {
        $crate::room::Case { source: $source, what: $what, check: $check }
    };
}
pub(crate) use case;

/// A script as the boot service answers it.
pub const SCRIPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n#!ipxe\n";
/// What [`SCRIPT`] says.
pub const SCRIPT_BODY: &[u8] = b"#!ipxe\n";
/// A machine's request as it should be.
pub const GET: &[u8] = b"GET /boot.ipxe HTTP/1.1\r\nHost: leaf\r\n\r\n";
/// Longer than any limit of a relay on a request's head, or on the time that it waits.
pub const LONG: Duration = Duration::from_secs(25);

/// One relay's both sides.
pub struct Room {
    gateway: SocketAddr,
    upstream: TcpListener,
}

impl Room {
    /// Opens the upstream's side, in the calling thread's namespace. No program answers there yet.
    pub fn open(port: u16) -> Self {
        let gateway = format!("[2001:db8:b007::1]:{port}").parse().unwrap();
        Self { gateway, upstream: TcpListener::bind("[::1]:0").unwrap() }
    }

    /// The ports of both sides.
    pub fn pair(&self) -> Pair {
        Pair { machines: self.gateway.port(), upstream: self.upstream.local_addr().unwrap().port() }
    }

    /// A new connection of the machine.
    pub fn machine(&self) -> Wire {
        Wire::connect(self.gateway)
    }

    /// The upstream answers by a script from now on.
    pub fn origin(&self, script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Scripted {
        Scripted::play(&self.upstream, script)
    }

    /// The upstream gives every request the same answer, and keeps its connections.
    pub fn says(&self, bytes: impl Into<Vec<u8>>) -> Scripted {
        let bytes = bytes.into();
        self.origin(move |conversation| conversation.answer_all(&bytes))
    }

    /// The upstream gives every connection one answer, and closes it.
    pub fn says_once(&self, bytes: impl Into<Vec<u8>>) -> Scripted {
        let bytes = bytes.into();
        self.origin(move |conversation| {
            if conversation.request().is_some() {
                conversation.send(&bytes);
            }
        })
    }

    /// The upstream answers every request with the script.
    pub fn well(&self) -> Scripted {
        self.says(SCRIPT)
    }
}

/// An error unless `so` holds.
pub fn require(so: bool, otherwise: impl Into<String>) -> Verdict {
    if so { Ok(()) } else { Err(otherwise.into()) }
}

/// A GET for a path with headers of its own.
pub fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: leaf\r\n{headers}\r\n").into_bytes()
}

/// The answer, or an error if there is none.
pub fn some(answer: Result<Answer, Silence>) -> Result<Answer, String> {
    answer.map_err(|silence| format!("no answer: {silence:?}"))
}

/// The request must be refused, by an error or with the connection, and the upstream must not hear of it.
pub fn refused(room: &Room, request: &[u8]) -> Verdict {
    let origin = room.well();
    let mut machine = room.machine();
    machine.send(request);
    match machine.answer() {
        Ok(answer) => require((400..=599).contains(&answer.status), format!("it got {}", answer.line))?,
        Err(Silence::Closed) => {}
        Err(other) => return Err(format!("{other:?}")),
    }
    unheard(&origin)
}

/// The upstream must not have heard anything.
pub fn unheard(origin: &Scripted) -> Verdict {
    require(origin.requests().is_empty(), format!("the upstream got {:?}", origin.requests()))
}

/// The request must be answered with the script, and the upstream must have heard one sane request, which is returned.
pub fn answered(room: &Room, request: &[u8]) -> Result<String, String> {
    let origin = room.well();
    let mut machine = room.machine();
    machine.send(request);
    script(&some(machine.answer())?)?;
    only(&origin)
}

/// The request may be refused or answered; whatever reaches the upstream must be one sane request for the boot script,
/// and no other answer may follow.
pub fn harmless(room: &Room, request: &[u8]) -> Verdict {
    let origin = room.well();
    let mut machine = room.machine();
    machine.send(request);
    match machine.answer() {
        Ok(answer) if answer.status == 200 => {
            script(&answer)?;
            only(&origin)?;
        }
        Ok(answer) => {
            require((400..=599).contains(&answer.status), format!("it got {}", answer.line))?;
            unheard(&origin)?;
        }
        Err(Silence::Closed) => unheard(&origin)?,
        Err(other) => return Err(format!("{other:?}")),
    }
    // Refusals may follow. A request that was hidden in the first one is never answered.
    machine = machine.patient(Duration::from_millis(300));
    while let Ok(next) = machine.answer() {
        require(next.status >= 400, format!("a second answer: {}", next.line))?;
    }
    require(origin.requests().len() <= 1, format!("the upstream got {:?}", origin.requests()))
}

/// An answer must be the script, whole.
pub fn script(answer: &Answer) -> Verdict {
    let whole = answer.status == 200 && answer.body == SCRIPT_BODY && answer.end != End::Cut;
    require(whole, format!("it got {} {:?} {:?}", answer.line, answer.body, answer.end))
}

/// The upstream's one request, which must be sane.
pub fn only(origin: &Scripted) -> Result<String, String> {
    match origin.requests().as_slice() {
        [request] => sane(request).map(|()| request.clone()),
        other => Err(format!("the upstream got {} requests: {other:?}", other.len())),
    }
}

/// A request that no upstream can take for another: RFC 9112 3, 5 and 6.
fn sane(request: &str) -> Verdict {
    let wrong = |what: &str| Err(format!("{what} reached the upstream: {request:?}"));
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return wrong("no whole head") };
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    match words.as_slice() {
        [_, target, "HTTP/1.1" | "HTTP/1.0"] if target.starts_with('/') => {}
        _ => return wrong("a bad request line"),
    }
    let mut hosts = 0;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return wrong("a line without colon") };
        if name.is_empty() || !name.bytes().all(is_token) {
            return wrong("a bad header name");
        }
        if value.chars().any(|letter| letter.is_ascii_control() && letter != '\t') {
            return wrong("a control character");
        }
        hosts += usize::from(name.eq_ignore_ascii_case("host"));
    }
    if hosts != 1 {
        return wrong("a number of Hosts");
    }
    require(
        body.is_empty()
            || values(request, "content-length").len() + values(request, "transfer-encoding").len() == 1,
        format!("a body with unclear length reached the upstream: {request:?}"),
    )
}

/// A header's values in a request as the upstream got it.
pub fn values(request: &str, name: &str) -> Vec<String> {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let pairs = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    let named = pairs.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim().to_owned()).collect()
}
