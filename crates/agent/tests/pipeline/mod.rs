//! What the pipeline takes out is nowhere: not at the server, not in the state folder.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lodge_agent::AgentConfig;
use lodge_agent::pipeline::PipelineConfig;
use lodge_wire::agent_batch;

use crate::receiver::{Faults, Receiver, text};
use crate::running::{RunningAgent, config, wait_until};
use crate::{append, lines, set_up};

fn pipeline(text: &str) -> PipelineConfig {
    AgentConfig::parse(&format!("{text}\n[[files]]\npaths = ['x']")).unwrap().pipeline
}

/// All bytes of all files below a folder, and what they hold in base64, two deep.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(bytes_below(&path));
            continue;
        }
        let content = fs::read(&path).unwrap();
        for line in content.split(|b| *b == b'\n') {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            if let Some(batch) = line["batch_base64"].as_str() {
                let batch = STANDARD.decode(batch).unwrap();
                bytes.extend_from_slice(&batch);
                let batch = agent_batch::decode(Default::default(), batch.into()).unwrap();
                let mut rows = Vec::new();
                lodge_wire::json_rows::write_rows(batch.records(), &mut rows);
                bytes.extend(rows);
            }
        }
        bytes.extend(content);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_neither_the_server_nor_the_disk() {
    let (folder, receiver) = set_up().await;
    receiver.set_faults(Faults { poison: Some("poison".into()), ..Faults::default() });
    let pan = "4111111111111111";
    let spaced = "5555 5555 5555 4444";
    let token = format!("ghp_{}", "aB3dE".repeat(8));
    let secrets = [pan, spaced, &token, "hunter2secret"];
    let tail = format!(
        "paid with {pan} or {spaced}\n\
         {{\"msg\":\"m\",\"pan\":{pan},\"deep\":{{\"password\":\"hunter2secret\"}}}}\n\
         curl -H 'Authorization: Bearer {token}'\n"
    );
    let damaged = [b"\xff damaged, password=hunter2secret ".as_slice(), token.as_bytes(), b"\n"];
    let log = folder.path().join("a.log");
    append(&log, &tail);
    append(&log, damaged.concat());
    append(&folder.path().join("b.log"), format!("poison\n{tail}"));
    let mut config = config(&receiver.url, folder.path(), "*.log");
    config.pipeline = pipeline("[redact]");
    let agent = RunningAgent::start(config);
    receiver.wait_for_rows(4).await;
    let counters = &agent.counters;
    wait_until("the dead letters", || counters.dead_letter_records.get() == 4).await;
    let totals = agent.stop().await;
    assert_eq!((totals.read_lines, totals.acknowledged_records), (8, 4));
    let rows = receiver.rows();
    let sent = serde_json::to_string(&rows).unwrap();
    let kept = bytes_below(&folder.path().join("state"));
    assert!(kept.windows(6).any(|part| part == b"poison"), "the dead letter is there");
    for secret in secrets {
        assert!(!sent.contains(secret), "{secret} was sent: {sent}");
        let found = kept.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} is in the state folder");
    }
    let card = rows.iter().find(|row| row.contains_key("pan")).unwrap();
    assert_eq!(
        (text(card, "pan"), text(card, "deep.password")),
        ("[redacted:card]".into(), "[redacted:token]".into())
    );
    assert!(rows.iter().all(|row| !row.contains_key("lodge.raw_base64")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_which_all_is_dropped_is_read_once() {
    let (folder, receiver) = set_up().await;
    append(&folder.path().join("a.log"), lines("noise", 100_000));
    append(&folder.path().join("b.log"), lines("kept", 10));
    let config = || {
        let mut config = config(&receiver.url, folder.path(), "*.log");
        config.pipeline = pipeline(
            "[[rules]]\nname = 'noise'\nwhen = { _msg = { contains = 'noise' } }\nthen = 'drop'",
        );
        config
    };
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(10).await;
    let counters = &agent.counters;
    wait_until("all are dropped", || counters.dropped_records_rules.get() == 100_000).await;
    let totals = agent.stop().await;
    assert_eq!((totals.read_lines, totals.sent_records), (100_010, 10));
    let agent = RunningAgent::start(config());
    append(&folder.path().join("a.log"), "noise again\nnow a line\n");
    receiver.wait_for_rows(11).await;
    let totals = agent.stop().await;
    assert_eq!((totals.read_lines, totals.dropped_records_rules), (2, 1));
    assert_eq!(receiver.messages().last().unwrap(), "now a line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_servers_of_its_own_ships_there() {
    let (folder, receiver) = set_up().await;
    let other = Receiver::start(2).await;
    append(&folder.path().join("a.log"), lines("mine", 20));
    append(&folder.path().join("b.txt"), lines("other", 30));
    let mut config = config(&receiver.url, folder.path(), "*.log");
    let pattern = folder.path().join("*.txt").to_string_lossy().into_owned();
    config = config.with_files(vec![pattern]);
    config.files[1].servers = vec![other.url.clone()];
    config.pipeline = pipeline(
        "[[rules]]\nname = 'route'\nwhen = { _msg = { matches = ' 1\\d$' } }\n\
         then = { labels = { team = 'x' } }",
    );
    let agent = RunningAgent::start(config);
    receiver.wait_for_rows(20).await;
    other.wait_for_rows(30).await;
    assert_eq!(agent.stop().await.acknowledged_records, 50);
    assert!(receiver.messages().iter().all(|message| message.starts_with("mine")));
    assert!(other.messages().iter().all(|message| message.starts_with("other")));
    let routed: Vec<_> = other.rows().into_iter().filter(|row| row.contains_key("team")).collect();
    assert_eq!(routed.len(), 10);
    assert!(routed.iter().all(|row| text(row, "_stream").contains("team=\"x\"")));
}
