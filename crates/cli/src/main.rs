//! `lodge`: the one binary that runs the server and the agent, asks, follows and imports.
//!
//! A command is a module with its flags, its help and its `run`. Invariants: results go to stdout,
//! everything else to stderr; a failure says what, where and how to mend it ([`failure`]); no log
//! text reaches a terminal unescaped ([`terminal`]).

mod agent;
mod allocator;
mod answer;
mod backup;
mod check_config;
mod client;
mod copying;
mod demo;
mod explain;
mod failure;
mod import;
mod ledger;
mod migrate;
mod patterns;
mod query;
mod restore;
mod row;
mod serve;
mod table;
mod tail;
mod terminal;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const AFTER_HELP: &str = "\
Examples:
  lodge server                                    start; then open http://127.0.0.1:9420
  lodge import '/var/log/*.log'                   take files in
  lodge query 'error' --since 1h                  search
  lodge tail '*'                                  watch

Exit codes: 0 done; 1 failed; 2 wrong command line, configuration or query; 3 the server cannot be
reached or is overloaded, try again; 4 not all rows were found (with --partial); 130 interrupted.
Environment: LODGE_SERVER, the server's address; LODGE_TOKEN, the API token, if it wants one;
LODGE_LOG, what server and agent log; NO_COLOR.";

/// Lodge collects the logs of a fleet, stores them small and finds any line at once.
#[derive(Parser, Debug)]
#[command(name = "lodge", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Lodge {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Server(serve::ServerArgs),
    Agent(agent::AgentArgs),
    Demo(demo::DemoArgs),
    #[command(visible_alias = "export")]
    Query(query::QueryArgs),
    Tail(tail::TailArgs),
    Import(import::ImportArgs),
    Ledger(ledger::LedgerArgs),
    CheckConfig(check_config::CheckConfigArgs),
    Token(token::TokenArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Migrate(migrate::MigrateArgs),
}

fn main() -> ExitCode {
    let command = Lodge::parse().command;
    if matches!(command, Command::Server(_) | Command::Import(_)) {
        allocator::keep_freed_memory();
    }
    let outcome = match command {
        Command::Server(args) => serve::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Ledger(args) => ledger::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Migrate(args) => migrate::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
