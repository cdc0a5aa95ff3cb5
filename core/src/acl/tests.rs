//! The whole rule set as a table; no rule permits a machine to reach another machine.

use super::*;

const SETTINGS: &str = r#"
leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = []
supernet = "2001:db8:b000::/36"
[acl]
cache = ["2001:db8:ffff::90"]
control_plane = ["2001:db8:cafe::/48"]
ntp = ["2001:db8:ffff::123"]
[ra]
dns = ["2001:db8:ffff::53"]
[relay]
boot_service = { origins = ["http://[2001:db8:ffff::80]:8080"] }
cache = { name = "http://images.metal-stack.io" }
"#;

const TABLE: &str = "\
priority  rule                       action   match
    9000  DENY_ROUTER_ADVERTISEMENT  drop     ICMPv6 type 134
    8990  DENY_REDIRECT              drop     ICMPv6 type 137
    8980  ICMPV6_MULTICAST           forward  ICMPv6 to ff02::/16
    8970  ICMPV6_LINK_LOCAL          forward  ICMPv6 to fe80::/10
    8960  RELAY_LINK_LOCAL           forward  TCP to fe80::/10 port 80
    7000  DENY_MACHINES              drop     to 2001:db8:b000::/36
    6990  DNS_UDP_0                  forward  UDP from 2001:db8:b000::/36 to 2001:db8:ffff::53/128 port 53
    6980  DNS_TCP_0                  forward  TCP from 2001:db8:b000::/36 to 2001:db8:ffff::53/128 port 53
    6970  NTP_0                      forward  UDP from 2001:db8:b000::/36 to 2001:db8:ffff::123/128 port 123
    6960  CACHE_0                    forward  TCP from 2001:db8:b000::/36 to 2001:db8:ffff::90/128
    6950  CONTROL_PLANE_0            forward  from 2001:db8:b000::/36 to 2001:db8:cafe::/48
    6940  ECHO_REQUEST               forward  ICMPv6 type 128 from 2001:db8:b000::/36
    6930  ECHO_REPLY                 forward  ICMPv6 type 129 from 2001:db8:b000::/36
       1  DEFAULT_RULE               drop     everything else
";

fn settings() -> Settings {
    Settings::parse(SETTINGS).unwrap()
}

fn with_tls() -> Settings {
    let tls = "[relay]\ntls = { certificate = \"/relay.crt\", key = \"/relay.key\" }\n";
    let anycast = "[boot]\nanycast = \"2001:db8:ffff:1::1/127\"\n";
    Settings::parse(&SETTINGS.replace("[relay]\n", tls).replace("[boot]\n", anycast)).unwrap()
}

#[test]
fn the_rules_are_this_table() {
    assert_eq!(table(&rules(&settings())), TABLE);
}

#[test]
fn gateway_rules_permit_the_ports_machine_to_reach_the_relay() {
    let of = |settings: &Settings| {
        gateway_rules(settings, &"Ethernet0".parse().unwrap(), "2001:db8:b007::/64".parse().unwrap())
    };
    let expected = "    8000  GATEWAY_ETHERNET0          forward  \
                    TCP from 2001:db8:b007::/64 to 2001:db8:b007::1/128 port 80\n";
    let icmpv6 = "    8000  GATEWAY_ICMPV6_ETHERNET0   forward  ICMPv6 to 2001:db8:b007::1/128\n";
    assert!(table(&of(&settings())).ends_with(&format!("{expected}{icmpv6}")));
    let tls = "    8000  GATEWAY_TLS_ETHERNET0      forward  \
               TCP from 2001:db8:b007::/64 to 2001:db8:b007::1/128 port 443\n";
    assert!(table(&of(&with_tls())).ends_with(&format!("{expected}{tls}{icmpv6}")));
}

#[test]
fn a_relay_with_tls_is_open_on_both_ports() {
    let rules = rules(&with_tls());
    for (name, port) in [
        ("RELAY_LINK_LOCAL", 80),
        ("RELAY_TLS_LINK_LOCAL", 443),
        ("RELAY_ANYCAST_0", 80),
        ("RELAY_TLS_ANYCAST_0", 443),
    ] {
        let rule = rules.iter().find(|rule| rule.name == name);
        assert_eq!(rule.and_then(|rule| rule.matches.destination_port), Some(port), "{name}");
    }
}

#[test]
fn no_rule_above_deny_machines_permits_a_packet_to_a_machine() {
    let rules = rules(&settings());
    let supernet = settings().boot.supernet;
    for rule in rules.iter().take_while(|rule| rule.name != "DENY_MACHINES") {
        let reaches =
            rule.matches.destination.is_none_or(|net| net.contains(&supernet) || supernet.contains(&net));
        assert!(rule.action == Action::Drop || !reaches, "{rule:?}");
    }
}

#[test]
fn priorities_strictly_decrease_even_with_the_most_destinations() {
    let many: Vec<String> = (1..=16).map(|n| format!("\"2001:db8:{n}::/48\"")).collect();
    let text = SETTINGS.replace("\"2001:db8:cafe::/48\"", &many.join(", "));
    let rules = rules(&Settings::parse(&text).unwrap());
    assert!(rules.windows(2).all(|pair| pair[0].priority > pair[1].priority));
    let text = SETTINGS.replace("\"2001:db8:cafe::/48\"", "\"::/0\"");
    let error = Settings::parse(&text).unwrap_err().to_string();
    assert!(error.starts_with("line 9: acl.control_plane: ::/0 is shorter than /16"), "{error}");
}
