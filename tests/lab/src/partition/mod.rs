//! The partition: the servers that machines reach through the leaf, behind its uplink.
//!
//! A process for the boot service and one for the image cache; DNS is Debian's dnsmasq beside them. They know only what
//! arrives on the wire, write every request to their [`journal`], and fail when their [`behaviour`] says so.

pub mod behaviour;
mod boot_service;
mod cache;
pub mod journal;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use behaviour::Behaviour;
use journal::{Entry, Journal, Server};

/// The arguments of `lab partition`.
#[derive(Debug, Args)]
pub struct PartitionArgs {
    /// The server to run.
    #[arg(long)]
    server: Server,
    /// The file with its behaviour.
    #[arg(long)]
    behaviour: PathBuf,
    /// The cache's files, laid out as their URL paths.
    #[arg(long)]
    files: PathBuf,
    /// The file that every request is written to.
    #[arg(long)]
    journal: PathBuf,
}

/// Why the partition could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address of the partition cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The journal cannot be opened.
    #[error("cannot open the journal {path}: {source}")]
    Journal {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The event loop did not start, or a connection could not be accepted.
    #[error("the partition's event loop: {0}")]
    Loop(#[from] io::Error),
}

type Answer = Response<Full<Bytes>>;

/// Serves until the process is killed.
pub fn run(args: PartitionArgs) -> Result<(), Error> {
    let journal = Journal::open(&args.journal)
        .map_err(|source| Error::Journal { path: args.journal.clone(), source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let (address, port) = args.server.address();
        let listener = listen(address.into(), port).await?;
        let answer = move |head: &Head, behaviour: &Behaviour| match (behaviour.status(), args.server) {
            (Some(status), server) => {
                journal.write(&Entry::new(server, head, behaviour, status));
                plain(status, "text/plain", "as it was told\n")
            }
            (None, Server::BootService) => boot_service::answer(head, behaviour, &journal),
            (None, Server::Cache) => cache::answer(head, behaviour, &args.files, &journal),
        };
        serve(listener, args.behaviour, Rc::new(answer)).await
    })
}

async fn listen(address: IpAddr, port: u16) -> Result<TcpListener, Error> {
    let address = SocketAddr::new(address, port);
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// A request without its body, and its client's address.
struct Head {
    peer: SocketAddr,
    request: Request<Incoming>,
}

impl Head {
    /// The value of a header, if it is there exactly once: a repeated identity header does not count.
    fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.request.headers().get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            (None, _) | (Some(_), Some(_)) => None,
        }
    }
}

async fn serve(
    listener: TcpListener,
    behaviour: PathBuf,
    answer: Rc<impl Fn(&Head, &Behaviour) -> Answer + 'static>,
) -> Result<(), Error> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let (answer, behaviour) = (answer.clone(), behaviour.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let told = Behaviour::read(&behaviour);
                let answered = told.map(|told| (answer(&Head { peer, request }, &told), told));
                async {
                    let (answer, told) = answered?;
                    Ok::<_, io::Error>(told.give(answer).await)
                }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

fn plain(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}
