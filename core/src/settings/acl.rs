//! The `[acl]` settings, raw and checked: the destinations of machines beside the relay and the DNS servers.
//!
//! Must never: accept a destination that ends the isolation of machines.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::Deserialize;
use toml::Spanned;

use super::{Checker, SettingsError, or_default, unwritten};
use crate::names::{AclName, never_forwarded, without_host_bits};

const DEFAULT_ACL_TABLE: &str = "LEAFBOOT";

/// The destinations of machines beside the relay and the DNS servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclSettings {
    /// The boot ACL's name.
    pub table: AclName,
    /// The partition cache. Machines may connect to every TCP port.
    pub cache: Vec<Ipv6Net>,
    /// The control plane. Machines may use every protocol and port.
    pub control_plane: Vec<Ipv6Net>,
    /// NTP servers: UDP port 123.
    pub ntp: Vec<Ipv6Net>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAcl {
    table: Option<Spanned<String>>,
    cache: Option<Spanned<Vec<String>>>,
    control_plane: Option<Spanned<Vec<String>>>,
    ntp: Option<Spanned<Vec<String>>>,
}

impl Checker<'_> {
    /// Checks the `[acl]` table.
    pub(super) fn acl(&self, raw: RawAcl) -> Result<AclSettings, SettingsError> {
        let prefixes = |key, raw: Option<Spanned<Vec<String>>>| {
            self.value(key, &raw.unwrap_or_else(|| unwritten(Vec::new())), |texts| prefixes(texts))
        };
        Ok(AclSettings {
            table: self.parsed("acl.table", &or_default(raw.table, DEFAULT_ACL_TABLE))?,
            cache: prefixes("acl.cache", raw.cache)?,
            control_plane: prefixes("acl.control_plane", raw.control_plane)?,
            ntp: prefixes("acl.ntp", raw.ntp)?,
        })
    }
}

/// Destinations of the boot ACL: at most 16 per key. Each takes TCAM entries, and a shorter prefix can replace many.
fn prefixes(texts: &[String]) -> Result<Vec<Ipv6Net>, String> {
    if texts.len() > 16 {
        return Err(format!(
            "{} prefixes are more than 16: each takes TCAM entries, write shorter ones",
            texts.len()
        ));
    }
    texts.iter().map(|text| destination(text)).collect()
}

/// A prefix without host bits, or an address. `::/0` and other short prefixes are refused: they end the isolation.
fn destination(text: &str) -> Result<Ipv6Net, String> {
    let net = match (text.parse::<Ipv6Net>(), text.parse::<Ipv6Addr>()) {
        (Ok(net), _) => net,
        (_, Ok(address)) => Ipv6Net::new_assert(address, 128),
        (Err(_), Err(_)) => return Err(format!("{text:?} is not an IPv6 prefix or address")),
    };
    let net = without_host_bits(net).map_err(|error| error.to_string())?;
    if net.prefix_len() < 16 {
        Err(format!("{net} is shorter than /16: it would let machines reach nearly everything"))
    } else if let Some(kind) = never_forwarded(net) {
        Err(format!("{text:?} is {kind}: no server is there beyond a machine's own link"))
    } else {
        Ok(net)
    }
}
