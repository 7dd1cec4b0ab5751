//! What happens at the limits: long, slow, too many, too much.

use super::*;
use lodge_record::TenantId;
use lodge_record::limits::LINE_BYTES_MAX;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_an_end_keeps_its_head_and_is_counted() {
    let rig = Rig::with(all_doors).await;
    let long = LINE_BYTES_MAX + 300_000;
    for (door, end) in [("syslog_tcp", "\n"), ("json_tcp", "\n"), ("gelf_tcp", "\0")] {
        let mut stream = connect(&rig, door).await;
        let endless = format!("{}{end}{{\"message\":\"next\"}}{end}", "x".repeat(long));
        stream.write_all(endless.as_bytes()).await.unwrap();
        drop(stream);
    }
    wait_for_records(&rig, 6).await;
    let cut = rig.rows("truncated:=true | fields lodge.original_bytes, _msg").await;
    assert_eq!(cut.len(), 3);
    for row in &cut {
        assert_eq!(row["lodge.original_bytes"], long.to_string());
        assert_eq!(row["_msg"].as_str().unwrap().len(), LINE_BYTES_MAX);
    }
    assert_eq!(rig.rows("next").await.len(), 3);
    assert_eq!(limit_hits(&rig, "frame_bytes").await, 3);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_message_must_go_on_and_an_idle_connection_need_not() {
    let rig = Rig::with(|config| {
        all_doors(config);
        config.stall_time_max = Duration::from_secs(1);
    })
    .await;
    let mut idle = connect(&rig, "syslog_tcp").await;
    let mut half_forward = connect(&rig, "forward").await;
    half_forward.write_all(b"\x93\xd9\x03app").await.unwrap();
    let mut half_line = connect(&rig, "syslog_tcp").await;
    half_line.write_all(b"<13>no end").await.unwrap();
    assert_eq!(read_to_end(&mut half_forward).await, b"");
    assert_eq!(read_to_end(&mut half_line).await, b"");
    // One that trickles is ended too, though it never pauses.
    let mut trickle = connect(&rig, "json_tcp").await;
    let mut bytes = 0;
    wait_until("ended", async || {
        bytes += 1;
        trickle.write_all(b"x").await.is_err()
    })
    .await;
    assert!(bytes < 2_000, "{bytes}");
    assert_eq!(limit_hits(&rig, "slow_frame").await, 3);
    assert_eq!(dropped(&rig, "forward", "incomplete").await, 1);
    // All that time the idle one sent nothing.
    idle.write_all(b"<13>still here\n").await.unwrap();
    wait_until("stored", async || rig.rows("still").await.len() == 1).await;
    assert_eq!(rig.rows("_msg:=\"no end\"").await.len(), 1);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_hold_no_memory_of_inserts() {
    const CONNECTIONS: usize = 1_000;
    let nofile = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(nofile, limit).unwrap();
    let rig = Rig::with(|config| {
        all_doors(config);
        // It has memory of its own all the time.
        config.gelf_udp = None;
        config.connections_max = CONNECTIONS;
        config.stall_time_max = Duration::from_secs(1);
    })
    .await;
    let free = rig.server.app().insert_memory.free();
    let mut all = Vec::new();
    for number in 0..CONNECTIONS {
        let mut stream = connect(&rig, "syslog_tcp").await;
        stream.write_all(format!("<13>hello {number}\n").as_bytes()).await.unwrap();
        all.push(stream);
    }
    wait_for_records(&rig, CONNECTIONS as u64).await;
    assert_eq!(counted(&rig, "connections_open", "syslog_tcp").await, CONNECTIONS as u64);
    let is_free = async || rig.server.app().insert_memory.free() == free;
    wait_until("no memory held", is_free).await;
    // One more waits, and takes the place of one that goes.
    let mut waiting = connect(&rig, "json_tcp").await;
    waiting.write_all(b"{\"message\":\"waited\"}\n").await.unwrap();
    wait_until("full", async || limit_hits(&rig, "connections").await > 0).await;
    assert_eq!(rig.rows("waited").await.len(), 0);
    all.pop();
    wait_until("taken", async || rig.rows("waited").await.len() == 1).await;
    for stream in all.iter_mut().step_by(100) {
        stream.write_all(b"<13>goodbye\n").await.unwrap();
    }
    wait_until("stored", async || rig.rows("goodbye").await.len() == 10).await;
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_datagram_is_stored_or_counted_as_dropped() {
    // More than the kernel holds, whatever it is set to.
    const SENT: u64 = 100_000;
    let rig = Rig::with(all_doors).await;
    let at = door(&rig, "syslog_udp");
    // On the only thread that could receive: meanwhile the kernel's buffer overflows.
    let flood = tokio::spawn(async move {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..SENT {
            let datagram = format!("<13>1 2026-03-01T10:00:00Z web app - - - number {number}");
            socket.send_to(datagram.as_bytes(), at).unwrap();
        }
    });
    flood.await.unwrap();
    let lost = async || {
        let mut lost = 0;
        for reason in ["kernel_buffer", "queue_full", "insert_memory", "ingest_queue"] {
            lost += dropped(&rig, "syslog_udp", reason).await;
        }
        lost
    };
    wait_until("all are accounted for", async || rig.count().await + lost().await == SENT).await;
    let received = counted(&rig, "messages_total", "syslog_udp").await;
    let by_kernel = dropped(&rig, "syslog_udp", "kernel_buffer").await;
    assert!(received > 0 && by_kernel > 0, "{received} {by_kernel}");
    assert_eq!(received + by_kernel, SENT);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_connections_wait_and_datagrams_are_dropped() {
    const SENT: u64 = 6_000;
    let rig = Rig::with(|config| {
        all_doors(config);
        config.gelf_udp = None;
    })
    .await;
    let app = rig.server.app();
    let all = app.insert_memory.try_take(&TenantId::default(), app.insert_memory.free()).unwrap();
    let mut stream = connect(&rig, "syslog_tcp").await;
    stream.write_all(b"<13>patient\n").await.unwrap();
    let (socket, at) = (sender().await, door(&rig, "syslog_udp"));
    for number in 0..SENT {
        let datagram = format!("<13>{number} {}", "x".repeat(100));
        socket.send_to(datagram.as_bytes(), at).await.unwrap();
    }
    let hit = async || {
        dropped(&rig, "syslog_udp", "insert_memory").await > 0
            && counted(&rig, "messages_total", "syslog_tcp").await == 1
    };
    wait_until("no memory", hit).await;
    assert_eq!(rig.count().await, 0);
    drop(all);
    let settled = async || {
        let lost = dropped(&rig, "syslog_udp", "insert_memory").await
            + dropped(&rig, "syslog_udp", "kernel_buffer").await;
        rig.count().await + lost == SENT + 1
    };
    wait_until("what waited is stored", settled).await;
    assert_eq!(rig.rows("patient").await.len(), 1);
    assert!(limit_hits(&rig, "insert_memory").await > 0);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_full_disk_connections_wait_and_datagrams_are_dropped() {
    let rig = Rig::with(|config| {
        all_doors(config);
        config.disk_free_bytes_min = Some(1 << 60);
        config.shutdown_time_max = Duration::from_millis(100);
    })
    .await;
    let mut stream = connect(&rig, "syslog_tcp").await;
    stream.write_all(b"<13>patient\n").await.unwrap();
    let (socket, at) = (sender().await, door(&rig, "syslog_udp"));
    socket.send_to(b"<13>impatient", at).await.unwrap();
    let gone = async || dropped(&rig, "syslog_udp", "disk_full").await == 1;
    wait_until("the datagram is given up", gone).await;
    assert_eq!(counted(&rig, "messages_total", "syslog_tcp").await, 1);
    assert_eq!(dropped(&rig, "syslog_tcp", "disk_full").await, 0);
    assert!(limit_hits(&rig, "disk_free").await > 0);
    rig.server.stop().await;
}
