//! libFuzzer on one target: `LODGE_FUZZ_TARGET=gelf lodge-fuzz corpus/gelf`. All targets are one
//! program, so that what they share is built and linked once; see `scripts/fuzz`.
#![no_main]

mod queries;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let run = TARGET.get_or_init(|| {
        // Some decoders catch panics of the libraries below them. Only one that gets here is a
        // finding, and libFuzzer's own hook would end the process at any.
        std::panic::set_hook(Box::new(|_| {}));
        let name = std::env::var("LODGE_FUZZ_TARGET").unwrap_or_default();
        let mut targets = targets::TARGETS.iter().chain(&queries::TARGETS);
        let known = targets.find(|(known, _)| *known == name);
        known.unwrap_or_else(|| fail(&format!("LODGE_FUZZ_TARGET={name:?} is no target"))).1
    });
    if let Err(panic) = std::panic::catch_unwind(|| run(data)) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        fail(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text"));
    }
});

fn fail(text: &str) -> ! {
    eprintln!("lodge-fuzz: {text}");
    std::process::abort();
}
