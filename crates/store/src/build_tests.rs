//! Plans: which L0s are built and which segments are merged.
#![allow(clippy::unwrap_used)]

use arrow::datatypes::Schema;

use super::*;
use crate::SegmentId;

fn segment(id: u64, tenant: &str, level: u8, arrow_bytes: u64, created_ms: i64) -> Arc<SegmentRef> {
    Arc::new(SegmentRef {
        id: SegmentId(id),
        tenant: tenant.parse().unwrap(),
        level,
        rows: arrow_bytes / 1_000 + 1,
        bytes: arrow_bytes / 4,
        arrow_bytes,
        time_min_ns: 0,
        time_max_ns: 0,
        schema: Arc::new(Schema::empty()),
        streams: None,
        created_ms,
        object_key: "k".into(),
        object_offset: 0,
    })
}

fn ids(plan: &[Arc<SegmentRef>]) -> Vec<u64> {
    plan.iter().map(|s| s.id.0).collect()
}

#[test]
fn young_and_few_l0s_wait() {
    let options = StoreOptions::default();
    let l0 = [segment(1, "a", 0, 1_000, 10_000), segment(2, "a", 0, 1_000, 12_000)];
    assert!(plan_build(&l0, &options, 12_500, false).is_empty());
    assert_eq!(ids(&plan_build(&l0, &options, 13_000, false)), [1, 2]);
    assert_eq!(ids(&plan_build(&l0, &options, 12_500, true)), [1, 2]);
}

#[test]
fn the_tenant_that_waits_longest_is_built_alone() {
    let options = StoreOptions::default();
    let l0 = [
        segment(3, "a", 0, 1_000, 20_000),
        segment(1, "b", 0, 1_000, 10_000),
        segment(4, "b", 0, 1_000, 20_000),
    ];
    assert_eq!(ids(&plan_build(&l0, &options, 90_000, false)), [1, 4]);
}

#[test]
fn a_backlog_is_cut_at_the_size_of_a_segment() {
    let options = StoreOptions::default();
    let each = 5 << 20;
    let l0: Vec<_> = (0..1_000).map(|i| segment(i, "a", 0, each, 0)).collect();
    let plan = plan_build(&l0, &options, 60_000, false);
    assert_eq!(plan.len() as u64, options.built_bytes_max / each);
}

#[test]
fn one_oversized_l0_is_built_by_itself() {
    let options = StoreOptions::default();
    let l0 = [segment(1, "a", 0, 1 << 30, 0), segment(2, "a", 0, 1_000, 0)];
    assert_eq!(ids(&plan_build(&l0, &options, 60_000, false)), [1]);
}

#[test]
fn a_clock_set_back_does_not_keep_l0s_waiting() {
    let options = StoreOptions::default();
    let l0 = [segment(1, "a", 0, 1_000, 1_000_000)];
    assert_eq!(ids(&plan_build(&l0, &options, 5, false)), [1]);
}

#[test]
fn segments_of_one_size_are_merged_once_there_are_enough() {
    let options = StoreOptions::default();
    let small: Vec<_> = (0..8).map(|i| segment(i, "a", 1, 10_000, 0)).collect();
    assert!(plan_merge(&small[..7], &options).is_empty());
    assert_eq!(ids(&plan_merge(&small, &options)), [0, 1, 2, 3, 4, 5, 6, 7]);
    let mut mixed = small[..7].to_vec();
    mixed.push(segment(9, "a", 1, 40 << 20, 0));
    assert!(plan_merge(&mixed, &options).is_empty(), "sizes differ");
    let mut tenants = small[..7].to_vec();
    tenants.push(segment(9, "b", 1, 10_000, 0));
    assert!(plan_merge(&tenants, &options).is_empty(), "tenants differ");
}

#[test]
fn large_segments_are_left_alone() {
    let options = StoreOptions::default();
    let large: Vec<_> = (0..20).map(|i| segment(i, "a", 1, 200 << 20, 0)).collect();
    assert!(plan_merge(&large, &options).is_empty());
}

#[test]
fn segments_that_make_a_large_one_are_merged_though_they_are_few() {
    let options = StoreOptions::default();
    let built: Vec<_> = (0..5).map(|i| segment(i, "a", 1, 60 << 20, 0)).collect();
    assert!(plan_merge(&built[..2], &options).is_empty());
    assert_eq!(ids(&plan_merge(&built[..3], &options)), [0, 1, 2]);
    assert_eq!(ids(&plan_merge(&built, &options)), [0, 1, 2, 3], "what fits one segment");
}

/// A million small segments' worth of records are rewritten a bounded number of times.
#[test]
fn write_amplification_is_bounded_model() {
    let options = StoreOptions::default();
    let mut live: Vec<Arc<SegmentRef>> = Vec::new();
    let (mut brought, mut written, mut next) = (0u64, 0u64, 0u64);
    for _ in 0..4_096 {
        live.push(segment(next, "a", 1, 60 << 10, 0));
        brought += 60 << 10;
        next += 1;
        loop {
            let plan = plan_merge(&live, &options);
            if plan.is_empty() {
                break;
            }
            let bytes: u64 = plan.iter().map(|s| s.arrow_bytes).sum();
            written += bytes;
            live.retain(|s| !plan.iter().any(|p| p.id == s.id));
            live.push(segment(next, "a", 2, bytes, 0));
            next += 1;
        }
    }
    assert!(written <= brought * 4, "{written} bytes written for {brought}");
    assert!(live.len() < 40, "{} segments are left", live.len());
}

#[test]
fn a_commit_that_ends_during_a_build_is_not_forgotten() {
    let options = StoreOptions::default();
    let pending = Pending::default();
    let (first, second) = (segment(1, "a", 0, 1_000, 0), segment(2, "a", 0, 1_000, 0));
    pending.add(std::slice::from_ref(&first));
    let mark = pending.mark();
    let listed = [first];
    pending.add(std::slice::from_ref(&second));
    pending.replace(mark, &listed, &listed);
    assert!(
        pending.is_due(&options, 60_000),
        "the second waits, though nothing else was committed"
    );
    let mark = pending.mark();
    let listed = [second];
    pending.replace(mark, &listed, &listed);
    assert!(pending.is_empty());
}
