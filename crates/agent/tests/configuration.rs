//! The agent's configuration file: what it means, and what it says when it is wrong.
#![allow(clippy::unwrap_used)]

use lodge_agent::parse::format::Format;
use lodge_agent::{AgentConfig, ContainersMode, JournalMode, KubernetesApi, Start};

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
        [containers]
        enabled = "auto"
        exclude = ["/var/log/pods/kube-system_*/**"]
        kubernetes = "http://127.0.0.1:8001"
        [[files]]
        paths = ["/srv/*.log"]
        [[files]]
        paths = ["/srv/own/*.log"]
        multiline = { begins = '^\d{4}-' }
        format = "syslog"
        pattern = ['^%{IP:client.address} ', '(?<a>x)']
        zone = "CET-1CEST,M3.5.0,M10.5.0/3"
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
    assert_eq!(config.containers.mode, ContainersMode::Auto);
    assert_eq!(config.containers.kubernetes, KubernetesApi::At("http://127.0.0.1:8001".into()));
    let own = &config.files[2];
    assert_eq!(own.multiline.text(), r#"{ begins = "^\\d{4}-" }"#);
    assert_eq!(own.format, Format::Syslog);
    assert!(own.patterns.is_some() && own.zone.is_some());
}

#[test]
fn labels_of_all_sources_and_variables() {
    let config = AgentConfig::parse(
        r#"
        host = "web-${LODGE_NOT_SET:-7}"
        labels = { env = "prod", zone = "${LODGE_NOT_SET:-eu}" }
        [journal]
        enabled = "auto"
        servers = ["http://audit:9420"]
        [[files]]
        paths = ["/var/log/*.log"]
        labels = { env = "test", binary = "${CARGO_PKG_NAME}" }
        servers = ["http://c:9420"]
        "#,
    )
    .unwrap();
    assert_eq!(config.host, "web-7");
    assert_eq!((&*config.journal.labels["env"], &*config.journal.labels["zone"]), ("prod", "eu"));
    assert_eq!(config.journal.servers, ["http://audit:9420"]);
    let labels = &config.files[0].labels;
    let of_file = ["env", "zone", "binary"].map(|name| labels[name].as_str());
    assert_eq!(of_file, ["test", "eu", "lodge-agent"]);
    assert_eq!(config.files[0].servers, ["http://c:9420"]);
}

#[test]
fn mistakes_in_the_pipeline_are_named() {
    let rule = |when: &str, then: &str| {
        format!("[[rules]]\nname = 'r'\nwhen = {{ {when} }}\nthen = {then}")
    };
    for (text, expected) in [
        ("labels = { a = '${LODGE_NOT_SET}' }".into(), "LODGE_NOT_SET is not set"),
        ("labels = { _msg = 'x' }".into(), "cannot be the name of a label"),
        ("[redact]\nbuilt = []".into(), "did you mean `builtin`?"),
        ("[redact]\nbuiltin = ['cards']".into(), "unknown variant `cards`"),
        ("[[redact.patterns]]\nname = 'p'\nregexp = 'x'".into(), "did you mean `regex`?"),
        ("[[redact.patterns]]\nname = 'p'\nregex = '('".into(), "redact.patterns.regex"),
        ("[[redact.patterns]]\nname = 'card'\nregex = 'x'".into(), "is taken"),
        (rule("a = { match = 'x' }", "'drop'"), "`rules.r.when.a.match`: is no test"),
        (rule("a = { matches = '(' }", "'drop'"), "rules.r.when.a.matches"),
        (rule("level = { below = 'loud' }", "'drop'"), "one of the levels trace, debug"),
        (rule("not = 'x'", "'drop'"), "takes a table of tests"),
        (rule("", "'drop'"), "would drop everything"),
        (rule("a = 1", "'dorp'"), "takes \"drop\", \"keep\""),
        (rule("a = 1", "{ sample = 2 }"), "a share from 0 to 1"),
        (rule("a = 1", "{ labels = { _time = 'x' } }"), "cannot be the name of a label"),
        ("[vrl]\nprogram = '.'\nfile = 'x'".into(), "either `program` or `file`"),
        #[cfg(not(feature = "vrl"))]
        ("[vrl]\nprogram = '.'".into(), "--features vrl"),
    ] {
        let text: String = text;
        let text = format!("{text}\n[[files]]\npaths = ['x']");
        let error = AgentConfig::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?} gave {error:?}");
    }
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
        ("servers = ['https:logs']\n[journal]\nenabled='auto'", "https://HOST:PORT"),
        ("client_key = '/k'\n[journal]\nenabled='auto'", "go together"),
        ("servers = ['http://a/b']\n[journal]\nenabled='auto'", "http://HOST:PORT"),
        ("[[files]]\npaths = 'x'", "expected a sequence"),
        ("[[files]]\npaths = ['x']\nstart = 'middle'", "unknown variant `middle`"),
        ("[[files]]\npaths = ['x']\nformat = 'xml'", "unknown variant `xml`"),
        ("[[files]]\npaths = ['x']\npattern = '%{NOPE:a}'", "unknown part `NOPE`"),
        ("[[files]]\npaths = ['x']\nzone = 'Europa/Berlin'", "POSIX rule"),
        ("[[files]]\npaths = ['x']\nmultiline = { begins = '(' }", "unclosed group"),
        ("[[files]]\npaths = ['x']\nmultiline = { starts = 'x' }", "unknown variant `starts`"),
        ("[containers]\nenable = 'auto'", "did you mean `enabled`?"),
        ("[containers]\nenabled = 'auto'\nkubernetes = 'of course'", "kubectl proxy"),
        ("a =", "TOML parse error"),
    ] {
        let error = AgentConfig::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?} gave {error:?}");
    }
}
