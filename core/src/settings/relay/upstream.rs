//! The tables of servers behind the relay, which all have the same keys: `[relay.boot_service]`, `[relay.cache]`,
//! `[relay.api]`.
//!
//! Must never: let a time through that iPXE would not wait for.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::super::{Checker, SettingsError, or_default, required};
use super::{Identity, TIMEOUT_MAX};
use crate::names::{HttpOrigin, OriginError, never_connected};

/// A host of the partition that does not take a connection in this time is not well.
const DEFAULT_CONNECT: &str = "1s";
/// A token request has 4.5 s in all, and a second origin is to be reached within them.
const TOKEN_CONNECT_MAX: Duration = Duration::from_secs(4);
/// Debian's trust roots, which SONiC has.
const DEFAULT_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A kind of servers behind the relay: all of them answer the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// At least one.
    pub origins: Vec<HttpOrigin>,
    /// Which of them is asked.
    pub order: Order,
    /// Until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// From the request's end to the answer's first byte; none: as long as it takes.
    pub first_byte_timeout: Option<Duration>,
    /// Between two pieces of the answer; none: as long as it takes.
    pub idle_timeout: Option<Duration>,
    /// The source address of connections.
    pub source: Option<IpAddr>,
    /// The device that connections are bound to: a VRF.
    pub device: Option<String>,
    /// Trust roots for `https` origins: a PEM file, read again when it changes.
    pub ca: PathBuf,
    /// The leaf's client certificate.
    pub identity: Option<Identity>,
}

/// Which of several origins is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first that is well.
    Listed,
    /// One after the other.
    Balanced,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    pub(super) origins: Option<Spanned<Vec<String>>>,
    pub(super) order: Option<Spanned<String>>,
    pub(super) connect_timeout: Option<Spanned<String>>,
    pub(super) first_byte_timeout: Option<Spanned<String>>,
    pub(super) idle_timeout: Option<Spanned<String>>,
    pub(super) source: Option<Spanned<String>>,
    pub(super) device: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) tls: RawUpstreamTls,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstreamTls {
    ca: Option<Spanned<String>>,
    certificate: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
}

/// An upstream table's dotted keys, and its own defaults.
pub(super) struct Section {
    origins: &'static str,
    order: &'static str,
    connect_timeout: &'static str,
    first_byte_timeout: &'static str,
    idle_timeout: &'static str,
    source: &'static str,
    device: &'static str,
    ca: &'static str,
    certificate: &'static str,
    key: &'static str,
    default_first_byte: &'static str,
    default_idle: &'static str,
    /// The longest that it may take to connect.
    connect_max: Duration,
    /// Whether an answer may take as long as it likes.
    is_stream: bool,
    hint: &'static str,
}

macro_rules! section {
    ($table:literal, connect_max: $connect_max:ident, first_byte: $first_byte:literal, idle: $idle:literal,
     is_stream: $is_stream:literal, $hint:literal) => {
        Section {
            origins: concat!($table, ".origins"),
            order: concat!($table, ".order"),
            connect_timeout: concat!($table, ".connect_timeout"),
            first_byte_timeout: concat!($table, ".first_byte_timeout"),
            idle_timeout: concat!($table, ".idle_timeout"),
            source: concat!($table, ".source"),
            device: concat!($table, ".device"),
            ca: concat!($table, ".tls.ca"),
            certificate: concat!($table, ".tls.certificate"),
            key: concat!($table, ".tls.key"),
            default_first_byte: $first_byte,
            default_idle: $idle,
            connect_max: $connect_max,
            is_stream: $is_stream,
            hint: $hint,
        }
    };
}

pub(super) const BOOT_SERVICE: Section = section!("relay.boot_service", connect_max: TOKEN_CONNECT_MAX,
    first_byte: "10s", idle: "5s", is_stream: false,
    "origins = [\"http://[2001:db8:ffff::80]:8080\"], who answers boot.ipxe and tokens");
pub(super) const CACHE: Section = section!("relay.cache", connect_max: TIMEOUT_MAX,
    first_byte: "10s", idle: "20s", is_stream: false,
    "origins = [\"http://[2001:db8:ffff::90]\"]");
