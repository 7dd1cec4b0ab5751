//! The pipeline's tables of the configuration: `[labels]`, `[redact]`, `[[rules]]` and `[vrl]`.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use lodge_record::limits;
use lodge_record::schema::is_reserved;
use serde::Deserialize;

use super::condition::Condition;
use super::environment::{Lookup, expand};
use super::rules::{Action, RULES_MAX, Rule};
use crate::config::{ConfigError, check_table, value_error};

/// Most patterns of `[[redact.patterns]]`.
const PATTERNS_MAX: usize = 64;
/// Longest name of a rule or pattern.
const NAME_BYTES_MAX: usize = 64;

/// Checked settings of the pipeline.
#[derive(Clone, Debug, Default)]
pub struct PipelineConfig {
    /// Labels of all sources; already among the labels of each.
    pub labels: BTreeMap<String, String>,
    /// What is taken out.
    pub redact: RedactConfig,
    /// Rules in their order.
    pub rules: Vec<Rule>,
    /// Program that each record goes through.
    pub vrl: Option<VrlConfig>,
}

/// What redaction hides; nothing unless asked, as it changes what was logged.
#[derive(Clone, Debug, Default)]
pub struct RedactConfig {
    /// Kinds built in.
    pub builtin: Vec<Builtin>,
    /// Kinds of the configuration.
    pub patterns: Vec<PatternConfig>,
}

/// A kind of secret that the agent knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// Numbers of payment cards.
    Card,
    /// Passwords, keys and tokens.
    Token,
    /// E-mail addresses.
    Email,
}

/// A kind of secret by its pattern.
#[derive(Clone, Debug, Deserialize)]
pub struct PatternConfig {
    /// Name under which it counts.
    pub name: String,
    /// What is hidden: the first group if there is one, else the whole match.
    pub regex: String,
    /// What stands in its place; `[redacted:NAME]` if nothing is said.
    #[serde(default)]
    pub with: String,
}

/// Where the VRL program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VrlConfig {
    /// In the configuration.
    Program(String),
    /// In a file of its own.
    File(PathBuf),
}

/// The tables as they stand in the file.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct RawPipeline {
    labels: BTreeMap<String, String>,
    redact: Option<RawRedact>,
    rules: Vec<RawRule>,
    vrl: Option<RawVrl>,
}

#[derive(Deserialize)]
struct RawRedact {
    /// Credentials and card numbers have no use in logs; addresses may have.
    #[serde(default = "builtin_default")]
    builtin: Vec<Builtin>,
    #[serde(default)]
    patterns: Vec<PatternConfig>,
}

fn builtin_default() -> Vec<Builtin> {
    vec![Builtin::Card, Builtin::Token]
}

#[derive(Deserialize)]
struct RawRule {
    name: String,
    #[serde(default)]
    when: toml::Table,
    then: RawAction,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawAction {
    Word(String),
    Table(toml::Table),
}

#[derive(Deserialize)]
struct RawVrl {
    program: Option<String>,
    file: Option<PathBuf>,
}

/// Keys of the file's root that belong to the pipeline.
pub(crate) const ROOT_KEYS: [&str; 4] = ["labels", "redact", "rules", "vrl"];

impl Builtin {
    /// Its name in the configuration, in what stands for it and in counts.
    pub fn name(self) -> &'static str {
        match self {
            Builtin::Card => "card",
            Builtin::Token => "token",
            Builtin::Email => "email",
        }
    }
}

/// Checks that the pipeline's tables have known keys only.
pub(crate) fn check_keys(root: &toml::Table) -> Result<(), ConfigError> {
    let tables = |value: Option<&toml::Value>| match value {
        Some(toml::Value::Array(all)) => all.iter().filter_map(|v| v.as_table()).cloned().collect(),
        Some(toml::Value::Table(table)) => vec![table.clone()],
        _ => Vec::new(),
    };
    for table in tables(root.get("redact")) {
        check_table(&table, "[redact]", &["builtin", "patterns"])?;
        for pattern in tables(table.get("patterns")) {
            check_table(&pattern, "[[redact.patterns]]", &["name", "regex", "with"])?;
        }
    }
    for rule in tables(root.get("rules")) {
        check_table(&rule, "[[rules]]", &["name", "when", "then"])?;
    }
    for table in tables(root.get("vrl")) {
        check_table(&table, "[vrl]", &["program", "file"])?;
    }
    Ok(())
}

/// Checks that a label may have this name.
pub(crate) fn check_label(key: &str, name: &str) -> Result<(), ConfigError> {
    let is_bad = name.is_empty()
        || name.len() > limits::FIELD_NAME_BYTES_MAX
        || is_reserved(name)
        || name.contains(['=', ',', '{', '}', '"']);
    if is_bad {
        let problem = format!("{name:?} cannot be the name of a label");
        return Err(value_error(key, problem));
    }
    Ok(())
}

