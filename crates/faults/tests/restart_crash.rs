//! A restart with many small L0 objects lying about: the first answer is right. How long it took is
//! printed, not asserted.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::time::Instant;

use support::server;

const REQUESTS: u64 = 1_000;

#[test]
fn the_first_answer_after_a_restart_with_many_l0s_is_right_crash() {
    let mut bench = server();
    for i in 0..REQUESTS {
        bench.insert_ok(format!("{{\"_msg\":\"small batch {i}\",\"n\":{i}}}\n").as_bytes());
    }
    let l0s = bench.far_end.l0_segments().unwrap();
    bench.server.kill();
    let started = Instant::now();
    bench.server.launch().unwrap();
    let (rows, count) = loop {
        // The first answer is the first that comes, right or wrong.
        match bench.far_end.count("*") {
            Ok(count) => break (bench.rows("* | stats sum(n) as n, max(n) as last"), count),
            Err(_) => assert!(bench.server.is_running(), "{}", bench.server.process().log_tail()),
        }
    };
    println!("{l0s} L0 objects: first answer {:.2} s after the start", {
        started.elapsed().as_secs_f64()
    });
    assert_eq!(count, REQUESTS);
    assert_eq!(rows[0]["n"], (REQUESTS * (REQUESTS - 1) / 2).to_string());
    assert_eq!(rows[0]["last"], (REQUESTS - 1).to_string());
    bench.wait_built();
    assert_eq!(bench.count("*"), REQUESTS);
    bench.assert_unharmed();
}
