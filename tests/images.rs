//! Images in proxy mode over a real cable: many machines, one transfer; versions never mixed; memory, readers, bytes and
//! packets limited.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "images/limits.rs"]
mod limits;
#[path = "images/rack.rs"]
mod rack;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use leafboot::internals::Metrics;
use leafboot::internals::ServiceState;
use leafboot_core::settings::Settings;
use support::cable::Cable;
use support::download::{Download, EAGER, Habit, get};
use support::origin::{Framing, Image, Origin, Validator};
use support::{port, run};

const MB: u64 = 1_000_000;
const PATH: &str = "/metal-os/stable/debian/12/img.tar.lz4";
const GATEWAY: &str = "[2001:db8:b007::1]:80";
/// The gateway of another port.
const OTHER_GATEWAY: &str = "[2001:db8:b007:4::1]:80";
const UNLIMITED: &str = "[relay.cache.budget]\npackets = 0\nport_packets = 0\n";

/// A leaf with machines on two ports, Ethernet0 and Ethernet4, and its partition cache.
struct Site {
    cable: Cable,
    origin: Arc<Origin>,
    metrics: Arc<Metrics>,
}

impl Site {
    /// `cache`: keys of `[relay.cache]` and the tables below it.
    fn start(cache: &str) -> Self {
        Self::start_with("", cache)
    }

    /// Like [`Self::start`], with further keys of `[relay]`.
    fn start_with(relay_keys: &str, cache: &str) -> Self {
        let cable = Cable::plug();
        let machines = cable.pid();
        run("ip", &["link", "add", "Ethernet4", "type", "veth", "peer", "name", "eth4", "netns", &machines]);
        run("ip", &["link", "set", "Ethernet4", "up"]);
        run("ip", &["address", "add", "2001:db8:b007:4::1/64", "dev", "Ethernet4", "nodad"]);
        cable.machine("ip", &["link", "set", "eth4", "up"]);
        cable.machine("ip", &["address", "add", "2001:db8:b007:4::7/64", "dev", "eth4", "nodad"]);
        let origin = Origin::start(8080);
        origin.put(PATH, Image::new(1, 64 * MB));
        let metrics = Arc::new(Metrics::default());
        let ports = [("Ethernet0", "2001:db8:b007::/64"), ("Ethernet4", "2001:db8:b007:4::/64")];
        let owned = |(port, prefix): (&str, &str)| (port.to_owned(), prefix.to_owned());
        relay(relay_keys, cache, Arc::clone(&metrics), ports.map(owned).to_vec());
        cable.boot();
        cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
        let site = Self { cable, origin, metrics };
        support::eventually("the machine reaches the relay", || {
            site.cable.machine("curl", &["-sg", "-m", "5", "http://[2001:db8:b007::1]/"]).contains("relays")
        });
        site
    }

    fn get(&self, path: &str, headers: &str) -> Download {
        let (path, headers) = (path.to_owned(), headers.to_owned());
        self.cable.inside(move || get(GATEWAY, &path, &headers, EAGER)).join().unwrap()
    }

    fn head(&self, path: &str) -> String {
        let url = format!("http://{GATEWAY}{path}");
        self.cable.machine("curl", &["-sIg", "-m", "5", &url]).to_lowercase()
    }

    /// The value of a metric, named with its labels.
    fn counted(&self, metric: &str) -> f64 {
        let text = self.metrics.text();
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("leafboot_relay_{metric} ")));
        value.unwrap_or_else(|| panic!("no {metric} in {text}")).parse().unwrap()
    }

    fn begin(&self, path: &str, habit: Habit) -> JoinHandle<Download> {
        self.begin_at(GATEWAY, path, habit)
    }

    fn begin_at(&self, gateway: &'static str, path: &str, habit: Habit) -> JoinHandle<Download> {
        let path = path.to_owned();
        self.cable.inside(move || get(gateway, &path, "", habit))
    }

    fn begin_many(&self, count: usize, path: &str) -> Vec<JoinHandle<Download>> {
        (0..count).map(|_| self.begin(path, EAGER)).collect()
    }
}

/// Relays on these ports, with their prefixes, in this thread's namespace.
fn relay(keys: &str, cache: &str, metrics: Arc<Metrics>, ports: Vec<(String, String)>) {
    let settings = format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\nconnections = 100\n\
         requests = 1000\n{keys}[relay.boot_service]\norigins = [\"http://[::1]:9\"]\n[relay.cache]\n\
         name = \"http://images.metal-stack.io\"\nmode = \"proxy\"\norigins = [\"http://[::1]:8080\"]\n{cache}"
    );
    let settings = Settings::parse(&settings).unwrap().relay;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shared = Arc::new(ServiceState::new(&settings, &metrics, &Arc::default()).unwrap());
            let serve = async |(port, prefix): (String, String)| {
                let lifecycle = port::lifecycle(&port, &prefix);
                port::serve(port::relay_port(&shared, lifecycle.subscribe()), 80, false).await
            };
            futures_util::future::join_all(ports.into_iter().map(serve)).await
        });
    });
}

