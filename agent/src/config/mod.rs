//! Configuration: `sluice.toml` and `policy.d/*.toml` in, one [`Config`] or every [`Problem`] out.
//!
//! [`load`] is the only reader of settings: nothing below it opens a settings file or asks the environment. It judges
//! the files alone; whether a user or a unit exists on this host is found out where they are used.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::paths;
use crate::policy::rule::Source as Rules;

mod analyser;
mod audit;
mod case;
mod credential;
mod dns;
mod intercept;
mod issuer;
mod limit;
mod mask;
mod options;
mod quantity;
mod reach;
mod rule;
mod section;
mod settings;
mod sockets;

pub use audit::{Audit, Sink};
pub use case::Case;
pub use dns::Dns;
pub use intercept::{BadDesignation, Designation, Intercept};
pub use issuer::Issuer;
pub use options::{BadUdpRule, Loopback, Options, UdpRule};
pub use rule::METHODS;

pub use sockets::{BadRule, DENIED_BY_DEFAULT, UnixRule};

/// One settings file is at most this large: more is a mistake, not a configuration.
pub const MAX_FILE: u64 = 1024 * 1024;

/// The main file's name in the configuration directory.
pub const MAIN_FILE: &str = "sluice.toml";

/// The directory of further files, read in name order after the main one.
pub const POLICY_DIR: &str = "policy.d";

/// Everything that can be set, resolved: what the files leave out has its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whether verdicts are applied, and the rules.
    pub policy: Rules,
    /// `[[test]]`: what the rules are to say, for `sluice policy check`.
    pub cases: Vec<Case>,
    /// What is no mistake for certain: told, and in force.
    pub warnings: Vec<Problem>,
    /// The gate's user.
    pub user: String,
    /// What is tagged, in the order of the files. Names are unique, designations too.
    pub intercepts: Vec<Intercept>,
    /// Whose tokens prove an identity. Each url once.
    pub issuers: Vec<Issuer>,
    /// What is kept of each exchange.
    pub record: Record,
    /// Who may read it.
    pub audit: Audit,
    /// What is trusted upstream besides the system's roots.
    pub tls: Tls,
    /// How names are looked up.
    pub dns: Dns,
    /// Unix sockets that no tag may talk to, where the kernel has BPF LSM on: `[sockets]`.
    pub denied_sockets: Vec<UnixRule>,
    /// Bounds.
    pub limits: Limits,
    /// How the agent ends.
    pub drain: Drain,
    /// Where things are kept.
    pub paths: Paths,
}

/// `[record]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Bytes kept of each body; the rest is counted and the cut is stated.
    pub body_limit: u64,
    /// Bytes that the store may take in all; the oldest segments go first.
    pub max_bytes: u64,
    /// Segments whose last record is older go too; `None`: whatever their age.
    pub max_age: Option<Duration>,
    /// Whether each exchange's head is synced to disk before its first byte goes upstream.
    pub durable: bool,
}

/// `[tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM files, absolute. They could be read and held a certificate when the configuration was resolved.
    pub extra_roots: Vec<PathBuf>,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once; beyond it connections wait in the listener's backlog.
    pub sessions: u32,
}

/// `[drain]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long exchanges under way may take to finish when the agent ends.
    pub grace: Duration,
}

/// `[paths]`, all absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// See [`paths::STATE_DIR`].
    pub state: PathBuf,
    /// See [`paths::RUNTIME_DIR`].
    pub runtime: PathBuf,
    /// See [`paths::BPF_DIR`].
    pub bpf: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Rules::default(),
            cases: Vec::new(),
            warnings: Vec::new(),
            user: "sluice".to_owned(),
            intercepts: Vec::new(),
            issuers: Vec::new(),
            record: Record { body_limit: 1 << 20, max_bytes: 4 << 30, max_age: None, durable: false },
            audit: Audit::default(),
            tls: Tls::default(),
            dns: Dns::default(),
            denied_sockets: sockets::built_in(),
            limits: Limits { sessions: 16_384 },
            drain: Drain { grace: Duration::from_secs(10) },
            paths: Paths {
                state: paths::STATE_DIR.into(),
                runtime: paths::RUNTIME_DIR.into(),
                bpf: paths::BPF_DIR.into(),
            },
        }
    }
}

