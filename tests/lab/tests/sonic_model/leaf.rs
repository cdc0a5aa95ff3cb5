//! A leaf for the tests: a redis-server and the model of SONiC on it, and ways to ask what became of a row.
//!
//! Owns: starting and ending both. Must never: sleep for success; `until` asks again until there is an answer.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leafboot_lab::sonic::behaviour::Behaviour;
use leafboot_lab::sonic::database::{Database, Databases, Fields};
use leafboot_lab::sonic::{self, Swss, WhichKernel};

const DEADLINE: Duration = Duration::from_secs(20);

/// The ASIC_DB object of a router interface.
pub const RIF: &str = "SAI_OBJECT_TYPE_ROUTER_INTERFACE";

/// Its name comes last, so that one try of everything pending has reached all others when it has reached this one.
const FENCE_PORT: &str = "Ethernet96";

/// A leaf: a redis-server of its own and the model on it, both gone with this value.
pub struct Leaf {
    redis: Child,
    directory: tempfile::TempDir,
    /// What the tests write.
    pub config: Database,
    pub appl: Database,
    pub asic: Database,
    pub counters: Database,
    pub state: Database,
    /// What the model is to behave like, from its next start on.
    pub behaviour: Behaviour,
    model: Option<JoinHandle<Result<(), sonic::Error>>>,
    fences: usize,
}

impl Leaf {
    /// A leaf with ports, with CONFIG_DB ready, and with the model running.
    pub fn started() -> Self {
        let mut leaf = Self::prepare();
        leaf.initialised("1");
        leaf.start();
        leaf
    }