fn joined(downloads: Vec<JoinHandle<Download>>) -> Vec<Download> {
    downloads.into_iter().map(|download| download.join().unwrap()).collect()
}

#[track_caller]
fn assert_whole(download: &Download, version: u64, length: u64) {
    let Download { status, whole, version: got, length: came, head, .. } = download;
    assert_eq!((*status, *whole, *got, *came), (200, true, Some(version), length), "{head}");
}

#[test]
fn an_image_and_its_checksum_are_two_entries() {
    let site = Site::start(UNLIMITED);
    let checksum = format!("{PATH}.md5");
    site.origin.put(&checksum, Image::new(2, 100));
    for _ in 0..2 {
        assert_whole(&site.get(PATH, ""), 1, 64 * MB);
        assert_whole(&site.get(&checksum, ""), 2, 100);
    }
    assert_eq!(site.origin.sent(), 64 * MB + 100, "each is fetched once");
}

#[test]
fn a_kept_image_is_revalidated_and_not_fetched_again() {
    let site = Site::start(UNLIMITED);
    for download in joined(vec![site.begin(PATH, EAGER), site.begin_at(OTHER_GATEWAY, PATH, EAGER)]) {
        assert_whole(&download, 1, 64 * MB);
    }
    assert_eq!(site.origin.sent(), 64 * MB);
    sleep(Duration::from_secs(2));
    assert_whole(&site.get(PATH, ""), 1, 64 * MB);
    assert_eq!(site.origin.sent(), 0);
}

#[test]
fn a_broken_transfer_never_looks_complete() {
    let site = Site::start(UNLIMITED);
    let whole = Image::new(1, 64 * MB);
    for (path, image) in [
        ("/metal-os/untagged", Image { validator: Validator::None, ..whole.clone() }),
        ("/metal-os/unranged", Image { ranges: false, ..whole }),
    ] {
        site.origin.put(path, image);
        site.origin.rate.store(100 * MB, Ordering::Relaxed);
        site.origin.breaks.store(32 * MB, Ordering::Relaxed);
        for download in joined(site.begin_many(8, path)) {
            assert!(!download.whole && download.status == 200, "{} bytes came", download.length);
            assert_eq!(download.header("content-length"), Some("64000000"));
        }
        assert_whole(&site.get(path, ""), 1, 64 * MB);
    }
}

#[test]
fn a_broken_transfer_resumes_if_the_version_is_certain() {
    let site = Site::start(UNLIMITED);
    site.origin.breaks.store(32 * MB, Ordering::Relaxed);
    for download in joined(site.begin_many(8, PATH)) {
        assert_whole(&download, 1, 64 * MB);
    }
    assert!(site.origin.sent() < 66 * MB);
    assert_eq!(site.origin.answers.load(Ordering::Relaxed), 2);
}

#[test]
fn a_transfer_survives_seconds_without_a_cache() {
    let site = Site::start(UNLIMITED);
    site.origin.breaks.store(32 * MB, Ordering::Relaxed);
    site.origin.deaf.store(u64::MAX, Ordering::Relaxed);
    let downloads = site.begin_many(8, PATH);
    sleep(Duration::from_secs(2));
    assert_ne!(site.origin.deaf.swap(0, Ordering::Relaxed), u64::MAX, "the cache was asked in the meantime");
    for download in joined(downloads) {
        assert_whole(&download, 1, 64 * MB);
    }
    assert!(site.origin.sent() < 66 * MB);
}

#[test]
fn dates_serve_as_well_as_entity_tags() {
    let site = Site::start(&format!("memory = \"64MiB\"\n{UNLIMITED}"));
    let path = "/metal-os/dated";
    let version = |version, length| Image { validator: Validator::Date, ..Image::new(version, length) };
    site.origin.put(path, version(7, 96 * MB));
    site.origin.rate.store(100 * MB, Ordering::Relaxed);
    site.origin.breaks.store(32 * MB, Ordering::Relaxed);
    for download in joined(site.begin_many(8, path)) {
        assert_whole(&download, 7, 96 * MB);
        assert_eq!(download.header("last-modified"), Some(Image::date(7).as_str()));
    }
    assert!(site.origin.sent() < 4 * 96 * MB, "8 transfers would be 768 MB");
    site.origin.put(path, version(8, 16 * MB));
    assert_whole(&site.get(path, ""), 8, 16 * MB);
    site.origin.sent();
    sleep(Duration::from_secs(2));
    assert_whole(&site.get(path, ""), 8, 16 * MB);
    assert_eq!(site.origin.sent(), 0, "it was revalidated");
    // An older file replaces it: to the date that leafboot knows, the cache answers 304.
    site.origin.put(path, version(6, 16 * MB));
    sleep(Duration::from_secs(2));
    assert_whole(&site.get(path, ""), 6, 16 * MB);
}

