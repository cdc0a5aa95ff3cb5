//! The `[relay]` settings, raw and checked: the listeners, the paths that machines may request, and the servers that answer.
//!
//! Must never: accept a timeout that is longer than iPXE or metal-hammer waits.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Checker, SettingsError, absolute, duration, or_default, required, unwritten};
use crate::names::{HttpOrigin, OriginError, never_connected, never_forwarded};
use crate::relay::kinds::Routes;
use crate::relay::pattern::Pattern;
use upstream::{API, BOOT_SERVICE, CACHE, RawUpstream, RawUpstreamTls};

pub use upstream::{OriginOrder, UpstreamSettings};

mod upstream;

const DEFAULT_PORT: u16 = 80;
const DEFAULT_TLS_PORT: u16 = 443;
/// One machine needs one or two. The rest is for firmware that retries early.
const DEFAULT_CONNECTIONS: u16 = 16;
/// A whole boot has about ten requests.
const DEFAULT_REQUESTS: u32 = 100;
const DEFAULT_SCRIPT: [&str; 2] = ["/boot.ipxe", "/*/boot.ipxe"];
/// The paths of metal-hammer's configuration, v1 and v2.
const DEFAULT_TOKEN: [&str; 2] = ["/certs", "/config/{uuid}"];
const DEFAULT_IMAGE: [&str; 4] =
    ["/metal-stack/kernel/**", "/metal-stack/metal-hammer/**", "/metal-hammer/**", "/metal-os/**"];
const DEFAULT_STALE_IF_ERROR: &str = "0s";
/// An older script may not match the partition any more.
const STALE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Less than the 120 s after which iPXE's watchdog ends a download without progress.
const TIMEOUT_MAX: Duration = Duration::from_secs(110);
const DEFAULT_MEMORY: &str = "256MiB";
/// A slower machine would download for days.
const DEFAULT_MIN_RATE: &str = "16KiB";
const DEFAULT_MIN_RATE_WINDOW: &str = "20s";
/// All ports and one port. SONiC lets 6000 packets/s to the switch's own addresses through to the CPU (copp_cfg.json:
/// queue1_group1). Images get three quarters of them, tokens and acknowledgements the rest. One port gets half.
const DEFAULT_PACKETS: (u64, u64) = (4500, 3000);

/// The relay's listeners, limits and upstreams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// TCP port on every boot port.
    pub port: u16,
    /// The TLS listener, if there is one.
    pub tls: Option<ListenTls>,
    /// Connections that one boot port may have open at once, at least 1.
    pub connections: u16,
    /// Small requests per second and boot port. Other work counts by its cost (`relay::port_limits`). None: no limit.
    pub requests: Option<NonZeroU32>,
    /// In bytes per second. A machine that receives an answer more slowly, over `min_rate_window`, is disconnected. None: no limit.
    pub min_rate: Option<u64>,
    /// The time over which the rate is measured; more than 0.
    pub min_rate_window: Duration,
    /// Whether leafboot sends probes while machines wait.
    pub probes: bool,
    /// The paths that machines may request.
    pub routes: Routes,
    /// How old the last known good boot script may be that the relay serves while no boot service answers. None: it serves none.
    pub stale_if_error: Option<Duration>,
    /// The servers for boot scripts and token requests.
    pub boot_service: UpstreamSettings,
    /// The servers for kernels, initrds and OS images.
    pub cache: CacheSettings,
    /// metal-apiserver, if machines may reach it.
    pub api: Option<UpstreamSettings>,
}

/// The TLS listener on every boot port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// Its TCP port.
    pub port: u16,
    /// Certificate chain and key.
    pub identity: Identity,
}

/// The files of a certificate chain and its private key, in PEM. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate chain: the certificate first, then its issuers.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
}

/// The partition cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Its public name: the target of redirects, and the `Host` of proxied requests.
    pub name: HttpOrigin,
    /// How images get to the machines.
    pub mode: CacheMode,
    /// The servers for proxied requests.
    pub upstream: UpstreamSettings,
    /// The most memory for shared images, in bytes.
    pub memory: u64,
    /// The limits of proxied images, whose packets go through the leaf's CPU.
    pub budget: CacheBudget,
}

/// How images get to the machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// The relay answers 307 with the cache's public name. The ASIC forwards the image.
    Redirect,
    /// The relay forwards the image, for sites whose machines cannot reach the cache.
    Proxy,
}

