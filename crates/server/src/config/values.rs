//! Values of settings: read from TOML, checked, and shown again as they are written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use lodge_store::{HIDDEN, is_secret};

use super::{Bind, GIB, KIB, MIB};

pub(super) fn text(value: &toml::Value) -> Result<String, String> {
    match value.as_str() {
        Some("") => Err("it is empty".to_owned()),
        Some(s) => Ok(s.to_owned()),
        None => Err(format!("it is a {}, not a string in quotes", value.type_str())),
    }
}

pub(super) fn bind(value: &toml::Value) -> Result<Option<Bind>, String> {
    match text(value)?.as_str() {
        "off" => Ok(None),
        address => Bind::parse(address).map(Some),
    }
}

pub(super) fn datagrams_bind(value: &toml::Value) -> Result<Option<Bind>, String> {
    match bind(value)? {
        Some(bind) if bind.tls => Err("TLS needs connections; UDP has none".to_owned()),
        bind => Ok(bind),
    }
}

pub(super) fn show_bind(bind: Option<Bind>) -> String {
    bind.map_or_else(|| "\"off\"".to_owned(), |bind| format!("\"{bind}\""))
}

pub(super) fn path(value: &toml::Value) -> Result<Option<PathBuf>, String> {
    if value.as_str() == Some("") {
        return Ok(None);
    }
    text(value).map(|text| Some(PathBuf::from(text)))
}

pub(super) fn show_path(path: Option<&Path>) -> String {
    path.map_or_else(|| "\"\"".to_owned(), |path| format!("{:?}", path.display().to_string()))
}

/// The settings of listeners that take requests.
const REQUEST_LISTENERS: [&str; 5] = ["listen", "elasticsearch", "loki", "otlp", "otlp_grpc"];

pub(super) fn listeners(value: &toml::Value) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or_else(|| format!("it is a {}", value.type_str()))?;
    let listener = |value: &toml::Value| {
        let text = text(value)?;
        let is_one = REQUEST_LISTENERS.contains(&text.as_str());
        if is_one { Ok(text) } else { Err(format!("`{text}` is no listener of requests")) }
    };
    list.iter().map(listener).collect()
}

pub(super) fn networks(value: &toml::Value) -> Result<Vec<IpNet>, String> {
    let list = value.as_array().ok_or_else(|| format!("it is a {}", value.type_str()))?;
    let network = |value: &toml::Value| {
        let text = text(value)?;
        text.parse().map_err(|_| format!("`{text}` is not a network such as \"10.0.0.0/8\""))
    };
    list.iter().map(network).collect()
}

pub(super) fn count(value: &toml::Value, min: u64, max: u64) -> Result<usize, String> {
    let n = value.as_integer().ok_or_else(|| format!("it is a {}", value.type_str()))?;
    in_range(u64::try_from(n).ok(), min, max)
        .and_then(|n| usize::try_from(n).map_err(|e| e.to_string()))
}

pub(super) fn bytes(value: &toml::Value, min: u64, max: u64) -> Result<u64, String> {
    let n = match value {
        toml::Value::Integer(n) => u64::try_from(*n).ok(),
        toml::Value::String(s) => Some(parse_bytes(s)?),
        other => return Err(format!("it is a {}", other.type_str())),
    };
    in_range(n, min, max)
}

pub(super) fn duration(value: &toml::Value, min_s: u64, max_s: u64) -> Result<Duration, String> {
    let text =
        text(value).map_err(|_| "write it as a string with a unit, such as \"30s\"".to_owned())?;
    let ns = crate::times::parse_duration_ns(&text)?;
    let (min, max) = (Duration::from_secs(min_s), Duration::from_secs(max_s));
    let found = Duration::from_nanos(u64::try_from(ns).map_err(|_| "it is negative".to_owned())?);
    if found < min || found > max {
        return Err("it is out of range".to_owned());
    }
    Ok(found)
}

fn in_range(n: Option<u64>, min: u64, max: u64) -> Result<u64, String> {
    n.filter(|n| (min..=max).contains(n)).ok_or_else(|| "it is out of range".to_owned())
}

/// `512MiB`, `64 KiB`, `1GB`, `4096`: a count of bytes.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| "it does not begin with a whole number".to_owned())?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        "TiB" => 1_024 * GIB,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        other => return Err(format!("`{other}` is not a unit of bytes (try MiB or GB)")),
    };
    number.checked_mul(factor).ok_or_else(|| "it is out of range".to_owned())
}

pub(super) fn show_bytes(n: u64) -> String {
    for (unit, factor) in [("TiB", 1_024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)] {
        if n >= factor && n.is_multiple_of(factor) {
            return format!("\"{}{unit}\"", n / factor);
        }
    }
    n.to_string()
}

pub(super) fn show_duration(d: Duration) -> String {
    if d.subsec_nanos() == 0 {
        return format!("\"{}s\"", d.as_secs());
    }
    format!("\"{}ms\"", d.as_millis())
}

/// What `of` reads, or `None` of "unlimited".
pub(super) fn limit<T>(
    value: &toml::Value,
    of: impl FnOnce(&toml::Value) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if value.as_str() == Some("unlimited") { Ok(None) } else { of(value).map(Some) }
}

pub(super) fn show_limit<T>(limit: Option<T>, show: impl FnOnce(T) -> String) -> String {
    limit.map_or_else(|| "\"unlimited\"".to_owned(), show)
}

/// A table of options of an object store's client.
pub(super) fn options(value: &toml::Value) -> Result<BTreeMap<String, String>, String> {
    let table = value.as_table().ok_or_else(|| format!("it is a {}", value.type_str()))?;
    let option = |(name, value): (&String, &toml::Value)| {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            other => return Err(format!("`{name}` is a {}", other.type_str())),
        };
        if text == HIDDEN {
            return Err(format!("`{name}` is {HIDDEN}: put the secret there again"));
        }
        Ok((name.to_ascii_lowercase(), text))
    };
    table.iter().map(option).collect()
}

/// The same in one line, without secrets.
pub(super) fn show_options(options: &BTreeMap<String, String>) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let shown = |(name, value): (&String, &String)| {
        format!("{name} = {}", quoted(if is_secret(name) { HIDDEN } else { value }))
    };
    let all: Vec<String> = options.iter().map(shown).collect();
    if all.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", all.join(", ")) }
}

/// A value of such a table as an error may show it.
pub(super) fn shown_options(value: &toml::Value) -> String {
    options(value).map_or_else(|_| HIDDEN.to_owned(), |options| show_options(&options))
}