#[test]
fn a_failing_cache_evicts_no_image() {
    let site = Site::start(UNLIMITED);
    assert_whole(&site.get(PATH, ""), 1, 64 * MB);
    site.origin.sent();
    sleep(Duration::from_secs(2));
    let trouble = "503 Service Unavailable\r\nRetry-After: 0";
    site.origin.put(PATH, Image::instead(trouble, ""));
    for headers in ["", "Range: bytes=5-\r\n"] {
        let told = site.get(PATH, headers);
        let again: u64 = told.header("retry-after").unwrap().parse().unwrap();
        assert!(told.status == 503 && (1..=60).contains(&again), "{}", told.head);
    }
    // Paths without an image evict nothing.
    for nothing in 0..300 {
        assert_eq!(site.get(&format!("/metal-os/nothing/{nothing}"), "").status, 404);
    }
    site.origin.put(PATH, Image::new(1, 64 * MB));
    assert_whole(&site.get(PATH, ""), 1, 64 * MB);
    assert_eq!(site.origin.sent(), 0, "it was revalidated, not fetched again");
}

#[test]
fn a_changed_image_is_never_mixed_and_seen_soon() {
    let site = Site::start(UNLIMITED);
    let path = "/metal-os/nightly/img.tar.lz4";
    for version in 1..=4 {
        site.origin.put(path, Image::new(version, 8 * MB + version));
        site.origin.rate.store(8 * MB, Ordering::Relaxed);
        let during = site.begin_many(4, path);
        sleep(Duration::from_millis(400));
        // The image changes while it is transferred.
        site.origin.put(path, Image::new(version + 1, 8 * MB + version + 1));
        for download in joined(during) {
            let own = download.header("etag").and_then(|tag| tag.strip_prefix("\"v")?.strip_suffix('"'));
            let own: u64 = own.unwrap().parse().unwrap();
            assert!(own == version || own == version + 1);
            assert_whole(&download, own, 8 * MB + own);
        }
        site.origin.rate.store(0, Ordering::Relaxed);
        sleep(Duration::from_secs(2));
        assert_whole(&site.get(path, ""), version + 1, 8 * MB + version + 1);
    }
}

#[test]
fn a_transfer_that_breaks_while_the_image_changes_ends_in_an_error() {
    let site = Site::start(UNLIMITED);
    site.origin.rate.store(100 * MB, Ordering::Relaxed);
    site.origin.breaks.store(32 * MB, Ordering::Relaxed);
    let downloads = site.begin_many(4, PATH);
    sleep(Duration::from_millis(100));
    site.origin.put(PATH, Image::new(2, 64 * MB));
    for download in joined(downloads) {
        assert!(!download.whole && download.version == Some(1), "{} bytes came", download.length);
    }
    assert_whole(&site.get(PATH, ""), 2, 64 * MB);
}

#[test]
fn an_image_larger_than_memory_is_shared_through_a_window() {
    let site = Site::start(&format!("memory = \"64MiB\"\n{UNLIMITED}"));
    let path = "/metal-os/large";
    site.origin.put(path, Image::new(3, 96 * MB));
    site.origin.rate.store(40 * MB, Ordering::Relaxed);
    let downloads = site.begin_many(12, path);
    let slow = site.begin(path, Habit { rate: 20 * MB, ..EAGER });
    for download in joined(downloads) {
        assert_whole(&download, 3, 96 * MB);
    }
    assert_whole(&slow.join().unwrap(), 3, 96 * MB);
    // One shared transfer, and the rest for readers that fell behind: on a busy computer not only the slow one.
    assert!(site.origin.sent() < 6 * 96 * MB, "13 transfers would be 1248 MB");
}

