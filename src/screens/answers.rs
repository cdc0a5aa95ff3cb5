//! The API's answers as the screens read them. `sonic/openapi.yaml` describes them.
//!
//! Must never: refuse an answer because of a field or a reason that a later leafboot has.

use std::fmt;
use std::ops::Deref;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use leafboot_core::names::PortName;
use leafboot_core::printable;

/// A text from an answer. It has no character that ends a line or moves a terminal's cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Text(String);

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(printable::line(&text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// `GET /v1/leaf`.
#[derive(Debug, Deserialize)]
pub struct Leaf {
    /// The leaf's name.
    pub leaf: Text,
    /// The agent's version.
    pub version: Text,
    /// Seconds since the agent's start.
    pub uptime_seconds: u64,
    /// Seconds since the last push; none: there was none since the start.
    pub pushed_seconds_ago: Option<u64>,
    /// The document's generation.
    pub generation: Option<u64>,
    /// How many ports are settled.
    pub ports: PortCounts,
    /// What is wrong with SONiC; none: nothing.
    pub sonic: Option<Condition>,
    /// No port waits for the boot ACL.
    pub acl_bound: bool,
    /// The servers behind the relay.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// What leafboot has looked at by itself.
    #[serde(default)]
    pub probes: Vec<Probe>,
}

/// How many ports are settled.
#[derive(Debug, Deserialize)]
pub struct PortCounts {
    /// Those that are settled.
    pub settled: u64,
    /// All that the API names.
    pub all: u64,
}

/// A server behind the relay.
#[derive(Debug, Deserialize)]
pub struct Upstream {
    /// `boot_service`, `cache` …
    pub upstream: Text,
    /// Its origin.
    pub origin: Text,
    /// False while it is ejected.
    pub up: bool,
    /// The time to the first byte of its last answer.
    pub milliseconds: Option<f64>,
    /// Why its last request failed.
    pub error: Option<Text>,
}

/// The result of a probe.
#[derive(Debug, Deserialize)]
pub struct Probe {
    /// What was looked at.
    pub probe: Text,
    /// Which server, name or file.
    pub target: Text,
    /// Whether all is well.
    pub ok: bool,
    /// How long it took.
    pub milliseconds: Option<f64>,
    /// What was found.
    pub message: Option<Text>,
}

/// Something that is in the way.
#[derive(Debug, Clone, Deserialize)]
pub struct Condition {
    /// For programs.
    pub reason: Text,
    /// One sentence.
    pub message: Text,
}

/// `GET /v1/ports`, and the answer to a push.
#[derive(Debug, Deserialize)]
pub struct Ports {
    /// In the order of the answer.
    #[serde(deserialize_with = "values")]
    pub ports: Vec<Port>,
}

/// `GET /v1/ports/<name>`.
#[derive(Debug, Clone, Deserialize)]
pub struct Port {
    /// SONiC's name, or a pushed name that is no port's.
    pub name: Text,
    /// One of five.
    pub state: Text,
    /// Nothing is left to do.
    pub settled: bool,
    /// Router Advertisements are sent.
    pub advertising: bool,
    /// The machine's /64.
    pub prefix: Option<Text>,
    /// What the port waits for.
    pub waiting: Option<Condition>,
    /// Why the port is rejected.
    pub message: Option<Text>,
    /// The kernel's view of the link.
    #[serde(default)]
    pub link: Option<Link>,
    /// The machine's Ethernet address, by its own word.
    #[serde(default)]
    pub machine: Option<Text>,
    /// The last stage that the boot has reached.
    #[serde(default)]
    pub stage: Option<Text>,
    /// When it was reached.
    #[serde(default)]
    pub since: Option<Text>,
    /// What is the matter.
    #[serde(default)]
    pub verdict: Option<Verdict>,
}

impl Port {
    /// Sorts ports as people count them, and what is no port's name behind them.
    pub fn order(&self) -> (bool, Option<PortName>, String) {
        let port = self.name.parse::<PortName>().ok();
        (port.is_none(), port, self.name.to_string())
    }
}

/// The kernel's view of a port's link.
#[derive(Debug, Clone, Deserialize)]
pub struct Link {
    /// Administratively up.
    pub admin_up: bool,
    /// There is a carrier.
    pub carrier: bool,
}

/// What is the matter with a boot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// For programs, and for `leafboot explain`.
    pub reason: Text,
    /// One line.
    pub message: Text,
    /// `ok`, `waiting` or `fault`.
    pub level: Text,
    /// How leafboot knows.
    #[serde(default)]
    pub evidence: Vec<Text>,
}

impl Verdict {
    /// Whether an operator has to act.
    pub fn is_fault(&self) -> bool {
        self.level.eq_ignore_ascii_case("fault")
    }
}

/// `GET /v1/ports/<name>/attempts`.
#[derive(Debug, Deserialize)]
pub struct Attempts {
    /// SONiC's name of the port.
    pub port: Text,
    /// Attempts since the port is in boot; the last of them are in `attempts`.
    pub total: u64,
    /// Newest last.
    pub attempts: Vec<Attempt>,
}

/// One machine's try.
#[derive(Debug, Deserialize)]
pub struct Attempt {
    /// Counted from 1 since the port is in boot.
    pub number: u64,
    /// When it began.
    pub began: Text,
    /// When it ended; none: it is the present one.
    pub ended: Option<Text>,
    /// Why it ended.
    pub end: Option<Text>,
    /// The machine's Ethernet address, by its own word.
    pub machine: Option<Text>,
    /// The stages, in the order of a boot.
    pub stages: Vec<Stage>,
    /// What is or was the matter.
    pub verdict: Option<Verdict>,
}

/// One stage of an attempt.
#[derive(Debug, Deserialize)]
pub struct Stage {
    /// Its name.
    pub stage: Text,
    /// Milliseconds from the attempt's beginning to the first time.
    pub offset_ms: f64,
    /// The same for the last time.
    pub last_offset_ms: f64,
    /// How often.
    pub count: u64,
    /// What came of it the last time.
    pub message: Text,
}

/// The values of an object, in its order.
fn values<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Values<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::with_capacity(object.size_hint().unwrap_or_default().min(1024));
            while let Some((_, value)) = object.next_entry::<serde::de::IgnoredAny, T>()? {
                values.push(value);
            }
            Ok(values)
        }
    }

    deserializer.deserialize_map(Values(std::marker::PhantomData))
}
