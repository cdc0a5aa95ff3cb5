//! `metrics.listen`: where metrics are served over TCP. They name every port and server, so machines must not reach them.
//!
//! Must never: accept an address at which a boot port reaches the listener.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use toml::Spanned;

use super::{AclSettings, Boot, Checker, SettingsError};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMetrics {
    listen: Option<Spanned<String>>,
}

impl Checker<'_> {
    /// Checks the `[metrics]` table.
    pub(super) fn metrics(
        &self,
        raw: RawMetrics,
        boot: &Boot,
        acl: &AclSettings,
    ) -> Result<Option<SocketAddr>, SettingsError> {
        let check = |text: &String| {
            let listen: SocketAddr =
                text.parse().map_err(|_| format!("{text:?} is not an address such as [::1]:9110"))?;
            match reachable(listen.ip(), boot, acl) {
                None => Ok(listen),
                Some(why) => Err(format!(
                    "boot ports reach {}: {why}; give an address that only the default VRF has",
                    listen.ip()
                )),
            }
        };
        raw.listen.map(|listen| self.value("metrics.listen", &listen, check)).transpose()
    }
}

/// Why boot ports reach a listener at this address; none: they do not.
fn reachable(address: IpAddr, boot: &Boot, acl: &AclSettings) -> Option<String> {
    // SONiC sets tcp_l3mdev_accept (`files/image_config/sysctl/90-sonic.conf`): a listener on any address also accepts in the
    // boot VRF. A Broadcom ASIC traps packets to the leaf itself before the boot ACL drops them.
    if address.is_unspecified() {
        return Some("a listener on any address also listens in the boot VRF".to_owned());
    }
    let IpAddr::V6(address) = address else { return None };
    let has_anycast = boot.anycast.is_some_and(|anycast| anycast.net().contains(&address));
    let lists = [("acl.cache", &acl.cache), ("acl.control_plane", &acl.control_plane)];
    let permitting = || lists.iter().find(|(_, nets)| nets.iter().any(|net| net.contains(&address)));
    if boot.supernet.contains(&address) {
        Some(format!("it lies in boot.supernet {}", boot.supernet))
    } else if has_anycast {
        Some("it lies in boot.anycast".to_owned())
    } else if address.is_unicast_link_local() {
        Some("every port has a link-local address".to_owned())
    } else {
        permitting().map(|(key, _)| format!("{key} lets machines reach it"))
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    const REST: &str = r#"
[boot]
prefix = "2001:db8:b007::/57"
supernet = "2001:db8:b000::/36"
anycast = "2001:db8:ffff:1::1/127"
protected = []
[acl]
cache = ["2001:db8:ffff::90"]
control_plane = ["2001:db8:cafe::/48"]
[relay]
boot_service = { origins = ["http://[2001:db8:ffff::80]:8080"] }
cache = { name = "http://images.metal-stack.io" }
"#;

    #[test]
    fn an_address_that_boot_ports_reach_is_refused() {
        let parse = |listen: &str| {
            Settings::parse(&format!("leaf = \"leaf01\"\n[metrics]\nlisten = \"{listen}\"\n{REST}"))
        };
        for good in ["[::1]:9110", "127.0.0.1:9110", "192.0.2.1:9110", "[2001:db8:ffff::1]:9110"] {
            assert_eq!(parse(good).unwrap().metrics.unwrap().to_string(), good);
        }
        for (listen, why) in [
            ("[::]:9110", "boot ports reach ::: a listener on any address"),
            ("0.0.0.0:9110", "boot ports reach 0.0.0.0: a listener on any address"),
            ("[2001:db8:b007::1]:9110", "it lies in boot.supernet 2001:db8:b000::/36"),
            ("[2001:db8:ffff:1::1]:9110", "it lies in boot.anycast"),
            ("[fe80::1]:9110", "every port has a link-local address"),
            ("[2001:db8:cafe::1]:9110", "acl.control_plane lets machines reach it"),
            ("[2001:db8:ffff::90]:9110", "acl.cache lets machines reach it"),
        ] {
            let error = parse(listen).unwrap_err().to_string();
            assert!(error.starts_with("line 3: metrics.listen: boot ports reach "), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
