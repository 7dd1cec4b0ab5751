//! Which files the globs of a source name.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::config::{ConfigError, FileSource};

/// Most files that one walk takes in.
const FILES_MAX: usize = 200_000;

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    // Editors and package managers leave dot files beside logs.
    require_literal_leading_dot: true,
};

/// The compiled globs of one source.
#[derive(Debug)]
pub struct Globs {
    paths: Vec<String>,
    exclude: Vec<Pattern>,
}

/// A file that a glob names.
#[derive(Debug)]
pub struct FoundFile {
    /// Its path.
    pub path: PathBuf,
    /// Of the file itself, links followed.
    pub metadata: Metadata,
}

impl Globs {
    /// Compiles the globs of `source`.
    pub fn new(source: &FileSource) -> Result<Self, ConfigError> {
        let mut exclude = Vec::new();
        for pattern in &source.exclude {
            exclude.push(Pattern::new(&absolute(pattern)).map_err(|error| ConfigError::Value {
                key: "files.exclude".into(),
                problem: format!("glob {pattern:?}: {error}"),
            })?);
        }
        let paths = source.paths.iter().map(|pattern| absolute(pattern)).collect();
        Ok(Globs { paths, exclude })
    }

    /// Folders in which files may appear, known before any file is.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.paths.iter().map(|pattern| literal_folder(pattern)).collect()
    }

    /// Whether the globs name `path`.
    pub fn names(&self, path: &Path) -> bool {
        let matches = |text: &String| {
            Pattern::new(text).is_ok_and(|pattern| pattern.matches_path_with(path, OPTIONS))
        };
        self.paths.iter().any(matches)
            && !self.exclude.iter().any(|p| p.matches_path_with(path, OPTIONS))
    }

    /// Walks the file system. Paths that cannot be read are passed over.
    pub fn walk(&self, mut each: impl FnMut(FoundFile)) {
        let mut found = 0;
        for pattern in &self.paths {
            let Ok(paths) = glob::glob_with(pattern, OPTIONS) else { continue };
            for path in paths.flatten() {
                if self.exclude.iter().any(|p| p.matches_path_with(&path, OPTIONS)) {
                    continue;
                }
                let Ok(metadata) = std::fs::metadata(&path) else { continue };
                if metadata.is_file() {
                    each(FoundFile { path, metadata });
                    found += 1;
                }
                if found >= FILES_MAX {
                    tracing::warn!(limit = FILES_MAX, "globs name too many files; rest left out");
                    return;
                }
            }
        }
    }
}

/// A pattern from the root on, so that labels do not depend on where the agent was started. A
/// pattern that ends in `**` means all files below, not the folders that it matches.
fn absolute(pattern: &str) -> String {
    let pattern = match pattern.strip_suffix("/**") {
        Some(folder) => &format!("{folder}/**/*"),
        None => pattern,
    };
    let path = std::path::absolute(pattern).ok();
    path.and_then(|path| path.into_os_string().into_string().ok())
        .unwrap_or_else(|| pattern.to_owned())
}

/// The folder part of a glob before its first wildcard.
fn literal_folder(pattern: &str) -> PathBuf {
    let wild = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    let literal = pattern.get(..wild).unwrap_or_default();
    let folder = literal.rfind('/').map_or(".", |slash| literal.get(..slash).unwrap_or_default());
    PathBuf::from(if folder.is_empty() { "/" } else { folder })
}

/// Why a file of this name is not worth opening, if it is not.
pub fn unreadable_kind(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    match name.split('.').next().unwrap_or_default() {
        "wtmp" | "btmp" | "utmp" | "lastlog" | "faillog" | "tallylog" => {
            return Some("login records");
        }
        _ => {}
    }
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension {
        "gz" | "xz" | "zst" | "bz2" | "lz4" | "zip" | "tgz" => "compressed",
        "journal" | "journal~" => "a journal",
        "swp" | "db" | "sqlite" | "pid" | "lock" | "sock" => "no log",
        _ => return None,
    })
}

/// Looks for the file that a rename took away from `path`: in the same folder, by its inode.
pub fn locate(path: &Path, is_it: impl Fn(&Metadata) -> bool) -> Option<PathBuf> {
    /// Most entries of a folder that are looked at.
    const ENTRIES_MAX: usize = 20_000;
    let folder = std::fs::read_dir(path.parent()?).ok()?;
    folder
        .take(ENTRIES_MAX)
        .flatten()
        .find(|entry| entry.metadata().is_ok_and(|metadata| is_it(&metadata)))
        .map(|entry| entry.path())
}
