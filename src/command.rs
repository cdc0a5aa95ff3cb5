//! The commands. This file reads arguments and settings, and builds and joins the agent's tasks.
//!
//! Must never: hold logic, or withdraw anything or send a final advertisement when the process ends.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{self, Api, Readers};
use crate::attempts::file::AttemptsFile;
use crate::attempts::task::AttemptInputs;
use crate::attempts::{self, Recorder};
use crate::cli::{Cli, Command, VERSION};
use crate::console::push::Wish;
use crate::console::{self, ConsoleError, Outcome};
use crate::diagnosis::{self, DiagnosisInputs};
use crate::events::Events;
use crate::evidence::{self, EvidenceOutputs};
use crate::guarded::Guarded;
use crate::keeper::Keeper;
use crate::kernel::links;
use crate::metrics::Metrics;
use crate::port_services::{self, PortRoles, RoleInputs};
use crate::reconcile::{self, ReconcilerInputs, ReconcilerOutputs};
use crate::screens::explain;
use crate::state_file::StateFile;
use crate::systemd::{self, Inherited};
use crate::{log, pages, preview, process_limits, ra, relay, reload, trace_export};
use clap::Parser;
use leafboot_core::acl;
use leafboot_core::desired::{Desired, KeptDocument};
use leafboot_core::settings::Settings;
use leafboot_core::verdict::LeafFacts;
use leafboot_core::warnings::warnings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};
use tracing_subscriber::filter::LevelFilter;

/// Threads for name lookups.
const RESOLVERS_MAX: usize = 8;

/// Carries out the command line. Returns the exit code of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap exits with 2 after wrong usage. Here 2 means something else, for example that a plan has steps.
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match carry_out(cli.command) {
        Ok(code) => ExitCode::from(code),
        // A reader such as `head` has closed the pipe.
        Err(error) if error.downcast_ref().is_some_and(ConsoleError::is_closed_pipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leafboot: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the exit code: 0, or what the command's help says.
fn carry_out(command: Command) -> Result<u8, Box<dyn Error>> {
    match command {
        Command::Run { config } => run(&config, read(&config)?)?,
        Command::Retire { config, wait } => retire(&read(&config)?, wait)?,
        Command::Plan { config, desired, json } => {
            if preview(&read(&config)?, desired, json)? {
                return Ok(2);
            }
        }
        Command::Acl { config } => print!("{}", acl::table(&acl::rules(&read(&config)?))),
        Command::Check { config, strict } => check(&config, &read(&config)?, strict)?,
        Command::Status { ports, watch, json, config } => {
            let options = console::status::Options { ports, watch, json };
            return ask(async { Ok(exit_code(console::status::run(&socket(&config)?, &options).await?)) });
        }
        Command::Timeline { port, follow, attempt, json, config } => {
            let options = console::timeline::Options { port, attempt, follow, json };
            ask(async { Ok(console::timeline::run(&socket(&config)?, &options).await?) })?;
        }
        Command::Boot { ports, config } => return push(&config, Wish::Boot, &ports),
        Command::Release { ports, config } => return push(&config, Wish::Release, &ports),
        Command::Explain { reason } => print!("{}", explain::explained(&reason)?),
        Command::Completions { shell } => print!("{}", pages::completions(shell)),
        Command::Man { directory: None } => print!("{}", pages::manual()),
        Command::Man { directory: Some(directory) } => write_manuals(&directory)?,
    }
    Ok(0)
}

fn push(config: &Path, wish: Wish, ports: &[String]) -> Result<u8, Box<dyn Error>> {
    ask(async { Ok(exit_code(console::push::run(&socket(config)?, wish, ports).await?)) })
}

/// Runs a request to the running agent.
#[tokio::main(flavor = "current_thread")]
async fn ask<T>(asking: impl Future<Output = Result<T, Box<dyn Error>>>) -> Result<T, Box<dyn Error>> {
    asking.await
}

fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Well => 0,
        Outcome::NotYet => 2,
        Outcome::Rejected => 1,
    }
}

/// The socket of the agent that has this settings file.
fn socket(path: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let at = |error: &dyn Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| at(&error))?;
    Ok(Settings::socket_of(&text).map_err(|error| at(&error))?)
}

