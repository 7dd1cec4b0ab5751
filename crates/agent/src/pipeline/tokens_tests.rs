//! Tables of credentials and of what only looks like one.
//! The credentials are put together from parts, so that no scanner of repositories stops at them.

use super::*;

fn hidden(text: &str) -> String {
    let mut places = Vec::new();
    Tokens::compile().find(text.as_bytes(), |place| places.push(place));
    places.sort_by_key(|place| place.start);
    let mut out = text.to_owned();
    for place in places.into_iter().rev() {
        if place.end <= out.len() {
            out.replace_range(place, "#");
        }
    }
    out
}

fn repeat(head: &str, part: &str, count: usize) -> String {
    format!("{head}{}", part.repeat(count))
}

#[test]
fn tokens_are_known_by_their_first_characters() {
    let jwt = format!("{}.{}.{}", repeat("eyJ", "hb1", 6), repeat("eyJ", "zd2", 8), "sig_-9");
    let key =
        ["-----BEGIN RSA PRIVATE ", "KEY-----\nMIIEab\ncd==\n", "-----END RSA PRIVATE KEY-----"];
    for token in [
        jwt,
        repeat("AKIA", "A2B3", 4),
        repeat("ASIA", "Z9Y8", 4),
        repeat("ghp_", "aB3d", 9),
        repeat("ghs_", "aB3d", 9),
        repeat("github_pat_", "a_B3", 9),
        repeat("glpat-", "x-Y_1", 4),
        repeat("xoxb-", "123-ab", 4),
        repeat("sk_live_", "4eC39", 5),
        repeat("rk_test_", "4eC39", 5),
        repeat("AIza", "Sy_-9", 7),
        repeat("npm_", "aB3d", 9),
        repeat("pypi-", "AgEIc", 12),
        format!("SG.{}.{}", "aB3_".repeat(5), "x-Y9".repeat(10)),
        repeat("hvs.", "CAES", 7),
        repeat("dop_v1_", "0af9", 16),
        repeat("hooks.slack.com/services/", "T0/B1", 4),
        key.concat(),
    ] {
        assert_eq!(hidden(&format!("before {token} after")), "before # after", "{token}");
        assert_eq!(hidden(&format!("\"{token}\",x")), "\"#\",x", "{token}");
    }
    let open = "-----BEGIN PRIVATE ".to_owned() + "KEY-----\nMIIEab\ncut off";
    assert_eq!(hidden(&open), "#");
}

#[test]
fn values_behind_a_telling_word_are_hidden() {
    for (text, expected) in [
        ("password=hunter2 ok", "password=# ok"),
        ("Password: hunter2", "Password: #"),
        ("passwd='hun ter2' x", "passwd='#' x"),
        ("PASSWORD = \"hun \\\" ter2\" x", "PASSWORD = \"#\" x"),
        (r#"{"password":"hunter2","a":1}"#, r##"{"password":"#","a":1}"##),
        (r#"{"db_password": "a\\","b":"c"}"#, r##"{"db_password": "#","b":"c"}"##),
        (r#"body={\"password\":\"hunter2\",\"a\":1}"#, r##"body={\"password\":\"#\",\"a\":1}"##),
        (r#"{"password":12345}"#, r##"{"password":#}"##),
        (r#"{"passwords":["a","b"],"c":1}"#, r##"{"passwords":#,"c":1}"##),
        ("{password=x,user=bob}", "{password=#,user=bob}"),
        ("(password=a,b;c)", "(password=#)"),
        ("/login?user=bob&password=a%20b&next=/", "/login?user=bob&password=#&next=/"),
        ("pwd=hunter2", "pwd=#"),
        ("client_secret=abc", "client_secret=#"),
        ("aws_secret_access_key = ab/cd+ef", "aws_secret_access_key = #"),
        ("secretAccessKey: ab/cd", "secretAccessKey: #"),
        ("api_key=k1 API-KEY: k2 apikey=k3", "api_key=# API-KEY: # apikey=#"),
        ("X-Api-Key: abc", "X-Api-Key: #"),
        ("access_token=abc&x=1", "access_token=#&x=1"),
        ("token=abcdef x", "token=# x"),
        (r#"{"token":"abcdef"}"#, r##"{"token":"#"}"##),
        ("Authorization: Bearer abc.def", "Authorization: #"),
        ("authorization: Basic dTpw, x", "authorization: #, x"),
        (r#""Authorization":"Bearer abc""#, r##""Authorization":"#""##),
        ("sent Bearer abc123def456 to", "sent Bearer # to"),
        ("curl with basic dXNlcjpwYXNz", "curl with basic #"),
        ("postgres://app:hunter2@db:5432/x", "postgres://app:#@db:5432/x"),
        ("redis://:p@ss@cache", "redis://:#@cache"),
        ("x-amz-signature=0af1&y=2", "x-amz-signature=#&y=2"),
    ] {
        assert_eq!(hidden(text), expected, "{text}");
    }
}

#[test]
fn what_only_looks_like_a_secret_stays() {
    for text in [
        "Failed password for root from 10.0.0.1 port 22 ssh2",
        "root : TTY=pts/0 ; PWD=/root ; USER=root ; COMMAND=/bin/ls",
        "unexpected token: } at line 3",
        "window AppWindowToken{9f4ef63 token=Token{a64f992 u0}}",
        "used tokens=4096 max_tokens: 5",
        "password: null secret=none token=x api_key=",
        "password=*** ",
        "Basic authentication is on, bearer of bad news",
        "the key is missing; keys: 3, keyboard=us, monkey=1",
        "Time zone Asia/Tokyo and msg.body, eyJ alone",
        "see https://example.com:8443/a@b and http://host/x",
        "AKIA12 is too short",
    ] {
        assert_eq!(hidden(text), text);
    }
}

#[test]
fn names_of_fields_tell_too() {
    let hides =
        |name: &str, value: &str| SecretName::of(name).is_some_and(|n| n.hides(value, false));
    for name in [
        "password",
        "db.password",
        "DB_PASSWORD",
        "clientSecret",
        "api-key",
        "x_api_key",
        "accessToken",
        "auth.refresh_token",
        "token",
        "password2",
        "passwords",
        "password#2",
        "http.headers.authorization",
        "device_token",
        "pwd",
    ] {
        assert!(hides(name, "x1"), "{name}");
    }
    for name in ["message", "tokens", "keyboard", "key", "password_reset", "secret.name", "author"]
    {
        assert!(!hides(name, "x1"), "{name}");
    }
    assert!(!hides("password", "") && !hides("password", "null") && !hides("pwd", "/root"));
    let token = SecretName::of("token").expect("it is one");
    assert!(!token.hides("4096", true) && token.hides("4096", false));
}

/// Each of these made an earlier, plainer search look at the rest of the text again and again.
#[test]
fn hostile_texts_take_no_time() {
    for part in [
        "password=[",
        "password=\"",
        "tokens=[",
        "PWD=/",
        "password=)",
        "://a:b",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "secret:",
        ",",
        "a@",
        "key=\\",
    ] {
        let text = format!("password={}", part.repeat((1 << 20) / part.len()));
        Tokens::compile().find(text.as_bytes(), |_| ());
    }
}
