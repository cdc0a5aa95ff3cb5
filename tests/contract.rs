//! The API's description: `sonic/openapi.yaml` and the tables of reasons agree with the code, and with what the real binary
//! answers. schemathesis makes the requests; `tests/contract/setup` installs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use leafboot_core::attempt::Stage;
use leafboot_core::desired::Reason;
use leafboot_core::plan::Waiting;
use leafboot_core::status::{AgentReason, RequestReason};
use serde_json::{Value, json};
use strum::VariantNames;
use support::agent::{self, Agent};
use support::switch::{CONFIG_DB, Switch};
use support::{eventually, output};

/// The seconds that schemathesis may make requests for.
const MAX_TIME: &str = "15";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// A program of the Python environment in the target directory.
fn program(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let found = target.ancestors().map(|directory| directory.join("contract/bin").join(name));
    found
        .into_iter()
        .find(|program| program.exists())
        .expect("install schemathesis with tests/contract/setup")
}

/// The values of an `enum` in `sonic/openapi.yaml`.
fn described(schema: &str) -> BTreeSet<String> {
    let text = read("sonic/openapi.yaml");
    let (_, schema) = text.split_once(&format!("\n    {schema}:\n")).unwrap();
    let (_, values) = schema.split_once("      enum:\n").unwrap();
    values.lines().map_while(|line| line.strip_prefix("        - ")).map(str::to_owned).collect()
}

/// The names in the first column of the tables in a section of `docs/api.md`.
fn table(section: &str) -> BTreeSet<String> {
    let text = read("docs/api.md");
    let (_, section) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let names = cells.flat_map(|(names, _)| names.split("`, `"));
    names.filter(|name| !["reason", "stage"].contains(name)).map(str::to_owned).collect()
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_reason_is_described() {
    let waiting = names(Waiting::reasons());
    let agent = names(AgentReason::VARIANTS.iter().copied());
    let request = names(RequestReason::VARIANTS.iter().copied());
    let reject = names(Reason::VARIANTS.iter().copied());
    assert!(waiting.contains("InterfaceBound") && waiting.is_disjoint(&agent));
    assert_eq!(described("WaitingReason"), waiting);
    assert_eq!(described("AgentReason"), agent);
    assert_eq!(described("RequestReason"), request);
    assert_eq!(described("RejectReason"), reject);
    assert_eq!(table("Reasons"), [&waiting, &agent, &request].into_iter().flatten().cloned().collect());
    assert_eq!(table("Rejected ports"), reject);
    let stages = names(Stage::ALL.map(Stage::as_str));
    assert_eq!((described("StageName"), table("Attempts")), (stages.clone(), stages));
    let operations = read("docs/operations.md");
    for reason in waiting.union(&agent) {
        assert!(
            operations.contains(&format!("`{reason}`")),
            "docs/operations.md does not say what to do: {reason}"
        );
    }
}

/// Carries bytes between a TCP port and the API's socket, for clients that know TCP only.
fn proxy(socket: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, socket) = (listener.local_addr().unwrap(), socket.to_owned());
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, agent) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
            let (to_agent, to_client) = (agent.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || forward(client, to_agent, |agent| agent.shutdown(Shutdown::Write)));
            thread::spawn(move || {
                forward(agent, to_client, |client: &TcpStream| client.shutdown(Shutdown::Write))
            });
        }
    });
    address
}

fn forward<W: Write>(mut from: impl std::io::Read, mut to: W, end: impl FnOnce(&W) -> std::io::Result<()>) {
    // Either side may close first.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = end(&to);
}

