//! Measures leafboot's cost on a leaf whose ASIC_DB has hundreds of thousands of routes: for Redis, for other clients
//! of Redis, and in time until a port is taken. Prints a table with the goals.
//!
//! SONiC is the laboratory's model, driven by hand, so that Redis is quiet in between; its own time is in push and release.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leafboot::internals::{Db, Paces};
use leafboot_core::desired::Desired;
use leafboot_core::observed::Observed;
use leafboot_core::plan::{Facts, Plan, Remedies};
use leafboot_core::port_role::RaStates;
use tokio::runtime::Runtime;

use super::World;
use super::support::agent::Agent;
use super::support::switch::links;

const PORTS: u16 = 32;
const ROUTES: [u32; 3] = [0, 100_000, 400_000];
/// The objects of a leaf that leafboot does not read: queues, priority groups, schedulers, next hops.
const OTHER_OBJECTS: u32 = 10_000;
/// The longest that a start may take, and how long another client is watched from the start on.
const START: Duration = Duration::from_secs(5);
/// How long the agent is watched when it has nothing to do.
const IDLE: Duration = Duration::from_secs(20);

/// What was measured on one leaf. Times are in milliseconds, but for other clients' waits: microseconds.
#[derive(Default)]
struct Measured {
    pass: f64,
    start: f64,
    longest_command: f64,
    push: f64,
    release: f64,
    /// The passes of a push or release of all ports.
    passes: f64,
    /// The p99 of another client's wait: without leafboot, from its start on, in a second with the passes of a push, and
    /// during the slow scan.
    waits: [f64; 4],
    /// Percent of a core: what the agent adds to Redis and costs itself, and what the slow scan adds to it.
    idle: f64,
    scan: f64,
    /// Percent of a core: Redis without a client's request.
    redis_alone: f64,
}

/// Prints the table.
pub fn report() {
    let leaves: Vec<Measured> = ROUTES.iter().map(|routes| measure(*routes)).collect();
    let empty = &leaves[0];
    println!("| with so many routes in ASIC_DB | {} | goal | |", ROUTES.map(|n| n.to_string()).join(" | "));
    println!("|---|---|---|---|---|---|");
    let row = |name: &str, value: &dyn Fn(&Measured) -> f64, digits: usize, goal: &str, most: f64| {
        let values: Vec<f64> = leaves.iter().map(value).collect();
        let verdict = if values[1..].iter().all(|value| *value <= most) { "met" } else { "missed" };
        let text = |value: &f64| if value.is_nan() { String::new() } else { format!("{value:.digits$}") };
        let values: Vec<String> = values.iter().map(text).collect();
        println!("| {name} | {} | {goal} | {verdict} |", values.join(" | "));
    };
    row("a pass: Redis' CPU, ms", &|m| m.pass, 2, "2 × the first", 2.0 * empty.pass);
    row("start: connect and first pass, ms", &|m| m.start, 0, "5000", 5000.0);
    row("longest command of all, ms", &|m| m.longest_command, 2, "5", 5.0);
    row("32 ports pushed, ms", &|m| m.push, 0, "1.1 × the first", 1.1 * empty.push);
    row("32 ports released, ms", &|m| m.release, 0, "1.1 × the first", 1.1 * empty.release);
    row("passes of the agent for that push, or for the release", &|m| m.passes, 0, "", f64::MAX);
    row("another client's p99 without leafboot, µs", &|m| m.waits[0], 0, "", f64::MAX);
    for (when, at) in
        [("in 5 s with a start", 1), ("in 1 s with a push's passes", 2), ("during the slow scan", 3)]
    {
        row(&format!("the same {when}, times as long"), &|m| m.waits[at] / m.waits[0], 2, "1.2", 1.2);
    }
    row("Redis alone, % of a core", &|m| m.redis_alone, 3, "", f64::MAX);
    row("idle: what leafboot adds to that, and the agent, % of a core", &|m| m.idle, 3, "0.2", 0.2);
    row("the slow scan alone, over a whole round and its pause", &|m| m.scan, 3, "", f64::MAX);
}

/// A leaf with SONiC, and the clients of its Redis.
struct Leaf {
    world: World,
    runtime: Runtime,
    meter: redis::Connection,
    socket: PathBuf,
}

