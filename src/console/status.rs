//! `leafboot status`.
//!
//! Must never: ask for more than two answers where no port is named: the command is to be quick on a full leaf.

use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::{ConsoleError, LOOK_AGAIN, Outcome, Screen, named_port};
use crate::client::{Client, port_path};
use crate::screens::answers::{Leaf, Port, Ports};
use crate::screens::status;

/// What to show.
#[derive(Debug)]
pub struct Options {
    /// The ports' names or aliases; none: all that are not released.
    pub ports: Vec<String>,
    /// Again and again.
    pub watch: bool,
    /// For programs.
    pub json: bool,
}

/// The ports of `GET /v1/ports`, unread.
#[derive(Deserialize)]
struct RawPorts {
    ports: Box<RawValue>,
}

/// Shows the leaf and its ports.
pub async fn run(socket: &Path, options: &Options) -> Result<Outcome, ConsoleError> {
    let screen = Screen::new();
    let mut client = Client::connect(socket).await?;
    let (mut text, outcome) = look(&mut client, options, &screen).await?;
    if !options.watch {
        Screen::print(&text)?;
        return Ok(outcome);
    }
    loop {
        match options.json {
            true => Screen::print(&text)?,
            false => screen.redraw(&text)?,
        }
        sleep(LOOK_AGAIN).await;
        match look(&mut client, options, &screen).await {
            Ok((next, _)) => text = next,
            Err(error) if error.is_final() => return Err(error),
            // A restart of the agent takes a moment.
            Err(error) => {
                eprintln!("leafboot: {error}");
                if let Ok(again) = Client::connect(socket).await {
                    client = again;
                }
            }
        }
    }
}

/// What there is to show, and whether there is a fault in it.
async fn look(
    client: &mut Client,
    options: &Options,
    screen: &Screen,
) -> Result<(String, Outcome), ConsoleError> {
    if options.json {
        return json(client, &options.ports).await;
    }
    let leaf: Leaf = client.read("/v1/leaf").await?;
    let mut ports = ports(client, &options.ports).await?;
    let all = ports.len();
    if options.ports.is_empty() {
        ports.retain(|port| &*port.state != "released");
    }
    let text = status::screen(&leaf, &ports, all - ports.len(), SystemTime::now(), screen.style);
    Ok((text, outcome(&ports)))
}

async fn ports(client: &mut Client, named: &[String]) -> Result<Vec<Port>, ConsoleError> {
    if named.is_empty() {
        return Ok(client.read::<Ports>("/v1/ports").await?.ports);
    }
    let mut ports = Vec::new();
    for name in named {
        ports.push(named_port(client, name).await?);
    }
    ports.sort_by_key(Port::order);
    ports.dedup_by(|one, other| one.name == other.name);
    Ok(ports)
}

/// One object in one line: `leaf` is the answer of `GET /v1/leaf`, `ports` has an object per port as the API has it.
async fn json(client: &mut Client, named: &[String]) -> Result<(String, Outcome), ConsoleError> {
    let leaf: Box<RawValue> = client.read("/v1/leaf").await?;
    let (text, shown) = if named.is_empty() {
        let body = client.get("/v1/ports").await?;
        let RawPorts { ports } = client.parse("GET /v1/ports", &body)?;
        (ports.to_string(), client.parse::<Ports>("GET /v1/ports", &body)?.ports)
    } else {
        let (mut entries, shown) = (Vec::new(), ports(client, named).await?);
        for port in &shown {
            let entry: Box<RawValue> = client.read(&port_path(&port.name)).await?;
            entries.push(format!("{}:{entry}", serde_json::Value::from(&*port.name)));
        }
        (format!("{{{}}}", entries.join(",")), shown)
    };
    Ok((format!("{{\"leaf\":{leaf},\"ports\":{text}}}\n"), outcome(&shown)))
}

fn outcome(ports: &[Port]) -> Outcome {
    if ports.iter().any(status::has_fault) { Outcome::NotYet } else { Outcome::Well }
}
