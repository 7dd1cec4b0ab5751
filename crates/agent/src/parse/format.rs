//! Which notation the records of a source are in.

use serde::Deserialize;

/// The `format` of a source of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// What each record shows itself to be.
    #[default]
    Auto,
    /// Plain text: only time and level are looked for.
    Text,
    /// JSON objects.
    Json,
    /// `key=value` pairs.
    Logfmt,
    /// Access logs of web servers, common or combined.
    Access,
    /// Syslog, RFC 5424 or 3164; the message is the part behind the header.
    Syslog,
    /// Container logs of containerd and CRI-O; the text inside is found out for each record.
    Cri,
    /// Container logs of Docker's json-file; the text inside is found out for each record.
    Docker,
}

impl Format {
    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Text => "text",
            Format::Json => "json",
            Format::Logfmt => "logfmt",
            Format::Access => "access",
            Format::Syslog => "syslog",
            Format::Cri => "cri",
            Format::Docker => "docker",
        }
    }
}
