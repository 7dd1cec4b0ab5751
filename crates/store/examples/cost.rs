//! CPU seconds that commit and build take for records like a fleet's, per GB of their JSON.
//!
//! `cargo run --release -p lodge-store --example cost [records]`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use lodge_record::builder::BatchBuilder;
use lodge_record::{Batch, TenantId};
use lodge_store::{Store, StoreOptions};

const BATCH_ROWS: u64 = 20_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A batch, and about the bytes its records had as JSON lines.
fn batch(random: &mut Random, from: u64) -> (Batch, usize) {
    let mut builder = BatchBuilder::new();
    let mut bytes = 0;
    let mut trace = String::new();
    for row in 0..BATCH_ROWS {
        let r = random.next();
        let service = format!("service-{}", r % 20);
        let host = format!("host-{:03}", (r >> 8) % 200);
        let pod = format!("{service}-{:x}", (r >> 8) % 400);
        let level = ["info", "info", "info", "debug", "warn", "error"][(r >> 20) as usize % 6];
        if row % 5 == 0 {
            trace = format!("{:016x}{:016x}", random.next(), random.next());
        }
        let message = format!(
            "request {} to /api/v{}/items/{} from 10.{}.{}.{} took {} ms and gave status {}",
            random.next() % 100_000,
            r % 3,
            random.next() % 10_000_000,
            r % 256,
            (r >> 16) % 256,
            (r >> 24) % 256,
            r % 4_000,
            200 + r % 5
        );
        bytes += 210
            + service.len()
            + host.len()
            + pod.len()
            + level.len()
            + trace.len()
            + message.len();
        builder.message(&message);
        builder.field_str("kubernetes.host", &host);
        builder.field_str("kubernetes.pod.name", &pod);
        builder.field_str("kubernetes.namespace", "prod");
        builder.field_str("level", level);
        builder.field_str("service", &service);
        builder.field_str("trace_id", &trace);
        if row % 3 == 0 {
            builder.field_i64("duration_ms", (r % 4_000) as i64);
            builder.field_i64("bytes", (random.next() % 1_000_000) as i64);
        }
        let stream = builder.stream(&format!("{{pod=\"{pod}\",service=\"{service}\"}}"));
        let time = 1_700_000_000_000_000_000 + ((from + row) * 50_000) as i64;
        builder.finish_row(time, stream);
    }
    let records = builder.finish().unwrap();
    (Batch::new(TenantId::default(), None, None, records).unwrap(), bytes)
}

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::main]
async fn main() {
    let records: u64 = std::env::args().nth(1).map_or(1_400_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { disk_reserve_bytes: Some(0), ..StoreOptions::default() };
    let store = Store::open(dir.path(), options).await.unwrap();
    let mut random = Random(42);
    let (mut raw, mut commit_s, mut build_s, mut arrow) = (0usize, 0.0, 0.0, 0usize);
    let mut waiting = 0;
    for from in (0..records).step_by(BATCH_ROWS as usize) {
        let (batch, bytes) = batch(&mut random, from);
        raw += bytes;
        arrow += batch.bytes();
        let before = cpu_s();
        store.commit(vec![batch]).await.unwrap();
        commit_s += cpu_s() - before;
        waiting += bytes;
        if waiting > 150 << 20 {
            waiting = 0;
            let before = cpu_s();
            store.wait_built().await;
            build_s += cpu_s() - before;
        }
    }
    let before = cpu_s();
    store.wait_built().await;
    build_s += cpu_s() - before;
    let gb = raw as f64 / 1e9;
    let stats = store.stats();
    println!("{} records, {gb:.2} GB raw, {:.2} GB in memory", stats.rows, arrow as f64 / 1e9);
    println!("commit {:.2} CPU-s/GB, build {:.2} CPU-s/GB", commit_s / gb, build_s / gb);
    println!(
        "L0 {} MB, segments {} MB in {}, {} builds, {} merges, peak {} MB",
        stats.committed_bytes / 1_000_000,
        stats.bytes / 1_000_000,
        stats.built_segments,
        stats.builds,
        stats.merges,
        resident_mb()
    );
}
