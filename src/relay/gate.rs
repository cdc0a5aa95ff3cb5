//! Where a port's work waits: the only place. Work is charged to the port's account, and done when it is due; a connection
//! is not read before its last read is paid.
//!
//! Must never: make one port wait for another, or wait once the port's connections are to end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{debug, warn};

use super::server::Phase;
use crate::guarded::Guarded;
use crate::metrics::{Metrics, Seconds};
use leafboot_core::names::PortName;
use leafboot_core::relay::port_limits::{Account, Mute, Work};
use leafboot_core::settings::Relay;

/// One port's gate.
pub struct Gate {
    port: PortName,
    phase: watch::Receiver<Phase>,
    /// None: the port may do as much as it likes.
    account: Option<Guarded<Account>>,
    /// Counts how long its work waited.
    waited: Seconds,
    /// Counts how long it was muted.
    muted: Seconds,
}

impl Gate {
    /// The gate of a port that may do as much as the settings say.
    pub fn new(settings: &Relay, metrics: &Metrics, phase: watch::Receiver<Phase>) -> Self {
        let port = phase.borrow().claim.port.clone();
        Self {
            account: settings.requests.map(Account::new).map(Guarded::new),
            waited: metrics.rate_limited(port.as_str()),
            muted: metrics.muted(port.as_str()),
            phase,
            port,
        }
    }

    /// Charges work to the port. Returns until when it is to wait; none: it need not.
    pub fn charge(&self, work: Work) -> Option<Instant> {
        let account = self.account.as_ref()?;
        let now = Instant::now();
        let charged = account.with(|account| account.charge(work, now.into()));
        if let Some(mute) = charged.muted {
            self.say(mute);
        }
        let wait = charged.due.saturating_duration_since(now.into());
        if wait.is_zero() {
            return None;
        }
        self.waited.inc_by(wait.as_secs_f64());
        Some(charged.due.into())
    }

    /// Charges what was done already.
    pub fn charge_for_answer(&self, bytes: usize) {
        if let Some(account) = &self.account {
            let charged = account.with(|account| account.charge(Work::Answer(bytes), Instant::now().into()));
            charged.muted.into_iter().for_each(|mute| self.say(mute));
        }
    }

    fn say(&self, mute: Mute) {
        let (port, seconds) = (&self.port, mute.time.as_secs());
        self.muted.inc_by(mute.time.as_secs_f64());
        if mute.is_first {
            warn!(%port, seconds, "muted: it goes on asking for more than relay.requests allows");
        } else {
            debug!(%port, seconds, "muted again");
        }
    }

    /// Waits until work is due that was charged.
    pub async fn wait(&self, due: Option<Instant>) {
        let Some(due) = due else { return };
        let mut phase = self.phase.clone();
        tokio::select! {
            () = sleep_until(due) => {}
            _ = phase.wait_for(Phase::ends) => {}
        }
    }
}

/// A machine's connection whose reads are charged to its port.
pub struct Metered<S> {
    stream: S,
    gate: Arc<Gate>,
    /// Until when it is not read; none: it may be.
    due: Option<Pin<Box<Sleep>>>,
}

impl<S> Metered<S> {
    /// Charges what is read from `stream` at `gate`.
    pub fn new(stream: S, gate: Arc<Gate>) -> Self {
        Self { stream, gate, due: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The connection's task is woken when its port ends.
        if let Some(due) = &mut this.due {
            if !this.gate.phase.borrow().ends() {
                ready!(due.as_mut().poll(context));
            }
            this.due = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let due = this.gate.charge(Work::Read(buffer.filled().len() - before));
        this.due = due.map(|due| Box::pin(sleep_until(due)));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::super::server::Stage;
    use super::*;
    use leafboot_core::relay::identity::Claim;
    use leafboot_core::session::Session;
    use leafboot_core::settings::Settings;

    fn port(requests: u32) -> (Arc<Gate>, watch::Sender<Phase>) {
        let text = format!(
            "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\nrequests = {requests}\n\
             [relay.boot_service]\norigins = [\"http://a\"]\n[relay.cache]\nname = \"http://a\"\n"
        );
        let phase = watch::Sender::new(Phase::begin(Claim {
            leaf: "leaf01".to_owned(),
            port: "Ethernet0".parse().unwrap(),
            prefix: "2001:db8:b007::/64".parse().unwrap(),
            session: Session::begin(1, 1).id(),
        }));
        let settings = Settings::parse(&text).unwrap().relay;
        (Arc::new(Gate::new(&settings, &Metrics::default(), phase.subscribe())), phase)
    }

    async fn seconds(doing: impl Future<Output = ()>) -> f64 {
        let begun = Instant::now();
        doing.await;
        begun.elapsed().as_secs_f64()
    }

    /// A machine that sends a byte at a time, and how long they take to be read.
    async fn bytes(gate: &Arc<Gate>, count: usize) -> f64 {
        let (ours, mut theirs) = duplex(1);
        let mut metered = Metered::new(ours, Arc::clone(gate));
        tokio::spawn(async move { theirs.write_all(&vec![0; count]).await });
        seconds(async {
            metered.read_exact(&mut vec![0; count]).await.unwrap();
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_is_read_no_faster_than_it_pays_and_another_does_not_wait_for_it() {
        let ((one, _one), (other, _other)) = (port(100), port(100));
        let took = bytes(&one, 4000).await;
        assert!((9.5..11.0).contains(&took), "four reads cost as much as a request: {took}");
        assert_eq!(seconds(other.wait(other.charge(Work::Request))).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let (gate, _phase) = port(0);
        assert_eq!(bytes(&gate, 4000).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_goes_on_when_its_port_ends() {
        let (gate, phase) = port(1);
        let due = (0..100).fold(None, |_, _| gate.charge(Work::Request));
        assert!(timeout(Duration::from_secs(60), gate.wait(due)).await.is_err(), "it waits");
        phase.send_modify(|phase| phase.stage = Stage::Released);
        assert_eq!(seconds(gate.wait(due)).await, 0.0);
    }
}