#[test]
fn parts_and_conditions_are_answered_from_the_shared_image() {
    let site = Site::start(UNLIMITED);
    let part = site.get(PATH, "Range: bytes=1000000-1999999\r\n");
    assert_eq!((part.status, part.length, part.version), (206, MB, Some(1)), "an unshared transfer");
    assert_eq!(site.origin.sent(), MB, "a part does not fetch the whole image");
    assert_whole(&site.get(PATH, ""), 1, 64 * MB);
    site.origin.sent();
    let part = site.get(PATH, "Range: bytes=63000000-\r\nIf-Range: \"v1\"\r\n");
    assert_eq!((part.status, part.length, part.version), (206, MB, Some(1)));
    assert_eq!(part.header("content-range"), Some("bytes 63000000-63999999/64000000"));
    assert_whole(&site.get(PATH, "Range: bytes=63000000-\r\nIf-Range: \"v0\"\r\n"), 1, 64 * MB);
    let beyond = site.get(PATH, "Range: bytes=64000000-\r\n");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */64000000")));
    let known = site.get(PATH, "If-None-Match: \"v1\"\r\n");
    assert_eq!((known.status, known.length, known.header("etag")), (304, 0, Some("\"v1\"")));
    assert_eq!(site.origin.sent(), 0);
    let head = site.head(PATH);
    assert!(head.contains("200 ok") && head.contains("content-length: 64000000"), "{head}");
    assert!(head.contains("accept-ranges: bytes") && head.contains("etag: \"v1\""), "{head}");
    let url = format!("http://{GATEWAY}{PATH}");
    let part = site.cable.machine("curl", &["-sIg", "-m", "5", "-H", "Range: bytes=5-", &url]).to_lowercase();
    assert!(part.contains("200 ok"), "only a GET has ranges: {part}");
}

#[test]
fn responses_of_unknown_length_or_without_an_image_end_correctly() {
    let site = Site::start(UNLIMITED);
    site.origin.put("/metal-os/chunked", Image { framing: Framing::Chunked, ..Image::new(1, 5 * MB) });
    for download in joined(site.begin_many(4, "/metal-os/chunked")) {
        assert_whole(&download, 1, 5 * MB);
        assert!(download.header("transfer-encoding").is_none());
    }
    assert_eq!(site.origin.sent(), 5 * MB);
    // HEAD does not invent a length, before an image was fetched or after.
    site.origin.put("/metal-os/unasked", Image { framing: Framing::Chunked, ..Image::new(1, 5 * MB) });
    for path in ["/metal-os/chunked", "/metal-os/unasked"] {
        let head = site.head(path);
        assert!(head.contains("200 ok") && head.contains("etag: \"v1\""), "{head}");
        assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    }
    site.origin.breaks.store(MB, Ordering::Relaxed);
    site.origin.put("/metal-os/cut", Image { framing: Framing::Chunked, ..Image::new(1, 5 * MB) });
    assert_eq!(site.get("/metal-os/cut", "").status, 503);
    assert_eq!(site.get("/metal-os/nothing", "").status, 404);
    // A body that ends with its connection could be cut, and look complete.
    site.origin.put("/metal-os/closed", Image { framing: Framing::Close, ..Image::new(1, 5 * MB) });
    let closed = site.get("/metal-os/closed", "");
    let unshared = site.get("/metal-os/closed", "Range: bytes=5-\r\n");
    assert_eq!((closed.status, unshared.status), (502, 502));
    let elsewhere = "307 Temporary Redirect\r\nLocation: https://images.metal-stack.io/x";
    site.origin.put("/metal-os/moved", Image::instead(elsewhere, ""));
    let moved = site.get("/metal-os/moved", "");
    let location = moved.header("location");
    assert_eq!((moved.status, location), (307, Some("https://images.metal-stack.io/x")));
    assert_eq!(moved.header("content-length"), Some("0"));
    site.origin.put("/metal-os/same", Image::instead("304 Not Modified", ""));
    assert_eq!(site.get("/metal-os/same", "").status, 502, "304 to an unconditional request");
    site.origin.put("/metal-os/empty", Image::new(1, 0));
    assert_whole(&site.get("/metal-os/empty", ""), 1, 0);
}

#[test]
fn a_slow_transfer_is_passed_on_as_it_comes() {
    let site = Site::start(UNLIMITED);
    site.origin.rate.store(100_000, Ordering::Relaxed);
    // Less than a block of memory; it takes about 2 s.
    site.origin.put("/metal-os/short", Image::new(1, 240_000));
    let leaver = site.begin("/metal-os/short", Habit { leaves: 100_000, ..EAGER });
    assert!(leaver.join().unwrap().length >= 100_000);
    assert_eq!(site.counted("image_transfers"), 1.0, "the rest is still to come");
    assert_whole(&site.get("/metal-os/short", ""), 1, 240_000);
}
