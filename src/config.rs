//! The agent's settings: `RawConfig` is the TOML file as written, `Config` is checked and complete.
//! Every default stands here.
//!
//! Must never: read a file, or let a setting through that an RFC or SONiC forbids.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv6Net;
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::net::{AclName, HttpOrigin, LeafPrefix, PrefixError, VrfName};

const DEFAULT_DATABASE_CONFIG: &str = "/var/run/redis/sonic-db/database_config.json";
const DEFAULT_SOCKET: &str = "/run/leafboot/leafboot.sock";
const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/leafboot";
const DEFAULT_VRF: &str = "Vrfboot";
const DEFAULT_RELAY_PORT: u16 = 80;
const DEFAULT_ACL_TABLE: &str = "LEAFBOOT";
/// Short, because a machine that boots must not wait, and its port has nobody else to disturb.
const DEFAULT_INTERVAL: (&str, &str) = ("4s", "10s");
/// Outlives a restart or an upgrade of the agent many times over.
const DEFAULT_ROUTER_LIFETIME: &str = "30m";
/// RFC 9096 3.4: preferred at most 2700 s, valid at most 5400 s for prefixes that may go.
const DEFAULT_PREFIX_LIFETIME: (&str, &str) = ("45m", "90m");
const DEFAULT_MTU: u16 = 1500;

/// A setting that cannot be used: which key, on which line of the file, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong type. The text names key and line.
    #[error("{0}")]
    Toml(String),
    /// A value that is out of range or not what the key wants.
    #[error("line {line}: {key}: {reason}")]
    Value {
        /// Dotted key, `ra.mtu`.
        key: &'static str,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A key that has no default is not there.
    #[error("{key} is missing: {hint}")]
    Missing {
        /// Dotted key.
        key: &'static str,
        /// What to write.
        hint: &'static str,
    },
}

/// The checked settings of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The leaf's name, as it stands in every claim. Printable ASCII.
    pub leaf: String,
    /// SONiC's `database_config.json`.
    pub database_config: PathBuf,
    /// The API's unix socket.
    pub socket: PathBuf,
    /// Where the last accepted document is kept.
    pub state_directory: PathBuf,
    /// What is booted into.
    pub boot: Boot,
    /// What machines may reach.
    pub acl: Acl,
    /// What is advertised.
    pub ra: Ra,
    /// What is relayed, and where to.
    pub relay: Relay,
}

/// The boot VRF and the addresses in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The boot VRF's name.
    pub vrf: VrfName,
    /// The leaf's share of the boot supernet.
    pub prefix: LeafPrefix,
    /// The partition's address space for machines that boot: every machine's prefix lies in it.
    pub supernet: Ipv6Net,
    /// Ports that are never taken, by name or alias (uplinks).
    pub protected: Vec<String>,
}

/// What machines may reach beside the relay and the DNS servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// The boot ACL's name.
    pub table: AclName,
    /// The partition cache: any TCP port.
    pub cache: Vec<Ipv6Net>,
    /// The control plane: everything.
    pub control_plane: Vec<Ipv6Net>,
    /// NTP servers.
    pub ntp: Vec<Ipv6Net>,
}

/// Router Advertisement settings (RFC 4861 6.2.1), the same for every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ra {
    /// MinRtrAdvInterval, 3 s to 0.75 × `interval_max`.
    pub interval_min: Duration,
    /// MaxRtrAdvInterval, 4 s to 1800 s.
    pub interval_max: Duration,
    /// AdvDefaultLifetime, `interval_max` to 9000 s.
    pub router_lifetime: Duration,
    /// AdvPreferredLifetime, at most `prefix_valid`.
    pub prefix_preferred: Duration,
    /// AdvValidLifetime.
    pub prefix_valid: Duration,
    /// AdvLinkMTU, 1280 (RFC 8200 5) to 9216 bytes.
    pub mtu: u16,
    /// Recursive DNS servers (RFC 8106 5.1); at most 8.
    pub dns: Vec<Ipv6Addr>,
}

