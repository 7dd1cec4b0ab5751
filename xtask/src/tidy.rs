//! The house style that a program can check: order of crates, sizes, bans, pages that must exist.
//!
//! Every rule says why. A rule that is broken on purpose is changed here, in the open.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates from bottom to top: one may depend only on those before it.
const ORDER: [&str; 15] = [
    "feature-set",
    "record",
    "wire",
    "segment",
    "logsql",
    "store",
    "ingest",
    "query",
    "spool",
    "agent",
    "bench",
    "server",
    "cli",
    "faults",
    "xtask",
];

/// A file holds one thing; beyond this it holds several.
const FILE_LINES_MAX: usize = 800;
const LINE_COLUMNS_MAX: usize = 100;

/// Pages that describe the project, with the length up to which they are read.
const PAGES: [(&str, usize); 6] = [
    ("README.md", 250),
    ("ARCHITECTURE.md", 300),
    ("GUARANTEES.md", 200),
    ("CONTRIBUTING.md", 120),
    ("CHANGELOG.md", 1000),
    ("crates/segment/FORMAT.md", 400),
];

/// What may not stand in a source file, and why.
fn bans() -> Vec<(String, &'static str)> {
    // Put together from halves, so that this file does not break its own rules.
    let word = |a: &str, b: &str| format!("{a}{b}");
    vec![
        (word("TO", "DO"), "open work is an issue, not a comment"),
        (word("FIX", "ME"), "open work is an issue, not a comment"),
        (word("#[ig", "nore"), "a skipped test is a defect"),
        (word("todo", "!("), "no stubs"),
        (word("unimplem", "ented!("), "no stubs"),
        (word("dbg", "!("), "debugging output"),
        (word("uns", "afe {"), "the workspace forbids it"),
    ]
}

const NAMES_BANNED: [&str; 7] = ["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// Checks every rule; all that is broken is listed.
pub fn run() -> Result<(), String> {
    let mut broken = Vec::new();
    let files = tracked_files()?;
    for file in &files {
        check_name(file, &mut broken);
        if is_source(file) {
            check_source(file, &mut broken)?;
        }
    }
    check_order(&mut broken)?;
    check_pages(&mut broken)?;
    if broken.is_empty() {
        return Ok(());
    }
    broken.sort();
    Err(format!("{} broken rules of style:\n{}", broken.len(), broken.join("\n")))
}

fn tracked_files() -> Result<Vec<PathBuf>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(list.lines().map(PathBuf::from).filter(|path| path.is_file()).collect())
}

fn is_source(file: &Path) -> bool {
    matches!(file.extension().and_then(|e| e.to_str()), Some("rs" | "ts" | "svelte" | "mjs"))
}

fn check_name(file: &Path, broken: &mut Vec<String>) {
    let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    if NAMES_BANNED.contains(&stem) {
        broken.push(format!("{}: a name that says nothing", file.display()));
    }
}

fn check_source(file: &Path, broken: &mut Vec<String>) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        broken.push(format!("{}: {lines} lines, over {FILE_LINES_MAX}", file.display()));
    }
    let rust = file.extension().is_some_and(|e| e == "rs");
    if rust && !text.starts_with("//!") && !text.starts_with("#!") {
        broken.push(format!("{}: does not open with what it is (//!)", file.display()));
    }
    for (at, line) in text.lines().enumerate() {
        let place = || format!("{}:{}", file.display(), at + 1);
        let columns = line.chars().count();
        // A long literal cannot be broken; long code can.
        if rust && columns > LINE_COLUMNS_MAX && !line.contains('"') && !line.contains("//") {
            broken.push(format!("{}: {columns} columns", place()));
        }
        for (ban, why) in bans() {
            if line.contains(&ban) {
                broken.push(format!("{}: {ban}: {why}", place()));
            }
        }
    }
    Ok(())
}

/// Dependencies between the crates go one way.
fn check_order(broken: &mut Vec<String>) -> Result<(), String> {
    for (rank, name) in ORDER.iter().enumerate() {
        let folder =
            if *name == "xtask" { PathBuf::from("xtask") } else { Path::new("crates").join(name) };
        let manifest = folder.join("Cargo.toml");
        let text =
            fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
        let normal = text.split("[dev-dependencies]").next().unwrap_or_default();
        for line in normal.lines() {
            let Some(used) = line.strip_prefix("lodge-") else { continue };
            let used: String =
                used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            match ORDER.iter().position(|known| *known == used) {
                Some(place) if place < rank => {}
                _ => broken.push(format!(
                    "{}: lodge-{used} is not below {name} in the order of crates",
                    manifest.display()
                )),
            }
        }
    }
    let crates = fs::read_dir("crates").map_err(|e| format!("crates: {e}"))?;
    for entry in crates.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !ORDER.contains(&name.as_str()) {
            broken.push(format!("crates/{name}: not in the order of crates (xtask/src/tidy.rs)"));
        }
    }
    Ok(())
}

fn check_pages(broken: &mut Vec<String>) -> Result<(), String> {
    let adrs = fs::read_dir("docs/adr").map_err(|e| format!("docs/adr: {e}"))?;
    let adrs = adrs.flatten().map(|entry| (entry.path().to_string_lossy().into_owned(), 60));
    for (page, lines_max) in PAGES.map(|(p, n)| (p.to_owned(), n)).into_iter().chain(adrs) {
        match fs::read_to_string(&page) {
            Err(error) => broken.push(format!("{page}: {error}")),
            Ok(text) if text.lines().count() > lines_max => {
                broken.push(format!("{page}: {} lines, over {lines_max}", text.lines().count()));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}