/// Writes the manual pages into a directory, which must exist.
fn write_manuals(directory: &Path) -> Result<(), Box<dyn Error>> {
    for (name, text) in pages::manuals() {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Settings, Box<dyn Error>> {
    let at = |error: &dyn Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| at(&error))?;
    Ok(Settings::parse(&text).map_err(|error| at(&error))?)
}

#[tokio::main(flavor = "current_thread")]
async fn run(path: &Path, settings: Settings) -> Result<(), Box<dyn Error>> {
    log::start(log_level()?);
    process_limits::raise_descriptor_limit();
    let socket = api::bind(&settings.socket)?;
    info!(version = VERSION, leaf = settings.leaf, socket = %settings.socket.display(), "leafboot started");

    for warning in warnings(&settings) {
        warn!(%warning, "settings: warning");
    }

    let settings = Arc::new(settings);
    let withdrawn = Arc::new(ra::memory::load_and_save(&settings.state_directory, &settings.ra));
    let store = StateFile::new(&settings.state_directory);
    let (desired_out, desired) = watch::channel(restored(&store));
    let (links_out, links) = watch::channel(Default::default());
    let (ra_out, ra) = watch::channel(Default::default());
    let (status_out, status) = watch::channel(Default::default());
    let (ports_out, ports) = watch::channel(None);
    let (unrouted_out, unrouted) = watch::channel(Default::default());

    let metrics = Arc::new(Metrics::default());
    let certificates = Arc::clone(&settings);
    metrics.watch_certificates(move || relay::probes::expiries(&certificates));
    let attempts_file = AttemptsFile::new(&settings.state_directory);
    let attempts = Arc::new(Recorder::new(attempts_file.restore()));
    let events = Arc::new(Events::default());
    let keeper = Arc::new(Keeper::new(store, Arc::clone(&metrics)));
    let (probed, probes) = watch::channel(Default::default());
    let (counters_out, counters) = watch::channel(Default::default());
    let diagnosis_inputs = DiagnosisInputs {
        status: status.clone(),
        links: links.clone(),
        counters,
        probes,
        events: Arc::clone(&events),
    };
    let diagnosis = watch::Sender::new(Arc::default());
    let api = Api {
        boot: settings.boot.clone(),
        desired: desired_out,
        keeper: Arc::clone(&keeper),
        status,
        ports,
        metrics: Arc::clone(&metrics),
        bodies: Api::bodies(),
        leaf: settings.leaf.clone(),
        version: VERSION,
        started: Instant::now(),
        pushed: Guarded::default(),
        links: links.clone(),
        attempts: Arc::clone(&attempts),
        diagnosis: diagnosis.subscribe(),
        events: Arc::clone(&events),
        readers: Readers::default(),
    };
    let desired_now = desired.clone();
    let inputs = ReconcilerInputs { desired: desired.clone(), links: links.clone(), ra };
    let outputs = ReconcilerOutputs {
        status: status_out,
        ports: ports_out,
        unrouted: unrouted_out,
        metrics: Arc::clone(&metrics),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    let scraping = metrics_server(settings.metrics, Arc::clone(&metrics))?;
    let trace_export = trace_export(&settings, &attempts);
    let (stop_out, stop) = watch::channel(false);
    let (roles_out, roles) = watch::channel(PortRoles::default());
    let attempt_inputs =
        AttemptInputs { roles: roles.clone(), links: links.clone(), events: Arc::clone(&events) };
    let role_inputs = RoleInputs { desired, links, unrouted };
    let mut inherited = Inherited::receive();
    let relay_sockets = port_services::take_inherited(&mut inherited, &relay::task::sockets(&settings.relay));
    // Release the rest: the last process may have had other settings, or other services.
    inherited.retain(|_| false);
    let (wanted_out, wanted) = watch::channel(Default::default());
    let evidence = EvidenceOutputs { counters: counters_out, wanted: wanted_out };
    let relay_inputs = relay::task::RelayInputs {
        roles: roles.clone(),
        stop,
        inherited: relay_sockets,
        attempts: Arc::clone(&attempts),
        wanted,
        probed,
    };
    let mut relay = relay_thread(&settings, &metrics, relay_inputs)?;
    let stopping = async {
        tokio::select! {
            _ = terminate.recv() => info!("leafboot stops: SIGTERM; nothing is withdrawn"),
            _ = interrupt.recv() => info!("leafboot stops: SIGINT; nothing is withdrawn"),
            end = &mut relay => return Err(format!("relay: {}", end.as_deref().unwrap_or("it panicked"))),
        }
        systemd::stopping();
        stop_out.send_replace(true);
        let _ = (&mut relay).await;
        Ok(())
    };
    systemd::ready();
    // A task that ends by itself is a fault. The process ends with it, and systemd or Docker starts it again.
    tokio::select! {
        end = stopping => Ok(end?),
        () = reload::run(&settings, hangup, || read(path).map_err(|error| error.to_string())) => Err("the task for SIGHUP ended".into()),
        end = links::run(links_out) => Err(failed("links", end)),
        () = reconcile::run(&settings, inputs, outputs) => Err("the reconciler ended".into()),
        () = port_services::publish_roles(&settings.boot.vrf, role_inputs, roles_out) => {
            Err("the task that publishes the ports' roles ended".into())
        }
        () = ra::thread::run(Arc::clone(&settings), withdrawn, Arc::clone(&attempts), Arc::clone(&metrics), roles, ra_out) => {
            Err("the Router Advertisement thread ended".into())
        }
        never = attempts::task::run(Arc::clone(&attempts), attempts_file, attempt_inputs) => match never {},
        never = diagnosis::run(LeafFacts::of(&settings), Arc::clone(&attempts), Arc::clone(&metrics), diagnosis_inputs, diagnosis) => {
            match never {}
        }
        never = evidence::run(Arc::clone(&settings), Arc::clone(&attempts), evidence) => match never {},
        never = scraping => match never {},
        never = trace_export => match never {},
        never = keeper.run(desired_now) => match never {},
        never = api::run(socket, Arc::new(api)) => match never {},
    }
}

/// Serves metrics at `listen`; without an address it does nothing. Never ends.
fn metrics_server(
    listen: Option<SocketAddr>,
    metrics: Arc<Metrics>,
) -> Result<impl Future<Output = Infallible>, Box<dyn Error>> {
    let bind =
        |listen| api::scrape::bind(listen).map_err(|error| format!("metrics.listen {listen}: {error}"));
    let listener = listen.map(bind).transpose()?;
    Ok(async {
        match listener {
            Some(listener) => api::scrape::run(listener, metrics).await,
            None => std::future::pending().await,
        }
    })
}

/// Sends boot attempts to the collector; without one it does nothing. Never ends.
fn trace_export(settings: &Settings, attempts: &Arc<Recorder>) -> impl Future<Output = Infallible> + use<> {
    let (collector, leaf, attempts) = (settings.otlp.clone(), settings.leaf.clone(), Arc::clone(attempts));
    async {
        match collector {
            Some(collector) => trace_export::run(collector, leaf, attempts).await,
            None => std::future::pending().await,
        }
    }
}

/// Starts the relay on a thread of its own, so that no image delays an advertisement. The receiver gets the reason when the
/// relay ends.
fn relay_thread(
    settings: &Arc<Settings>,
    metrics: &Arc<Metrics>,
    inputs: relay::task::RelayInputs,
) -> Result<oneshot::Receiver<String>, Box<dyn Error>> {
    let (ended_out, ended) = oneshot::channel();
    let (settings, metrics) = (Arc::clone(settings), Arc::clone(metrics));
    // Names are resolved on a few threads of their own. With more, a resolver that hangs would take all that the unit allows.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(RESOLVERS_MAX)
        .build()?;
    std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
        let end = runtime.block_on(relay::task::run(settings, metrics, inputs));
        let _ = ended_out.send(end.err().map_or("it ended".to_owned(), |error| error.to_string()));
        // Do not wait for a lookup that hangs.
        runtime.shutdown_background();
    })?;
    Ok(ended)
}

