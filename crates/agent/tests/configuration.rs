//! The agent's configuration file: what it means, and what it says when it is wrong.
#![allow(clippy::unwrap_used)]

use lodge_agent::{AgentConfig, JournalMode, Start};

#[test]
fn a_full_file() {
    let config = AgentConfig::parse(
        r#"
        servers = ["http://a:9420", "http://b:9420/"]
        state_dir = "/tmp/state"
        host = "web-1"
        [journal]
        enabled = "auto"
        start = "end"
        [[files]]
        paths = ["/var/log/**/*.log"]
        exclude = ["/var/log/noise*.log"]
        multiline = "off"
        start = "end"
        labels = { env = "prod" }
        [[files]]
        paths = ["/srv/*.log"]
        "#,
    )
    .unwrap();
    assert_eq!(config.servers.len(), 2);
    assert_eq!(config.host, "web-1");
    assert_eq!(config.journal.mode, JournalMode::Auto);
    assert_eq!(config.journal.start, Start::End);
    assert_eq!(config.files[0].multiline.text(), "\"off\"");
    assert_eq!(config.files[0].start, Start::End);
    assert_eq!(config.files[0].labels["env"], "prod");
    assert_eq!(config.files[1].multiline.text(), "\"auto\"");
    assert_eq!(config.files[1].start, Start::Beginning);
}

#[test]
fn mistakes_are_named_with_the_way_to_mend_them() {
    for (text, expected) in [
        ("", "nothing to read"),
        ("sever = []", "unknown key `sever` in the file; did you mean `servers`?"),
        ("[[files]]\npath = ['x']", "unknown key `path` in [[files]]; did you mean `paths`?"),
        ("[journal]\nwhatever = 1", "known keys are enabled, start, labels"),
        ("[[files]]\npaths = []", "name at least one glob"),
        ("[[files]]\npaths = ['/a/**b']", "glob \"/a/**b\""),
        ("servers = ['logs:9420']\n[journal]\nenabled='auto'", "http://HOST:PORT"),
        ("servers = ['https://logs']\n[journal]\nenabled='auto'", "TLS"),
        ("servers = ['http://a/b']\n[journal]\nenabled='auto'", "http://HOST:PORT"),
        ("[[files]]\npaths = 'x'", "expected a sequence"),
        ("[[files]]\npaths = ['x']\nstart = 'middle'", "unknown variant `middle`"),
        ("a =", "TOML parse error"),
    ] {
        let error = AgentConfig::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?} gave {error:?}");
    }
}
