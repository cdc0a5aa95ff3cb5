//! A port's rate limiter: charges work for its machines to the port, and delays it until it is due. The only place
//! where a port's work waits.
//!
//! Must never: make one port wait for another, or wait once the port's connections must end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use leafboot_core::attempt::{Event, Limit};
use leafboot_core::names::PortName;
use leafboot_core::relay::port_limits::{Account, Mute, Work};
use leafboot_core::settings::RelaySettings;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::lifecycle::Lifecycle;
use super::stream::{Filter, Filtered};
use crate::attempts::PortRecorder;
use crate::guarded::Guarded;
use crate::metrics::{Metrics, Seconds};

/// The rate limiter of one port.
pub struct PortLimiter {
    port: PortName,
    lifecycle: watch::Receiver<Lifecycle>,
    /// None: the port has no limit.
    account: Option<Guarded<Account>>,
    attempts: Arc<PortRecorder>,
    /// Counts how long its work was delayed.
    rate_limited: Seconds,
    /// Counts how long it was muted.
    muted: Seconds,
}

impl PortLimiter {
    /// The limiter of the port that `lifecycle` is about, with the settings' limit.
    pub fn new(
        settings: &RelaySettings,
        metrics: &Metrics,
        attempts: &Arc<PortRecorder>,
        lifecycle: watch::Receiver<Lifecycle>,
    ) -> Self {
        let port = lifecycle.borrow().identity.port.clone();
        Self {
            account: settings.requests.map(Account::new).map(Guarded::new),
            rate_limited: metrics.rate_limited(port.as_str()),
            muted: metrics.muted(port.as_str()),
            attempts: Arc::clone(attempts),
            lifecycle,
            port,
        }
    }

    /// Charges work to the port. Returns when it is due; none: at once.
    pub fn charge(&self, work: Work) -> Option<Instant> {
        let account = self.account.as_ref()?;
        let now = Instant::now();
        let charged = account.with(|account| account.charge(work, now.into()));
        if let Some(mute) = charged.muted {
            self.report(mute);
        }
        let delay = charged.due.saturating_duration_since(now.into());
        (!delay.is_zero()).then(|| charged.due.into())
    }

    /// Charges work to the port, and waits until it is due.
    pub async fn delay(&self, work: Work) {
        if let Some(due) = self.charge(work) {
            self.wait(due).await;
        }
    }

    /// Waits until charged work is due, or until the port's connections must end.
    pub async fn wait(&self, due: Instant) {
        self.rate_limited.inc_by(due.saturating_duration_since(Instant::now()).as_secs_f64());
        let mut lifecycle = self.lifecycle.clone();
        tokio::select! {
            () = sleep_until(due) => {}
            _ = lifecycle.wait_for(Lifecycle::must_end) => {}
        }
    }

    fn report(&self, mute: Mute) {
        let (port, seconds) = (&self.port, mute.time.as_secs());
        self.muted.inc_by(mute.time.as_secs_f64());
        self.attempts.record(&Event::RateLimited(Limit::Requests));
        if mute.is_first {
            warn!(%port, seconds, "port is muted: its machines keep exceeding relay.requests");
        } else {
            debug!(%port, seconds, "port is muted again");
        }
    }
}

/// A machine's connection. A read waits until the charge of the one before is due.
pub type ChargedStream<S> = Filtered<S, ChargedReads>;

/// Charges the reads of a connection to its port.
pub struct ChargedReads {
    limiter: Arc<PortLimiter>,
    /// Completes when the next read is due; none: it is due now.
    delay: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl ChargedReads {
    /// `stream`, with reads that are charged to the port.
    pub fn of<S>(stream: S, limiter: &Arc<PortLimiter>) -> ChargedStream<S> {
        Filtered::new(stream, Self { limiter: Arc::clone(limiter), delay: None })
    }
}

impl Filter for ChargedReads {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(delay) = &mut self.delay {
            ready!(delay.as_mut().poll(context));
            self.delay = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(context, buffer))?;
        if let Some(due) = self.limiter.charge(Work::Read(buffer.filled().len() - before)) {
            let limiter = Arc::clone(&self.limiter);
            self.delay = Some(Box::pin(async move { limiter.wait(due).await }));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::attempts::Recorder;
    use leafboot_core::attempt::AttemptId;
    use leafboot_core::relay::identity::IngressIdentity;
    use leafboot_core::settings::Settings;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::super::lifecycle::ServiceStage;
    use super::*;

    fn port(requests: u32) -> (Arc<PortLimiter>, watch::Sender<Lifecycle>) {
        let text = format!(
            "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\nrequests = {requests}\n\
             [relay.boot_service]\norigins = [\"http://a\"]\n[relay.cache]\nname = \"http://a\"\n"
        );
        let lifecycle = watch::Sender::new(Lifecycle::begin(IngressIdentity {
            leaf: "leaf01".to_owned(),
            port: "Ethernet0".parse().unwrap(),
            prefix: "2001:db8:b007::/64".parse().unwrap(),
            attempt: AttemptId::new(1),
        }));
        let settings = Settings::parse(&text).unwrap().relay;
        let attempts = Recorder::default().port(&"Ethernet0".parse().unwrap());
        let limiter = PortLimiter::new(&settings, &Metrics::default(), &attempts, lifecycle.subscribe());
        (Arc::new(limiter), lifecycle)
    }

    async fn seconds(work: impl Future<Output = ()>) -> f64 {
        let begun = Instant::now();
        work.await;
        begun.elapsed().as_secs_f64()
    }

    /// How long it takes to read `count` bytes from a machine that sends one at a time.
    async fn bytes(limiter: &Arc<PortLimiter>, count: usize) -> f64 {
        let (ours, mut theirs) = duplex(1);
        let mut charged = ChargedReads::of(ours, limiter);
        tokio::spawn(async move { theirs.write_all(&vec![0; count]).await });
        seconds(async {
            charged.read_exact(&mut vec![0; count]).await.unwrap();
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_is_read_no_faster_than_its_limit_and_another_does_not_wait() {
        let ((one, _one), (other, _other)) = (port(100), port(100));
        let took = bytes(&one, 4000).await;
        assert!((9.5..11.0).contains(&took), "four reads cost as much as a request: {took}");
        assert!((8.0..11.0).contains(&one.rate_limited.get()), "{}", one.rate_limited.get());
        assert_eq!(seconds(other.delay(Work::Request)).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let (limiter, _lifecycle) = port(0);
        assert_eq!(bytes(&limiter, 4000).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_work_goes_on_when_its_port_ends() {
        let (limiter, lifecycle) = port(1);
        let due = (0..100).fold(None, |_, _| limiter.charge(Work::Request)).unwrap();
        assert!(timeout(Duration::from_secs(60), limiter.wait(due)).await.is_err(), "it waits");
        lifecycle.send_modify(|lifecycle| lifecycle.stage = ServiceStage::Released);
        assert_eq!(seconds(limiter.wait(due)).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_read_goes_on_when_its_port_ends() {
        let (limiter, lifecycle) = port(1);
        (0..100).for_each(|_| _ = limiter.charge(Work::Request));
        let reading = tokio::spawn(async move { bytes(&limiter, 2).await });
        tokio::time::sleep(Duration::from_secs(10)).await;
        lifecycle.send_modify(|lifecycle| lifecycle.stage = ServiceStage::Released);
        assert_eq!(reading.await.unwrap(), 10.0);
    }
}
