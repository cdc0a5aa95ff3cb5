//! The agent's settings: `RawSettings` is the TOML file as written, `Settings` is checked and complete. This module has every
//! default.
//!
//! Must never: read a file, or accept a value that an RFC or SONiC forbids.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv6Net;
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::names::{AnycastNet, HttpOrigin, LeafPrefix, LoopbackName, OriginError, PrefixError, VrfName};
use crate::ra::variables::RouterVariables;
use acl::RawAcl;
use metrics::RawMetrics;
use ra::RawRa;
use relay::RawRelay;

pub use acl::AclSettings;
pub use ra::{domain_name, nat64_prefix};
pub use relay::RelaySettings;

mod acl;
mod metrics;
mod ra;
pub mod relay;

const DEFAULT_DATABASE_CONFIG: &str = "/var/run/redis/sonic-db/database_config.json";
const DEFAULT_SOCKET: &str = "/run/leafboot/leafboot.sock";
const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/leafboot";
const DEFAULT_VRF: &str = "Vrfboot";
const DEFAULT_LOOPBACK: &str = "Loopback64";

/// Keys that were renamed before 1.0, and their names now.
const RENAMED: [(&str, &str); 2] =
    [("relay.patience", "relay.min_rate_window"), ("relay.script.remember", "relay.script.stale_if_error")];

/// A setting that cannot be used, with its key, its line in the file, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Not TOML, an unknown key, or a value of the wrong type. The text names the key and the line.
    #[error("{0}")]
    Toml(String),
    /// A renamed key.
    #[error("line {line}: {key} is now {now}")]
    Renamed {
        /// The old dotted key.
        key: &'static str,
        /// Counted from 1.
        line: usize,
        /// The new dotted key.
        now: &'static str,
    },
    /// A value that is out of range or has the wrong form.
    #[error("{}: {reason}", location(*.line, key))]
    Value {
        /// Dotted key, `ra.mtu`.
        key: String,
        /// Counted from 1. None: the value is the key's default, and another key makes the default invalid.
        line: Option<usize>,
        /// What is wrong, and what would be valid.
        reason: String,
    },
    /// A key without a default is missing.
    #[error("{key} is missing: {hint}")]
    Missing {
        /// Dotted key.
        key: String,
        /// What to write.
        hint: &'static str,
    },
    /// The advertisement that `[ra]` describes does not fit into one packet (RFC 8200 5, RFC 6980 5).
    #[error(
        "ra: the advertisement has up to {size} bytes, more than the {room} that every IPv6 link carries in one packet (RFC 8200 5; RFC 6980 5 forbids fragments): set fewer routes, search names or servers"
    )]
    TooLarge {
        /// The advertisement's bytes.
        size: usize,
        /// The most that fit.
        room: usize,
    },
}

fn location(line: Option<usize>, key: &str) -> String {
    match line {
        Some(line) => format!("line {line}: {key}"),
        None => format!("{key} (its default)"),
    }
}

/// The checked settings of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The leaf's name in the ingress identity and in messages. 1 to 63 printable ASCII characters.
    pub leaf: String,
    /// SONiC's `database_config.json`.
    pub database_config: PathBuf,
    /// The API's unix socket.
    pub socket: PathBuf,
    /// The TCP address that serves metrics. Boot ports do not reach it. The socket serves metrics, too.
    pub metrics: Option<SocketAddr>,
    /// The OpenTelemetry collector that gets a trace of each boot attempt.
    pub otlp: Option<HttpOrigin>,
    /// The directory that keeps the last accepted document.
    pub state_directory: PathBuf,
    /// The boot VRF and its addresses.
    pub boot: Boot,
    /// What machines may reach, beside the relay and the DNS servers.
    pub acl: AclSettings,
    /// What Router Advertisements say, and when they are sent.
    pub ra: RouterVariables,
    /// The relay's listeners and upstreams.
    pub relay: RelaySettings,
}

/// The boot VRF and the addresses in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The boot VRF's name.
    pub vrf: VrfName,
    /// The leaf's share of the boot supernet.
    pub prefix: LeafPrefix,
    /// The partition's address space for machines that boot. It contains every machine's prefix.
    pub supernet: Ipv6Net,
    /// Ports that leafboot never configures, by name or alias: the uplinks.
    pub protected: Vec<String>,
    /// The relay's address that all leaves share. It is outside of `supernet`.
    pub anycast: Option<AnycastNet>,
    /// The loopback that carries `anycast`.
    pub loopback: LoopbackName,
}