/// A stream of metal-apiserver may be silent from its first byte on until a machine is wanted.
pub(super) const API: Section = section!("relay.api", connect_max: TIMEOUT_MAX,
    first_byte: "0s", idle: "0s", is_stream: true,
    "origins = [\"https://v2.metal-stack.example\"], metal-apiserver");

impl Checker<'_> {
    /// Checks one of the upstream tables.
    pub(super) fn upstream(&self, section: &Section, raw: RawUpstream) -> Result<Upstream, SettingsError> {
        let origins = required(section.origins, raw.origins, section.hint)?;
        let identity = match (raw.tls.certificate, raw.tls.key) {
            (Some(certificate), Some(key)) => {
                Some(self.identity([section.certificate, section.key], [&certificate, &key])?)
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(SettingsError::Missing { key: section.key, hint: "the certificate's key" });
            }
            (None, Some(_)) => {
                return Err(SettingsError::Missing {
                    key: section.certificate,
                    hint: "the key's certificate",
                });
            }
        };
        let connect = or_default(raw.connect_timeout, DEFAULT_CONNECT);
        let patience = |key, text: Spanned<String>| match self.time(key, text.clone(), TIMEOUT_MAX)? {
            None if !section.is_stream => self.value(key, &text, |text| {
                Err(format!("{text}: a server that hangs would never be given up"))
            }),
            time => Ok(time),
        };
        Ok(Upstream {
            origins: self.value(section.origins, &origins, |texts| origin_list(texts))?,
            order: self.value(section.order, &or_default(raw.order, "listed"), |order| {
                match order.as_str() {
                    "listed" => Ok(Order::Listed),
                    "balanced" => Ok(Order::Balanced),
                    other => Err(format!("{other:?} is not listed or balanced")),
                }
            })?,
            connect_timeout: match self.time(section.connect_timeout, connect.clone(), section.connect_max)? {
                Some(time) => time,
                None => self.value(section.connect_timeout, &connect, |text| {
                    Err(format!("{text} is no time to connect in"))
                })?,
            },
            first_byte_timeout: patience(
                section.first_byte_timeout,
                or_default(raw.first_byte_timeout, section.default_first_byte),
            )?,
            idle_timeout: patience(section.idle_timeout, or_default(raw.idle_timeout, section.default_idle))?,
            source: raw
                .source
                .map(|source| self.value(section.source, &source, |text| source_address(text)))
                .transpose()?,
            device: raw
                .device
                .map(|device| self.value(section.device, &device, |name| device_name(name)))
                .transpose()?,
            ca: self.path(section.ca, raw.tls.ca, DEFAULT_CA)?,
            identity,
        })
    }
}

/// One to eight different origins: more would never be reached within a machine's patience.
fn origin_list(texts: &[String]) -> Result<Vec<HttpOrigin>, String> {
    if !(1..=8).contains(&texts.len()) {
        return Err(format!("{} origins: there must be one to eight", texts.len()));
    }
    let mut origins = Vec::new();
    for text in texts {
        let origin: HttpOrigin = text.parse().map_err(|e: OriginError| e.to_string())?;
        if let Some(kind) = origin.host().parse().ok().and_then(never_connected) {
            return Err(format!(
                "{origin}: {} is {kind}: no server can be connected to at it",
                origin.host()
            ));
        }
        if origins.contains(&origin) {
            return Err(format!("{origin} stands there twice"));
        }
        origins.push(origin);
    }
    Ok(origins)
}

/// An address of the leaf that connections can come from.
fn source_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IPv4 or IPv6 address"))?;
    match never_connected(address) {
        None => Ok(address),
        Some(kind) => Err(format!("{text:?} is {kind}: no connection can come from it")),
    }
}

/// A kernel device's name (`IFNAMSIZ`).
fn device_name(name: &str) -> Result<String, String> {
    let legal = (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
        && name != "."
        && name != "..";
    if legal { Ok(name.to_owned()) } else { Err(format!("{name:?} is not a network device's name")) }
}
