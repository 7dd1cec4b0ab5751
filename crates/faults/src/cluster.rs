//! Rig "cluster": several servers with different roles over one catalog in PostgreSQL and one bucket,
//! under load. Any server is killed or stopped, PostgreSQL crashes and stays away, the object store
//! fails. What one server acknowledged each other finds at once; those that answer do so together,
//! each query spread over all of them.

use std::fs;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::object_store::{FailingProxy, Failure, ObjectStore};
use crate::postgres::Postgres;
use crate::process::Process;
use crate::report::Floor;
use crate::rig::{Finished, Options, Peer, Plan, Rig, RigError};

/// A fault of the rig.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9` of the server with this place among the peers; `None` is the first server.
    Kill(Option<usize>),
    /// Both servers that take records are killed at once.
    KillBothIngest,
    /// A server stands still for so many milliseconds.
    Stop(Option<usize>, u64),
    /// The agent is killed.
    KillAgent,
    /// PostgreSQL crashes and comes back.
    CatalogCrash,
    /// PostgreSQL is away for so many milliseconds.
    CatalogAway(u64),
    /// So much percent of the requests to the object store fail, for so many milliseconds.
    Store(Failure, u32, u64),
}

/// The peers of the first server, which has every role but that of building.
const PEERS: [(&str, &[&str]); 4] = [
    ("ingest-2", &["ingest"]),
    ("query-2", &["query"]),
    ("build", &["build"]),
    ("query-3", &["query"]),
];

/// Every fault, in the order that the seed decides.
fn deck(random: &mut SmallRng) -> Vec<Fault> {
    use Fault::{CatalogAway, CatalogCrash, Kill, KillAgent, KillBothIngest, Stop, Store};
    let mut deck = vec![
        Kill(None),
        Kill(Some(0)),
        // They work on the queries of the others, and the others on theirs.
        Kill(Some(1)),
        Kill(Some(3)),
        Stop(Some(3), random.random_range(500..8_000)),
        Kill(Some(2)),
        Kill(Some(2)),
        KillBothIngest,
        Stop(None, random.random_range(500..3_000)),
        Stop(Some(0), random.random_range(500..3_000)),
        // Longer than the lease of its work lasts.
        Stop(Some(2), random.random_range(8_000..16_000)),
        KillAgent,
        CatalogCrash,
        CatalogCrash,
        CatalogAway(random.random_range(500..4_000)),
        CatalogAway(12_000),
        Store(Failure::Status(503), 100, random.random_range(500..3_000)),
        Store(Failure::LoseAnswers, 60, random.random_range(500..3_000)),
        Store(Failure::Hang, 100, random.random_range(500..3_000)),
        Store(Failure::Down, 100, 30_000),
    ];
    deck.shuffle(random);
    deck
}

/// Runs the rig.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    let folder = options.make_folder("cluster")?;
    let mut catalog = Postgres::start()?;
    let store = ObjectStore::start(&folder)?;
    let proxy = FailingProxy::start(store.addr())?;
    let config = |name: &str, roles: &[&str]| -> Result<Vec<String>, RigError> {
        let path = folder.join(format!("{name}.toml"));
        let objects = ObjectStore::settings(&format!("run-{}", options.seed), proxy.addr());
        let catalog =
            format!("catalog = \"postgres://lodge@127.0.0.1:{}/postgres\"", catalog.port());
        fs::write(&path, format!("{objects}{catalog}\nroles = {roles:?}\nspread_rows_min = 1\n"))?;
        Ok(vec!["--config".to_owned(), path.display().to_string()])
    };
    let mut plan = Plan::new(&folder);
    plan.server_args = config("first", &["ingest", "query"])?;
    for (name, roles) in PEERS {
        let args = config(name, roles)?;
        let (ingests, queries) = (roles.contains(&"ingest"), roles.contains(&"query"));
        plan.peers.push(Peer { name, args, ingests, queries });
    }
    let mut rig = Rig::start(options, plan)?;
    let faults =
        rig.go_through(deck, |rig, fault| cause(rig, &mut catalog, &proxy, fault), progress)?;
    rig.notes.push(format!("{} requests to the object store failed by script", proxy.hit()));
    let report = rig.finish(progress)?;
    drop((proxy, store, catalog));
    let floor = Floor { acknowledged_min: 500, retries_min: 0, faults_min: faults };
    Ok(Finished::close(report, floor, folder)?)
}

/// Causes a fault and ends it; gives the moment when it ended.
fn cause(
    rig: &mut Rig<'_>,
    catalog: &mut Postgres,
    proxy: &FailingProxy,
    fault: Fault,
) -> Result<Instant, RigError> {
    let down = Duration::from_millis(rig.random.random_range(0..1_500));
    match fault {
        Fault::Kill(None) => rig.server.kill(),
        Fault::Kill(Some(place)) => kill_peer(rig, place),
        Fault::KillBothIngest => {
            rig.server.kill();
            kill_peer(rig, 0);
        }
        Fault::KillAgent => rig.agent.kill(),
        Fault::Stop(place, millis) => {
            process(rig, place)?.stop();
            std::thread::sleep(Duration::from_millis(millis));
            process(rig, place)?.go_on();
        }
        Fault::CatalogCrash => catalog.crash()?,
        Fault::CatalogAway(millis) => {
            catalog.stop()?;
            std::thread::sleep(Duration::from_millis(millis));
            catalog.go_on()?;
        }
        Fault::Store(failure, percent, millis) => {
            proxy.set(failure, percent);
            std::thread::sleep(Duration::from_millis(millis));
            proxy.set(Failure::None, 0);
        }
    }
    if matches!(fault, Fault::Kill(_) | Fault::KillBothIngest | Fault::KillAgent) {
        std::thread::sleep(down);
        rig.start_what_is_down()?;
    }
    Ok(Instant::now())
}

fn process<'r>(rig: &'r mut Rig<'_>, place: Option<usize>) -> Result<&'r mut Process, RigError> {
    match place {
        None => Ok(rig.server.process()),
        Some(place) => match rig.peers.get_mut(place) {
            Some((server, _)) => Ok(server.process()),
            None => Err(std::io::Error::other("no such peer").into()),
        },
    }
}

fn kill_peer(rig: &mut Rig<'_>, place: usize) {
    if let Some((server, _)) = rig.peers.get_mut(place) {
        server.kill();
    }
}
