//! Commits per second of a catalog with 10,000 producers, by the number of writers.
//!
//! `cargo run --release --example catalog [postgres://… | FILE] [seconds] [producers per commit]`
//!
//! Each commit adds one segment and advances some producers that no other writer has, as servers
//! do whose agents keep to them.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Schema};
use lodge_record::{ProducerId, TenantId, schema};
use lodge_store::catalog::{Catalog, NewSegment, PostgresCatalog, ProducerAdvance, SqliteCatalog};
use lodge_store::{LedgerEntry, ProducerState};

const PRODUCERS: u64 = 10_000;

fn segment(key: String) -> NewSegment {
    let mut fields = schema::leading_fields().to_vec();
    fields[1] = fields[1].clone().with_data_type(DataType::Utf8);
    NewSegment {
        tenant: TenantId::default(),
        level: 0,
        object_key: key.into(),
        object_offset: 0,
        bytes: 100_000,
        rows: 1_000,
        arrow_bytes: 400_000,
        time_min_ns: 0,
        time_max_ns: 1,
        schema: Arc::new(Schema::new(fields)),
        streams: Some(vec!["{service=\"cart\",host=\"host-17\"}".to_owned(); 20].into()),
        created_ms: 1,
    }
}

fn step(producer: u64, from: u64) -> ProducerAdvance {
    ProducerAdvance {
        tenant: TenantId::default(),
        producer: ProducerId::derive(&[&producer.to_le_bytes()]),
        from: (from > 0).then_some((1, from)),
        to: ProducerState { epoch: 1, seq: from + 1, position: None },
        entry: Some(LedgerEntry { source: "/var/log/app.log".into(), ..LedgerEntry::default() }),
        forget_ms: None,
    }
}

async fn write(
    catalog: Arc<dyn Catalog>,
    own: std::ops::Range<u64>,
    at_once: u64,
    seqs: Vec<u64>,
    until: Instant,
) -> (u64, Vec<Duration>, Vec<u64>) {
    let (mut seqs, mut took, mut done, mut next) = (seqs, Vec::new(), 0, 0);
    let count = own.end - own.start;
    while Instant::now() < until {
        let picked: Vec<u64> = (0..at_once).map(|i| (next + i) % count).collect();
        next = (next + at_once) % count;
        let steps: Vec<_> = picked.iter().map(|i| step(own.start + i, seqs[*i as usize])).collect();
        let key = format!("l0/{}", uuid::Uuid::now_v7().simple());
        let begun = Instant::now();
        catalog.commit(&[segment(key)], &steps).await.unwrap().unwrap();
        took.push(begun.elapsed());
        picked.iter().for_each(|i| seqs[*i as usize] += 1);
        done += 1;
    }
    (done, took, seqs)
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let place = args.next().unwrap_or_else(|| "catalog-cost.db".to_owned());
    let seconds: u64 = args.next().map_or(10, |text| text.parse().unwrap());
    let at_once: u64 = args.next().map_or(20, |text| text.parse().unwrap());
    let catalog: Arc<dyn Catalog> = match place.starts_with("postgres") {
        true => Arc::new(PostgresCatalog::open(&place).await.unwrap()),
        false => Arc::new(SqliteCatalog::open(Path::new(&place)).await.unwrap()),
    };
    for chunk in (0..PRODUCERS).collect::<Vec<_>>().chunks(1_000) {
        let steps: Vec<_> = chunk.iter().map(|p| step(*p, 0)).collect();
        catalog.commit(&[], &steps).await.unwrap().expect("a catalog without these producers");
    }
    let mut seqs = vec![1u64; PRODUCERS as usize];
    for writers in [1u64, 4, 16] {
        let share = PRODUCERS / writers;
        let begun = Instant::now();
        let until = begun + Duration::from_secs(seconds);
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let own = writer * share..(writer + 1) * share;
                let of = seqs[own.start as usize..own.end as usize].to_vec();
                tokio::spawn(write(Arc::clone(&catalog), own, at_once, of, until))
            })
            .collect();
        let (mut commits, mut took) = (0, Vec::new());
        for (writer, task) in tasks.into_iter().enumerate() {
            let (done, mut times, after) = task.await.unwrap();
            commits += done;
            took.append(&mut times);
            let start = writer * share as usize;
            seqs[start..start + after.len()].copy_from_slice(&after);
        }
        let passed = begun.elapsed().as_secs_f64();
        took.sort_unstable();
        let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1e3;
        println!(
            "{writers:>2} writers, {at_once} producers a commit: {:>6.0} commits/s; \
             {:.2} ms in the median, {:.2} ms at p99",
            commits as f64 / passed,
            at(50),
            at(99)
        );
    }
    let begun = Instant::now();
    let tenant = TenantId::default();
    catalog.snapshot_to_keep(&tenant, None).await.unwrap();
    let whole = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..100 {
        if catalog.kept(&tenant).is_none() {
            catalog.snapshot_to_keep(&tenant, None).await.unwrap();
        }
    }
    let again = begun.elapsed() / 100;
    println!("list read whole: {whole:?}; asked again: {again:?}");
    catalog.close().await;
}