/// Makes the checks that [`read`] does not make, and prints the warnings. With `strict`, warnings are errors.
#[tokio::main(flavor = "current_thread")]
async fn check(path: &Path, settings: &Settings, strict: bool) -> Result<(), Box<dyn Error>> {
    let path = path.display();
    relay::tls::check(&settings.relay)?;
    let mut warnings: Vec<String> = warnings(settings).iter().map(ToString::to_string).collect();
    match crate::check::protected(settings).await {
        Ok(unknown) => warnings.extend(unknown),
        Err(reason) => println!("{path}: note: {reason}"),
    }
    for warning in &warnings {
        println!("{path}: warning: {warning}");
    }
    match warnings.len() {
        0 => println!("{path}: ok"),
        count if strict => return Err(format!("{path}: {count} warnings, and --strict is given").into()),
        count => println!("{path}: can be used, with {count} warnings"),
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn retire(settings: &Settings, wait: Duration) -> Result<(), Box<dyn Error>> {
    crate::retire::run(settings, wait).await?;
    println!("{} is gone, and leafboot's ACL and loopback with it", settings.boot.vrf);
    Ok(())
}

/// Prints the plan. Returns whether it has steps.
#[tokio::main(flavor = "current_thread")]
async fn preview(settings: &Settings, desired: Option<PathBuf>, json: bool) -> Result<bool, Box<dyn Error>> {
    let preview = preview::run(settings, desired.as_deref()).await?;
    if json {
        println!("{}", preview.json());
    } else {
        print!("{preview}");
    }
    Ok(preview.has_steps())
}

/// The log level: `LEAFBOOT_LOG`, or else info.
fn log_level() -> Result<LevelFilter, Box<dyn Error>> {
    match std::env::var("LEAFBOOT_LOG") {
        Ok(level) => level
            .parse()
            .map_err(|_| format!("LEAFBOOT_LOG={level}: not off, error, warn, info, debug or trace").into()),
        Err(_) => Ok(LevelFilter::INFO),
    }
}

/// The last document of the previous run. A damaged file counts as no document: metal-core pushes again within 10 s.
fn restored(store: &StateFile) -> Option<Desired> {
    match store.restore() {
        Ok(Some(KeptDocument { desired, newer })) => {
            if let Some(newer) = newer {
                warn!(newer, "state file: written by a later leafboot");
            }
            info!(
                generation = desired.generation,
                ports = desired.ports.len(),
                "state file: last document restored"
            );
            Some(desired)
        }
        Ok(None) => None,
        Err(error) => {
            warn!(%error, "state file: no document restored; isolation stays as it is until a push");
            None
        }
    }
}

fn failed<E: Error>(task: &str, end: Result<(), E>) -> Box<dyn Error> {
    let reason = end.err().map_or("ended".to_owned(), |error| error.to_string());
    format!("{task}: {reason}").into()
}
