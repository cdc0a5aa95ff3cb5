//! Pure: what machines have been told that is the same on every port, and what they may still hold of it.
//!
//! Settings change over a restart. What earlier settings advertised and these do not is withdrawn: it is advertised with
//! lifetime 0 (RFC 8106 5.1 and 5.2: resolvers and search list; RFC 4191 4: routes; RFC 8781 4: NAT64 prefix), until its
//! own lifetime has passed since the settings changed. No machine can hold it for longer.
//!
//! Must never: withdraw what the current settings tell, or have an advertisement grow beyond the smallest IPv6 MTU.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::variables::RouterVariables;
use crate::desired::Now;
use crate::nd::message::Preference;
use crate::nd::options::NdOption;
use crate::settings::{domain_name, nat64_prefix};

/// Items that are withdrawn at once; of more, those that machines hold for longest.
const WITHDRAWN_MAX: usize = 64;
/// The kept text's shape.
const VERSION: u32 = 1;

/// Something that a machine holds for as long as it was told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A recursive DNS server.
    Dns(Ipv6Addr),
    /// A name of the DNS search list.
    Search(String),
    /// A route beside the default one.
    Route(Ipv6Net),
    /// The NAT64 prefix.
    Pref64(Ipv6Net),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(server) => write!(f, "ra.dns {server}"),
            Self::Search(name) => write!(f, "ra.search {name}"),
            Self::Route(prefix) => write!(f, "ra.routes {prefix}"),
            Self::Pref64(prefix) => write!(f, "ra.pref64 {prefix}"),
        }
    }
}

/// What earlier settings told and the current ones do not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Withdrawn {
    item: Item,
    /// In seconds, as it was told.
    lifetime: u32,
    /// Until then a machine may hold it.
    until: Instant,
}

/// What machines have been told, and may hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// By the current settings, with its lifetime in seconds.
    current: BTreeMap<Item, u32>,
    /// By earlier ones; what is held for longest stands first.
    withdrawn: Vec<Withdrawn>,
}

/// Why a kept text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeptError {
    /// Not JSON, or not of its shape.
    #[error("not what was advertised: {0}")]
    Shape(String),
    /// Written by a later leafboot.
    #[error("it has version {0}, and this leafboot reads version {VERSION}")]
    Version(u32),
}

impl Told {
    /// What these settings tell, after what was told `before`.
    pub fn after(before: &Self, variables: &RouterVariables, now: Instant) -> Self {
        let current: BTreeMap<Item, u32> = variables.options().into_iter().flat_map(items).collect();
        let since_now = before.current.iter().map(|(item, lifetime)| Withdrawn {
            item: item.clone(),
            lifetime: *lifetime,
            until: now + seconds(*lifetime),
        });
        let still = before.withdrawn.iter().filter(|old| old.until > now).cloned();
        let mut withdrawn: Vec<Withdrawn> =
            since_now.chain(still).filter(|old| !current.contains_key(&old.item)).collect();
        withdrawn.sort_by_key(|old| std::cmp::Reverse(old.until));
        withdrawn.truncate(WITHDRAWN_MAX);
        Self { current, withdrawn }
    }

    /// The items that are withdrawn at `now`.
    pub fn withdrawn(&self, now: Instant) -> impl Iterator<Item = &Item> {
        self.withdrawn.iter().filter(move |old| old.until > now).map(|old| &old.item)
    }

    /// The options, of at most `room` bytes in all, that withdraw items. What does not fit takes turns: each `turn` has
    /// some of it.
    pub fn options(&self, now: Instant, turn: usize, room: usize) -> Vec<NdOption> {
        let mut parts: Vec<Vec<&Item>> = Vec::new();
        let mut left = 0;
        for item in self.withdrawn(now) {
            let mut bytes = Vec::new();
            withdrawing(&[item]).iter().for_each(|option| option.encode(&mut bytes));
            if bytes.len() > room {
                continue;
            }
            match parts.last_mut().filter(|_| bytes.len() <= left) {
                Some(part) => part.push(item),
                None => {
                    parts.push(vec![item]);
                    left = room;
                }
            }
            left -= bytes.len();
        }
        let part = turn.checked_rem(parts.len()).and_then(|index| parts.get(index));
        part.map_or_else(Vec::new, |part| withdrawing(part))
    }

