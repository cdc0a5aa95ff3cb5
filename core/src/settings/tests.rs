//! Each setting at its limits. A refusal names key, line and rule.

use std::time::Duration;

use super::*;

const LEAST: &str = r#"leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = []
[relay]
boot_service = { origins = ["http://[2001:db8:ffff::80]:8080"] }
cache = { name = "http://images.metal-stack.io" }
"#;

fn refused(addition: &str) -> String {
    Settings::parse(&format!("{LEAST}{addition}")).unwrap_err().to_string()
}

#[test]
fn the_smallest_file_gets_every_default() {
    let config = Settings::parse(LEAST).unwrap();
    assert_eq!(config.boot.vrf.as_str(), "Vrfboot");
    assert_eq!(config.socket, PathBuf::from(DEFAULT_SOCKET));
    assert_eq!(config.ra.interval_max, Duration::from_secs(10));
    assert_eq!(config.ra.prefix_valid, Duration::from_secs(5400));
    assert_eq!(config.relay.port, 80);
    assert!(config.ra.dns.is_empty());
}

#[test]
fn a_missing_key_without_a_default_is_an_error() {
    let error = Settings::parse("").unwrap_err().to_string();
    assert!(error.starts_with("leaf is missing"), "{error}");
    let error = Settings::parse("leaf = \"leaf01\"").unwrap_err().to_string();
    assert!(error.starts_with("boot.prefix is missing"), "{error}");
}

/// leafboot could take an uplink that is not listed, so the list is required, even if it is empty.
#[test]
fn protected_ports_are_required() {
    let error = Settings::parse(&LEAST.replace("protected = []\n", "")).unwrap_err().to_string();
    assert!(
        error.starts_with("boot.protected is missing: protected = [\"Ethernet120\"], the ports"),
        "{error}"
    );
    let given = LEAST.replace("protected = []", "protected = [\"Eth1/31\"]");
    assert_eq!(Settings::parse(&given).unwrap().boot.protected, ["Eth1/31"]);
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let error = refused("cahce = \"http://x\"\n");
    assert!(error.contains("line 8") && error.contains("cahce"), "{error}");
}

#[test]
fn a_renamed_key_is_refused_with_its_new_name() {
    for (addition, expected) in [
        ("patience = \"20s\"\n", "line 8: relay.patience is now relay.min_rate_window"),
        (
            "[relay.script]\nremember = \"1h\"\n",
            "line 9: relay.script.remember is now relay.script.stale_if_error",
        ),
    ] {
        assert_eq!(refused(addition), expected);
    }
    // In another table it was never a key.
    assert!(refused("[ra]\npatience = \"20s\"\n").starts_with("TOML parse error at line 9"));
}

#[test]
fn a_wrong_type_is_refused_with_its_line() {
    let error = refused("port = \"eighty\"\n");
    assert!(error.contains("line 8") && error.contains("port"), "{error}");
}