/// One thing that is wrong with a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was opened.
    pub file: PathBuf,
    /// Line in the file, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 when the whole line or file is meant.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " ({})", self.remedy) }
    }
}

impl Problem {
    /// `file:line:column`, as far as that is known.
    pub fn place(&self) -> String {
        let mut place = self.file.display().to_string();
        for number in [self.line, self.column].into_iter().take_while(|number| *number > 0) {
            place.push_str(&format!(":{number}"));
        }
        place
    }
}

/// A settings file in memory.
struct Source {
    path: PathBuf,
    text: String,
}

/// Reads and resolves the configuration in `dir`. A directory or file that is not there counts as empty, so no
/// configuration at all is [`Config::default`]: observe, nothing tagged.
///
/// # Errors
/// Every problem of every file at once, in the order of files and lines. Never empty.
pub fn load(dir: &Path) -> Result<Config, Vec<Problem>> {
    let (config, problems) = load_leniently(dir);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// Whether there is any configuration in `dir`. One that is gone counts as empty for who starts afresh, but tags that it
/// named are not let go for that.
pub fn is_there(dir: &Path) -> bool {
    // What cannot be looked at is told when it is loaded.
    let has_files = |dir: PathBuf| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    dir.join(MAIN_FILE).exists() || has_files(dir.join(POLICY_DIR))
}

/// Like [`load`], but gives what could be resolved beside the problems. For the boot-time generator only: a mistake in
/// one key must not leave the units of the others unprepared.
pub fn load_leniently(dir: &Path) -> (Config, Vec<Problem>) {
    let mut problems = Vec::new();
    let sources = read_all(dir, &mut problems);
    let config = settings::resolve(&sources, dir, &mut problems);
    let order: BTreeMap<_, _> = sources.iter().enumerate().map(|(i, s)| (s.path.clone(), i)).collect();
    let place = |p: &Problem| (order.get(&p.file).copied().unwrap_or(usize::MAX), p.line, p.column);
    problems.sort_by_key(place);
    (config, problems)
}

/// The same of one file's text, which is nowhere yet.
///
/// # Errors
/// Every problem, in the order of lines.
pub fn parse(path: &Path, text: String) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    let sources = [Source { path: path.to_owned(), text }];
    let config = settings::resolve(&sources, path.parent().unwrap_or(path), &mut problems);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn read_all(dir: &Path, problems: &mut Vec<Problem>) -> Vec<Source> {
    let mut files = vec![dir.join(MAIN_FILE)];
    let extra = dir.join(POLICY_DIR);
    match std::fs::read_dir(&extra) {
        Ok(entries) => {
            let mut names: Vec<PathBuf> = Vec::new();
            for entry in entries {
                match entry {
                    Ok(e) => names.push(e.path()),
                    Err(e) => problems.push(unreadable(&extra, &e)),
                }
            }
            names.retain(|p| {
                let hidden = p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
                p.extension().is_some_and(|e| e == "toml") && !hidden
            });
            names.sort();
            files.extend(names);
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => problems.push(unreadable(&extra, &e)),
    }
    files.into_iter().filter_map(|path| read_one(path, problems)).collect()
}

fn read_one(path: PathBuf, problems: &mut Vec<Problem>) -> Option<Source> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path).and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let at = |line, what: String, remedy: &str| Problem {
        file: path.clone(),
        line,
        column: 0,
        what,
        remedy: remedy.into(),
    };
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => {
            problems.push(unreadable(&path, &e));
            return None;
        }
        Ok(_) => {}
    }
    if bytes.len() as u64 > MAX_FILE {
        problems.push(at(0, format!("larger than {MAX_FILE} bytes"), "split it into files in policy.d"));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source { path, text }),
        Err(e) => {
            let good = e.utf8_error().valid_up_to();
            let line = e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
            problems.push(at(line, "not UTF-8".into(), "TOML files are UTF-8 text"));
            None
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem {
        file: path.to_owned(),
        line: 0,
        column: 0,
        what: format!("cannot be read: {error}"),
        remedy: "make it readable for root, or remove it".into(),
    }
}

#[cfg(test)]
mod tests;
