//! Each setting at its limits: what is taken, and that a refusal names key, line and rule.

use super::*;

const LEAST: &str = r#"leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
[relay]
boot_service = "http://[2001:db8:ffff::80]:8080"
cache = "http://images.metal-stack.io"
"#;

fn refused(addition: &str) -> String {
    Config::parse(&format!("{LEAST}{addition}")).unwrap_err().to_string()
}

#[test]
fn the_least_file_gets_every_default() {
    let config = Config::parse(LEAST).unwrap();
    assert_eq!(config.boot.vrf.as_str(), "Vrfboot");
    assert_eq!(config.socket, PathBuf::from(DEFAULT_SOCKET));
    assert_eq!(config.ra.interval_max, Duration::from_secs(10));
    assert_eq!(config.ra.prefix_valid, Duration::from_secs(5400));
    assert_eq!(config.relay.port, 80);
    assert!(config.ra.dns.is_empty());
}

#[test]
fn what_has_no_default_is_asked_for() {
    let error = Config::parse("").unwrap_err().to_string();
    assert!(error.starts_with("leaf is missing"), "{error}");
    let error = Config::parse("leaf = \"leaf01\"").unwrap_err().to_string();
    assert!(error.starts_with("boot.prefix is missing"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let error = refused("cahce = \"http://x\"\n");
    assert!(error.contains("line 7") && error.contains("cahce"), "{error}");
}

#[test]
fn a_wrong_type_is_refused_with_its_line() {
    let error = refused("port = \"eighty\"\n");
    assert!(error.contains("line 7") && error.contains("port"), "{error}");
}

#[test]
fn a_bad_value_names_key_line_and_rule() {
    let cases = [
        ("[ra]\nmtu = 1279\n", "line 8: ra.mtu: 1279 is not between 1280 (RFC 8200 5) and 9216"),
        ("[ra]\n\ninterval_max = \"3s\"\n", "line 9: ra.interval_max: 3s is not between 4 s and 1800 s"),
        ("[ra]\ninterval_min = \"8s\"\n", "line 8: ra.interval_min: 8s is not between 3 s and 7 s"),
        ("[ra]\nrouter_lifetime = \"0s\"\n", "line 8: ra.router_lifetime: 0s is not between 10 s and 9000 s"),
        ("[ra]\nprefix_preferred = \"2h\"\n", "line 8: ra.prefix_preferred: 2h is not between"),
        ("[ra]\ninterval_max = \"4500ms\"\n", "line 8: ra.interval_max: 4500ms is not a whole number"),
        ("[ra]\ndns = [\"192.0.2.1\"]\n", "line 8: ra.dns: \"192.0.2.1\" is not a unicast IPv6 address"),
        ("[api]\nsocket = \"run/x\"\n", "line 8: api.socket: run/x is not an absolute path"),
        ("port = 0\n", "line 7: relay.port: 0 is not a TCP port"),
    ];
    for (addition, expected) in cases {
        let error = refused(addition);
        assert!(error.starts_with(expected), "{addition:?} gave {error:?}");
    }
}

#[test]
fn names_and_prefixes_are_checked() {
    let error = Config::parse(&LEAST.replace("/57", "/65")).unwrap_err().to_string();
    assert!(error.starts_with("line 3: boot.prefix: "), "{error}");
    let error = Config::parse(&LEAST.replace("[boot]", "[boot]\nvrf = \"boot\"")).unwrap_err().to_string();
    assert!(error.starts_with("line 3: boot.vrf: \"boot\" is not a VRF name"), "{error}");
    let error = Config::parse(&LEAST.replace("leaf01", "leaf 01")).unwrap_err().to_string();
    assert!(error.starts_with("line 1: leaf: "), "{error}");
}

#[test]
fn a_socket_path_must_fit_its_address() {
    let error = refused(&format!("[api]\nsocket = \"/{}\"\n", "x".repeat(107)));
    assert!(error.contains("108 bytes are too long"), "{error}");
}
