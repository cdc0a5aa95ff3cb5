//! A switch's databases: a real redis-server as SONiC configures it, and its `database_config.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use leafboot_core::names::Mac;
use leafboot_core::observed::{Link, Links, Observed, ObservedPort};
use tempfile::TempDir;

use super::{eventually, run};

/// The databases that a test may change or compare.
pub const CONFIG_DB: &str = "4";

/// The value of a key.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Row {
    Text(String),
    /// Fields and values in turns.
    Hash(Vec<String>),
}

/// A redis-server with a leaf's ports in CONFIG_DB; ends with the test.
pub struct Switch {
    pub directory: TempDir,
    redis: Child,
}

impl Switch {
    /// A switch whose configuration is loaded: Ethernet0, Ethernet4 and Ethernet120.
    pub fn start() -> Self {
        let switch = Self::start_unloaded();
        for (port, alias, index) in
            [("Ethernet0", "Eth1/1", "1"), ("Ethernet4", "Eth1/2", "2"), ("Ethernet120", "Eth1/31", "31")]
        {
            let key = format!("PORT|{port}");
            switch.cli(CONFIG_DB, &["HSET", &key, "alias", alias, "index", index, "admin_status", "up"]);
        }
        switch.cli(CONFIG_DB, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
        switch
    }

    /// A switch with empty databases.
    pub fn start_unloaded() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let redis = Self::redis(&directory, &["--port", "0"]);
        let switch = Self { directory, redis };
        let socket = switch.path("redis.sock");
        switch.describe(&serde_json::json!({
            "hostname": "127.0.0.1", "port": 6379, "unix_socket_path": socket, "persistence_for_warm_boot": "yes",
        }));
        switch
    }

    /// A switch whose Redis has a password and is given by its TCP port, as in some builds.
    pub fn start_with_password(password: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let redis = Self::redis(&directory, &["--port", &free.to_string(), "--bind", "127.0.0.1"]);
        let switch = Self { directory, redis };
        let file = switch.path("password");
        std::fs::write(&file, format!("{password}\n")).unwrap();
        switch.describe(&serde_json::json!({"hostname": "127.0.0.1", "port": free, "password_path": file}));
        switch.cli(CONFIG_DB, &["HSET", "PORT|Ethernet0", "index", "1"]);
        switch.cli(CONFIG_DB, &["SET", "CONFIG_DB_INITIALIZED", "1"]);
        switch.cli(CONFIG_DB, &["CONFIG", "SET", "requirepass", password]);
        switch
    }

    /// Writes `database_config.json` for one instance.
    fn describe(&self, instance: &serde_json::Value) {
        let config = serde_json::json!({
            "INSTANCES": {"redis": instance},
            "DATABASES": {
                "APPL_DB": {"id": 0, "separator": ":", "instance": "redis"},
                "ASIC_DB": {"id": 1, "separator": ":", "instance": "redis"},
                "COUNTERS_DB": {"id": 2, "separator": ":", "instance": "redis"},
                "CONFIG_DB": {"id": 4, "separator": "|", "instance": "redis"},
                "STATE_DB": {"id": 6, "separator": "|", "instance": "redis"},
            },
            "VERSION": "1.0",
        });
        std::fs::write(self.path("database_config.json"), config.to_string()).unwrap();
    }

    fn redis(directory: &TempDir, options: &[&str]) -> Child {
        let socket = directory.path().join("redis.sock");
        let child = Command::new("redis-server")
            .args(["--save", "", "--databases", "100", "--notify-keyspace-events", "AKE"])
            .args(options)
            .arg("--unixsocket")
            .arg(&socket)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("redis-server: {e}; install it with tests/lab/setup"));
        eventually("redis-server listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        child
    }

    /// A file in the switch's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a redis-cli command on one database.
    pub fn cli(&self, database: &str, command: &[&str]) -> String {
        let socket = self.path("redis.sock");
        let mut arguments = vec!["-s", socket.to_str().unwrap(), "-n", database];
        arguments.extend(command);
        run("redis-cli", &arguments)
    }

    /// Every row of a database, as text, in the keys' order.
    pub fn dump(&self, database: &str) -> String {
        let text = |row: &Row| match row {
            Row::Text(text) => text.clone(),
            Row::Hash(words) => words.join(" "),
        };
        self.rows(database).iter().map(|(key, row)| format!("{key}: {}\n", text(row))).collect()
    }

    /// CONFIG_DB's rows as Redis has them.
    pub fn config_rows(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let fields = |row| match row {
            Row::Hash(words) => {
                Some(words.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
            }
            Row::Text(_) => None,
        };
        let rows = self.rows(CONFIG_DB).into_iter();
        rows.filter_map(|(key, row)| Some((key, fields(row)?))).collect()
    }

    /// Every row of a database, in one command: a process for each row would be slow.
    fn rows(&self, database: &str) -> BTreeMap<String, Row> {
        let all = "local all = {}
            for _, key in ipairs(redis.call('KEYS', '*')) do
                local is_hash = redis.call('TYPE', key).ok == 'hash'
                all[key] = redis.call(is_hash and 'HGETALL' or 'GET', key)
            end
            return cjson.encode(all)";
        serde_json::from_str(&self.cli(database, &["EVAL", all, "0"])).unwrap()
    }

    /// Kills redis-server.
    pub fn stop_redis(&mut self) {
        self.redis.kill().unwrap();
        self.redis.wait().unwrap();
    }

    /// Starts redis-server again, empty.
    pub fn start_redis(&mut self) {
        self.redis = Self::redis(&self.directory, &["--port", "0"]);
    }
}

/// The kernel's links as STATE_DB describes them, each without a carrier.
pub fn links(observed: &Observed) -> Links {
    let link = |port: &ObservedPort| Link {
        ifindex: 1,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 9100,
        up: false,
        admin_up: false,
        carrier: false,
        carrier_ups: 1,
        vrf: port.bound_vrf.clone(),
        link_local: None,
        usable_addresses: port.bound_addresses.iter().map(|prefix| prefix.gateway_net()).collect(),
        assigned_addresses: port.bound_addresses.iter().map(|prefix| prefix.gateway_net().into()).collect(),
        duplicate_addresses: BTreeSet::new(),
    };
    let loopback = ObservedPort { bound_vrf: observed.loopback.bound_vrf.clone(), ..ObservedPort::default() };
    let mut loopback = link(&loopback);
    loopback.assigned_addresses =
        observed.loopback.bound_addresses.iter().filter_map(|net| net.parse().ok()).collect();
    Links {
        ports: observed.ports.iter().map(|(name, port)| (name.clone(), link(port))).collect(),
        loopbacks: BTreeMap::from([("Loopback64".parse().unwrap(), loopback)]),
        vrfs: BTreeMap::from([("Vrfboot".to_owned(), true)]),
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.redis.kill();
        let _ = self.redis.wait();
    }
}