/// The relay's listener and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// TCP port on every boot port.
    pub port: u16,
    /// Answers boot.ipxe and token requests.
    pub boot_service: HttpOrigin,
    /// Serves kernels, initrds and OS images; its public name, for redirects.
    pub cache: HttpOrigin,
}

impl Config {
    /// Parses and checks a whole file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig =
            toml::from_str(text).map_err(|e| ConfigError::Toml(e.to_string().trim_end().to_owned()))?;
        Checker { text }.config(raw)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    leaf: Option<Spanned<String>>,
    #[serde(default)]
    sonic: RawSonic,
    #[serde(default)]
    api: RawApi,
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
    #[serde(default)]
    protected: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawAcl {
    table: Option<Spanned<String>>,
    cache: Option<Spanned<Vec<String>>>,
    control_plane: Option<Spanned<Vec<String>>>,
    ntp: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawRa {
    interval_min: Option<Spanned<String>>,
    interval_max: Option<Spanned<String>>,
    router_lifetime: Option<Spanned<String>>,
    prefix_preferred: Option<Spanned<String>>,
    prefix_valid: Option<Spanned<String>>,
    mtu: Option<Spanned<u16>>,
    dns: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawRelay {
    port: Option<Spanned<u16>>,
    boot_service: Option<Spanned<String>>,
    cache: Option<Spanned<String>>,
}

/// Turns raw values into checked ones; knows the text, so that an error can name its line.
struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn config(&self, raw: RawConfig) -> Result<Config, ConfigError> {
        let leaf = required("leaf", raw.leaf, "leaf = \"leaf01\", the name that boot services know")?;
        Ok(Config {
            leaf: self.value("leaf", &leaf, |name| leaf_name(name))?,
            database_config: self.path(
                "sonic.database_config",
                raw.sonic.database_config,
                DEFAULT_DATABASE_CONFIG,
            )?,
            socket: self.socket(raw.api.socket)?,
            state_directory: self.path("state.directory", raw.state.directory, DEFAULT_STATE_DIRECTORY)?,
            boot: self.boot(raw.boot)?,
            acl: self.acl(raw.acl)?,
            ra: self.ra(raw.ra)?,
            relay: self.relay(raw.relay)?,
        })
    }

    fn boot(&self, raw: RawBoot) -> Result<Boot, ConfigError> {
        let prefix = required(
            "boot.prefix",
            raw.prefix,
            "prefix = \"2001:db8:b007::/57\", this leaf's share of the boot supernet",
        )?;
        let leaf: LeafPrefix = self.parsed("boot.prefix", &prefix)?;
        let supernet = raw.supernet.unwrap_or(prefix);
        Ok(Boot {
            vrf: self.parsed("boot.vrf", &or_default(raw.vrf, DEFAULT_VRF))?,
            prefix: leaf,
            supernet: self.value("boot.supernet", &supernet, |text| {
                let supernet: LeafPrefix = text.parse().map_err(|e: PrefixError| e.to_string())?;
                if supernet.net().contains(&leaf.net()) {
                    Ok(supernet.net())
                } else {
                    Err(format!("{supernet} does not contain boot.prefix {leaf}"))
                }
            })?,
            protected: raw.protected,
        })
    }

    fn acl(&self, raw: RawAcl) -> Result<Acl, ConfigError> {
        let prefixes = |key, raw: Option<Spanned<Vec<String>>>| {
            self.value(key, &raw.unwrap_or_else(|| unwritten(Vec::new())), |texts| prefixes(texts))
        };
        Ok(Acl {
            table: self.parsed("acl.table", &or_default(raw.table, DEFAULT_ACL_TABLE))?,
            cache: prefixes("acl.cache", raw.cache)?,
            control_plane: prefixes("acl.control_plane", raw.control_plane)?,
            ntp: prefixes("acl.ntp", raw.ntp)?,
        })
    }

    fn ra(&self, raw: RawRa) -> Result<Ra, ConfigError> {
        // RFC 4861 6.2.1: MaxRtrAdvInterval 4..1800 s, MinRtrAdvInterval 3 s..0.75 × max,
        // AdvDefaultLifetime max..9000 s. A lifetime of 0 would say «no router here» while there is one.
        let interval_max = or_default(raw.interval_max, DEFAULT_INTERVAL.1);
        let max = self.seconds("ra.interval_max", &interval_max, 4, 1800, "RFC 4861 6.2.1")?;
        let interval_min = or_default(raw.interval_min, DEFAULT_INTERVAL.0);
        let min = self.seconds(
            "ra.interval_min",
            &interval_min,
            3,
            max * 3 / 4,
            "RFC 4861 6.2.1: 3 s to 0.75 × interval_max",
        )?;
        let lifetime = or_default(raw.router_lifetime, DEFAULT_ROUTER_LIFETIME);
        let valid = or_default(raw.prefix_valid, DEFAULT_PREFIX_LIFETIME.1);
        let valid_s = self.seconds(
            "ra.prefix_valid",
            &valid,
            max,
            u64::from(u32::MAX) - 1,
            "RFC 4861 4.6.2, from interval_max on",
        )?;
        let preferred = or_default(raw.prefix_preferred, DEFAULT_PREFIX_LIFETIME.0);
        let preferred_s = self.seconds(
            "ra.prefix_preferred",
            &preferred,
            max,
            valid_s,
            "RFC 4861 6.2.1: interval_max to prefix_valid",
        )?;
        let router_s = self.seconds(
            "ra.router_lifetime",
            &lifetime,
            max,
            9000,
            "RFC 4861 6.2.1: interval_max to 9000 s",
        )?;
        Ok(Ra {
            interval_min: Duration::from_secs(min),
            interval_max: Duration::from_secs(max),
            router_lifetime: Duration::from_secs(router_s),
            prefix_preferred: Duration::from_secs(preferred_s),
            prefix_valid: Duration::from_secs(valid_s),
            mtu: self.value("ra.mtu", &or_default(raw.mtu, DEFAULT_MTU), |mtu| {
                // RFC 8200 5: no IPv6 link is smaller than 1280. 9216: the largest frame of a SONiC port.
                if (1280..=9216).contains(mtu) {
                    Ok(*mtu)
                } else {
                    Err(format!("{mtu} is not between 1280 (RFC 8200 5) and 9216"))
                }
            })?,
            dns: self
                .value("ra.dns", &raw.dns.unwrap_or_else(|| unwritten(Vec::new())), |dns| dns_servers(dns))?,
        })
    }

    fn relay(&self, raw: RawRelay) -> Result<Relay, ConfigError> {
        let boot_service = required(
            "relay.boot_service",
            raw.boot_service,
            "boot_service = \"http://[2001:db8:ffff::80]:8080\", which answers boot.ipxe and tokens",
        )?;
        let cache = required(
            "relay.cache",
            raw.cache,
            "cache = \"http://images.metal-stack.io\", the partition cache's public name",
        )?;
        Ok(Relay {
            port: self.value("relay.port", &or_default(raw.port, DEFAULT_RELAY_PORT), |port| match port {
                0 => Err("0 is not a TCP port to listen on".to_owned()),
                port => Ok(*port),
            })?,
            boot_service: self.parsed("relay.boot_service", &boot_service)?,
            cache: self.parsed("relay.cache", &cache)?,
        })
    }

    /// A unix socket's path: absolute, and short enough for `sockaddr_un` (unix(7): 108 bytes with the end).
    fn socket(&self, raw: Option<Spanned<String>>) -> Result<PathBuf, ConfigError> {
        let raw = or_default(raw, DEFAULT_SOCKET);
        self.value("api.socket", &raw, |path| match path.len() {
            0..=107 => absolute(path),
            length => {
                Err(format!("{length} bytes are too long for a unix socket's path: at most 107 (unix(7))"))
            }
        })
    }

    fn path(
        &self,
        key: &'static str,
        raw: Option<Spanned<String>>,
        default: &str,
    ) -> Result<PathBuf, ConfigError> {
        self.value(key, &or_default(raw, default), |path| absolute(path))
    }

    /// A duration such as `"10s"`, in whole seconds, `least..=most`; `rule` says who wants the range.
    fn seconds(
        &self,
        key: &'static str,
        raw: &Spanned<String>,
        least: u64,
        most: u64,
        rule: &str,
    ) -> Result<u64, ConfigError> {
        self.value(key, raw, |text| {
            let time =
                humantime::parse_duration(text).map_err(|e| format!("{text:?}: {e}; write \"10s\""))?;
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

    fn parsed<T>(&self, key: &'static str, raw: &Spanned<String>) -> Result<T, ConfigError>
    where
        T: FromStr,
        T::Err: ToString,
    {
        self.value(key, raw, |text| text.parse::<T>().map_err(|e| e.to_string()))
    }

    fn value<R, T>(
        &self,
        key: &'static str,
        raw: &Spanned<R>,
        check: impl FnOnce(&R) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        check(raw.get_ref()).map_err(|reason| {
            let before = self.text.get(..raw.span().start).unwrap_or_default();
            ConfigError::Value { key, line: before.matches('\n').count() + 1, reason }
        })
    }
}

fn required<T>(
    key: &'static str,
    raw: Option<Spanned<T>>,
    hint: &'static str,
) -> Result<Spanned<T>, ConfigError> {
    raw.ok_or(ConfigError::Missing { key, hint })
}

fn or_default<T, D: Into<T>>(raw: Option<Spanned<T>>, default: D) -> Spanned<T> {
    raw.unwrap_or_else(|| unwritten(default.into()))
}

/// A value that does not stand in the file.
fn unwritten<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn leaf_name(name: &str) -> Result<String, String> {
    let legal = !name.is_empty() && name.len() <= 63 && name.bytes().all(|b| b.is_ascii_graphic());
    if legal {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is not 1 to 63 printable ASCII characters without spaces"))
    }
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok(path) } else { Err(format!("{} is not an absolute path", path.display())) }
}

/// Destinations of the boot ACL: at most 16 of a kind, or the switch's TCAM pays for what a shorter prefix would say.
fn prefixes(texts: &[String]) -> Result<Vec<Ipv6Net>, String> {
    if texts.len() > 16 {
        return Err(format!(
            "{} prefixes are more than the 16 that are worth their TCAM entries",
            texts.len()
        ));
    }
    texts.iter().map(|text| destination(text)).collect()
}

/// A prefix without host bits, or an address. Everything (`::/0`) is not a destination but the end of isolation.
fn destination(text: &str) -> Result<Ipv6Net, String> {
    let net = match (text.parse::<Ipv6Net>(), text.parse::<Ipv6Addr>()) {
        (Ok(net), _) => net,
        (_, Ok(address)) => Ipv6Net::new_assert(address, 128),
        (Err(_), Err(_)) => return Err(format!("{text:?} is not an IPv6 prefix or address")),
    };
    if net.trunc() != net {
        Err(PrefixError::HostBits(net, net.trunc()).to_string())
    } else if net.prefix_len() < 16 {
        Err(format!("{net} is shorter than /16: it would let machines reach nearly everything"))
    } else {
        Ok(net)
    }
}

/// At most 8 servers: more than any resolver asks, and the advertisement stays far below 1280 bytes.
fn dns_servers(servers: &[String]) -> Result<Vec<Ipv6Addr>, String> {
    if servers.len() > 8 {
        return Err(format!("{} servers are more than the 8 that fit", servers.len()));
    }
    servers
        .iter()
        .map(|server| match server.parse::<Ipv6Addr>() {
            Ok(address) if !address.is_multicast() && !address.is_unspecified() => Ok(address),
            Ok(_) | Err(_) => Err(format!("{server:?} is not a unicast IPv6 address")),
        })
        .collect()
}

#[cfg(test)]
mod tests;