#[test]
fn a_bad_value_names_key_line_and_rule() {
    let cases = [
        ("[ra]\nmtu = 1279\n", "line 9: ra.mtu: 1279 is neither 0 nor between 1280 (RFC 8200 5) and 9216"),
        ("[ra]\n\ninterval_max = \"3s\"\n", "line 10: ra.interval_max: 3s is not between 4 s and 1800 s"),
        ("[ra]\ninterval_min = \"8s\"\n", "line 9: ra.interval_min: 8s is not between 3 s and 7 s"),
        ("[ra]\nrouter_lifetime = \"9s\"\n", "line 9: ra.router_lifetime: 9s is not between 10 s and 9000 s"),
        (
            "[ra]\nrouter_lifetime = \"0s\"\n",
            "line 9: ra.router_lifetime: 0s: without a default router and without ra.routes machines reach nothing beyond their link",
        ),
        ("[ra]\nrouter_lifetime = \"0s\"\nroutes = []\n", "line 9: ra.router_lifetime: 0s: without"),
        (
            "[ra]\nrouter_lifetime = \"0s\"\nroutes = [\"::/0\"]\npreference = \"high\"\n",
            "line 11: ra.preference: high needs a default router, and with router_lifetime 0s the leaf is not one",
        ),
        ("[ra]\nroute_lifetime = \"9s\"\n", "line 9: ra.route_lifetime: 9s is not between 10 s and"),
        (
            "[ra]\nautonomous = false\n",
            "line 9: ra.autonomous: false: machines get no address without ra.autonomous or ra.managed",
        ),
        ("[ra]\nprefix_valid = \"0s\"\n", "line 9: ra.prefix_valid: 0s is not between 10 s and"),
        ("[ra]\nprefix_preferred = \"2h\"\n", "line 9: ra.prefix_preferred: 2h is not between"),
        ("[ra]\ninterval_max = \"4500ms\"\n", "line 9: ra.interval_max: 4500ms is not a whole number"),
        ("[ra]\ndns = [\"192.0.2.1\"]\n", "line 9: ra.dns: \"192.0.2.1\" is not an IPv6 address"),
        ("[ra]\ndelay_max = \"501ms\"\n", "line 9: ra.delay_max: 501ms is more than 500 ms (RFC 4861 6.2.6"),
        (
            "[ra]\nreachable_time = \"2h\"\n",
            "line 9: ra.reachable_time: 2h is more than 3600000 ms (RFC 4861 6.2.1",
        ),
        (
            "[ra]\nretrans_timer = \"50d\"\n",
            "line 9: ra.retrans_timer: 50d is more than 4294967295 ms (RFC 4861 4.2",
        ),
        (
            "[ra]\npreference = \"best\"\n",
            "line 9: ra.preference: \"best\" is not low, medium or high (RFC 4191 2.1)",
        ),
        ("[ra]\nsearch = [\"a..b\"]\n", "line 9: ra.search: \"a..b\" is not a domain name (RFC 8106 5.2"),
        ("[ra]\nroutes = [\"2001:db8::1/32\"]\n", "line 9: ra.routes: 2001:db8::1/32 has bits set"),
        ("[ra]\nroutes = [\"::/0\", \"::/0\"]\n", "line 9: ra.routes: ::/0 is listed twice (RFC 4191 2.3)"),
        (
            "[ra]\npref64 = \"64:ff9b::/97\"\n",
            "line 9: ra.pref64: /97 is not /96, /64, /56, /48, /40 or /32 (RFC 8781 4)",
        ),
        (
            "[ra]\ncaptive_portal = \"portal\"\n",
            "line 9: ra.captive_portal: \"portal\" is not an https URI (RFC 8910",
        ),
        ("[ra]\nmanaged = 1\n", "TOML parse error at line 9"),
        ("[api]\nsocket = \"run/x\"\n", "line 9: api.socket: run/x is not an absolute path"),
        ("[metrics]\nlisten = \"9110\"\n", "line 9: metrics.listen: \"9110\" is not an address"),
        ("port = 0\n", "line 8: relay.port: 0 is not a TCP port"),
        ("connections = 0\n", "line 8: relay.connections: 0 connections"),
        (
            "connections = 1\ntls = { certificate = \"/a.crt\", key = \"/a.key\" }\n",
            "line 8: relay.connections: 1 connection cannot serve relay.port and relay.tls",
        ),
        (
            "[relay.tls]\nport = 80\ncertificate = \"/a.crt\"\nkey = \"/a.key\"\n",
            "line 9: relay.tls.port: relay.port has the same number",
        ),
        (
            "[relay.routes]\nscript = [\"boot\"]\n",
            "line 9: relay.routes.script: \"boot\" is not a path pattern",
        ),
        (
            "[relay.routes]\napi = [\"/x\"]\n",
            "line 9: relay.routes.api: no server answers these paths: set [relay.api]",
        ),
        (
            "[relay.script]\nstale_if_error = \"8d\"\n",
            "line 9: relay.script.stale_if_error: 8d is more than 7days",
        ),
        ("[relay.api]\norigins = []\n", "line 9: relay.api.origins: 0 origins: there must be one to eight"),
        ("[relay.api]\n", "relay.api.origins is missing"),
        ("[relay.api]\norigins = [\"x\"]\n", "line 9: relay.api.origins: \"x\" is not an HTTP origin"),
        (
            "[relay.api]\norigins = [\"http://a\", \"http://a\"]\n",
            "line 9: relay.api.origins: http://a is listed twice",
        ),
        (
            "[relay.api]\norigins = [\"http://a\"]\norder = \"x\"\n",
            "line 10: relay.api.order: \"x\" is not listed or balanced",
        ),
        (
            "[relay.api]\norigins = [\"http://a\"]\nconnect_timeout = \"0s\"\n",
            "line 10: relay.api.connect_timeout: 0s is too short",
        ),
        (
            "[relay.api]\norigins = [\"http://a\"]\nidle_timeout = \"2m\"\n",
            "line 10: relay.api.idle_timeout: 2m is more than 1m 50s",
        ),
        (
            "[relay.api]\norigins = [\"http://a\"]\ntls = { certificate = \"/x\" }\n",
            "relay.api.tls.key is missing",
        ),
        ("[relay.api]\norigin = [\"http://a\"]\n", "TOML parse error at line 9"),
        ("[relay.api]\norigins = [\"http://a\"]\n", "relay.routes.api is missing"),
    ];
    for (addition, expected) in cases {
        let error = refused(addition);
        assert!(error.starts_with(expected), "{addition:?} gave {error:?}");
    }
}