impl Settings {
    /// The keys whose values differ between two settings. `[acl]`, `[ra]` and `[relay]` are compared as whole tables.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let Self { leaf, database_config, socket, metrics, otlp, state_directory, boot, acl, ra, relay } =
            self;
        let Boot { vrf, prefix, supernet, protected, anycast, loopback } = boot;
        let differs = [
            ("leaf", *leaf != other.leaf),
            ("sonic.database_config", *database_config != other.database_config),
            ("api.socket", *socket != other.socket),
            ("metrics.listen", *metrics != other.metrics),
            ("trace.otlp", *otlp != other.otlp),
            ("state.directory", *state_directory != other.state_directory),
            ("boot.vrf", *vrf != other.boot.vrf),
            ("boot.prefix", *prefix != other.boot.prefix),
            ("boot.supernet", *supernet != other.boot.supernet),
            ("boot.protected", *protected != other.boot.protected),
            ("boot.anycast", *anycast != other.boot.anycast),
            ("boot.loopback", *loopback != other.boot.loopback),
            ("acl", *acl != other.acl),
            ("ra", *ra != other.ra),
            ("relay", *relay != other.relay),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    /// Parses and checks a whole file.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let raw: RawSettings = toml::from_str(text).map_err(|error| parse_error(text, &error))?;
        Checker { text }.settings(raw)
    }

