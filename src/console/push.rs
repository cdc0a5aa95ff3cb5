//! `leafboot boot` and `leafboot release`: what metal-core would do, for a night when it does not.
//!
//! The API takes whole documents. So the ports' present states are read, and pushed again with what is to change.
//!
//! Must never: release a port that was not named.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{ConsoleError, Outcome, Screen, named_port};
use crate::client::Client;
use crate::screens::answers::{Port, Ports};
use crate::screens::layout::{Tone, hanging};

/// How long the agent may wait for the ports to settle before it answers.
const WAIT: Duration = Duration::from_secs(3);

/// What the named ports are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Boot a machine.
    Boot,
    /// Nothing for leafboot.
    Release,
}

/// Pushes the ports' present states, but for the named ports, which are to do as wished.
pub async fn run(socket: &Path, wish: Wish, names: &[String]) -> Result<Outcome, ConsoleError> {
    let screen = Screen::new();
    let mut client = Client::connect(socket).await?;
    let mut named = Vec::new();
    for name in names {
        named.push(named_port(&mut client, name).await?);
    }
    let before: Ports = client.read("/v1/ports").await?;
    let document = document(&before.ports, wish, &named).map_err(ConsoleError::Nothing)?;
    let path = format!("/v1/ports?wait={}s", WAIT.as_secs());
    let after: Ports = client.put(&path, document.to_string(), WAIT).await?;
    let mut text = String::new();
    let mut outcome = Outcome::Well;
    for port in &named {
        let port = after.ports.iter().find(|after| after.name == port.name).unwrap_or(port);
        let (of_port, tone, said) = result(port, wish);
        text += &hanging(&format!("{}: ", port.name), &said, tone, screen.style);
        outcome = outcome.max(of_port);
    }
    text += "metal-core's next push overrules this.\n";
    Screen::print(&text)?;
    Ok(outcome)
}

/// The document that leaves every other port as it is. Err: there is none.
fn document(ports: &[Port], wish: Wish, named: &[Port]) -> Result<Value, String> {
    let names: BTreeSet<&str> = named.iter().map(|port| &*port.name).collect();
    let others = || ports.iter().filter(|port| !names.contains(&*port.name));
    // A push releases what it does not name, and the API does not tell the prefix of these.
    let orphans: Vec<&str> =
        others().filter(|port| &*port.state == "orphaned").map(|port| &*port.name).collect();
    if !orphans.is_empty() {
        return Err(format!(
            "{}: orphaned, so this push would release what no document names: name it in the same command",
            orphans.join(", ")
        ));
    }
    let kept = others().filter(|port| matches!(&*port.state, "boot" | "rejected"));
    let mut entries: Map<String, Value> = kept.map(|port| (port.name.to_string(), entry(port))).collect();
    if wish == Wish::Boot {
        entries.extend(named.iter().map(|port| (port.name.to_string(), entry(port))));
    }
    Ok(json!({ "ports": entries }))
}

/// A port that boots, or goes on booting with the prefix that it has.
fn entry(port: &Port) -> Value {
    match &port.prefix {
        Some(prefix) => json!({ "state": "boot", "prefix": &**prefix }),
        None => json!({ "state": "boot" }),
    }
}

/// What came of the wish for one port, in words.
fn result(port: &Port, wish: Wish) -> (Outcome, Tone, String) {
    if let Some(message) = &port.message {
        return (Outcome::Rejected, Tone::Bad, format!("rejected: {message}"));
    }
    let is_done = port.settled && (&*port.state == "released") == (wish == Wish::Release);
    match (&port.waiting, is_done) {
        (_, true) => (Outcome::Well, Tone::Good, format!("{}, settled", port.state)),
        (Some(waiting), false) => {
            let said = format!("{}, waits: {} ({})", port.state, waiting.message, waiting.reason);
            (Outcome::NotYet, Tone::Waiting, said)
        }
        (None, false) => (Outcome::NotYet, Tone::Waiting, format!("{}, not settled yet", port.state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, state: &str, prefix: Option<&str>) -> Port {
        let port = json!({
            "name": name, "alias": null, "state": state, "settled": state == "released", "advertising": false,
            "prefix": prefix, "gateway": null, "waiting": null, "reason": null, "message": null,
        });
        serde_json::from_value(port).unwrap()
    }

    #[test]
    fn every_other_port_keeps_what_it_has() {
        let ports = [
            port("Ethernet0", "boot", Some("2001:db8:b007::/64")),
            port("Ethernet4", "rejected", None),
            port("Ethernet8", "releasing", None),
            port("Ethernet12", "released", None),
            port("Ethernet16", "boot", Some("2001:db8:b007:4::/64")),
            port("Eth9/9", "rejected", None),
        ];
        let named = [port("Ethernet12", "released", None)];
        let kept = json!({
            "Ethernet0": {"state": "boot", "prefix": "2001:db8:b007::/64"},
            "Ethernet4": {"state": "boot"},
            "Ethernet12": {"state": "boot"},
            "Ethernet16": {"state": "boot", "prefix": "2001:db8:b007:4::/64"},
            "Eth9/9": {"state": "boot"},
        });
        assert_eq!(document(&ports, Wish::Boot, &named), Ok(json!({ "ports": kept })));
        let named = [ports[0].clone(), ports[4].clone()];
        let kept = json!({"Ethernet4": {"state": "boot"}, "Eth9/9": {"state": "boot"}});
        assert_eq!(document(&ports, Wish::Release, &named), Ok(json!({ "ports": kept })));
    }

    #[test]
    fn a_port_that_no_document_names_is_not_released_by_the_way() {
        let ports = [port("Ethernet0", "orphaned", None), port("Ethernet4", "boot", None)];
        let error = document(&ports, Wish::Boot, &ports[1..]).unwrap_err();
        assert!(error.starts_with("Ethernet0: orphaned, so "), "{error}");
        assert!(document(&ports, Wish::Release, &ports[..1]).is_ok());
    }
}