/// Every kind of address that is never forwarded, at every setting with a destination of machines or of the relay.
#[test]
fn an_address_of_the_wrong_kind_is_refused_with_its_kind() {
    const KINDS: [(&str, &str); 6] = [
        ("::", "the unspecified address"),
        ("::1", "the loopback address"),
        ("::ffff:192.0.2.1", "IPv4-mapped"),
        ("::192.0.2.1", "IPv4-compatible"),
        ("fe80::53", "link-local"),
        ("ff05::53", "multicast"),
    ];
    for (key, setting) in [
        ("ra.dns", "[ra]\ndns = [\"2001:db8::53\", \"ADDRESS\"]\n"),
        ("ra.routes", "[ra]\nroutes = [\"::/0\", \"ADDRESS/128\"]\n"),
        ("acl.cache", "[acl]\ncache = [\"ADDRESS\"]\n"),
        ("acl.control_plane", "[acl]\ncontrol_plane = [\"ADDRESS\"]\n"),
        ("acl.ntp", "[acl]\nntp = [\"ADDRESS/128\"]\n"),
    ] {
        for (address, kind) in KINDS {
            let error = refused(&setting.replace("ADDRESS", address));
            assert!(error.starts_with(&format!("line 9: {key}: ")), "{error}");
            assert!(error.contains(kind) && error.contains("RFC 4291"), "{key} {address}: {error}");
        }
    }
    for net in ["ff02::/16", "fe80::/16", "::ffff:0:0/96"] {
        let error = refused(&format!("[acl]\ncontrol_plane = [\"{net}\"]\n"));
        assert!(error.contains("no server is there"), "{error}");
    }
    for (prefix, expected) in [
        ("ff00::/32", "ff00::/32 is multicast"),
        ("fe80::/64", "fe80::/64 is link-local"),
        ("::/96", "::/96 is IPv4-compatible"),
        ("::ffff:0:0/96", "::ffff:0.0.0.0/96 is IPv4-mapped"),
        ("2001:db8:0:0:100::/96", "2001:db8:0:0:100::/96 has bits set among 64 to 71"),
    ] {
        let error = refused(&format!("[ra]\npref64 = \"{prefix}\"\n"));
        assert!(error.starts_with(&format!("line 9: ra.pref64: {expected}")), "{error}");
    }
}

#[test]
fn a_server_has_an_address_to_connect_to() {
    let api =
        |origin: &str, more: &str| refused(&format!("[relay.api]\norigins = [\"http://{origin}\"]\n{more}"));
    for (host, kind) in [
        ("[ff05::80]", "multicast"),
        ("[fe80::80]:8080", "link-local"),
        ("[::]", "the unspecified address"),
        ("[::ffff:192.0.2.1]", "IPv4-mapped"),
        ("0.0.0.0", "the unspecified address"),
        ("239.0.0.1:8080", "multicast"),
        ("255.255.255.255", "the broadcast address"),
    ] {
        let error = api(host, "");
        assert!(error.starts_with("line 9: relay.api.origins: http://") && error.contains(kind), "{error}");
    }
    for (source, kind) in [("fe80::1", "link-local"), ("::", "the unspecified address"), ("0.0.0.0", "the")] {
        let error = api("a", &format!("source = \"{source}\"\n"));
        assert!(error.starts_with("line 10: relay.api.source: ") && error.contains(kind), "{error}");
    }
    for host in ["[::1]", "[fe80::90]", "[ff05::90]", "0.0.0.0", "239.0.0.1"] {
        let text = LEAST.replace("images.metal-stack.io", host);
        let error = Settings::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("line 7: relay.cache.name: ") && error.contains("no machine"), "{error}");
    }
}

#[test]
fn names_and_prefixes_are_checked() {
    let error = Settings::parse(&LEAST.replace("/57", "/65")).unwrap_err().to_string();
    assert!(error.starts_with("line 3: boot.prefix: "), "{error}");
    let error = Settings::parse(&LEAST.replace("[boot]", "[boot]\nvrf = \"boot\"")).unwrap_err().to_string();
    assert!(error.starts_with("line 3: boot.vrf: \"boot\" is not a VRF name"), "{error}");
    let error = Settings::parse(&LEAST.replace("leaf01", "leaf 01")).unwrap_err().to_string();
    assert!(error.starts_with("line 1: leaf: "), "{error}");
}

