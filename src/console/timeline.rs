//! `leafboot timeline`.
//!
//! Must never: show an attempt of another port than the named one.

use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::{ConsoleError, LOOK_AGAIN, Screen, of_port};
use crate::client::{Client, port_path};
use crate::screens::answers::Attempts;
use crate::screens::timeline::{self, Follower};

/// What to show.
#[derive(Debug)]
pub struct Options {
    /// The port's name or alias.
    pub port: String,
    /// Which attempt; none: the last one.
    pub attempt: Option<u64>,
    /// Go on with what comes.
    pub follow: bool,
    /// For programs.
    pub json: bool,
}

/// The answer, its attempts unread.
#[derive(Deserialize)]
struct RawAttempts {
    attempts: Vec<Box<RawValue>>,
}

/// Shows an attempt, or follows the port's attempts.
pub async fn run(socket: &Path, options: &Options) -> Result<(), ConsoleError> {
    let screen = Screen::new();
    let mut client = Client::connect(socket).await?;
    let path = format!("{}/attempts", port_path(&options.port));
    if options.follow {
        return follow(socket, client, &path, options, &screen).await;
    }
    let request = format!("GET {path}");
    let body = client.get(&path).await.map_err(of_port(&options.port))?;
    let attempts: Attempts = client.parse(&request, &body)?;
    let attempt = timeline::chosen(&attempts, options.attempt).map_err(ConsoleError::Nothing)?;
    let text = if options.json {
        let at = attempts.attempts.iter().position(|other| other.number == attempt.number);
        let RawAttempts { attempts: raw } = client.parse(&request, &body)?;
        at.and_then(|at| raw.get(at)).map_or(String::new(), |raw| format!("{raw}\n"))
    } else {
        timeline::screen(&attempts, attempt, screen.style)
    };
    Ok(Screen::print(&text)?)
}

/// Prints what is new, until the process is ended or the agent refuses. As JSON: the last attempt, each time it has changed.
async fn follow(
    socket: &Path,
    mut client: Client,
    path: &str,
    options: &Options,
    screen: &Screen,
) -> Result<(), ConsoleError> {
    let mut follower = Follower::default();
    let mut printed = String::new();
    loop {
        let look = async {
            let request = format!("GET {path}");
            let body = client.get(path).await.map_err(of_port(&options.port))?;
            if !options.json {
                return Ok(follower.news(&client.parse::<Attempts>(&request, &body)?, screen.style));
            }
            let RawAttempts { attempts } = client.parse(&request, &body)?;
            let last = attempts.last().map_or(String::new(), |raw| format!("{raw}\n"));
            if last == printed {
                return Ok(String::new());
            }
            printed.clone_from(&last);
            Ok::<String, ConsoleError>(last)
        };
        match look.await {
            Ok(news) => Screen::print(&news)?,
            Err(error) if error.is_final() => return Err(error),
            // A restart of the agent takes a moment.
            Err(error) => {
                eprintln!("leafboot: {error}");
                if let Ok(again) = Client::connect(socket).await {
                    client = again;
                }
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}
