//! A machine that resets all the time: its cost in log lines, writes and memory. It delays no other port.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use leafboot_core::attempt::{Event, Outcome, RequestEvent, RequestRecord, Text};
use leafboot_core::names::Mac;
use leafboot_core::relay::kinds::Kind;
use tracing::subscriber::DefaultGuard;

use super::*;
use crate::attempts::PortRecorder;
use crate::state_file;

/// Attempts in the minute.
const RESETS: u32 = 1000;

/// Sends what is written to a test.
struct Lines(Sender<String>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of the calling thread.
fn logged() -> (Receiver<String>, DefaultGuard) {
    let (lines_out, lines) = channel();
    let writer = move || Lines(lines_out.clone());
    let log = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
    (lines, tracing::subscriber::set_default(log))
}

/// A boot of iPXE up to Linux.
fn boot(port: &PortRecorder) {
    let solicits = || {
        let mac = Mac([0x52, 0x54, 0, 0xb0, 7, 0]);
        port.record(&Event::Solicitation { from: "fe80::7".parse().unwrap(), mac });
        port.record(&Event::SolicitationAnswered { us: 100 });
    };
    let asks = |kind, path, outcome| {
        port.begin_request(kind);
        let record = RequestRecord { request: Text::new("1"), path: Text::new(path), ms: 4, outcome };
        port.record(&Event::Request(RequestEvent { kind, record, images: None }));
    };
    solicits();
    asks(Kind::Script, "/boot.ipxe", Outcome::Answered { status: 200 });
    asks(Kind::Image, "/metal-stack/kernel/vmlinuz", Outcome::Redirected);
    asks(Kind::Image, "/metal-hammer/initrd.img.lz4", Outcome::Redirected);
    solicits();
}

#[tokio::test(start_paused = true)]
async fn a_thousand_attempts_a_minute_write_little() {
    let (lines, _guard) = logged();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("attempts/Ethernet0.json");
    let recorder = Arc::new(Recorder::default());
    let desired = [("Ethernet0".parse().unwrap(), "2001:db8:b007::/64".parse().unwrap())];
    let roles = PortRoles { desired: desired.into(), is_pushed: true, ..PortRoles::default() };
    let (_roles_out, roles) = watch::channel(roles);
    let (_links_out, links) = watch::channel(Links::default());
    let inputs = AttemptInputs { roles, links, events: Default::default() };
    let task = tokio::spawn(run(Arc::clone(&recorder), AttemptsFile::new(directory.path()), inputs));
    // The task follows the roles first.
    sleep(PAUSE).await;

    let port = recorder.port(&"Ethernet0".parse().unwrap());
    let (mut writes, mut file) = (0, None);
    let mut slowest = Duration::ZERO;
    for _ in 0..RESETS {
        let began = std::time::Instant::now();
        boot(&port);
        slowest = slowest.max(began.elapsed());
        sleep(Duration::from_secs(60) / RESETS).await;
        let found = state_file::read(&path).unwrap();
        writes += u32::from(found != file);
        file = found;
    }
    assert!(
        slowest < Duration::from_millis(100),
        "the machine's events wait for the file or the log: {slowest:?}"
    );
    assert!((10..=31).contains(&writes), "the file is written {writes} times");
    sleep(SAVE_PERIOD * 2).await;
    let length = state_file::read(&path).unwrap().unwrap().len();
    assert!(length < 32 * 1024, "a port has {length} bytes in the file");

    let history = port.history();
    assert_eq!((history.total(), history.attempts().len()), (u64::from(RESETS), 16));
    boot(&port);
    sleep(PAUSE * 2).await;
    let lines: Vec<String> = lines.try_iter().collect();
    let reached = lines.iter().filter(|line| line.contains("boot stage reached")).count();
    // Some attempts begin after a minute again.
    assert!((5..=2 * ATTEMPTS_LOGGED * 5).contains(&reached), "{reached} stages are logged: {lines:?}");
    let again: Vec<_> = lines.iter().filter(|line| line.contains("again and again")).collect();
    assert!(again.len() <= 2 && lines.len() < 50, "{} lines: {lines:?}", lines.len());
    task.abort();
}
