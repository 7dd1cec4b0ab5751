//! `cargo xtask ci`: everything that must hold before a change lands. `cargo xtask tidy`: the house
//! style, as far as a program can check it.

mod tidy;

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let outcome = match task.as_str() {
        "ci" => ci(),
        "tidy" => tidy::run(),
        _ => Err("usage: cargo xtask ci | tidy".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            say(&trouble);
            ExitCode::FAILURE
        }
    }
}

/// Format, lints, tidy. The tests have their own command, `make test`, which calls this first.
fn ci() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::run()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn cargo(args: &[&str]) -> Result<(), String> {
    say(&format!("cargo {}", args.join(" ")));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(args)
        .status()
        .map_err(|error| format!("cargo {} could not be started: {error}", args.join(" ")))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", args.join(" "))) }
}

#[allow(clippy::print_stderr)]
fn say(text: &str) {
    eprintln!("xtask: {text}");
}