/// Limits of proxied images. None: no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheBudget {
    /// Bytes per second, all ports.
    pub rate: Option<u64>,
    /// Packets per second from the cache, all ports. Acknowledgements are not counted: they are cumulative. Shared transfers
    /// have priority up to seven eighths of the limit.
    pub packets: Option<u64>,
    /// Bytes per second, each port.
    pub port_rate: Option<u64>,
    /// Packets per second of each port's unshared transfers.
    pub port_packets: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRelay {
    port: Option<Spanned<u16>>,
    tls: Option<RawListenTls>,
    connections: Option<Spanned<u16>>,
    requests: Option<Spanned<u32>>,
    min_rate: Option<Spanned<String>>,
    min_rate_window: Option<Spanned<String>>,
    probes: Option<bool>,
    #[serde(default)]
    routes: RawRoutes,
    #[serde(default)]
    script: RawScript,
    #[serde(default)]
    boot_service: RawUpstream,
    #[serde(default)]
    cache: RawCache,
    api: Option<RawUpstream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListenTls {
    port: Option<Spanned<u16>>,
    certificate: Spanned<String>,
    key: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawRoutes {
    script: Option<Spanned<Vec<String>>>,
    token: Option<Spanned<Vec<String>>>,
    image: Option<Spanned<Vec<String>>>,
    api: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawScript {
    stale_if_error: Option<Spanned<String>>,
}

/// This repeats the keys of `RawUpstream`, because serde cannot both flatten a struct and refuse unknown keys.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawCache {
    name: Option<Spanned<String>>,
    mode: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    #[serde(default)]
    budget: RawBudget,
    origins: Option<Spanned<Vec<String>>>,
    order: Option<Spanned<String>>,
    connect_timeout: Option<Spanned<String>>,
    first_byte_timeout: Option<Spanned<String>>,
    idle_timeout: Option<Spanned<String>>,
    source: Option<Spanned<String>>,
    device: Option<Spanned<String>>,
    #[serde(default)]
    tls: RawUpstreamTls,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawBudget {
    rate: Option<Spanned<String>>,
    packets: Option<Spanned<u64>>,
    port_rate: Option<Spanned<String>>,
    port_packets: Option<Spanned<u64>>,
}

impl Checker<'_> {
    /// Checks the `[relay]` table.
    pub(super) fn relay(&self, raw: RawRelay) -> Result<RelaySettings, SettingsError> {
        let api_routed = raw.routes.api.clone().filter(|routes| !routes.get_ref().is_empty());
        let has_tls = raw.tls.is_some();
        let tls_port = raw.tls.as_ref().map(|tls| or_default(tls.port.clone(), DEFAULT_TLS_PORT));
        let relay = RelaySettings {
            port: self.tcp_port("relay.port", raw.port, DEFAULT_PORT)?,
            tls: raw.tls.map(|tls| self.listen_tls(tls)).transpose()?,
            connections: self.value(
                "relay.connections",
                &or_default(raw.connections, DEFAULT_CONNECTIONS),
                |most| match most {
                    0 => Err("0 connections: no machine would be served".to_owned()),
                    // Each listener reserves one connection while it waits.
                    1 if has_tls => Err("1 connection cannot serve relay.port and relay.tls".to_owned()),
                    most => Ok(*most),
                },
            )?,
            requests: NonZeroU32::new(or_default(raw.requests, DEFAULT_REQUESTS).into_inner()),
            min_rate: self.rate("relay.min_rate", Some(or_default(raw.min_rate, DEFAULT_MIN_RATE)))?,
            min_rate_window: self
                .min_rate_window(or_default(raw.min_rate_window, DEFAULT_MIN_RATE_WINDOW))?,
            probes: raw.probes.unwrap_or(true),
            routes: self.routes(raw.routes)?,
            stale_if_error: self.time(
                "relay.script.stale_if_error",
                or_default(raw.script.stale_if_error, DEFAULT_STALE_IF_ERROR),
                STALE_MAX,
            )?,
            boot_service: self.upstream(&BOOT_SERVICE, raw.boot_service)?,
            cache: self.cache(raw.cache)?,
            api: raw.api.map(|api| self.upstream(&API, api)).transpose()?,
        };
        if let Some(port) = tls_port {
            self.value("relay.tls.port", &port, |port| match *port == relay.port {
                true => Err("relay.port has the same number".to_owned()),
                false => Ok(()),
            })?;
        }
        match api_routed {
            Some(routes) if relay.api.is_none() => self.value("relay.routes.api", &routes, |_| {
                Err("no server answers these paths: set [relay.api]".to_owned())
            }),
            None if relay.api.is_some() => Err(SettingsError::Missing {
                key: "relay.routes.api".to_owned(),
                hint: "api = [\"/metalstack.infra.v2.BootService/*\"], the paths that machines may request of [relay.api]",
            }),
            _ => Ok(relay),
        }
    }

    fn listen_tls(&self, raw: RawListenTls) -> Result<ListenTls, SettingsError> {
        Ok(ListenTls {
            port: self.tcp_port("relay.tls.port", raw.port, DEFAULT_TLS_PORT)?,
            identity: self
                .identity(["relay.tls.certificate", "relay.tls.key"], [&raw.certificate, &raw.key])?,
        })
    }

    fn identity(
        &self,
        keys: [&str; 2],
        [certificate, key]: [&Spanned<String>; 2],
    ) -> Result<Identity, SettingsError> {
        Ok(Identity {
            certificate: self.value(keys[0], certificate, |path| absolute(path))?,
            key: self.value(keys[1], key, |path| absolute(path))?,
        })
    }

    fn routes(&self, raw: RawRoutes) -> Result<Routes, SettingsError> {
        let patterns = |key, raw: Option<Spanned<Vec<String>>>, default: &[&str]| {
            let texts = raw.unwrap_or_else(|| unwritten(default.iter().map(ToString::to_string).collect()));
            self.value(key, &texts, |texts| {
                texts.iter().map(|text| text.parse::<Pattern>().map_err(|e| e.to_string())).collect()
            })
        };
        Ok(Routes {
            script: patterns("relay.routes.script", raw.script, &DEFAULT_SCRIPT)?,
            token: patterns("relay.routes.token", raw.token, &DEFAULT_TOKEN)?,
            image: patterns("relay.routes.image", raw.image, &DEFAULT_IMAGE)?,
            api: patterns("relay.routes.api", raw.api, &[])?,
        })
    }

    fn cache(&self, raw: RawCache) -> Result<CacheSettings, SettingsError> {
        let name = required(
            "relay.cache.name",
            raw.name,
            "name = \"http://images.metal-stack.io\", the partition cache's public name",
        )?;
        let upstream = RawUpstream {
            origins: raw.origins.or_else(|| Some(unwritten(vec![name.get_ref().clone()]))),
            order: raw.order,
            connect_timeout: raw.connect_timeout,
            first_byte_timeout: raw.first_byte_timeout,
            idle_timeout: raw.idle_timeout,
            source: raw.source,
            device: raw.device,
            tls: raw.tls,
        };
        Ok(CacheSettings {
            name: self.value("relay.cache.name", &name, |text| public_name(text))?,
            mode: self.value("relay.cache.mode", &or_default(raw.mode, "redirect"), |mode| {
                match mode.as_str() {
                    "redirect" => Ok(CacheMode::Redirect),
                    "proxy" => Ok(CacheMode::Proxy),
                    other => Err(format!("{other:?} is not redirect or proxy")),
                }
            })?,
            upstream: self.upstream(&CACHE, upstream)?,
            memory: self
                .value("relay.cache.memory", &or_default(raw.memory, DEFAULT_MEMORY), |text| bytes(text))?,
            budget: self.budget(raw.budget)?,
        })
    }

    fn budget(&self, raw: RawBudget) -> Result<CacheBudget, SettingsError> {
        let packets =
            |raw, default: u64| Some(or_default(raw, default).into_inner()).filter(|rate| *rate != 0);
        Ok(CacheBudget {
            rate: self.rate("relay.cache.budget.rate", raw.rate)?,
            packets: packets(raw.packets, DEFAULT_PACKETS.0),
            port_rate: self.rate("relay.cache.budget.port_rate", raw.port_rate)?,
            port_packets: packets(raw.port_packets, DEFAULT_PACKETS.1),
        })
    }

    /// Bytes per second; none for 0.
    fn rate(&self, key: &str, raw: Option<Spanned<String>>) -> Result<Option<u64>, SettingsError> {
        let rate = raw.map(|raw| self.value(key, &raw, |text| bytes(text))).transpose()?;
        Ok(rate.filter(|rate| *rate != 0))
    }

    fn min_rate_window(&self, raw: Spanned<String>) -> Result<Duration, SettingsError> {
        match self.time("relay.min_rate_window", raw.clone(), TIMEOUT_MAX)? {
            Some(time) => Ok(time),
            None => self.value("relay.min_rate_window", &raw, |text| {
                Err(format!("{text} is too short to measure a rate"))
            }),
        }
    }

    fn tcp_port(&self, key: &str, raw: Option<Spanned<u16>>, default: u16) -> Result<u16, SettingsError> {
        self.value(key, &or_default(raw, default), |port| match port {
            0 => Err("0 is not a TCP port to listen on".to_owned()),
            port => Ok(*port),
        })
    }

    /// A duration such as `"1500ms"`, at most `most`; none for 0.
    fn time(
        &self,
        key: &str,
        raw: Spanned<String>,
        most: Duration,
    ) -> Result<Option<Duration>, SettingsError> {
        self.value(key, &raw, |text| {
            let time = duration(text, "10s")?;
            if time <= most {
                Ok(Some(time).filter(|time| !time.is_zero()))
            } else {
                Err(format!("{text} is more than {}", humantime::format_duration(most)))
            }
        })
    }
}

/// The target of redirects: an address that machines can reach. The loopback address would be the machine's own.
fn public_name(text: &str) -> Result<HttpOrigin, String> {
    let name: HttpOrigin = text.parse().map_err(|error: OriginError| error.to_string())?;
    let kind = match name.host().parse() {
        Ok(IpAddr::V6(address)) => never_forwarded(address.into()),
        Ok(address) => never_connected(address),
        Err(_) => None,
    };
    match kind {
        None => Ok(name),
        Some(kind) => Err(format!("{name}: {} is {kind}: no machine reaches a server at it", name.host())),
    }
}

/// A number of bytes such as `"256MiB"`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(format!("{text:?} is not a number of bytes: write \"256MiB\"")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is not a number of bytes: write \"256MiB\""))?;
    number.checked_mul(1 << shift).ok_or(format!("{text} is more than 64 bits can hold"))
}