    /// The text to keep for the next run.
    pub fn to_kept(&self, now: Now) -> String {
        let current = self.current.iter().map(|(item, lifetime)| KeptItem {
            item: item.clone(),
            lifetime: *lifetime,
            until: None,
        });
        let withdrawn = self.withdrawn.iter().map(|old| KeptItem {
            item: old.item.clone(),
            lifetime: old.lifetime,
            until: Some((now.unix + old.until.saturating_duration_since(now.instant)).as_secs()),
        });
        serde_json::json!(Kept { version: VERSION, advertised: current.chain(withdrawn).collect() })
            .to_string()
    }

    /// Reads a kept text back. A clock that was set back prolongs nothing beyond the lifetime that was told.
    pub fn from_kept(text: &str, now: Now) -> Result<Self, KeptError> {
        let shape = |error: serde_json::Error| KeptError::Shape(error.to_string());
        let Versioned { version } = serde_json::from_str(text).map_err(shape)?;
        if version != VERSION {
            return Err(KeptError::Version(version));
        }
        let kept: Kept = serde_json::from_str(text).map_err(shape)?;
        let mut told = Self::default();
        for KeptItem { item, lifetime, until } in kept.advertised {
            check(&item).map_err(KeptError::Shape)?;
            match until {
                None => drop(told.current.insert(item, lifetime)),
                Some(until) => {
                    let left = seconds_left(until, now).min(seconds(lifetime));
                    told.withdrawn.push(Withdrawn { item, lifetime, until: now.instant + left });
                }
            }
        }
        Ok(told)
    }
}

/// The kept text, as far as every version has it.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    advertised: Vec<KeptItem>,
}

/// An item, its lifetime in seconds as it was told, and for one that is withdrawn until when, in seconds of the Unix epoch.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptItem {
    item: Item,
    lifetime: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// What settings would not let through is not advertised on the word of a file either.
fn check(item: &Item) -> Result<(), String> {
    match item {
        Item::Search(name) => domain_name(name).map(drop),
        Item::Pref64(prefix) => nat64_prefix(&prefix.to_string()).map(drop),
        Item::Dns(_) | Item::Route(_) => Ok(()),
    }
}

/// An option's items, each with its lifetime in seconds.
fn items(option: NdOption) -> Vec<(Item, u32)> {
    match option {
        NdOption::Rdnss { lifetime, servers } => {
            servers.into_iter().map(|server| (Item::Dns(server), lifetime)).collect()
        }
        NdOption::Dnssl { lifetime, names } => {
            names.into_iter().map(|name| (Item::Search(name), lifetime)).collect()
        }
        NdOption::Route { prefix, lifetime, .. } => vec![(Item::Route(prefix), lifetime)],
        NdOption::Pref64 { lifetime, prefix } => vec![(Item::Pref64(prefix), lifetime.into())],
        // RFC 8910 gives it no lifetime: there is nothing to withdraw it by.
        NdOption::CaptivePortal(_)
        | NdOption::SourceLinkLayerAddress(_)
        | NdOption::Prefix(_)
        | NdOption::Mtu(_) => Vec::new(),
    }
}

/// The options that end items: one for all servers, one for all names (RFC 8106 5.1, 5.2: what shares a lifetime shares an
/// option), one for each other.
fn withdrawing(items: &[&Item]) -> Vec<NdOption> {
    let (mut servers, mut names, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Dns(server) => servers.push(*server),
            Item::Search(name) => names.push(name.clone()),
            Item::Route(prefix) => {
                let (prefix, preference) = (*prefix, Preference::Medium);
                options.push(NdOption::Route { prefix, preference, lifetime: 0 });
            }
            Item::Pref64(prefix) => options.push(NdOption::Pref64 { lifetime: 0, prefix: *prefix }),
        }
    }
    options.extend((!servers.is_empty()).then_some(NdOption::Rdnss { lifetime: 0, servers }));
    options.extend((!names.is_empty()).then_some(NdOption::Dnssl { lifetime: 0, names }));
    options
}

fn seconds(lifetime: u32) -> Duration {
    Duration::from_secs(lifetime.into())
}

fn seconds_left(until: u64, now: Now) -> Duration {
    Duration::from_secs(until).saturating_sub(now.unix)
}

#[cfg(test)]
mod tests;