    /// The API's socket in a file that may be wrong in anything else: a running agent can be asked while an operator edits its
    /// file.
    pub fn socket_of(text: &str) -> Result<PathBuf, SettingsError> {
        let raw: RawSocket = toml::from_str(text).map_err(|error| parse_error(text, &error))?;
        Checker { text }.socket(raw.api.socket)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    leaf: Option<Spanned<String>>,
    #[serde(default)]
    sonic: RawSonic,
    #[serde(default)]
    api: RawApi,
    #[serde(default)]
    metrics: RawMetrics,
    #[serde(default)]
    trace: RawTrace,
    #[serde(default)]
    state: RawState,
    #[serde(default)]
    boot: RawBoot,
    #[serde(default)]
    acl: RawAcl,
    #[serde(default)]
    ra: RawRa,
    #[serde(default)]
    relay: RawRelay,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawSonic {
    database_config: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawApi {
    socket: Option<Spanned<String>>,
}

/// The part of the file that commands need which ask a running agent.
#[derive(Deserialize)]
struct RawSocket {
    #[serde(default)]
    api: RawApi,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawTrace {
    otlp: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawState {
    directory: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawBoot {
    vrf: Option<Spanned<String>>,
    prefix: Option<Spanned<String>>,
    supernet: Option<Spanned<String>>,
    protected: Option<Vec<String>>,
    anycast: Option<Spanned<String>>,
    loopback: Option<Spanned<String>>,
}

/// Turns raw values into checked ones. It has the text, so that an error can name its line.
struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn settings(&self, raw: RawSettings) -> Result<Settings, SettingsError> {
        let leaf = required("leaf", raw.leaf, "leaf = \"leaf01\", the name that boot services know")?;
        let leaf = self.value("leaf", &leaf, |name| leaf_name(name))?;
        let database_config =
            self.path("sonic.database_config", raw.sonic.database_config, DEFAULT_DATABASE_CONFIG)?;
        let socket = self.socket(raw.api.socket)?;
        let otlp = raw.trace.otlp.map(|raw| self.value("trace.otlp", &raw, |text| collector(text)));
        let otlp = otlp.transpose()?;
        let state_directory = self.path("state.directory", raw.state.directory, DEFAULT_STATE_DIRECTORY)?;
        let (boot, acl) = (self.boot(raw.boot)?, self.acl(raw.acl)?);
        let metrics = self.metrics(raw.metrics, &boot, &acl)?;
        let (ra, relay) = (self.ra(raw.ra)?, self.relay(raw.relay)?);
        Ok(Settings { leaf, database_config, socket, metrics, otlp, state_directory, boot, acl, ra, relay })
    }

    fn boot(&self, raw: RawBoot) -> Result<Boot, SettingsError> {
        let prefix = required(
            "boot.prefix",
            raw.prefix,
            "prefix = \"2001:db8:b007::/57\", this leaf's share of the boot supernet",
        )?;
        let leaf: LeafPrefix = self.parsed("boot.prefix", &prefix)?;
        let supernet = self.value("boot.supernet", &raw.supernet.unwrap_or(prefix), |text| {
            let supernet: LeafPrefix = text.parse().map_err(|e: PrefixError| e.to_string())?;
            if supernet.net().contains(&leaf.net()) {
                Ok(supernet.net())
            } else {
                Err(format!("{supernet} does not contain boot.prefix {leaf}"))
            }
        })?;
        let anycast = raw.anycast.map(|raw| self.value("boot.anycast", &raw, |text| anycast(text, supernet)));
        Ok(Boot {
            vrf: self.parsed("boot.vrf", &or_default(raw.vrf, DEFAULT_VRF))?,
            prefix: leaf,
            supernet,
            protected: raw.protected.ok_or_else(|| SettingsError::Missing {
                key: "boot.protected".to_owned(),
                hint: "protected = [\"Ethernet120\"], the ports that leafboot never configures, by name or alias: the uplinks; protected = [] if there are none",
            })?,
            anycast: anycast.transpose()?,
            loopback: self.parsed("boot.loopback", &or_default(raw.loopback, DEFAULT_LOOPBACK))?,
        })
    }

    /// A unix socket's path: absolute, and short enough for `sockaddr_un` (unix(7): 108 bytes, the final NUL included).
    fn socket(&self, raw: Option<Spanned<String>>) -> Result<PathBuf, SettingsError> {
        let raw = or_default(raw, DEFAULT_SOCKET);
        self.value("api.socket", &raw, |path| match path.len() {
            0..=107 => absolute(path),
            length => {
                Err(format!("{length} bytes are too long for a unix socket's path: at most 107 (unix(7))"))
            }
        })
    }

    fn path(&self, key: &str, raw: Option<Spanned<String>>, default: &str) -> Result<PathBuf, SettingsError> {
        self.value(key, &or_default(raw, default), |path| absolute(path))
    }

    /// A duration such as `"10s"`, in whole seconds, in `least..=most`. `rule`: the source of this range, for the error.
    fn seconds(
        &self,
        key: &str,
        raw: &Spanned<String>,
        least: u64,
        most: u64,
        rule: &str,
    ) -> Result<u64, SettingsError> {
        self.value(key, raw, |text| {
            let time = duration(text, "10s")?;
            let seconds = time.as_secs();
            if time.subsec_nanos() != 0 {
                Err(format!("{text} is not a whole number of seconds"))
            } else if (least..=most).contains(&seconds) {
                Ok(seconds)
            } else {
                Err(format!("{text} is not between {least} s and {most} s ({rule})"))
            }
        })
    }

    fn parsed<T>(&self, key: &str, raw: &Spanned<String>) -> Result<T, SettingsError>
    where
        T: FromStr,
        T::Err: ToString,
    {
        self.value(key, raw, |text| text.parse::<T>().map_err(|e| e.to_string()))
    }

    fn value<R, T>(
        &self,
        key: &str,
        raw: &Spanned<R>,
        check: impl FnOnce(&R) -> Result<T, String>,
    ) -> Result<T, SettingsError> {
        check(raw.get_ref()).map_err(|reason| {
            let written = Some(raw.span()).filter(|span| !span.is_empty());
            let before = written.map(|span| self.text.get(..span.start).unwrap_or_default());
            let line = before.map(|before| before.matches('\n').count() + 1);
            SettingsError::Value { key: key.to_owned(), line, reason }
        })
    }
}

/// The error for a text that cannot be parsed. An unknown key may be a renamed one.
fn parse_error(text: &str, error: &toml::de::Error) -> SettingsError {
    let unknown = error.span().filter(|_| error.message().starts_with("unknown field"));
    let renamed = unknown.and_then(|span| {
        let (written, before) = (text.get(span.clone())?, text.get(..span.start)?);
        let last = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
        // The message lists the keys that the table has: the new name is one of them.
        let is_it = |key, now| last(key) == written && error.message().contains(&format!("`{}`", last(now)));
        let (key, now) = *RENAMED.iter().find(|(key, now)| is_it(key, now))?;
        Some(SettingsError::Renamed { key, line: before.matches('\n').count() + 1, now })
    });
    renamed.unwrap_or_else(|| SettingsError::Toml(error.to_string().trim_end().to_owned()))
}

fn required<T>(key: &str, raw: Option<Spanned<T>>, hint: &'static str) -> Result<Spanned<T>, SettingsError> {
    raw.ok_or(SettingsError::Missing { key: key.to_owned(), hint })
}

/// Parses a duration. `example`: one to show in the error.
fn duration(text: &str, example: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{text:?}: {error}; write {example:?}"))
}

fn or_default<T, D: Into<T>>(raw: Option<Spanned<T>>, default: D) -> Spanned<T> {
    raw.unwrap_or_else(|| unwritten(default.into()))
}

/// A value that is not in the file, such as a default.
fn unwritten<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Checks an anycast address. In one VRF orchagent retries the second of two overlapping addresses for ever
/// (`orchagent/intfsorch.cpp: IntfsOrch::setIntf`), and the boot ACL denies machines all of the supernet.
fn anycast(text: &str, supernet: Ipv6Net) -> Result<AnycastNet, String> {
    let anycast: AnycastNet = text.parse().map_err(|e: PrefixError| e.to_string())?;
    if supernet.contains(&anycast.net()) || anycast.net().contains(&supernet) {
        return Err(format!("{anycast} overlaps boot.supernet {supernet}, which is for machines"));
    }
    Ok(anycast)
}

/// Checks the leaf's name: 1 to 63 printable ASCII characters without spaces.
fn leaf_name(name: &str) -> Result<String, String> {
    let legal = !name.is_empty() && name.len() <= 63 && name.bytes().all(|b| b.is_ascii_graphic());
    if legal {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is not 1 to 63 printable ASCII characters without spaces"))
    }
}

/// Checks a collector's origin.
fn collector(text: &str) -> Result<HttpOrigin, String> {
    let origin: HttpOrigin = text.parse().map_err(|error: OriginError| error.to_string())?;
    if origin.is_tls() {
        return Err(format!(
            "{text}: traces are sent without TLS; name a collector with http://, such as one on the leaf"
        ));
    }
    Ok(origin)
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok(path) } else { Err(format!("{} is not an absolute path", path.display())) }
}

#[cfg(test)]
mod tests;
