//! Servers behind a relay with answers of the test's choice, and the relay in front of them with the test's settings.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use leafboot::internals::Metrics;
use leafboot::internals::ServiceState;
use leafboot::internals::relay::lifecycle::{Lifecycle, ServiceStage};
use leafboot_core::relay::identity::IngressIdentity;
use leafboot_core::settings::Settings;
use tokio::sync::watch;

use super::support::cable::Cable;
use super::support::{eventually, port};

/// A server behind the relay, and the requests that it got.
pub struct Server {
    /// `http://[::1]:<port>`.
    pub origin: String,
    pub requests: Receiver<String>,
}

impl Server {
    /// Gives `answer` to every request, each on a connection of its own.
    pub fn says(answer: &[u8]) -> Self {
        let answer = answer.to_vec();
        Self::start(TcpListener::bind("[::]:0").unwrap(), move |mut stream, _| {
            let _ = stream.write_all(&answer);
        })
    }

    /// Does `work` with every connection, once its request's head is read.
    pub fn start(listener: TcpListener, work: impl Fn(TcpStream, &str) + Send + Sync + 'static) -> Self {
        let origin = format!("http://[::1]:{}", listener.local_addr().unwrap().port());
        let (sender, requests) = channel();
        let work = Arc::new(work);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, work, sender) = (stream.unwrap(), Arc::clone(&work), sender.clone());
                std::thread::spawn(move || {
                    let head = read_head(&mut stream);
                    if head.starts_with("HEAD / ") {
                        // A probe is no machine's request.
                        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                    } else if !head.is_empty() {
                        let _ = sender.send(head.clone());
                        work(stream, &head);
                    }
                });
            }
        });
        Self { origin, requests }
    }

    /// The next request that came, in lower case.
    pub fn asked(&self) -> String {
        self.requests.recv_timeout(Duration::from_secs(5)).expect("the server is asked").to_lowercase()
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An answer 200 with a body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// An origin whose TCP port is closed.
pub fn closed_origin() -> String {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    format!("http://[::1]:{}", listener.local_addr().unwrap().port())
}

/// A machine on a cable, and its port's relay.
pub struct Relayed {
    pub cable: Cable,
    pub lifecycle: watch::Sender<Lifecycle>,
    pub metrics: Arc<Metrics>,
    log: Receiver<String>,
}

impl Relayed {
    /// A machine whose relay asks `boot_service`.
    pub fn by(boot_service: &str) -> Self {
        Self::with(Cable::plug(), &boot_service_of(&[boot_service]))
    }

    /// A machine at `cable`'s end whose relay has these further settings.
    pub fn with(cable: Cable, settings: &str) -> Self {
        let text = format!(
            "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n\
             [relay.cache]\nname = \"http://images.metal-stack.io\"\n{settings}"
        );
        let settings = Settings::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}")).relay;
        let lifecycle = port::lifecycle("Ethernet0", "2001:db8:b007::/64");
        let (followed, metrics) = (lifecycle.subscribe(), Arc::new(Metrics::default()));
        let (log_out, log) = channel();
        let counted = Arc::clone(&metrics);
        std::thread::spawn(move || run(settings, followed, &counted, log_out));
        cable.boot();
        cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
        let relayed = Self { cable, lifecycle, metrics, log };
        eventually("the machine reaches its gateway", || relayed.curl(&["/"]).starts_with("404"));
        relayed
    }

    /// curl from the machine: status, headers and body as one text.
    pub fn curl(&self, arguments: &[&str]) -> String {
        let (path, options) = arguments.split_last().unwrap();
        let url = format!("http://[2001:db8:b007::1]{path}");
        let mut all = vec!["-sSi", "-m", "12", "--path-as-is", "-g"];
        all.extend(options);
        all.push(&url);
        self.cable.machine("curl", &all).replacen("HTTP/1.1 ", "", 1)
    }

    /// curl as iPXE would ask.
    pub fn ipxe(&self, path: &str) -> String {
        self.curl(&["-A", "iPXE/1.0.0+git-20190125", path])
    }

    /// All that the relay has logged.
    pub fn log(&self) -> String {
        self.log.try_iter().collect()
    }

    /// Sets the port's stage.
    pub fn enter(&self, stage: ServiceStage) {
        self.lifecycle.send_modify(|lifecycle| lifecycle.stage = stage);
    }
}

/// The settings of a boot service.
pub fn boot_service_of(origins: &[&str]) -> String {
    format!("[relay.boot_service]\norigins = {origins:?}\n")
}

/// A port's relay with a log at the finest level, in this thread and its network namespace.
fn run(
    settings: leafboot_core::settings::RelaySettings,
    lifecycle: watch::Receiver<Lifecycle>,
    metrics: &Arc<Metrics>,
    log: Sender<String>,
) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || Log(log.clone()))
        .finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shared = Arc::new(ServiceState::new(&settings, metrics, &Arc::default()).unwrap());
        let IngressIdentity { port, prefix, .. } = IngressIdentity::clone(&lifecycle.borrow().identity);
        if let Some(scripts) = &shared.scripts {
            scripts.with(|scripts| scripts.set_ports([(&port, &prefix)]));
        }
        let service = port::relay_port(&shared, lifecycle);
        if let Some(tls) = &settings.tls {
            tokio::spawn(port::serve(Arc::clone(&service), tls.port, true));
        }
        port::serve(service, settings.port, false).await
    });
}

struct Log(Sender<String>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
