//! What is in `deploy/` is what it should be, as far as tools tell that without a cluster: units, image,
//! compose file and chart are read and rendered by the programs that they are for, and every
//! configuration in them by Lodge itself.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{folder, found, installed, lodge, python, text};

fn deploy(path: &str) -> PathBuf {
    folder().join("../../deploy").join(path)
}

/// A program that came with the Python of the tests.
fn tool(name: &str) -> Command {
    Command::new(python().parent().unwrap().join(name))
}

/// Runs it, which must succeed, and gives its stdout.
fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    text(&output.stdout)
}

fn check_config(kind: &str, config: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("given.toml");
    std::fs::write(&path, config).unwrap();
    let output = lodge(&["check-config", "--kind", kind, path.to_str().unwrap()]);
    assert!(output.status.success(), "{config}\n{}", text(&output.stderr));
    text(&output.stdout)
}

fn helm(settings: &[&str]) -> String {
    let mut helm = Command::new(installed("helm/helm"));
    helm.args(["template", "lodge"]).arg(deploy("helm/lodge"));
    for setting in settings {
        helm.args(["--set", setting]);
    }
    ok(&mut helm)
}

/// The texts of a key of the config maps, with the indentation taken off.
fn configs(rendered: &str, key: &str) -> Vec<String> {
    let begin = format!("  {key}: |");
    let mut found: Vec<String> = Vec::new();
    let mut within = false;
    for line in rendered.lines() {
        if line == begin {
            within = true;
            found.push(String::new());
        } else if within && (line.starts_with("    ") || line.trim().is_empty()) {
            let text = found.last_mut().unwrap();
            text.push_str(line.get(4..).unwrap_or_default());
            text.push('\n');
        } else {
            within = false;
        }
    }
    found
}

const ALL_SETTINGS: &[&str] = &[
    "tls.secret=lodge-tls",
    "objects.options.region=eu-central-1",
    "objects.options.allow_http=true",
    "objects.credentialsSecret=",
    "settings.queries_max=32",
    "query.settings.query_time_max=20s",
    "query.replicas=5",
    "backup.to=s3://backups/lodge",
    "backup.options.region=eu-central-1",
    "imagePullSecrets[0].name=pull",
    "serviceAccount.annotations.role=logs",
];

#[test]
fn the_chart_renders_to_what_kubernetes_knows_and_lodge_takes() {
    ok(Command::new(installed("helm/helm")).args(["lint", "--strict"]).arg(deploy("helm/lodge")));
    let dir = tempfile::tempdir().unwrap();
    let all = [&[][..], &["agent.enabled=false"], ALL_SETTINGS];
    for (n, settings) in all.into_iter().enumerate() {
        let rendered = helm(settings);
        let path = dir.path().join(format!("{n}.yaml"));
        std::fs::write(&path, &rendered).unwrap();
        for version in ["1.25", "1.31"] {
            ok(tool("kubernetes-validate").args(["--strict", "-k", version]).arg(&path));
        }
        let servers = configs(&rendered, "lodge.toml");
        assert_eq!(servers.len(), 3);
        for (role, config) in ["ingest", "query", "build"].into_iter().zip(&servers) {
            let shown = check_config("server", config);
            assert!(shown.contains(&format!("roles = [\"{role}\"]")), "{shown}");
        }
        let agents = configs(&rendered, "agent.toml");
        assert_eq!(agents.len(), usize::from(n != 1));
        agents.iter().for_each(|config| drop(check_config("agent", config)));
        if n == 2 {
            let query = check_config("server", &servers[1]);
            for part in ["queries_max = 32", "query_time_max = \"20s\"", "tls://0.0.0.0:9420"] {
                assert!(query.contains(part), "{part}: {query}");
            }
            assert!(!check_config("server", &servers[0]).contains("query_time_max = \"20s\""));
        }
        check_arguments(&rendered);
    }
}

