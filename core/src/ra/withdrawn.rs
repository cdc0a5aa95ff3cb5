//! The options that earlier settings advertised and the current ones do not, the same on every port.
//!
//! Settings change with a restart. An item that only earlier settings advertised is withdrawn: it is advertised with lifetime 0
//! (RFC 8106 5.1 and 5.2: resolvers and search list; RFC 4191 4: routes; RFC 8781 4: NAT64 prefix). The withdrawal ends when
//! the item's lifetime has passed since the settings changed, because no machine holds the item for longer.
//!
//! Must never: withdraw an item that the current settings advertise, or let an advertisement grow beyond the smallest IPv6 MTU.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::variables::RouterVariables;
use crate::desired::Now;
use crate::nd::options::NdOption;
use crate::nd::options::Preference;
use crate::settings::{domain_name, nat64_prefix};

/// The most items that are withdrawn at once. If there are more, those with the longest remaining lifetimes are chosen.
const WITHDRAWN_MAX: usize = 64;
/// The version of the JSON text.
const VERSION: u32 = 1;

/// One piece of information of an option. A machine holds it for the advertised lifetime.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvertisedItem {
    /// A recursive DNS server.
    Dns(Ipv6Addr),
    /// A name of the DNS search list.
    Search(String),
    /// A route beside the default one.
    Route(Ipv6Net),
    /// The NAT64 prefix.
    Pref64(Ipv6Net),
}

impl fmt::Display for AdvertisedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(server) => write!(f, "ra.dns {server}"),
            Self::Search(name) => write!(f, "ra.search {name}"),
            Self::Route(prefix) => write!(f, "ra.routes {prefix}"),
            Self::Pref64(prefix) => write!(f, "ra.pref64 {prefix}"),
        }
    }
}

/// An item that only earlier settings advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WithdrawnItem {
    item: AdvertisedItem,
    /// The advertised lifetime in seconds.
    lifetime: u32,
    /// The last moment at which a machine may hold the item.
    until: Instant,
}

/// The items that machines may hold from earlier settings, and the items of the current settings, which later settings may
/// withdraw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WithdrawnOptions {
    /// The items of the current settings, with their lifetimes in seconds.
    current: BTreeMap<AdvertisedItem, u32>,
    /// The items that only earlier settings advertised, the longest remaining lifetime first.
    withdrawn: Vec<WithdrawnItem>,
}

/// Why a JSON text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The text is not JSON, or has other fields.
    #[error("not a list of advertised options: {0}")]
    Shape(String),
    /// A later leafboot wrote it.
    #[error("the file has version {0}; this leafboot reads version {VERSION}")]
    Version(u32),
}

impl WithdrawnOptions {
    /// The options to withdraw when the settings with these variables replace those that `before` has.
    pub fn after(before: &Self, variables: &RouterVariables, now: Instant) -> Self {
        let current: BTreeMap<AdvertisedItem, u32> =
            variables.options().into_iter().flat_map(items_of).collect();
        let since_now = before.current.iter().map(|(item, lifetime)| WithdrawnItem {
            item: item.clone(),
            lifetime: *lifetime,
            until: now + seconds(*lifetime),
        });
        let still_held = before.withdrawn.iter().filter(|old| old.until > now).cloned();
        let mut withdrawn: Vec<WithdrawnItem> =
            since_now.chain(still_held).filter(|old| !current.contains_key(&old.item)).collect();
        withdrawn.sort_by_key(|old| std::cmp::Reverse(old.until));
        withdrawn.truncate(WITHDRAWN_MAX);
        Self { current, withdrawn }
    }

    /// The items that are withdrawn at `now`.
    pub fn items(&self, now: Instant) -> impl Iterator<Item = &AdvertisedItem> {
        self.withdrawn.iter().filter(move |old| old.until > now).map(|old| &old.item)
    }

