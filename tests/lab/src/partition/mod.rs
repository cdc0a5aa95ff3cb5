//! The partition: the servers that machines reach through the leaf, behind its uplink.
//!
//! One process with the boot service and the image cache; DNS is Debian's dnsmasq beside it. It believes nothing but
//! what arrives on the wire, and writes down every request in its [`journal`].

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

use crate::site;
use journal::Journal;

/// What `lab partition` is told.
#[derive(Debug, Args)]
pub struct PartitionArgs {
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
    let files = args.files;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let boot_service = listen(site::BOOT_SERVICE.into(), site::BOOT_SERVICE_PORT).await?;
        let cache = listen(site::CACHE.into(), 80).await?;
        let (boot_journal, cache_journal) = (journal.clone(), journal);
        tokio::try_join!(
            serve(boot_service, Rc::new(move |request: &Head| boot_service::answer(request, &boot_journal))),
            serve(cache, Rc::new(move |request: &Head| cache::answer(request, &files, &cache_journal))),
        )?;
        Ok(())
    })
}

async fn listen(address: IpAddr, port: u16) -> Result<TcpListener, Error> {
    let address = SocketAddr::new(address, port);
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// A request without its body, and who sent it.
struct Head {
    peer: SocketAddr,
    request: Request<Incoming>,
}

impl Head {
    /// The value of a header, if it is there exactly once: a claim that is there twice is no claim.
    fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.request.headers().get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            (None, _) | (Some(_), Some(_)) => None,
        }
    }
}

async fn serve(listener: TcpListener, answer: Rc<impl Fn(&Head) -> Answer + 'static>) -> Result<(), Error> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let answer = answer.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let answer = answer(&Head { peer, request });
                async { Ok::<_, std::convert::Infallible>(answer) }
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