/// Sends requests of every kind, valid and invalid. `sonic/openapi.yaml` describes each answer, and none is a server
/// error.
#[test]
fn the_running_binary_answers_as_described() {
    let switch = Switch::start();
    let agent = Agent::start_ready(&switch);
    let address = proxy(agent.socket());
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,unsupported_method,allow_header_conformance";
    let output = Command::new(program("schemathesis"))
        .args(["run", path("sonic/openapi.yaml").to_str().unwrap()])
        .args(["--url", &format!("http://{address}"), "--checks", checks])
        .args([
            "--max-time",
            MAX_TIME,
            "--request-timeout",
            "10",
            "--seed",
            "1",
            "--generation-database",
            "none",
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--no-color"])
        // Its answer has no end.
        .args(["--exclude-path", "/v1/events"])
        .env("SCHEMATHESIS_HOOKS", "tests.contract.hooks")
        .env("PYTHONPATH", env!("CARGO_MANIFEST_DIR"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // schemathesis leaves files behind.
        .current_dir(switch.directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert_eq!(agent.get("/v1/ports/Ethernet0").0, 200, "it still serves");
}

/// Fails if a value does not match its schema in `sonic/openapi.yaml`, or has more fields.
fn validate(values: &[(&str, Value)]) {
    let mut validator = Command::new(program("python"))
        .arg(path("tests/contract/validate.py"))
        .arg(path("sonic/openapi.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = values.iter().map(|value| json!(value).to_string() + "\n").collect();
    validator.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = validator.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Answers of each kind that the API gives in a leaf's life.
#[test]
fn answers_match_their_schemas() {
    let mut switch = Switch::start();
    switch.cli(CONFIG_DB, &["HSET", "LOOPBACK_INTERFACE|Loopback64", "vrf_name", "Vrfother"]);
    let agent = Agent::start_with(&switch, "anycast = \"2001:db8:ffff:1::1/127\"\n");
    eventually("CONFIG_DB is read", || agent.get("/v1/ports/Ethernet0").0 == 200);
    let mut answers = vec![("Ports", agent.get("/v1/ports").1)];
    switch.cli(CONFIG_DB, &["CONFIG", "SET", "maxmemory", "1"]);
    let push =
        r#"{"ports": {"Ethernet0": {"state": "boot"}, "Ethernet120": {"state": "boot"}, "Eth9/9": {}}}"#;
    answers.push(("Ports", agent.put("/v1/ports", push).1));
    eventually("a write is refused", || agent.get("/v1/ports").1["error"]["reason"] == "WriteRefused");
    answers.push(("Ports", agent.get("/v1/ports").1));
    switch.cli(CONFIG_DB, &["CONFIG", "SET", "maxmemory", "0"]);
    eventually("the anycast address waits", || agent.get("/v1/ports").1["anycast"].is_object());
    answers.push(("Ports", agent.get("/v1/ports").1));
    for name in ["Ethernet0", "Ethernet120", "Eth9%2F9", "Ethernet4"] {
        answers.push(("Port", agent.get(&format!("/v1/ports/{name}")).1));
    }
    answers.push(("Leaf", agent.get("/v1/leaf").1));
    answers.push(("Attempts", agent.get("/v1/ports/Eth1%2F1/attempts").1));
    answers.push(("Refusal", agent.get("/v1/ports/Ethernet9/attempts").1));
    for body in ["", "[]"] {
        answers.push(("Refusal", agent.put("/v1/ports", body).1));
    }
    answers.push(("Refusal", agent.put("/v1/ports?wait=x", push).1));
    answers.push(("Refusal", agent.put("/metrics", "").1));
    for path in ["/", "/v1/ports/Ethernet9"] {
        answers.push(("Refusal", agent.get(path).1));
    }
    // The state directory cannot be used, and then Redis is stopped.
    std::fs::remove_dir_all(switch.path("state")).unwrap();
    agent::write(&switch.path("state"), "a file where the directory should be");
    answers.push(("Ports", agent.put("/v1/ports", r#"{"ports": {"Ethernet4": {"state": "boot"}}}"#).1));
    switch.stop_redis();
    let is_away = |agent: &Agent| agent.get("/v1/ports").1["error"]["reason"] == "DatabaseUnreachable";
    eventually("Redis is away", || is_away(&agent));
    answers.push(("Leaf", agent.get("/v1/leaf").1));
    answers.push(("Ports", agent.get("/v1/ports").1));
    answers.push(("Refusal", agent.put("/v1/ports", push).1));
    validate(&answers);
    let all = json!(answers).to_string();
    for reason in [
        "UnmanagedLoopback",
        "WriteRefused",
        "StateNotSaved",
        "DatabaseUnreachable",
        "Protected",
        "InvalidQuery",
    ] {
        assert!(all.contains(&format!("\"reason\":\"{reason}\"")), "no {reason} in {all}");
    }
}

#[test]
fn plan_prints_json_as_described() {
    let switch = Switch::start();
    for row in ["INTERFACE|Ethernet4", "VRF|VrfTenant"] {
        switch.cli(CONFIG_DB, &["HSET", row, "vrf_name", "VrfTenant"]);
    }
    let (config, push) = (agent::settings(&switch), switch.path("push.json"));
    let mut plans = Vec::new();
    for document in [
        r#"{"ports": {"Ethernet0": {"state": "boot"}, "Ethernet4": {"state": "boot"}, "Ethernet9": {"state": "boot"}}}"#,
        r#"{"ports": {}}"#,
    ] {
        agent::write(&push, document);
        let arguments =
            ["plan", "--json", "--config", config.to_str().unwrap(), "--desired", push.to_str().unwrap()];
        let plan = output(agent::LEAFBOOT, &arguments).stdout;
        plans.push(("Plan", serde_json::from_slice::<Value>(&plan).unwrap()));
    }
    validate(&plans);
    let full = &plans[0].1;
    for field in ["steps", "waiting", "rejected", "unmanaged"] {
        let is_empty = full[field].as_array().map_or(full[field] == json!({}), Vec::is_empty);
        assert!(!is_empty, "no {field}: {full}");
    }
}

/// The validator can fail: an unknown reason, a field too many, a field too few.
#[test]
fn the_schemas_refuse_what_is_not_described() {
    let wrong = [
        json!({"reason": "Nothing", "message": ""}),
        json!({"reason": "PortReady", "message": "", "more": 1}),
        json!({"reason": "PortReady"}),
    ];
    for condition in wrong {
        let refused = std::panic::catch_unwind(|| validate(&[("Condition", condition.clone())]));
        assert!(refused.is_err(), "{condition}");
    }
    validate(&[("Condition", json!({"reason": "PortReady", "message": "", "attempt": 1}))]);
}