    /// A leaf with ports in CONFIG_DB, and nothing running but redis.
    pub fn prepare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("redis.sock");
        let redis = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--loglevel", "warning"])
            .args(["--notify-keyspace-events", "AKE"])
            .arg("--unixsocket")
            .arg(&socket)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server: {error}; try: apt-get install redis-server"));
        let config_file = directory.path().join("database_config.json");
        std::fs::write(&config_file, database_config(&socket)).unwrap();
        let databases = Databases::read(&config_file).unwrap();
        let config = until("redis-server", || databases.open("CONFIG_DB").ok());
        let open = |name| databases.open(name).unwrap();
        let mut leaf = Self {
            redis,
            directory,
            config,
            appl: open("APPL_DB"),
            asic: open("ASIC_DB"),
            counters: open("COUNTERS_DB"),
            state: open("STATE_DB"),
            behaviour: Behaviour::default(),
            model: None,
            fences: 0,
        };
        for port in ["Ethernet0", "Ethernet4", "Ethernet8", FENCE_PORT] {
            leaf.set(&format!("PORT|{port}"), &[("admin_status", "up")]);
        }
        leaf
    }

    pub fn start(&mut self) {
        self.start_with_delay(0);
    }

    /// The model, not running by itself: the test runs it, step by step. CONFIG_DB is ready.
    pub fn held(&mut self) -> Swss {
        self.initialised("1");
        let mut swss = Swss::start(&self.args(0)).unwrap();
        swss.run_until_idle().unwrap();
        swss
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn args(&self, delay_ms: u64) -> sonic::Args {
        let database_config = self.path("database_config.json");
        sonic::Args { database_config, kernel: WhichKernel::Paper, delay_ms, behaviour: self.behaviour }
    }

    pub fn start_with_delay(&mut self, delay_ms: u64) {
        let args = self.args(delay_ms);
        self.model = Some(std::thread::spawn(move || sonic::run(args)));
    }

    /// The status of a row of STATE_DB.
    pub fn status(&mut self, table: &str, key: &str) -> Option<String> {
        self.state.field(table, key, "status").unwrap()
    }

    pub fn initialised(&mut self, value: &str) {
        redis::cmd("SET").arg("CONFIG_DB_INITIALIZED").arg(value).exec(self.config.connection()).unwrap();
    }

    /// The number of reads of plain keys by all clients.
    pub fn reads_of_plain_keys(&mut self) -> usize {
        self.calls("get")
    }

    /// The number of deletions by all clients.
    pub fn deletions(&mut self) -> usize {
        self.calls("del")
    }

    fn calls(&mut self, command: &str) -> usize {
        let info: String = redis::cmd("INFO").arg("commandstats").query(self.config.connection()).unwrap();
        let name = format!("cmdstat_{command}:calls=");
        let calls = info.lines().find_map(|line| line.strip_prefix(&name));
        calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
    }

    pub fn set(&mut self, name: &str, pairs: &[(&str, &str)]) {
        let (table, key) = name.split_once('|').unwrap();
        self.config.set(table, key, &fields(pairs)).unwrap();
    }

    pub fn delete(&mut self, name: &str) {
        let (table, key) = name.split_once('|').unwrap();
        self.config.delete(table, key).unwrap();
    }

    pub fn raw(&mut self, name: &str) -> Fields {
        redis::cmd("HGETALL").arg(name).query(self.config.connection()).unwrap()
    }

    pub fn asic_keys(&mut self, object: &str) -> Vec<String> {
        let keys = self.asic.keys("ASIC_STATE").unwrap();
        keys.into_iter().filter(|key| key.starts_with(object)).collect()
    }

    /// The router interface of a port, found the way that leafboot finds it.
    pub fn rif(&mut self, port: &str) -> Option<Fields> {
        let oid = self.counters.field("COUNTERS_PORT_NAME_MAP", "", port).unwrap()?;
        let mut rifs = Vec::new();
        for key in self.asic_keys(RIF) {
            rifs.extend(self.asic.row("ASIC_STATE", &key).unwrap());
        }
        rifs.retain(|rif| rif["SAI_ROUTER_INTERFACE_ATTR_PORT_ID"] == oid);
        assert!(rifs.len() < 2, "{port} has {rifs:?}");
        rifs.pop()
    }

    pub fn is_routed(&mut self, destination: &str) -> bool {
        let dest = format!("\"dest\":\"{destination}\"");
        self.asic_keys("SAI_OBJECT_TYPE_ROUTE_ENTRY").iter().any(|key| key.contains(&dest))
    }

    pub fn until_routed(&mut self, destination: &str) {
        until(destination, || self.is_routed(destination).then_some(()));
    }

    pub fn until_bound(&mut self, port: &str, vrf: &str) {
        until(&format!("{port} in {vrf:?}"), || {
            let bound = self.state.field("INTERFACE_TABLE", port, "vrf").unwrap();
            (bound.as_deref() == Some(vrf) && self.rif(port).is_some()).then_some(())
        });
    }

    pub fn until_unbound(&mut self, port: &str) {
        until(&format!("{port} in no VRF"), || {
            let gone = self.state.row("INTERFACE_TABLE", port).unwrap().is_none() && self.rif(port).is_none();
            gone.then_some(())
        });
    }

    /// Gives the running model an order.
    pub fn order(&mut self, order: &str) {
        redis::cmd("PUBLISH").arg("sonic-model").arg(order).exec(self.config.connection()).unwrap();
    }

    /// Returns when every daemon has read all earlier writes, and has retried its pending tasks.
    pub fn fence(&mut self) {
        self.fences += 1;
        let vrf = format!("Vrffence{}", self.fences);
        self.set(&format!("VRF|{vrf}"), &[]);
        until(&vrf, || self.state.row("VRF_OBJECT_TABLE", &vrf).unwrap());
        self.set(&format!("INTERFACE|{FENCE_PORT}"), &[]);
        self.set(&format!("INTERFACE|{FENCE_PORT}|fd00:{:x}::1/64", self.fences), &[]);
        self.until_routed(&format!("fd00:{:x}::1/128", self.fences));
    }

    /// Why the model ended.
    pub fn end(&mut self) -> String {
        let model = self.model.take().unwrap();
        until("the end of the model", || model.is_finished().then_some(()));
        model.join().unwrap().unwrap_err().to_string()
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let _ = self.redis.kill();
        let _ = self.redis.wait();
        // Without redis the model ends by itself.
        if let Some(model) = self.model.take() {
            let _ = model.join();
        }
    }
}

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: nothing after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
}

/// SONiC's database_config.json, but with other ids: the model must not contain SONiC's.
fn database_config(socket: &Path) -> String {
    let database = |id: u8, separator: &str| serde_json::json!({ "id": id, "separator": separator, "instance": "redis" });
    serde_json::json!({
        "INSTANCES": { "redis": { "hostname": "127.0.0.1", "port": 6379, "unix_socket_path": socket } },
        "DATABASES": {
            "APPL_DB": database(10, ":"),
            "ASIC_DB": database(11, ":"),
            "COUNTERS_DB": database(12, ":"),
            "CONFIG_DB": database(14, "|"),
            "STATE_DB": database(13, "|"),
        },
        "VERSION": "1.0",
    })
    .to_string()
}