impl RawPipeline {
    /// Checks the tables and puts the environment's variables in.
    pub(crate) fn validate(self, lookup: Lookup<'_>) -> Result<PipelineConfig, ConfigError> {
        let labels = expand_all("labels", self.labels, lookup)?;
        if self.rules.len() > RULES_MAX {
            return Err(value_error("rules", format!("more than {RULES_MAX} rules")));
        }
        let mut names = HashSet::new();
        let mut rules = Vec::new();
        for raw in self.rules {
            check_name("rules.name", &raw.name, &mut names)?;
            rules.push(raw.validate(lookup)?);
        }
        Ok(PipelineConfig {
            labels,
            redact: self.redact.map(RawRedact::validate).transpose()?.unwrap_or_default(),
            rules,
            vrl: self.vrl.map(RawVrl::validate).transpose()?,
        })
    }
}

/// A name is there, not too long, and not taken.
fn check_name(key: &str, name: &str, names: &mut HashSet<String>) -> Result<(), ConfigError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(value_error(key, format!("{name:?} has not 1 to {NAME_BYTES_MAX} bytes")));
    }
    // Drops and redactions are counted under these.
    if ["vrl", "raw"].contains(&name) || !names.insert(name.to_owned()) {
        return Err(value_error(key, format!("{name:?} is taken; each needs its own")));
    }
    Ok(())
}

fn expand_all(
    key: &str,
    labels: BTreeMap<String, String>,
    lookup: Lookup<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    if labels.len() > limits::STREAM_LABELS_MAX {
        let problem = format!("more than {} labels", limits::STREAM_LABELS_MAX);
        return Err(value_error(key, problem));
    }
    super::environment::expand_labels(key, &BTreeMap::new(), &labels, lookup)
}

impl RawRedact {
    fn validate(mut self) -> Result<RedactConfig, ConfigError> {
        if self.patterns.len() > PATTERNS_MAX {
            let problem = format!("more than {PATTERNS_MAX} patterns");
            return Err(value_error("redact.patterns", problem));
        }
        let mut names: HashSet<String> =
            [Builtin::Card, Builtin::Token, Builtin::Email].map(|b| b.name().to_owned()).into();
        for pattern in &mut self.patterns {
            check_name("redact.patterns.name", &pattern.name, &mut names)?;
            if pattern.with.is_empty() {
                pattern.with = format!("[redacted:{}]", pattern.name);
            }
        }
        let mut builtin = Vec::new();
        for kind in self.builtin {
            if !builtin.contains(&kind) {
                builtin.push(kind);
            }
        }
        Ok(RedactConfig { builtin, patterns: self.patterns })
    }
}

impl RawRule {
    fn validate(self, lookup: Lookup<'_>) -> Result<Rule, ConfigError> {
        let key = format!("rules.{}", self.name);
        let when = Condition::parse(&format!("{key}.when"), &self.when)?;
        let key = format!("{key}.then");
        let wrong = || {
            value_error(
                &key,
                "takes \"drop\", \"keep\", { sample = 0.1 } or { labels = { name = \"value\" } }",
            )
        };
        let then = match &self.then {
            RawAction::Word(word) if word == "drop" => Action::Drop,
            RawAction::Word(word) if word == "keep" => Action::Keep,
            RawAction::Word(_) => return Err(wrong()),
            RawAction::Table(table) => {
                match (table.len(), table.get("sample"), table.get("labels")) {
                    (1, Some(share), _) => Action::Sample(share_of(&key, share)?),
                    (1, _, Some(toml::Value::Table(labels))) => {
                        let mut all = BTreeMap::new();
                        for (name, value) in labels {
                            let key = format!("{key}.labels.{name}");
                            check_label(&key, name)?;
                            let text = value.as_str();
                            let text = text.ok_or_else(|| value_error(&key, "takes a text"))?;
                            all.insert(name.clone(), expand(&key, text, lookup)?);
                        }
                        Action::Labels(all)
                    }
                    _ => return Err(wrong()),
                }
            }
        };
        if matches!(then, Action::Drop) && self.when.is_empty() {
            return Err(value_error(&key, "would drop everything; say in `when` what"));
        }
        Ok(Rule { name: self.name.into(), when, then })
    }
}

fn share_of(key: &str, share: &toml::Value) -> Result<f64, ConfigError> {
    let share = share.as_float().or_else(|| share.as_integer().map(|share| share as f64));
    match share {
        Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(value_error(&format!("{key}.sample"), "takes a share from 0 to 1")),
    }
}

impl RawVrl {
    fn validate(self) -> Result<VrlConfig, ConfigError> {
        match (self.program, self.file) {
            (Some(program), None) => Ok(VrlConfig::Program(program)),
            (None, Some(file)) => Ok(VrlConfig::File(file)),
            _ => Err(value_error("vrl", "takes either `program` or `file`")),
        }
    }
}