/// Prints only what another client waits.
pub fn report_waits() {
    for routes in ROUTES {
        let mut leaf = Leaf::new(routes);
        let passes = leaf.passes_of_a_push();
        let mut db = leaf.connect(Paces::default());
        let wish = leaf.world.desired.clone();
        leaf.settle(&mut db, &wish);
        let start = median((0..3).map(|_| leaf.start()).collect());
        let waits = leaf.waits(&mut db, passes);
        let times: Vec<String> = waits[1..].iter().map(|wait| format!("{:.2}", wait / waits[0])).collect();
        println!(
            "{routes} routes: {passes} passes; start {start:.0} ms; p99 {:.0} µs alone; times {times:?}",
            waits[0]
        );
    }
}

fn measure(routes: u32) -> Measured {
    let mut leaf = Leaf::new(routes);
    let passes = leaf.passes_of_a_push();
    let start = median((0..3).map(|_| leaf.start()).collect());
    let mut measured = Measured { start, passes: f64::from(passes), ..Measured::default() };
    let mut db = leaf.connect(Paces::default());
    let turns: Vec<[f64; 2]> = (0..5).map(|_| leaf.push_and_release(&mut db)).collect();
    [measured.push, measured.release] = [0, 1].map(|at| median(turns.iter().map(|turn| turn[at]).collect()));
    let wish = leaf.world.desired.clone();
    leaf.settle(&mut db, &wish);
    measured.pass = median((0..10).map(|_| leaf.pass(&mut db)).collect());
    measured.waits = leaf.waits(&mut db, passes);
    measured.scan = leaf.scan(routes);
    measured.longest_command = leaf.longest_command();
    drop(db);
    [measured.redis_alone, measured.idle] = leaf.idle();
    eprintln!("measured with {routes} routes");
    measured
}

