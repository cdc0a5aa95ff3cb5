//! The settings of the relay's upstreams, raw and checked. The tables `[relay.boot_service]`, `[relay.cache]` and `[relay.api]`
//! share these keys.
//!
//! Must never: accept a timeout that is longer than iPXE waits.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::super::{Checker, SettingsError, or_default, required};
use super::{Identity, TIMEOUT_MAX};
use crate::names::{HttpOrigin, OriginError, never_connected};

/// A healthy server of the partition accepts a connection within this time.
const DEFAULT_CONNECT: &str = "1s";
/// A token request has 4.5 s in all, and the relay must have time to reach a second origin.
const TOKEN_CONNECT_MAX: Duration = Duration::from_secs(4);
/// Debian's trust roots. SONiC has them, too.
const DEFAULT_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One upstream: interchangeable servers behind the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The servers: one to eight.
    pub origins: Vec<HttpOrigin>,
    /// How a server is chosen.
    pub order: OriginOrder,
    /// The most time to connect, with the TLS handshake.
    pub connect_timeout: Duration,
    /// The most time from the request's end to the answer's first byte. None: no limit.
    pub first_byte_timeout: Option<Duration>,
    /// The most time between two pieces of the answer. None: no limit.
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

/// How one of several origins is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginOrder {
    /// The first one that is up.
    Listed,
    /// Each one in turn (round robin).
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

/// One upstream table: its name and its own defaults.
pub(super) struct Section {
    /// Its name in the file.
    table: &'static str,
    default_first_byte: &'static str,
    default_idle: &'static str,
    /// The longest `connect_timeout`.
    connect_max: Duration,
    /// Whether answers may be without a time limit.
    is_stream: bool,
    /// An example for `origins`.
    hint: &'static str,
}

pub(super) const BOOT_SERVICE: Section = Section {
    table: "relay.boot_service",
    default_first_byte: "10s",
    default_idle: "5s",
    connect_max: TOKEN_CONNECT_MAX,
    is_stream: false,
    hint: "origins = [\"http://[2001:db8:ffff::80]:8080\"], the servers for boot.ipxe and tokens",
};
pub(super) const CACHE: Section = Section {
    table: "relay.cache",
    default_first_byte: "10s",
    default_idle: "20s",
    connect_max: TIMEOUT_MAX,
    is_stream: false,
    hint: "origins = [\"http://[2001:db8:ffff::90]\"]",
};
/// metal-apiserver's streams may be silent until a machine is wanted.
pub(super) const API: Section = Section {
    table: "relay.api",
    default_first_byte: "0s",
    default_idle: "0s",
    connect_max: TIMEOUT_MAX,
    is_stream: true,
    hint: "origins = [\"https://v2.metal-stack.example\"], metal-apiserver",
};

impl Checker<'_> {
    /// Checks one of the upstream tables.
    pub(super) fn upstream(
        &self,
        section: &Section,
        raw: RawUpstream,
    ) -> Result<UpstreamSettings, SettingsError> {
        let key = |name: &str| format!("{}.{name}", section.table);
        let origins = required(&key("origins"), raw.origins, section.hint)?;
        let first_byte = or_default(raw.first_byte_timeout, section.default_first_byte);
        let idle = or_default(raw.idle_timeout, section.default_idle);
        let source = raw.source.map(|raw| self.value(&key("source"), &raw, |text| source_address(text)));
        let device = raw.device.map(|raw| self.value(&key("device"), &raw, |name| device_name(name)));
        Ok(UpstreamSettings {
            origins: self.value(&key("origins"), &origins, |texts| origin_list(texts))?,
            order: self.value(&key("order"), &or_default(raw.order, "listed"), |text| order(text))?,
            connect_timeout: self.connect_timeout(section, raw.connect_timeout)?,
            first_byte_timeout: self.answer_timeout(section, "first_byte_timeout", first_byte)?,
            idle_timeout: self.answer_timeout(section, "idle_timeout", idle)?,
            source: source.transpose()?,
            device: device.transpose()?,
            ca: self.path(&key("tls.ca"), raw.tls.ca, DEFAULT_CA)?,
            identity: self.client_identity(section, raw.tls.certificate, raw.tls.key)?,
        })
    }

    /// The leaf's client certificate: both files or neither.
    fn client_identity(
        &self,
        section: &Section,
        certificate: Option<Spanned<String>>,
        key: Option<Spanned<String>>,
    ) -> Result<Option<Identity>, SettingsError> {
        let keys = ["certificate", "key"].map(|name| format!("{}.tls.{name}", section.table));
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                self.identity([&keys[0], &keys[1]], [&certificate, &key]).map(Some)
            }
            (None, None) => Ok(None),
            (certificate, _) => {
                let [certificate_key, key_key] = keys;
                Err(match certificate {
                    Some(_) => SettingsError::Missing { key: key_key, hint: "the certificate's key" },
                    None => SettingsError::Missing { key: certificate_key, hint: "the key's certificate" },
                })
            }
        }
    }

    fn connect_timeout(
        &self,
        section: &Section,
        raw: Option<Spanned<String>>,
    ) -> Result<Duration, SettingsError> {
        let key = format!("{}.connect_timeout", section.table);
        let raw = or_default(raw, DEFAULT_CONNECT);
        match self.time(&key, raw.clone(), section.connect_max)? {
            Some(time) => Ok(time),
            None => self.value(&key, &raw, |text| Err(format!("{text} is too short to connect"))),
        }
    }

    /// The time limit of an answer. None: no limit, which only streams may have.
    fn answer_timeout(
        &self,
        section: &Section,
        name: &str,
        raw: Spanned<String>,
    ) -> Result<Option<Duration>, SettingsError> {
        let key = format!("{}.{name}", section.table);
        match self.time(&key, raw.clone(), TIMEOUT_MAX)? {
            None if !section.is_stream => self.value(&key, &raw, |text| {
                Err(format!("{text}: a server that hangs would keep a request for ever"))
            }),
            time => Ok(time),
        }
    }
}

fn order(text: &str) -> Result<OriginOrder, String> {
    match text {
        "listed" => Ok(OriginOrder::Listed),
        "balanced" => Ok(OriginOrder::Balanced),
        other => Err(format!("{other:?} is not listed or balanced")),
    }
}

/// One to eight different origins. Machines do not wait long enough to try more.
fn origin_list(texts: &[String]) -> Result<Vec<HttpOrigin>, String> {
    if !(1..=8).contains(&texts.len()) {
        return Err(format!("{} origins: there must be one to eight", texts.len()));
    }
    let mut origins = Vec::new();
    for text in texts {
        let origin: HttpOrigin = text.parse().map_err(|e: OriginError| e.to_string())?;
        if let Some(kind) = origin.host().parse().ok().and_then(never_connected) {
            return Err(format!("{origin}: {} is {kind}: no server can have this address", origin.host()));
        }
        if origins.contains(&origin) {
            return Err(format!("{origin} is listed twice"));
        }
        origins.push(origin);
    }
    Ok(origins)
}

/// The source address of connections: one that a leaf can have.
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