/// Each container's `args` are a command line that the program understands: one that it does not
/// understand it refuses as such.
fn check_arguments(rendered: &str) {
    for command in ["server", "token create", "backup"] {
        let words: Vec<&str> = command.split(' ').collect();
        let help = text(&lodge(&[words.as_slice(), &["--help"]].concat()).stdout);
        for flag in ["--config", "--to", "--keep", "--quiet", "--name", "--scope", "--option"] {
            let uses = |line: &str| line.trim() == format!("- {flag}");
            let is_backup = command == "backup" && rendered.contains("- backup");
            if is_backup && ["--config", "--to", "--keep", "--quiet", "--option"].contains(&flag) {
                assert!(rendered.lines().any(uses) && help.contains(flag), "{command} {flag}");
            }
            if command == "token create" && ["--config", "--name", "--scope"].contains(&flag) {
                assert!(rendered.lines().any(uses) && help.contains(flag), "{command} {flag}");
            }
        }
    }
    assert!(rendered.contains("path: /health") && rendered.contains("path: /ready"));
}

#[test]
fn the_compose_file_is_one_and_its_servers_have_every_role() {
    let dir = tempfile::tempdir().unwrap();
    let from = deploy("compose");
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    std::fs::write(dir.path().join("agent.token"), "lodge_x\n").unwrap();
    let mut compose = tool("docker-compose");
    compose.arg("-f").arg(dir.path().join("compose.yaml"));
    let rendered = ok(compose.args(["--profile", "tools", "config", "--format", "json"]));
    let rendered: serde_json::Value = serde_json::from_str(&rendered).unwrap();
    let services = rendered["services"].as_object().unwrap();
    let mut roles = Vec::new();
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = Path::new(volume["source"].as_str().unwrap_or_default());
            let Ok(config) = std::fs::read_to_string(source) else { continue };
            match volume["target"].as_str().unwrap() {
                "/etc/lodge/lodge.toml" => {
                    let shown = check_config("server", &config);
                    let role = shown.lines().find(|line| line.starts_with("roles = ")).unwrap();
                    roles.push((name.clone(), role.to_owned()));
                }
                "/etc/lodge/agent.toml" => drop(check_config("agent", &config)),
                _ => {}
            }
        }
    }
    let of = |role: &str| roles.iter().filter(|(_, of)| of.contains(role)).count();
    // The tool that makes tokens has a server's configuration, too.
    assert_eq!((of("ingest"), of("query"), of("build")), (2, 2, 2), "{roles:?}");
    let s3 = std::fs::read_to_string(from.join("s3.json")).unwrap();
    let s3: serde_json::Value = serde_json::from_str(&s3).unwrap();
    let given = &services["build"]["environment"];
    let wanted = &s3["identities"][0]["credentials"][0];
    assert_eq!(given["AWS_ACCESS_KEY_ID"], wanted["accessKey"]);
    assert_eq!(given["AWS_SECRET_ACCESS_KEY"], wanted["secretKey"]);
}

#[test]
fn the_units_are_sound_and_leave_little_open() {
    let dir = tempfile::tempdir().unwrap();
    for (unit, program, exposure) in
        [("lodge-server", "/usr/bin/lodge ", "20"), ("lodge-agent", "/usr/bin/lodge-agent ", "40")]
    {
        let given = std::fs::read_to_string(deploy(&format!("systemd/{unit}.service"))).unwrap();
        assert!(given.contains(&format!("ExecStart={program}")), "{given}");
        // The program is where this build has it.
        let here = format!("{} ", env!("CARGO_BIN_EXE_lodge"));
        let path = dir.path().join(format!("{unit}.service"));
        let given = given.replace("Documentation=man:lodge(1)\n", "");
        std::fs::write(&path, given.replace(program, &here)).unwrap();
        let analyze = || Command::new(found("systemd-analyze"));
        ok(analyze().args(["verify", "--man=no"]).arg(&path));
        // Of 100, of which less is better.
        let mut security = analyze();
        security.args(["security", "--offline=yes", "--no-pager"]);
        ok(security.arg(format!("--threshold={exposure}")).arg(&path));
    }
    for (kind, file) in [("server", "lodge.toml"), ("agent", "agent.toml")] {
        let config = std::fs::read_to_string(deploy(&format!("systemd/{file}"))).unwrap();
        check_config(kind, &config);
    }
}

#[test]
fn the_dockerfile_and_all_yaml_are_clean() {
    ok(tool("hadolint").arg(deploy("docker/Dockerfile")));
    let rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable, \
         braces: {max-spaces-inside: 0}, brackets: {max-spaces-inside: 0}}}";
    let mut lint = tool("yamllint");
    lint.args(["--strict", "-d", rules]);
    for file in ["compose/compose.yaml", "helm/lodge/values.yaml", "helm/lodge/Chart.yaml"] {
        lint.arg(deploy(file));
    }
    ok(&mut lint);
}
