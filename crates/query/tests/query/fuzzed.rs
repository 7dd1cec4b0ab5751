//! What fuzzing found worth keeping of queries (`fuzz/corpus`, see `make fuzz`) is asked again in each run
//! of the tests, with every check of the fuzz targets.

#[path = "../../../../fuzz/queries.rs"]
mod queries;

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

#[test]
fn every_query_of_the_corpus_holds_the_checks_of_its_target_fuzz() {
    // Asked when the test runs: a build may be kept over clones in other folders.
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let mut failed = Vec::new();
    for (name, run) in queries::TARGETS {
        let folder = root.join("../../fuzz/corpus").join(name);
        let mut files = 0;
        for file in fs::read_dir(folder).unwrap_or_else(|e| panic!("{name}: {e}")) {
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