#[test]
fn a_socket_path_must_fit_its_address() {
    let error = refused(&format!("[api]\nsocket = \"/{}\"\n", "x".repeat(107)));
    assert!(error.contains("108 bytes are too long"), "{error}");
}

#[test]
fn the_socket_is_found_in_a_file_that_is_wrong_elsewhere() {
    let socket = |text: &str| Settings::socket_of(text).map(|path| path.display().to_string());
    assert_eq!(socket("leaf = 1\n[boots]\n"), Ok("/run/leafboot/leafboot.sock".to_owned()));
    assert_eq!(socket("port = 1\n[api]\nsocket = \"/run/x\"\n"), Ok("/run/x".to_owned()));
    assert!(socket("[api]\nsocket = 1\n").unwrap_err().to_string().contains("line 2"));
}

#[test]
fn an_advertisement_that_does_not_fit_one_packet_is_refused() {
    let names: Vec<String> = (0..20).map(|i| format!("\"{}.example\"", "x".repeat(40 + i))).collect();
    let error = refused(&format!("[ra]\nsearch = [{}]\n", names.join(", ")));
    assert!(error.contains("more than the 1240") && error.contains("RFC 6980 5"), "{error}");
}

#[test]
fn more_routes_than_a_link_may_have_are_refused() {
    let routes: Vec<String> = (0..18).map(|i| format!("\"2001:db8:{i}::/48\"")).collect();
    let error = refused(&format!("[ra]\nroutes = [{}]\n", routes.join(", ")));
    assert!(error.contains("18 routes are more than 17 (RFC 4191 4)"), "{error}");
}

#[test]
fn every_advertisement_setting_is_applied() {
    let text = r#"[ra]
delay_max = "500ms"
preference = "high"
managed = true
other = true
home_agent = true
hop_limit = 255
reachable_time = "1h"
retrans_timer = "4294967295ms"
prefix_delegation = true
search = ["boot.example."]
routes = ["2001:db8::/32", { prefix = "::/0", preference = "low" }]
pref64 = "64:ff9b::/96"
captive_portal = "https://portal.example/api"
"#;
    let ra = Settings::parse(&format!("{LEAST}{text}")).unwrap().ra;
    assert_eq!(ra.delay_max, Duration::from_millis(500));
    assert!(ra.managed && ra.other && ra.home_agent && ra.prefix_delegation);
    assert_eq!((ra.hop_limit, ra.search), (255, vec!["boot.example".to_owned()]));
    assert_eq!(
        ra.routes.iter().map(|route| route.prefix.to_string()).collect::<Vec<_>>(),
        ["2001:db8::/32", "::/0"]
    );
}

#[test]
fn router_lifetime_0_and_no_autonomous_prefix_are_accepted() {
    let ra = |text: &str| Settings::parse(&format!("{LEAST}[ra]\n{text}")).unwrap().ra;
    let second = Duration::from_secs;
    let router = ra("router_lifetime = \"5m\"");
    assert_eq!((router.router_lifetime, router.route_lifetime), (second(300), second(300)));
    let none = ra("router_lifetime = \"0s\"\nroutes = [\"2001:db8::/32\"]");
    assert_eq!((none.router_lifetime, none.route_lifetime), (second(0), second(1800)));
    let short = ra("router_lifetime = \"0s\"\nroutes = [\"2001:db8::/32\"]\nroute_lifetime = \"10s\"");
    assert_eq!(short.route_lifetime, second(10));
    let managed = ra("managed = true\nautonomous = false\nprefix_preferred = \"0s\"\nprefix_valid = \"0s\"");
    assert_eq!((managed.autonomous, managed.prefix_valid), (false, second(0)));
}

