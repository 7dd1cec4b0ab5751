//! Builds the crate again when the web app was built: the files of `ui/dist` are embedded, and the
//! compiler alone would not notice that the folder appeared or got another file.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui");
    if !ui.is_dir() {
        return;
    }
    let dist = ui.join("dist");
    // Cargo takes a missing path for a changed one and would build every time.
    if let Err(error) = std::fs::create_dir_all(&dist) {
        println!("cargo::warning=cannot make {}: {error}", dist.display());
        return;
    }
    println!("cargo::rerun-if-changed={}", dist.display());
}
