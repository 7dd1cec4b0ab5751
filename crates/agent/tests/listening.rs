//! What is sent to the agent's listeners, and what arrives of it.
#![allow(clippy::unwrap_used)]

mod receiver;
mod running;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use lodge_agent::{Address, AgentConfig, ListenSource};
use receiver::{Faults, Receiver, text};
use running::{RunningAgent, config, wait_until};

/// A port that nothing else is given meanwhile: below those that the kernel hands out.
fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let mine = u16::try_from(std::process::id() % 9_000).unwrap();
    loop {
        let port = 20_000 + mine + NEXT.fetch_add(1, Ordering::Relaxed);
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(at).is_ok() {
            return at;
        }
    }
}

fn listening(receiver: &Receiver, folder: &Path, address: &str) -> AgentConfig {
    let mut config = config(&receiver.url, folder, "*.none");
    config.files.clear();
    config.listen.push(ListenSource::new(Address::parse(address).unwrap()));
    config
}

async fn set_up() -> (tempfile::TempDir, Receiver) {
    (tempfile::tempdir().unwrap(), Receiver::start(1).await)
}

async fn connect(at: SocketAddr) -> TcpStream {
    for _ in 0..200 {
        if let Ok(stream) = TcpStream::connect(at) {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing listens on {at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_over_tcp_in_both_framings_becomes_records() {
    let (folder, receiver) = set_up().await;
    let at = free_port();
    let agent = RunningAgent::start(listening(&receiver, folder.path(), &format!("tcp://{at}")));
    let mut stream = connect(at).await;
    let counted = "<165>1 2024-01-02T03:04:05.5Z web-1 shop 77 ID47 [a@1 k=\"v\"] paid\nand sent";
    write!(stream, "{} {counted}", counted.len()).unwrap();
    stream.write_all(b"<11>Jan  2 03:04:05 web-2 cron[9]: it failed\n").unwrap();
    drop(stream);
    receiver.wait_for_rows(2).await;
    agent.stop().await;
    let rows = receiver.rows();
    assert_eq!(text(&rows[0], "_msg"), "paid\nand sent");
    assert_eq!(text(&rows[0], "_time"), "2024-01-02T03:04:05.5Z");
    assert_eq!(text(&rows[0], "syslog.data.a@1.k"), "v");
    assert_eq!(text(&rows[0], "client.address"), "127.0.0.1");
    assert_eq!(
        (text(&rows[1], "_msg"), text(&rows[1], "level")),
        ("it failed".into(), "error".into())
    );
    assert_eq!(text(&rows[1], "syslog.hostname"), "web-2");
    let stream = format!("{{host=\"test-host\",listener=\"tcp://{at}\"}}");
    assert!(rows.iter().all(|row| text(row, "_stream") == stream), "{rows:?}");
    assert_eq!(receiver.alarms(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_and_lines_of_a_unix_socket_arrive() {
    let (folder, receiver) = set_up().await;
    let (at, socket) = (free_port(), folder.path().join("agent.sock"));
    let mut config = listening(&receiver, folder.path(), &format!("udp://{at}"));
    let unix = Address::parse(&format!("unix://{}", socket.display())).unwrap();
    config.listen.push(ListenSource::new(unix));
    // What a killed agent leaves behind does not keep this one from listening.
    std::fs::write(&socket, "").unwrap();
    let agent = RunningAgent::start(config);
    wait_until("listening", || UnixStream::connect(&socket).is_ok()).await;
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"<14>Jan  2 03:04:05 web-1 app: a datagram\n", at).unwrap();
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"{\"msg\":\"json\",\"n\":7}\nplain \xff bytes\nno end").unwrap();
    drop(stream);
    receiver.wait_for_rows(4).await;
    agent.stop().await;
    let messages: BTreeSet<String> = receiver.messages().into_iter().collect();
    let expected = ["a datagram", "json", "plain \u{fffd} bytes", "no end"];
    assert_eq!(messages, expected.iter().map(|m| (*m).to_owned()).collect());
    assert_eq!(receiver.alarms(), [""; 0]);
}

/// Everything that a sender was rid of before the agent was stopped arrives once, whatever happens to
/// server, answers and agent.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_arrives_once_through_restarts_and_a_server_that_is_down() {
    let (folder, receiver) = set_up().await;
    let at = free_port();
    let config = || listening(&receiver, folder.path(), &format!("tcp://{at}"));
    let mut sent = 0;
    for round in 0..6 {
        let down = round % 3 == 1;
        receiver.set_faults(Faults { down, lost_after: 0.4, busy: 0.2, ..Faults::default() });
        let mut settings = config();
        if round % 2 == 0 {
            settings.timing.drain = Duration::ZERO;
        }
        let agent = RunningAgent::start(settings);
        let counters = std::sync::Arc::clone(&agent.counters);
        let mut stream = connect(at).await;
        for _ in 0..400 {
            writeln!(stream, "<14>Jan  2 03:04:05 web app: record {sent}").unwrap();
            sent += 1;
        }
        drop(stream);
        wait_until("taken in", || counters.read_lines.get() == 400).await;
        agent.stop().await;
    }
    receiver.set_faults(Faults::default());
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(sent).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.stop().await;
    let messages = receiver.messages();
    let expected: Vec<String> = (0..sent).map(|n| format!("record {n}")).collect();
    assert_eq!(messages, expected, "all, once, in their order");
    assert_eq!(receiver.alarms(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_spool_costs_what_was_damaged_and_the_ledger_says_so() {
    let (folder, receiver) = set_up().await;
    let at = free_port();
    let config = || listening(&receiver, folder.path(), &format!("tcp://{at}"));
    receiver.set_faults(Faults { down: true, ..Faults::default() });
    let mut settings = config();
    settings.timing.drain = Duration::ZERO;
    let agent = RunningAgent::start(settings);
    let counters = std::sync::Arc::clone(&agent.counters);
    for part in 1..=3 {
        let mut stream = connect(at).await;
        writeln!(stream, "<14>Jan  2 03:04:05 web app: part {part}").unwrap();
        drop(stream);
        wait_until("taken in", || counters.read_lines.get() == part).await;
        // In a batch of its own.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    agent.stop().await;
    let spool = std::fs::read_dir(folder.path().join("state/spool")).unwrap().next();
    let files = std::fs::read_dir(spool.unwrap().unwrap().path()).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|e| e == "spool")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    receiver.set_faults(Faults::default());
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(2).await;
    agent.stop().await;
    assert_eq!(receiver.messages(), ["part 1", "part 3"]);
    let holes: Vec<_> = receiver.accounts().into_iter().flat_map(|a| a.holes).collect();
    assert_eq!(holes.len(), 1, "{holes:?}");
    assert!(holes[0].reason.contains("the spool is damaged"), "{holes:?}");
    assert!(holes[0].bytes.is_some_and(|bytes| bytes > 0));
    assert_eq!(receiver.alarms(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_sent_again_once() {
    let (folder, receiver) = set_up().await;
    let at = free_port();
    let config = || listening(&receiver, folder.path(), &format!("tcp://{at}"));
    receiver.set_faults(Faults { poison: Some("poison".into()), ..Faults::default() });
    let agent = RunningAgent::start(config());
    let mut stream = connect(at).await;
    writeln!(stream, "<14>Jan  2 03:04:05 web app: poison").unwrap();
    drop(stream);
    let counters = std::sync::Arc::clone(&agent.counters);
    wait_until("dead letter", || counters.dead_letter_records.get() == 1).await;
    agent.stop().await;
    let path = folder.path().join("state/dead-letter.jsonl");
    let letters = std::fs::read(&path).unwrap();
    // Refused once more, it stays.
    let done = lodge_agent::replay(&config(), |_| ()).await.unwrap();
    assert_eq!((done.stored_records, done.refused_records), (0, 1));
    assert_eq!(std::fs::read(&path).unwrap().iter().filter(|b| **b == b'\n').count(), 1);
    receiver.set_faults(Faults::default());
    let done = lodge_agent::replay(&config(), |_| ()).await.unwrap();
    assert_eq!((done.stored_records, done.refused_records), (1, 0));
    assert!(!path.exists());
    // The same letters again, as if it had been killed before the file was gone.
    std::fs::write(&path, [&letters[..], b"no letter\n"].concat()).unwrap();
    let done = lodge_agent::replay(&config(), |_| ()).await.unwrap();
    assert_eq!((done.known_records, done.unreadable_lines), (1, 1));
    assert_eq!(receiver.messages(), ["poison"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"no letter\n");
}

/// The agent's own program.
fn program() -> std::process::Command {
    std::process::Command::new(env!("CARGO_BIN_EXE_lodge-agent"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_is_taken_up_at_a_signal_and_a_faulty_one_is_not() {
    let (folder, receiver) = set_up().await;
    let (at, file) = (free_port(), folder.path().join("agent.toml"));
    let sources = |more: &str| {
        format!(
            "servers = [{:?}]\nstate_dir = {:?}\nhost = \"h\"\n[[files]]\npaths = [\"{}/*.log\"]\n\
             [[listen]]\naddress = \"udp://{at}\"\n{more}",
            receiver.url,
            folder.path().join("state"),
            folder.path().display()
        )
    };
    let validate = || program().arg("--validate").arg("--config").arg(&file).output().unwrap();
    std::fs::write(&file, sources("")).unwrap();
    assert!(validate().status.success());
    std::fs::write(folder.path().join("a.log"), "one\n").unwrap();
    let mut agent = program().arg("--config").arg(&file).spawn().unwrap();
    receiver.wait_for_rows(1).await;
    let hang_up = || {
        let id = rustix::process::Pid::from_raw(agent.id() as i32).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    };

    std::fs::write(&file, sources("[[file]]\n")).unwrap();
    let refused = validate();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("did you mean `files`?"), "{said}");
    hang_up();
    std::fs::write(folder.path().join("b.log"), "two\n").unwrap();
    receiver.wait_for_rows(2).await;

    // An address that another has: the agent goes on as before.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    std::fs::write(&file, sources(&format!("[[listen]]\naddress = \"tcp://{address}\"\n")))
        .unwrap();
    hang_up();
    std::fs::write(folder.path().join("c.log"), "three\n").unwrap();
    receiver.wait_for_rows(3).await;

    let socket = folder.path().join("new.sock");
    let added = format!("[[listen]]\naddress = \"unix://{}\"\n", socket.display());
    std::fs::write(&file, sources(&added)).unwrap();
    hang_up();
    // What is sent while the agent takes the configuration up waits in its socket.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0;
    while UnixStream::connect(&socket).is_err() {
        assert!(sent < 4_000, "the new configuration is not taken up");
        sender.send_to(format!("<14>Jan  2 03:04:05 w a: {sent}").as_bytes(), at).unwrap();
        sent += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    receiver.wait_for_rows(3 + sent).await;
    let id = rustix::process::Pid::from_raw(agent.id() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(agent.wait().unwrap().success());
    assert_eq!(receiver.row_count(), 3 + sent);
    assert_eq!(receiver.alarms(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_standard_input_is_the_end_of_the_agent() {
    let (folder, receiver) = set_up().await;
    let mut agent = program()
        .args(["--listen", "stdin", "--server", &receiver.url, "--state-dir"])
        .arg(folder.path().join("state"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = agent.stdin.take().unwrap();
    for line in 0..1_000 {
        writeln!(input, "{{\"msg\":\"line {line}\"}}").unwrap();
    }
    drop(input);
    assert!(agent.wait().unwrap().success());
    let expected: Vec<String> = (0..1_000).map(|line| format!("line {line}")).collect();
    assert_eq!(receiver.messages(), expected);
}
