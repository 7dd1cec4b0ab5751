//! An agent running within a test, with its deadlines shortened.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lodge_agent::{AgentConfig, Counters, Timing, Totals};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Deadlines short enough for tests.
pub fn fast() -> Timing {
    Timing {
        linger: Duration::from_millis(5),
        settle: Duration::from_millis(20),
        settle_trace: Duration::from_millis(60),
        partial_idle: Duration::from_millis(80),
        rescan: Duration::from_millis(200),
        poll: Duration::from_millis(100),
        checkpoint: Duration::from_millis(10),
        deleted_linger: Duration::from_millis(300),
        drain: Duration::from_secs(5),
        backoff: (Duration::from_millis(1), Duration::from_millis(20)),
    }
}

/// An agent for `glob` below `folder` that ships to `url`.
pub fn config(url: &str, folder: &Path, glob: &str) -> AgentConfig {
    let pattern = folder.join(glob).to_string_lossy().into_owned();
    let mut config = AgentConfig::new(url, folder.join("state")).with_files(vec![pattern]);
    config.host = "test-host".into();
    config.timing = fast();
    config
}

pub struct RunningAgent {
    pub counters: Arc<Counters>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<Totals, lodge_agent::AgentError>>,
}

impl RunningAgent {
    pub fn start(config: AgentConfig) -> Self {
        let shutdown = CancellationToken::new();
        let counters = Arc::new(Counters::default());
        let run = lodge_agent::run_counted(config, shutdown.clone(), Arc::clone(&counters));
        RunningAgent { counters, shutdown, task: tokio::spawn(run) }
    }

    pub async fn stop(self) -> Totals {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap()
    }
}

/// Waits until `condition` holds; gives up after half a minute.
pub async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}
