//! Rig clock: the clocks of server, agent and writers jump by up to an hour, forwards and
//! backwards, under load.
//!
//! Sequences decide, not clocks: nothing is lost, doubled or deleted early, whatever a clock says.
//! The clocks of the processes are bent by libfaketime; their monotonic clocks are not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::process::Wrap;
use crate::report::Floor;
use crate::rig::{Finished, Options, Plan, Rig, RigError};

/// Where Debian and others keep the library.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// A clock that a file sets.
#[derive(Debug)]
pub struct Clock {
    library: &'static str,
    file: PathBuf,
}

fn library() -> Result<&'static str, RigError> {
    let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
    library.ok_or_else(|| RigError::Missing {
        what: "libfaketime is not there, and without it no clock can be set".into(),
        mend: "apt-get install faketime",
    })
}

impl Clock {
    /// How a process is started with a clock that is so many seconds off from then on.
    pub fn fixed(seconds: i64) -> Result<Wrap, RigError> {
        let envs = [
            ("LD_PRELOAD", library()?.to_owned()),
            ("FAKETIME", format!("{seconds:+}")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let envs = envs.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Ok(Wrap { prefix: Vec::new(), envs })
    }

    /// A clock that is right at first; an error that says what to do when it cannot be bent.
    pub fn new(file: &Path) -> Result<Clock, RigError> {
        let clock = Clock { library: library()?, file: file.to_owned() };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock so many seconds off, at once for the next process and within a second for
    /// those that run.
    pub fn set(&self, seconds: i64) -> io::Result<()> {
        // Renamed into place: a process must never read half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        fs::rename(&new, &self.file)
    }

    /// How a process is started under this clock.
    pub fn wrap(&self) -> Wrap {
        let envs = [
            ("LD_PRELOAD", self.library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let envs = envs.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Wrap { prefix: Vec::new(), envs }
    }
}

/// Runs rig clock.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    let folder = options.make_folder("clock")?;
    let server_clock = Clock::new(&folder.join("server-clock"))?;
    let agent_clock = Clock::new(&folder.join("agent-clock"))?;
    let mut plan = Plan::new(&folder);
    plan.server_wrap = server_clock.wrap();
    plan.agent_wrap = agent_clock.wrap();
    let mut rig = Rig::start(options, plan)?;
    let mut faults = 0;
    while rig.quiet() {
        let mut jump = || match rig.random.random_range(0..4_u8) {
            0 => 3_600,
            1 => -3_600,
            2 => 0,
            _ => rig.random.random_range(-3_600..3_600),
        };
        let (server, agent, writers) = (jump(), jump(), jump());
        server_clock.set(server)?;
        agent_clock.set(agent)?;
        rig.load.set_skew_seconds(writers);
        // The clocks of running processes follow within a second.
        std::thread::sleep(Duration::from_millis(1_200));
        let mut told =
            format!("clocks: server {server:+} s, agent {agent:+} s, lines {writers:+} s");
        match rig.random.random_range(0..4_u8) {
            0 => {
                told.push_str("; server killed");
                rig.server.kill();
            }
            1 => {
                told.push_str("; agent killed");
                rig.agent.kill();
            }
            // A lost answer makes the next batch a repeated one, sent at another time of day.
            2 => {
                told.push_str("; answers lost");
                rig.agent_proxy.set(crate::proxy::Weather::LoseAnswers);
                std::thread::sleep(Duration::from_millis(300));
                rig.agent_proxy.cut();
            }
            _ => {}
        }
        let mended = Instant::now();
        rig.start_what_is_down()?;
        rig.mended_for_agent(&told, mended, progress)?;
        faults += 1;
    }
    let report = rig.finish(progress)?;
    let floor = Floor { acknowledged_min: 500, retries_min: 1, faults_min: faults };
    Ok(Finished::close(report, floor, folder)?)
}
