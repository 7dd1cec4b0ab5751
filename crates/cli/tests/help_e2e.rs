//! The command line itself: help, versions, configuration.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use support::{lodge, text};

const COMMANDS: [&str; 12] = [
    "server",
    "agent",
    "demo",
    "query",
    "tail",
    "import",
    "ledger",
    "check-config",
    "token",
    "backup",
    "restore",
    "migrate",
];

#[test]
fn every_command_explains_itself_with_examples() {
    let whole = text(&lodge(&["--help"]).stdout);
    assert!(whole.contains("Exit codes:") && whole.contains("Examples:"), "{whole}");
    for command in COMMANDS {
        assert!(whole.contains(&format!("  {command} ")), "{command} is not listed: {whole}");
        let output = lodge(&[command, "--help"]);
        assert!(output.status.success());
        let help = text(&output.stdout);
        assert!(help.contains("Examples:"), "{help}");
        assert!(help.lines().next().unwrap().len() > 20, "{command} has no sentence: {help}");
        // Every flag says what it is for, on its own line or the next.
        let lines: Vec<_> = help.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.trim().starts_with("--")) {
            let said = line.trim().contains("  ")
                || lines.get(i + 1).is_some_and(|l| !l.trim().is_empty());
            assert!(said, "{command}: {line}");
        }
        assert!(!help.contains('\x1b'), "{command}: colours without a terminal");
    }
}

#[test]
fn the_version_is_printed() {
    assert_eq!(
        text(&lodge(&["--version"]).stdout),
        format!("lodge {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_configuration_is_checked_and_explained() {
    let defaults = text(&lodge(&["check-config"]).stdout);
    assert!(defaults.contains("listen = \"127.0.0.1:9420\""), "{defaults}");
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    // What is printed can be read again.
    let path = file("lodge.toml", &defaults);
    let output = lodge(&["check-config", &path]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("is a valid server configuration"));
    let path = file("wrong.toml", "lisen = \"127.0.0.1:1\"\n");
    let output = lodge(&["check-config", &path]);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stderr);
    assert!(shown.contains("did you mean `listen`?") && shown.contains(&path), "{shown}");
    let path =
        file("agent.toml", "[[files]]\npaths = [\"/var/log/*.log\"]\nlabels = { env = \"x\" }\n");
    let output = lodge(&["check-config", &path]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains("is a valid agent configuration"), "{shown}");
    let path = file("agent-again.toml", &shown);
    let again = text(&lodge(&["check-config", &path]).stdout);
    assert_eq!(
        again.lines().skip(1).collect::<Vec<_>>(),
        shown.lines().skip(1).collect::<Vec<_>>()
    );
    let path = file("agent-wrong.toml", "[[files]]\npath = [\"/var/log/*.log\"]\n");
    let output = lodge(&["check-config", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("did you mean `paths`?"), "{}", text(&output.stderr));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let output = lodge(&["server", "--data-dir", &data, "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stderr);
    assert!(shown.contains("other machines can reach it") && shown.contains("lodge token create"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = lodge(&["server", "--data-dir", &data, "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("another program listens there"));
}

#[test]
fn the_demo_writes_its_services_logs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let output = lodge(&["demo", "--dir", &path, "--rate", "2000", "--seconds", "1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files >= 5, "{files} files");
    assert!(text(&output.stderr).contains("wrote "));
}