impl Leaf {
    fn new(routes: u32) -> Self {
        let world = World::new(PORTS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket = world.switch.path("redis.sock");
        let meter = redis::Client::open(format!("unix://{}", socket.display())).unwrap();
        let meter = meter.get_connection().unwrap();
        let mut leaf = Self { world, runtime, meter, socket };
        leaf.load(routes);
        leaf
    }

    fn load(&mut self, routes: u32) {
        const AT_ONCE: u32 = 20_000;
        let rows = r#"for i = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
            local dest = math.floor(i / 65536) .. '.' .. math.floor(i / 256) % 256 .. '.' .. i % 256 .. '.0/24'
            redis.call('HSET', 'ASIC_STATE:SAI_OBJECT_TYPE_ROUTE_ENTRY:{"dest":"' .. dest ..
                '","switch_id":"oid:0x21000000000000","vr":"oid:0x3000000000022"}',
                'SAI_ROUTE_ENTRY_ATTR_NEXT_HOP_ID', 'oid:0x4000000000abc')
        end"#;
        self.do_in_asic(redis::cmd("SELECT").arg(1));
        for first in (0..routes).step_by(AT_ONCE as usize) {
            let last = routes.min(first + AT_ONCE);
            self.do_in_asic(redis::cmd("EVAL").arg(rows).arg(0).arg(first).arg(last));
        }
        let objects = r#"for i = 1, tonumber(ARGV[1]) do
            local kind, number = 'QUEUE', '0x15'
            if i % 2 == 0 then kind, number = 'INGRESS_PRIORITY_GROUP', '0x1a' end
            local object = string.format('oid:%s%012x', number, i)
            redis.call('HSET', 'ASIC_STATE:SAI_OBJECT_TYPE_' .. kind .. ':' .. object, 'NULL', 'NULL')
            redis.call('HSET', 'VIDTORID', object, object)
        end"#;
        self.do_in_asic(redis::cmd("EVAL").arg(objects).arg(0).arg(OTHER_OBJECTS));
        for (name, value) in [("slowlog-max-len", 100_000), ("slowlog-log-slower-than", 100)] {
            self.do_in_asic(redis::cmd("CONFIG").arg("SET").arg(name).arg(value));
        }
        self.do_in_asic(redis::cmd("SLOWLOG").arg("RESET"));
    }

    fn do_in_asic(&mut self, command: &mut redis::Cmd) {
        command.exec(&mut self.meter).unwrap();
    }

    fn connect(&self, paces: Paces) -> Db {
        self.runtime.block_on(Db::connect_at(&self.world.settings.database_config, paces)).unwrap()
    }

    fn start(&self) -> f64 {
        let start = Instant::now();
        let mut db = self.connect(Paces::default());
        self.runtime.block_on(db.snapshot()).unwrap();
        ms(start.elapsed())
    }

    /// The CPU time that Redis has had, in ms.
    fn redis_cpu(&mut self) -> f64 {
        let info: String = redis::cmd("INFO").arg("cpu").query(&mut self.meter).unwrap();
        let fields: BTreeMap<&str, &str> = info.lines().filter_map(|line| line.split_once(':')).collect();
        let seconds = |name: &str| fields[name].trim().parse::<f64>().unwrap();
        1000.0 * (seconds("used_cpu_sys") + seconds("used_cpu_user"))
    }

    /// The CPU time that Redis has for a settled pass.
    fn pass(&mut self, db: &mut Db) -> f64 {
        const PASSES: u32 = 20;
        let before = self.redis_cpu();
        for _ in 0..PASSES {
            self.runtime.block_on(db.snapshot()).unwrap();
        }
        (self.redis_cpu() - before) / f64::from(PASSES)
    }

    /// Runs passes, and SONiC after each, until nothing is left to do or to wait for.
    fn settle(&mut self, db: &mut Db, desired: &Desired) -> f64 {
        let start = Instant::now();
        for _ in 0..100 {
            let observed =
                Observed::new(&self.runtime.block_on(db.snapshot()).unwrap(), &self.world.settings);
            let (links, ra) = (links(&observed), RaStates::new());
            let remedies = Remedies::default();
            let facts = Facts {
                desired: Some(desired),
                observed: &observed,
                links: &links,
                ra: &ra,
                remedies: &remedies,
            };
            let plan = Plan::new(facts, &self.world.settings);
            self.runtime.block_on(db.apply(&plan.steps)).unwrap();
            if plan.steps.is_empty() && plan.waiting.is_empty() {
                return ms(start.elapsed());
            }
            self.world.swss.run_until_idle().unwrap();
        }
        panic!("not settled after 100 passes");
    }

    fn push_and_release(&mut self, db: &mut Db) -> [f64; 2] {
        let wish = self.world.desired.clone();
        let none = Desired { ports: BTreeMap::new(), ..wish.clone() };
        [wish, none].map(|desired| self.settle(db, &desired))
    }

    /// How many passes the real agent makes from a push of the ports to the end, and for their release: the greater number.
    /// SONiC's model takes its usual time. The kernel has none of the ports, so they are never settled.
    fn passes_of_a_push(&mut self) -> u32 {
        let agent = Agent::start_ready(&self.world.switch);
        let row = |port: u16| {
            format!(r#""Ethernet{}": {{"state": "boot", "prefix": "2001:db8:b007:{port:x}::/64"}}"#, port * 4)
        };
        // The agent's settings protect Ethernet120.
        let rows: Vec<String> = (0..PORTS).filter(|port| *port != 30).map(row).collect();
        let push = format!(r#"{{"ports": {{{}}}}}"#, rows.join(","));
        let passes = [push.as_str(), r#"{"ports": {}}"#].map(|document| {
            let is_over = AtomicBool::new(false);
            let (swss, meter) = (&mut self.world.swss, &mut self.meter);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        swss.run_once(Duration::from_millis(20)).unwrap();
                    }
                });
                // The agent's first steps end before: the ACL without ports.
                std::thread::sleep(Duration::from_secs(2));
                let before = calls(meter, "get");
                assert_eq!(agent.put("/v1/ports", document).0, 202);
                // Before the pass that has no event: `LOOK_AGAIN`.
                std::thread::sleep(Duration::from_secs(4));
                is_over.store(true, Ordering::Relaxed);
                // A pass asks twice whether CONFIG_DB is loaded.
                (calls(meter, "get") - before) / 2
            })
        });
        u32::try_from(passes.into_iter().max().unwrap_or_default()).unwrap()
    }

    /// Another client's p99 in turns of a second, the turns of each kind between those of the others.
    fn waits(&mut self, db: &mut Db, passes: u32) -> [f64; 4] {
        let mut waits: [Vec<f64>; 4] = Default::default();
        let turn = Duration::from_secs(1);
        let usual = Paces::default();
        let slow = Paces { rest: usual.later.pause, ..usual };
        let mut scanning = self.connect(slow);
        for _ in 0..7 {
            waits[0].push(self.p99(|_| std::thread::sleep(turn)));
            waits[1].push(self.p99(|leaf| {
                let start = Instant::now();
                drop(leaf.connect(Paces::default()));
                std::thread::sleep(START.saturating_sub(start.elapsed()));
            }));
            waits[2].push(self.p99(|leaf| {
                for _ in 0..passes {
                    leaf.runtime.block_on(db.snapshot()).unwrap();
                    std::thread::sleep(turn / passes);
                }
            }));
            let mut changed = |leaf: &Self| {
                leaf.runtime.block_on(async { tokio::time::timeout(2 * turn, scanning.changed()).await })
            };
            waits[3].push(self.p99(|leaf| assert!(changed(leaf).is_err(), "nothing changes")));
        }
        waits.map(|waits| if waits.is_empty() { f64::NAN } else { median(waits) })
    }

    /// The p99 of a client's wait for a PING while something is done, in µs.
    fn p99(&self, work: impl FnOnce(&Self)) -> f64 {
        let (is_over, socket) = (AtomicBool::new(false), &self.socket);
        let mut waits = std::thread::scope(|scope| {
            let pings = scope.spawn(|| {
                let mut stream = UnixStream::connect(socket).unwrap();
                let mut waits = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let (start, mut pong) = (Instant::now(), [0; 7]);
                    stream.write_all(b"PING\r\n").unwrap();
                    stream.read_exact(&mut pong).unwrap();
                    waits.push(start.elapsed());
                    std::thread::sleep(Duration::from_micros(300));
                }
                waits
            });
            work(self);
            is_over.store(true, Ordering::Relaxed);
            pings.join().unwrap()
        });
        waits.sort_unstable();
        1000.0 * ms(waits[waits.len() * 99 / 100])
    }

    /// What the slow scan costs Redis and the agent, in percent of a core.
    fn scan(&mut self, routes: u32) -> f64 {
        let usual = Paces::default();
        // The scan of the small databases ends at once, and then pauses.
        let mut paces = Paces { rest: Duration::from_millis(100), ..usual };
        paces.later.pause = Duration::from_millis(1);
        let mut db = self.connect(paces);
        let (redis, agent, steps) = (self.redis_cpu(), own_cpu(), calls(&mut self.meter, "scan"));
        let watching = async { tokio::time::timeout(Duration::from_secs(3), db.changed()).await };
        assert!(self.runtime.block_on(watching).is_err(), "nothing changes");
        let cost = self.redis_cpu() - redis + own_cpu() - agent;
        let a_step = cost / (calls(&mut self.meter, "scan") - steps) as f64;
        let steps = f64::from(routes) / usual.later.keys as f64;
        100.0 * steps * a_step / (ms(usual.rest) + steps * ms(usual.later.pause))
    }

    /// The longest of the commands that leafboot reads with, in ms. Those below 0.1 ms are not recorded.
    fn longest_command(&mut self) -> f64 {
        type Entry = (u64, u64, u64, Vec<String>, String, String);
        let entries: Vec<Entry> = redis::cmd("SLOWLOG").arg("GET").arg(-1).query(&mut self.meter).unwrap();
        let is_ours = |entry: &&Entry| {
            ["SCAN", "HGETALL", "HMGET", "EXISTS", "PING", "GET"].contains(&entry.3[0].as_str())
        };
        let longest = entries.iter().filter(is_ours).map(|entry| entry.2).max();
        longest.map_or(0.1, |microseconds| microseconds as f64 / 1000.0)
    }

    /// What Redis costs alone, and what the real agent adds to that and costs itself while nothing happens, in percent of a
    /// core. The ports are in boot, and there is no document, so the agent keeps them and reads everything.
    fn idle(&mut self) -> [f64; 2] {
        let before = self.redis_cpu();
        std::thread::sleep(IDLE);
        let alone = self.redis_cpu() - before;
        let agent = Agent::start_ready(&self.world.switch);
        // The slow scan begins after 5 s.
        std::thread::sleep(Duration::from_secs(6));
        let before = self.redis_cpu() + ms(agent.cpu());
        std::thread::sleep(IDLE);
        let both = self.redis_cpu() + ms(agent.cpu()) - before;
        [alone, both - alone].map(|cpu| 100.0 * cpu / ms(IDLE))
    }
}

/// How often Redis has done a command.
fn calls(meter: &mut redis::Connection, command: &str) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query(meter).unwrap();
    let name = format!("cmdstat_{command}:calls=");
    let line = info.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("0");
    line.split(',').next().unwrap().parse().unwrap()
}

fn own_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
