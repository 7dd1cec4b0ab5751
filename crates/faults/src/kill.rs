//! Rig K: a real server and a real agent under load, killed and stopped at random moments.
//!
//! Files are written and rotated and HTTP requests are sent all the time; each round picks a fault
//! by the seed. What is compared, and when, is [`Rig`]'s.

use std::time::{Duration, Instant};
use std::{fmt, fs};

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::far_end::READ_SETTING;
use crate::proxy::Weather;
use crate::report::Floor;
use crate::rig::{Finished, Options, Plan, Rig, RigError};

/// A fault of rig K.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the server.
    KillServer,
    /// `kill -9` of the agent.
    KillAgent,
    /// `kill -9` of both.
    KillBoth,
    /// `kill -9` of the server, and again while it starts.
    KillServerTwice,
    /// SIGSTOP of the server, then SIGCONT.
    StopServer,
    /// SIGSTOP of the agent, then SIGCONT.
    StopAgent,
    /// SIGSTOP of the server, then `kill -9`.
    StopThenKillServer,
    /// SIGTERM of the server, which may end its work in peace.
    EndServer,
    /// SIGTERM of the agent.
    EndAgent,
    /// Requests arrive, their answers are lost, then the connections are cut.
    LoseAnswers,
    /// As before, and the server is killed before anyone could ask again.
    LoseAnswersKillServer,
    /// As before, and the agent is killed: its checkpoint knows nothing of the last commits.
    LoseAnswersKillAgent,
}

impl Fault {
    /// Every fault, the likelier ones more than once, in the order that the seed decides: a short
    /// run meets each kind as a long one does.
    fn deck(random: &mut SmallRng) -> Vec<Fault> {
        use Fault::{
            EndAgent, EndServer, KillAgent, KillBoth, KillServer, KillServerTwice, LoseAnswers,
            LoseAnswersKillAgent, LoseAnswersKillServer, StopAgent, StopServer, StopThenKillServer,
        };
        let mut rare = [EndAgent, EndServer, StopAgent, StopServer, StopThenKillServer];
        let mut often = [
            KillServer,
            KillAgent,
            KillBoth,
            KillServerTwice,
            LoseAnswers,
            LoseAnswersKillAgent,
            LoseAnswersKillServer,
        ];
        let mut deck = Vec::new();
        often.shuffle(random);
        deck.extend(often);
        rare.shuffle(random);
        deck.extend(rare);
        often.shuffle(random);
        deck.extend(often);
        deck.reverse();
        deck
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::KillServer => "kill -9 server",
            Fault::KillAgent => "kill -9 agent",
            Fault::KillBoth => "kill -9 server and agent",
            Fault::KillServerTwice => "kill -9 server, again while it starts",
            Fault::StopServer => "SIGSTOP server",
            Fault::StopAgent => "SIGSTOP agent",
            Fault::StopThenKillServer => "SIGSTOP server, kill -9",
            Fault::EndServer => "SIGTERM server",
            Fault::EndAgent => "SIGTERM agent",
            Fault::LoseAnswers => "lose answers, cut connections",
            Fault::LoseAnswersKillServer => "lose answers, kill -9 server",
            Fault::LoseAnswersKillAgent => "lose answers, kill -9 agent",
        })
    }
}

/// Runs rig K. `progress` is given a line per round.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    let folder = options.make_folder("kill")?;
    let config = folder.join("lodge.toml");
    fs::write(&config, READ_SETTING)?;
    let mut plan = Plan::new(&folder);
    plan.server_args = vec!["--config".to_owned(), config.display().to_string()];
    let mut rig = Rig::start(options, plan)?;
    let mut deck = Vec::new();
    while rig.quiet() {
        if deck.is_empty() {
            deck = Fault::deck(&mut rig.random);
        }
        let Some(fault) = deck.pop() else { break };
        let mended = cause(&mut rig, fault)?;
        rig.mended(&fault.to_string(), mended, progress)?;
    }
    let report = rig.finish(progress)?;
    let faults_min = options.rounds.map_or(1, u64::from);
    let floor = Floor { acknowledged_min: report.faults * 100, retries_min: 1, faults_min };
    Ok(Finished::close(report, floor, folder)?)
}

/// Causes a fault and mends it: gives the moment from which the service could recover.
fn cause(rig: &mut Rig<'_>, fault: Fault) -> Result<Instant, RigError> {
    let pause = Duration::from_millis(rig.random.random_range(0..800));
    match fault {
        Fault::KillServer => rig.server.kill(),
        Fault::KillAgent => rig.agent.kill(),
        Fault::KillBoth if rig.random.random_bool(0.5) => {
            rig.server.kill();
            rig.agent.kill();
        }
        Fault::KillBoth => {
            rig.agent.kill();
            rig.server.kill();
        }
        Fault::KillServerTwice => {
            rig.server.kill();
            rig.server.launch()?;
            std::thread::sleep(Duration::from_millis(rig.random.random_range(0..60)));
            rig.server.kill();
        }
        Fault::StopServer => {
            rig.server.process().stop();
            std::thread::sleep(pause * 3);
            rig.server.process().go_on();
        }
        Fault::StopAgent => {
            rig.agent.stop();
            std::thread::sleep(pause * 3);
            rig.agent.go_on();
        }
        Fault::StopThenKillServer => {
            rig.server.process().stop();
            std::thread::sleep(pause);
            rig.server.kill();
        }
        Fault::EndServer => {
            rig.server.process().terminate(Duration::from_secs(15));
            rig.server.kill();
        }
        Fault::EndAgent => {
            rig.agent.terminate(Duration::from_secs(15));
            rig.agent.kill();
        }
        Fault::LoseAnswers | Fault::LoseAnswersKillServer | Fault::LoseAnswersKillAgent => {
            rig.agent_proxy.set(Weather::LoseAnswers);
            rig.writer_proxy.set(Weather::LoseAnswers);
            std::thread::sleep(pause);
            match fault {
                Fault::LoseAnswersKillServer => rig.server.kill(),
                Fault::LoseAnswersKillAgent => rig.agent.kill(),
                _ => {}
            }
            rig.agent_proxy.cut();
            rig.writer_proxy.cut();
        }
    }
    let whole = rig.server.is_running() && rig.agent.is_running();
    if !whole {
        std::thread::sleep(pause);
    }
    let mended = Instant::now();
    rig.start_what_is_down()?;
    Ok(mended)
}
