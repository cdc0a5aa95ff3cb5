//! The API while SONiC's databases cannot be read, or are read in another way than usual.
//!
//! Must never: need a model of SONiC.

use super::support::agent::Agent;
use super::support::switch::{CONFIG_DB, Switch};
use super::support::{self, eventually};
use super::{BOOT, text};

#[test]
fn without_redis_the_agent_runs_says_so_and_comes_back() {
    let mut switch = Switch::start();
    switch.stop_redis();
    let agent = Agent::start(&switch);
    let (code, answer) = agent.put("/v1/ports", BOOT);
    assert_eq!(code, 503);
    assert_eq!(text(&answer, "/error/reason"), "DatabaseUnreachable");
    let error = text(&answer, "/error/message");
    assert!(error.starts_with("the leaf's ports are not known, so nothing can be checked: "), "{error}");
    eventually("the log names database and socket", || {
        agent.log().contains("cannot connect to CONFIG_DB at") && agent.log().contains("redis.sock")
    });

    switch.start_redis();
    eventually("an unloaded CONFIG_DB is said", || {
        let (_, answer) = agent.put("/v1/ports", BOOT);
        let message = text(&answer, "/error/message");
        message.ends_with("CONFIG_DB is not loaded yet")
            && text(&answer, "/error/reason") == "ConfigDbNotLoaded"
    });
    switch.cli(CONFIG_DB, &["HSET", "PORT|Ethernet0", "index", "1"]);
    switch.cli(CONFIG_DB, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
    eventually("a push is taken", || agent.put("/v1/ports", BOOT).0 == 202);
    assert_eq!(switch.dump("6"), "", "STATE_DB is never written");
}

#[test]
fn a_missing_or_half_written_database_config_is_named() {
    let switch = Switch::start();
    std::fs::remove_file(switch.path("database_config.json")).unwrap();
    let agent = Agent::start(&switch);
    eventually("the missing file is named", || agent.log().contains("database_config.json: No such file"));
    std::fs::write(switch.path("database_config.json"), "{\"INSTANCES\": {").unwrap();
    eventually("the half-written file is named", || agent.log().contains("not SONiC's database_config.json"));
}

#[test]
fn a_switch_with_several_namespaces_is_refused_with_their_names() {
    let switch = Switch::start();
    let global = r#"{"INCLUDES": [{"include": "database_config.json"}, {"namespace": "asic0", "include": "x"}], "VERSION": "1.0"}"#;
    support::agent::write(&switch.path("database_global.json"), global);
    let agent = Agent::start(&switch);
    let (code, answer) = agent.put("/v1/ports", BOOT);
    assert_eq!(code, 503);
    eventually("the log names the namespace", || agent.log().contains("several namespaces (asic0)"));
    drop(answer);
    std::fs::remove_file(switch.path("database_global.json")).unwrap();
    eventually("one namespace is served", || agent.put("/v1/ports", BOOT).0 == 202);
}

#[test]
fn redis_is_used_over_tcp_and_with_a_password() {
    let switch = Switch::start_with_password("s3cret");
    let agent = Agent::start_ready(&switch);
    assert_eq!(agent.put("/v1/ports", BOOT).0, 202);
    assert!(!agent.log().contains("s3cret"), "a secret is never logged");
    agent.kill();
    support::agent::write(&switch.path("password"), "wrong\n");
    let (code, answer) = Agent::start(&switch).put("/v1/ports", BOOT);
    assert_eq!(code, 503, "{answer}");
}
