//! CPU seconds that each step of taking records in costs, per GB of requests, without a server: the
//! requests are those of `lodge-bench doors`, and one thread does one step after the other.
//!
//! ```text
//! request ─ decode ─► batch ─ L0 ─► blocks, until 144 MiB or 1 M rows ─ build ─► segment
//!                                   blocks, an eighth of that each ─ build ×8 ─ merge ─► segment
//! ```
//!
//! `cargo run --release --workspace --example intake_cost -- [MB] [protocol,…] [rounds] [step]`,
//! where with a step (`decode`, `l0`, `build`) the ones behind it are left out. The server has its
//! allocator keep freed memory; here that is for the caller to say: `MIMALLOC_PURGE_DELAY=60000
//! MIMALLOC_ALLOW_THP=0`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::path::PathBuf;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use clap::ValueEnum;
use lodge_bench::doors::{DoorsOptions, Protocol, prepare};
use lodge_segment::{l0, segment};
use lodge_wire::{jsonline, loki_push, otlp_logs, snappy};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As `StoreOptions` has them by default.
const BUILD_BYTES: usize = 144 << 20;
const BUILD_ROWS: usize = 1 << 20;
/// Segments of one merge.
const MERGED: usize = 8;
const BODY_BYTES_MAX: usize = 64 << 20;
const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// CPU time of this thread, in seconds.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Adds what `work` takes to `sum_s`.
fn timed<T>(sum_s: &mut f64, work: impl FnOnce() -> T) -> T {
    let before_s = cpu_s();
    let done = work();
    *sum_s += cpu_s() - before_s;
    done
}

fn decode(protocol: Protocol, body: &[u8]) -> Vec<RecordBatch> {
    match protocol {
        Protocol::JsonLines => {
            let options = jsonline::Options {
                msg_fields: vec!["message".to_owned()],
                stream_fields: lodge_bench::workload::Kind::Fleet
                    .stream_fields()
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect(),
                ..jsonline::Options::default()
            };
            jsonline::decode(&options, NOW_NS, body).unwrap().records.into_iter().collect()
        }
        Protocol::OtlpProtobuf => {
            let format = otlp_logs::Format::Protobuf;
            otlp_logs::decode(format, NOW_NS, body, 256 << 20).unwrap().batches
        }
        Protocol::LokiProtobuf => {
            let block = snappy::decompress_block(body, BODY_BYTES_MAX).unwrap();
            loki_push::decode_protobuf(&block, NOW_NS).unwrap().records
        }
        other => panic!("{other:?} is not measured here"),
    }
}

/// CPU seconds of each step.
#[derive(Default)]
struct Costs {
    decode_s: f64,
    l0_s: f64,
    build_s: f64,
    eighths_s: f64,
    merge_s: f64,
}

/// Blocks that wait to be built.
#[derive(Default)]
struct Waiting {
    blocks: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Waiting {
    fn build(&mut self, costs: &mut Costs, with_merge: bool) {
        if self.rows == 0 {
            return;
        }
        let Waiting { blocks, .. } = std::mem::take(self);
        let built = timed(&mut costs.build_s, || segment::build(&blocks).unwrap());
        black_box(&built);
        if !with_merge {
            return;
        }
        let part = blocks.len().div_ceil(MERGED);
        let mut arrow_bytes = 0;
        let mut parts = Vec::new();
        for part in blocks.chunks(part) {
            let (bytes, info) = timed(&mut costs.eighths_s, || segment::build(part).unwrap());
            arrow_bytes += info.arrow_bytes;
            parts.push(Bytes::from(bytes));
        }
        timed(&mut costs.merge_s, || {
            let open = |bytes: &Bytes| segment::Source::open(bytes).unwrap();
            let sources: Vec<segment::Source> = parts.iter().map(open).collect();
            black_box(segment::merge(&sources, arrow_bytes).unwrap());
        });
    }
}

fn round(protocol: Protocol, bodies: &[Bytes], step: &str) -> Costs {
    let mut costs = Costs::default();
    let mut waiting = Waiting::default();
    for body in bodies {
        let batches = timed(&mut costs.decode_s, || decode(protocol, body));
        if step == "decode" {
            continue;
        }
        let section = timed(&mut costs.l0_s, || {
            let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
            let mut out = Vec::with_capacity(bytes);
            let section = l0::append(&mut out, &batches).unwrap();
            black_box(out);
            drop(batches);
            section
        });
        if step == "l0" {
            continue;
        }
        waiting.rows += section.info.rows as usize;
        waiting.bytes += section.info.arrow_bytes as usize;
        waiting.blocks.extend(section.blocks);
        if waiting.rows >= BUILD_ROWS || waiting.bytes >= BUILD_BYTES {
            waiting.build(&mut costs, step != "build");
        }
    }
    waiting.build(&mut costs, step != "build");
    costs
}

fn main() {
    let mut args = std::env::args().skip(1);
    let megabytes: u64 = args.next().map_or(300, |text| text.parse().unwrap());
    let names = args.next().unwrap_or_else(|| "json-lines,otlp-protobuf,loki-protobuf".to_owned());
    let rounds: usize = args.next().map_or(1, |text| text.parse().unwrap());
    let step = args.next().unwrap_or_default();
    let options = DoorsOptions {
        lodge: PathBuf::new(),
        dir: PathBuf::new(),
        protocols: Vec::new(),
        bytes: megabytes * 1_000_000,
        request_bytes: 2_000_000,
        seed: 1,
        rates: Vec::new(),
        flood_s: 0,
        crowds: Vec::new(),
    };
    println!("CPU-s/GB          decode     L0  build   sum | build ×8  merge | µs/record");
    for name in names.split(',') {
        let protocol = Protocol::from_str(name, true).unwrap();
        let made = prepare(&options, protocol).unwrap();
        let gb = made.plain_bytes as f64 / 1e9;
        for _ in 0..rounds {
            let costs = round(protocol, &made.bodies, &step);
            let Costs { decode_s, l0_s, build_s, eighths_s, merge_s } = costs;
            let sum_s = decode_s + l0_s + build_s;
            println!(
                "{name:17} {:6.2} {:6.2} {:6.2} {:5.2} | {:8.2} {:6.2} | {:9.3}",
                decode_s / gb,
                l0_s / gb,
                build_s / gb,
                sum_s / gb,
                eighths_s / gb,
                merge_s / gb,
                sum_s * 1e6 / made.records as f64
            );
        }
    }
}