#[test]
fn an_anycast_address_is_outside_the_supernet_and_permitted_by_caclmgrd() {
    let with = |anycast: &str| {
        let text = format!("{LEAST}[sonic]\n").replace("/57\"\n", &format!("/57\"\nanycast = {anycast:?}\n"));
        Settings::parse(&text)
    };
    let boot = with("2001:db8:ffff:1::1/127").unwrap().boot;
    assert_eq!(
        (boot.anycast.unwrap().to_string(), boot.loopback.as_str()),
        ("2001:db8:ffff:1::1/127".to_owned(), "Loopback64")
    );
    for (anycast, reason) in [
        (
            "2001:db8:ffff:1::1/128",
            "line 4: boot.anycast: 2001:db8:ffff:1::1/128 is the first address of its prefix",
        ),
        (
            "2001:db8:b007:1::5/64",
            "line 4: boot.anycast: 2001:db8:b007:1::5/64 overlaps boot.supernet 2001:db8:b007::/57",
        ),
        ("2001:db8::1/32", "line 4: boot.anycast: 2001:db8::1/32 overlaps boot.supernet"),
        ("anycast", "line 4: boot.anycast: \"anycast\" is not an IPv6 prefix"),
    ] {
        let error = with(anycast).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{error}");
    }
}

#[test]
fn a_default_fits_the_written_settings_or_is_named() {
    let ra = |text: &str| Settings::parse(&format!("{LEAST}[ra]\n{text}\n")).unwrap().ra;
    assert_eq!(ra("interval_max = \"5s\"").interval_min, Duration::from_secs(3));
    assert_eq!(ra("interval_max = \"600s\"").interval_min, Duration::from_secs(4));
    assert_eq!(ra("prefix_valid = \"30m\"").prefix_preferred, Duration::from_secs(1800));
    let error = refused("port = 443\n[relay.tls]\ncertificate = \"/a.crt\"\nkey = \"/a.key\"\n");
    assert_eq!(error, "relay.tls.port (its default): relay.port has the same number");
}

#[test]
fn upstream_timeouts_have_a_limit() {
    let refused = |upstream: &str, setting: &str| {
        let from = "origins = [\"http://[2001:db8:ffff::80]:8080\"]";
        let text = match upstream {
            "cache" => {
                LEAST.replace("images.metal-stack.io\"", &format!("images.metal-stack.io\", {setting}"))
            }
            _ => LEAST.replace(from, &format!("{from}, {setting}")),
        };
        Settings::parse(&text).unwrap_err().to_string()
    };
    for (upstream, setting, expected) in [
        (
            "boot_service",
            "connect_timeout = \"5s\"",
            "relay.boot_service.connect_timeout: 5s is more than 4s",
        ),
        ("boot_service", "idle_timeout = \"0s\"", "relay.boot_service.idle_timeout: 0s: a server that hangs"),
        ("cache", "first_byte_timeout = \"0s\"", "relay.cache.first_byte_timeout: 0s: a server that hangs"),
        ("cache", "idle_timeout = \"0s\"", "relay.cache.idle_timeout: 0s: a server that hangs"),
    ] {
        let error = refused(upstream, setting);
        assert!(error.contains(expected), "{setting:?} gave {error:?}");
    }
}

#[test]
fn every_relay_setting_is_applied() {
    let text = r#"leaf = "leaf01"
boot = { prefix = "2001:db8:b007::/57", protected = [] }
[relay]
tls = { certificate = "/a.crt", key = "/a.key" }
requests = 0
[relay.routes]
api = ["/metalstack.infra.v2.BootService/*"]
[relay.script]
stale_if_error = "1h"
[relay.boot_service]
origins = ["https://a", "http://[::1]:8080"]
order = "balanced"
first_byte_timeout = "1500ms"
source = "192.0.2.1"
device = "mgmt"
tls = { ca = "/ca.crt", certificate = "/b.crt", key = "/b.key" }
[relay.cache]
name = "http://images.example"
mode = "proxy"
memory = "1GiB"
[relay.api]
origins = ["https://api.example"]
"#;
    let relay = Settings::parse(text).unwrap().relay;
    assert_eq!((relay.tls.unwrap().port, relay.requests, relay.cache.memory), (443, None, 1 << 30));
    assert_eq!(relay.boot_service.first_byte_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(relay.boot_service.origins.len(), 2);
    assert_eq!(relay.cache.upstream.origins[0].to_string(), "http://images.example");
    let api = relay.api.unwrap();
    assert_eq!((api.first_byte_timeout, api.idle_timeout), (None, None));
}

#[test]
fn a_collector_is_an_origin_without_tls() {
    let with = |value: &str| Settings::parse(&format!("{LEAST}[trace]\notlp = \"{value}\"\n"));
    assert_eq!(with("http://[::1]:4318").unwrap().otlp.unwrap().to_string(), "http://[::1]:4318");
    for (value, reason) in
        [("https://collector:4318", "without TLS"), ("http://collector:4318/v1/traces", "")]
    {
        let error = with(value).unwrap_err().to_string();
        assert!(error.starts_with("line 9: trace.otlp: ") && error.contains(reason), "{error}");
    }
}