    /// The options that withdraw items, of at most `room` bytes in all. If not all fit, each `turn` has a part of them.
    pub fn options(&self, now: Instant, turn: usize, room: usize) -> Vec<NdOption> {
        let mut parts: Vec<Vec<&AdvertisedItem>> = Vec::new();
        let mut left = 0;
        for item in self.items(now) {
            let mut bytes = Vec::new();
            withdrawing_options(&[item]).iter().for_each(|option| option.encode(&mut bytes));
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
        part.map_or_else(Vec::new, |part| withdrawing_options(part))
    }

    /// The JSON text for the next run.
    pub fn to_json(&self, now: Now) -> String {
        let current = self.current.iter().map(|(item, lifetime)| SavedItem {
            item: item.clone(),
            lifetime: *lifetime,
            until: None,
        });
        let withdrawn = self.withdrawn.iter().map(|old| SavedItem {
            item: old.item.clone(),
            lifetime: old.lifetime,
            until: Some((now.unix + old.until.saturating_duration_since(now.instant)).as_secs()),
        });
        serde_json::json!(Saved { version: VERSION, advertised: current.chain(withdrawn).collect() })
            .to_string()
    }

    /// Reads the text of an earlier run. No item is withdrawn for longer than its lifetime, even if the clock was set back.
    pub fn from_json(text: &str, now: Now) -> Result<Self, ReadError> {
        let shape = |error: serde_json::Error| ReadError::Shape(error.to_string());
        let Versioned { version } = serde_json::from_str(text).map_err(shape)?;
        if version != VERSION {
            return Err(ReadError::Version(version));
        }
        let saved: Saved = serde_json::from_str(text).map_err(shape)?;
        let mut options = Self::default();
        for SavedItem { item, lifetime, until } in saved.advertised {
            check(&item).map_err(ReadError::Shape)?;
            match until {
                None => drop(options.current.insert(item, lifetime)),
                Some(until) => {
                    let left = seconds_left(until, now).min(seconds(lifetime));
                    options.withdrawn.push(WithdrawnItem { item, lifetime, until: now.instant + left });
                }
            }
        }
        Ok(options)
    }
}

/// The field that every version of the text has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    advertised: Vec<SavedItem>,
}

/// An item with its advertised lifetime in seconds. `until`: the end of its withdrawal in seconds of the Unix epoch. An item of
/// the current settings has none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedItem {
    item: AdvertisedItem,
    lifetime: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// Refuses a value that the settings would refuse: the file may be damaged.
fn check(item: &AdvertisedItem) -> Result<(), String> {
    match item {
        AdvertisedItem::Search(name) => domain_name(name).map(drop),
        AdvertisedItem::Pref64(prefix) => nat64_prefix(&prefix.to_string()).map(drop),
        AdvertisedItem::Dns(_) | AdvertisedItem::Route(_) => Ok(()),
    }
}

/// The items of an option, each with its lifetime in seconds.
fn items_of(option: NdOption) -> Vec<(AdvertisedItem, u32)> {
    match option {
        NdOption::Rdnss { lifetime, servers } => {
            servers.into_iter().map(|server| (AdvertisedItem::Dns(server), lifetime)).collect()
        }
        NdOption::Dnssl { lifetime, names } => {
            names.into_iter().map(|name| (AdvertisedItem::Search(name), lifetime)).collect()
        }
        NdOption::Route { prefix, lifetime, .. } => vec![(AdvertisedItem::Route(prefix), lifetime)],
        NdOption::Pref64 { lifetime, prefix } => vec![(AdvertisedItem::Pref64(prefix), lifetime.into())],
        // A captive portal has no lifetime (RFC 8910), so nothing can withdraw it.
        NdOption::CaptivePortal(_)
        | NdOption::SourceLinkLayerAddress(_)
        | NdOption::Prefix(_)
        | NdOption::Mtu(_) => Vec::new(),
    }
}

/// The options that withdraw items: one for all servers, one for all names (RFC 8106 5.1, 5.2: entries with the same lifetime
/// share an option), and one for each other item.
fn withdrawing_options(items: &[&AdvertisedItem]) -> Vec<NdOption> {
    let (mut servers, mut names, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item {
            AdvertisedItem::Dns(server) => servers.push(*server),
            AdvertisedItem::Search(name) => names.push(name.clone()),
            AdvertisedItem::Route(prefix) => {
                let (prefix, preference) = (*prefix, Preference::Medium);
                options.push(NdOption::Route { prefix, preference, lifetime: 0 });
            }
            AdvertisedItem::Pref64(prefix) => options.push(NdOption::Pref64 { lifetime: 0, prefix: *prefix }),
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
