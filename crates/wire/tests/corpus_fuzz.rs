//! What fuzzing found worth keeping (`fuzz/corpus`, see `make fuzz`) is decoded again in each run
//! of the tests, with every check of the fuzz targets.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../../fuzz/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

/// What all of the corpus may take in the repository.
const CORPUS_BYTES_MAX: u64 = 600 << 10;

fn corpus() -> PathBuf {
    // Asked when the test runs: a build may be kept over clones in other folders.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../../fuzz/corpus")
}

#[test]
fn every_input_of_the_corpus_holds_the_checks_of_its_target_fuzz() {
    let mut failed = Vec::new();
    for (name, run) in targets::TARGETS {
        let mut files = 0;
        for file in fs::read_dir(corpus().join(name)).unwrap_or_else(|e| panic!("{name}: {e}")) {
            let path = file.unwrap().path();
            let data = fs::read(&path).unwrap();
            files += 1;
            if std::panic::catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
                failed.push(path);
            }
        }
        assert!(files > 0, "the target {name} has no corpus");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_corpus_has_a_folder_for_each_target_and_is_small() {
    let decoders = targets::TARGETS.iter().map(|(name, _)| *name);
    // Queries are none of ours: the tests of lodge-query replay them.
    let known: BTreeSet<_> = decoders.chain(["logsql"]).map(str::to_owned).collect();
    let mut found = BTreeSet::new();
    let mut bytes = 0;
    for folder in fs::read_dir(corpus()).unwrap() {
        let folder = folder.unwrap();
        found.insert(folder.file_name().into_string().unwrap());
        let files = fs::read_dir(folder.path()).unwrap();
        bytes += files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    assert_eq!(found, known);
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes: minimise it (scripts/fuzz minimise)");
}
