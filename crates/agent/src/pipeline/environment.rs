//! `${NAME}` in settings: replaced by the environment variable, when the file is read.
//!
//! Invariant: an error names the variable, never a value: it may be a secret.

use std::collections::BTreeMap;

use crate::config::{ConfigError, value_error};

/// Gives the value of an environment variable, if it is set.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// The variables of this process.
pub fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `text` with each `${NAME}` and `${NAME:-default}` replaced; `key` is where it stands. A variable
/// that is not set and has no default is an error.
pub fn expand(key: &str, text: &str, lookup: Lookup<'_>) -> Result<String, ConfigError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        out.push_str(before);
        let Some((inner, after)) = behind.split_once('}') else {
            return Err(value_error(key, "has a `${` without its `}`"));
        };
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(value_error(key, "has a `${…}` without the name of a variable"));
        }
        match (lookup(name), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                let problem = format!(
                    "the environment variable {name} is not set; set it, or give a default: \
                     ${{{name}:-default}}"
                );
                return Err(value_error(key, problem));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The labels of a source: those of all sources, and its own, which win.
pub fn expand_labels(
    key: &str,
    all: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
    lookup: Lookup<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut labels = all.clone();
    for (name, value) in own {
        let key = format!("{key}.{name}");
        super::settings::check_label(&key, name)?;
        labels.insert(name.clone(), expand(&key, value, lookup)?);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_missing_ones_are_named() {
        let lookup = |name: &str| match name {
            "ZONE" => Some("eu-1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let expand = |text: &str| expand("labels.x", text, &lookup).map_err(|e| e.to_string());
        for (text, expected) in [
            ("plain $HOME {x}", "plain $HOME {x}"),
            ("${ZONE}", "eu-1"),
            ("a-${ZONE}-${ZONE:-no}-b", "a-eu-1-eu-1-b"),
            ("${NOT_THERE:-fall back}", "fall back"),
            ("${NOT_THERE:-}", ""),
            ("${EMPTY}", ""),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("${NOT_THERE}", "variable NOT_THERE is not set"),
            ("${ZONE", "without its `}`"),
            ("${}", "without the name"),
            ("${a b}", "without the name"),
        ] {
            let error = expand(text).expect_err(text);
            assert!(error.contains(expected) && error.contains("labels.x"), "{error}");
        }
    }
}
