//! The metrics in the hands of Prometheus: a real one scrapes the real binary, runs every query of the dashboard and of the
//! alerts, and `promtool` checks the text and the alerts' tests.
//!
//! Must never: take a query for good because it is valid. The metrics that it names must be there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::agent::Agent;
use support::namespace;
use support::switch::Switch;
use support::{eventually, run};

const BOOT: &str = r#"{"ports": {"Ethernet0": {"state": "boot", "prefix": "2001:db8:b007::/64"}}}"#;
/// Labels with values that are no fixed words. The ports are the leaf's, the others come from the settings and the build.
const FREE_LABELS: [&str; 4] = ["port", "origin", "target", "file"];
/// The series of a leaf on which one port boots a machine.
const SERIES_MAX: usize = 250;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn path(name: &str) -> String {
    root().join(name).to_str().unwrap().to_owned()
}

/// A Prometheus that scrapes an agent; ends with the test.
struct Prometheus(Child);

impl Prometheus {
    /// Starts one in the calling thread's namespace.
    fn start(directory: &Path, target: &str) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n  \
             - job_name: leafboot\n    static_configs:\n      - targets: ['{target}']\n",
            path("sonic/alerts.yaml")
        );
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(directory.join("prometheus.log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("prometheus").display()))
            .args(["--web.listen-address=[::1]:9090", "--log.level=warn"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus: install it with tests/lab/setup");
        Self(process)
    }

    fn get(&self, path: &str, arguments: &[&str]) -> Option<Value> {
        let url = format!("http://[::1]:9090/api/v1/{path}");
        let mut all = vec!["-sS", "-g", "-m", "10", &url];
        all.extend(arguments);
        let output = support::output("curl", &all);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The samples that a query finds now.
    fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.get("query", &["--data-urlencode", &format!("query={query}")]);
        let answer = answer.unwrap_or_else(|| panic!("no answer to {query}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    fn is_up(&self) -> bool {
        let answer = self.get("query", &["--data-urlencode", "query=up{job=\"leafboot\"} == 1"]);
        answer.is_some_and(|answer| answer["data"]["result"].as_array().is_some_and(|up| !up.is_empty()))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every query of a dashboard: the values of all fields `expr`.
fn dashboard_queries(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            fields.values().flat_map(dashboard_queries).chain(own).collect()
        }
        Value::Array(items) => items.iter().flat_map(dashboard_queries).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// All queries as Prometheus gets them.
fn queries() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(path("sonic/grafana.json")).unwrap()).unwrap();
    let dashboard = dashboard_queries(&dashboard).into_iter();
    let dashboard =
        dashboard.map(|query| query.replace("$__rate_interval", "30s").replace("$instance", ".*"));
    let alerts = fs::read_to_string(path("sonic/alerts.yaml")).unwrap();
    let alerts = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    dashboard.chain(alerts.map(str::to_owned)).collect()
}

/// The metrics that a query names.
fn names(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("leafboot_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// A certificate and its key; the settings that name them.
fn tls(directory: &Path) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["leaf01.example".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    let (certificate_file, key_file) = (directory.join("relay.crt"), directory.join("relay.key"));
    fs::write(&certificate_file, certificate).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    format!(
        "[relay.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        certificate_file.display(),
        key_file.display()
    )
}

/// `promtool check metrics`, which also has opinions on names.
fn check(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in Debian's prometheus: install it with tests/lab/setup");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}\n{text}");
}

#[test]
fn prometheus_takes_the_metrics_and_every_query_finds_what_it_names() {
    namespace::enter_leaf();
    namespace::batch(
        "address add 2001:db8:1::1/128 dev lo\nlink add Ethernet0 type veth peer name eth0\n\
         link set Ethernet0 up\nlink set eth0 up\n",
    );
    let switch = Switch::start();
    let further = format!("{}[metrics]\nlisten = \"[2001:db8:1::1]:9110\"\n", tls(switch.directory.path()));
    let agent = Agent::start_with(&switch, &further);
    eventually("CONFIG_DB is read", || agent.get("/v1/ports/Ethernet0").0 == 200);
    let text = |accept: &str| {
        let (code, text) = agent.curl(&["-H", &format!("Accept: {accept}"), "http://leafboot/metrics"]);
        assert_eq!(code, 200);
        text.as_str().unwrap().to_owned()
    };
    let shows = |line: &str| eventually(line, || text("*/*").lines().any(|other| other.starts_with(line)));
    shows("leafboot_last_push_timestamp_seconds 0");
    agent.put("/v1/ports", BOOT);
    shows("leafboot_port_stage{port=\"Ethernet0\",stage=\"link\"} 1");
    shows("leafboot_port_verdict{port=\"Ethernet0\",verdict=\"");
    // The machine is switched off and on.
    namespace::batch("link set eth0 down\n");
    shows("leafboot_boot_attempts_total{port=\"Ethernet0\",verdict=\"");
    namespace::batch("link set eth0 up\n");
    shows("leafboot_port_stage{port=\"Ethernet0\",stage=\"link\"} 1");
    shows("leafboot_probe_success{probe=\"boot_service\",target=\"http://[2001:db8:ffff::80]:8080\"} 0");
    shows("leafboot_boot_stage_seconds_count{stage=\"link\"} 2");

    let classic = text("*/*");
    check(&classic);
    let open_metrics = text("application/openmetrics-text");
    assert!(open_metrics.trim_end().ends_with("# EOF") && !classic.contains("# EOF"), "{open_metrics}");
    let series = classic.lines().filter(|line| !line.starts_with('#')).count();
    println!("{series} series of a leaf with one port that boots");
    assert!(series < SERIES_MAX, "{series} series: docs/operations.md says how many there are\n{classic}");

    let prometheus = Prometheus::start(switch.directory.path(), "[2001:db8:1::1]:9110");
    eventually("Prometheus has scraped the agent", || prometheus.is_up());
    eventually("Prometheus has scraped twice", || {
        prometheus.query("rate(process_cpu_seconds_total{job=\"leafboot\"}[30s])").len() == 1
    });
    let documented = fs::read_to_string(path("docs/operations.md")).unwrap();
    for query in queries() {
        prometheus.query(&query);
        for name in names(&query) {
            let metric = name.trim_end_matches("_bucket");
            assert!(
                documented.contains(metric),
                "{query} names {name}, which docs/operations.md does not have"
            );
            // A machine must have sent something for these.
            let needs_traffic =
                ["_ra_", "_relay_requests_", "_relay_sent_", "_relay_muted_", "_repairs_", "_first_byte_"];
            let is_there = !prometheus.query(&format!("count({name})")).is_empty();
            let may_miss =
                needs_traffic.iter().any(|part| name.contains(part)) || name == "leafboot_probe_seconds";
            assert!(is_there || may_miss, "{query} names {name}, which the agent does not have");
        }
    }
    let pending = "ALERTS{alertname=\"LeafbootNotSettled\",alertstate=\"pending\"}";
    eventually("an alert waits for its time", || prometheus.query(pending).len() == 1);
    let rules = prometheus.get("rules", &[]).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
}

#[test]
fn the_alerts_tests_hold_and_every_alert_has_one() {
    run("promtool", &["check", "rules", &path("sonic/alerts.yaml")]);
    run("promtool", &["test", "rules", &path("tests/metrics/alerts.yaml")]);
    let tests = fs::read_to_string(path("tests/metrics/alerts.yaml")).unwrap();
    let alerts = fs::read_to_string(path("sonic/alerts.yaml")).unwrap();
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(alert), "tests/metrics/alerts.yaml does not test {alert}");
    }
}

/// Every file with metrics.
fn sources() -> Vec<PathBuf> {
    fs::read_dir(root().join("src/metrics")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn no_label_has_a_value_that_a_machine_can_choose() {
    let mut found = BTreeSet::new();
    for source in sources() {
        let text = fs::read_to_string(&source).unwrap();
        for labels in text.split("EncodeLabelSet)]").skip(1) {
            let (fields, _) = labels.split_once("\n}").unwrap();
            let fields = fields.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
            for (label, kind) in fields.filter(|(label, _)| !label.starts_with("//")) {
                assert!(["String", "&'static str"].contains(&kind), "{}: {label}: {kind}", source.display());
                if kind == "String" {
                    found.insert(label.to_owned());
                }
            }
        }
    }
    assert_eq!(found, FREE_LABELS.map(str::to_owned).into());
}
