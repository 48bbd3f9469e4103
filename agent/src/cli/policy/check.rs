//! `sluice policy check`: every problem of a configuration at once. Problems go to stderr, one a line, so that an editor
//! or a pipeline can take them; what stdout has is for people.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::config::{self, Config, Problem};
use crate::paths;
use crate::policy::Policy;
use crate::record::visible::{Keep, visible};

/// Arguments of `sluice policy check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice policy check                 what /etc/sluice has
  sluice policy check ./sluice        a checkout, before it is installed
  sluice policy check --json | jq -r .what")]
pub struct CheckArgs {
    /// Directory with sluice.toml and policy.d
    #[arg(value_name = "DIR", default_value = paths::CONFIG_DIR)]
    directory: PathBuf,
    /// One JSON object a problem, on stdout
    #[arg(long)]
    json: bool,
}

/// What was found.
struct Found {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    rules: usize,
    tests: usize,
}

impl CheckArgs {
    /// Tells what is wrong; exit code 2 when anything is, warnings not counted.
    ///
    /// # Errors
    /// stdout or stderr cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let found = find(&self.directory);
        if self.json {
            as_json(&found)?
        } else {
            as_text(&self.directory, &found)?
        }
        Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
    }
}

fn find(directory: &Path) -> Found {
    if !directory.is_dir() {
        let problem = Problem {
            file: directory.to_owned(),
            line: 0,
            column: 0,
            what: "is no directory".to_owned(),
            remedy: format!("name the directory that has {} or {}", config::MAIN_FILE, config::POLICY_DIR),
        };
        return Found { problems: vec![problem], warnings: Vec::new(), rules: 0, tests: 0 };
    }
    match config::load(directory) {
        Ok(config) => {
            let (rules, tests) = (config.policy.rules.len(), config.cases.len());
            Found { problems: test(&config, directory), warnings: config.warnings, rules, tests }
        }
        Err(problems) => Found { problems, warnings: Vec::new(), rules: 0, tests: 0 },
    }
}

/// Asks the rules what their tests expect.
fn test(config: &Config, directory: &Path) -> Vec<Problem> {
    match Policy::compile(config.policy.clone()) {
        Ok(policy) => config.cases.iter().filter_map(|case| case.run(&policy)).collect(),
        // Reading has found these with their places; if it has not, they are told without.
        Err(wrong) => wrong
            .into_iter()
            .map(|wrong| Problem {
                file: directory.to_owned(),
                line: 0,
                column: 0,
                what: wrong.to_string(),
                remedy: "mend the condition".to_owned(),
            })
            .collect(),
    }
}

fn as_text(directory: &Path, found: &Found) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    let mut say = |kind: &str, problem: &Problem| {
        let remedy = if problem.remedy.is_empty() { String::new() } else { format!(": {}", problem.remedy) };
        let line = format!("{}: {kind}{}{remedy}", problem.place(), problem.what);
        writeln!(stderr, "{}", visible(&line, Keep::Nothing))
    };
    found.warnings.iter().try_for_each(|warning| say("warning: ", warning))?;
    found.problems.iter().try_for_each(|problem| say("", problem))?;
    if found.problems.is_empty() {
        let place = directory.display().to_string();
        let (place, rules, tests) = (visible(&place, Keep::Nothing), found.rules, found.tests);
        writeln!(io::stdout(), "{place}: good, with {rules} rule(s); {tests} test(s) passed")?;
    }
    Ok(())
}

fn as_json(found: &Found) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let both = [("warning", &found.warnings), ("error", &found.problems)];
    for (severity, problem) in both.into_iter().flat_map(|(kind, all)| all.iter().map(move |one| (kind, one)))
    {
        let line = json!({
            "severity": severity,
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "what": problem.what,
            "remedy": problem.remedy,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}
