//! `sluice doctor`: what on this host weakens the enforcement, and what to do about it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use super::{DaemonAt, Failure, table};
use crate::control::{Answer, ControlError, Request, ask};
use crate::doctor::dropin::{self, UnitFacts};
use crate::doctor::host::Host;
use crate::doctor::kernel::Kernel;
use crate::doctor::{Facts, Finding, Severity, explain};
use crate::paths;
use crate::record::visible::{Keep, visible};
use crate::report::Chain;
use crate::trust::{self, CaCertificate, Tree, Trusted};

/// Width of the text for people.
const WIDTH: usize = 100;

/// Looks for what lets a tagged process get past Sluice: root jobs, capabilities, container engines, what the kernel lacks,
/// trust stores without the CA, and whatever keeps the agent from its work. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice doctor
  sluice doctor --json | jq -r 'select(.severity == \"high\") | .what'
  sluice doctor --drop-in legacy > /etc/systemd/system/legacy.service.d/60-confine.conf

Exit code: 0 nothing was found but notes, 1 there are findings, 2 wrong usage. What only the daemon knows (tags, kernel
layers, the self-test) is asked for as root or a member of the group sluice; without it the rest is looked at all the same,
and one finding says so.")]
pub struct DoctorArgs {
    /// One JSON object a line: id, severity (high, medium, low, note), tag, unit, what, why, remedy
    #[arg(long)]
    json: bool,
    /// Only what is about this tag, and about the host
    #[arg(long, value_name = "NAME", conflicts_with = "unit")]
    tag: Option<String>,
    /// Only what is about this unit's tags, and about the host (`.service` may be left out)
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Print a drop-in that confines a service to its tag, and look at nothing else
    #[arg(long, value_name = "UNIT", conflicts_with_all = ["json", "tag", "unit"])]
    drop_in: Option<String>,
    /// Look at the system below this folder instead of at this host
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

impl DoctorArgs {
    /// Prints the findings.
    ///
    /// # Errors
    /// stdout cannot be written, or the unit cannot have a drop-in.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout().lock();
        if let Some(unit) = &self.drop_in {
            out.write_all(drop_in(unit)?.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut findings = self.examine(daemon);
        findings.retain(|finding| self.wants(finding));
        findings.sort_by_key(|finding| finding.severity);
        if self.json {
            for finding in &findings {
                writeln!(out, "{}", serde_json::to_string(finding)?)?;
            }
        } else {
            print(&mut out, &findings)?;
        }
        Ok(if findings.iter().any(Finding::counts) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn wants(&self, finding: &Finding) -> bool {
        let Some(tag) = &finding.tag else { return true };
        let unit = self.unit.as_ref().map(|unit| dropin::service(unit).unwrap_or_else(|| unit.clone()));
        self.tag.as_ref().is_none_or(|wanted| wanted == tag)
            && unit.is_none_or(|wanted| finding.unit.as_ref() == Some(&wanted))
    }

    fn examine(&self, daemon: &DaemonAt) -> Vec<Finding> {
        let (facts, mut findings) = match ask(&daemon.runtime, &Request::Doctor) {
            Ok(Answer::Doctor(facts)) => (*facts, Vec::new()),
            Ok(_) => (Facts::default(), vec![unasked(&ControlError::Strange)]),
            Err(error) => (Facts::default(), vec![unasked(&error)]),
        };
        findings.extend(explain::tags(&facts));
        findings.extend(explain::layers(&facts));
        findings.extend(Kernel::below(&self.root).findings(&facts.layers));
        let state = facts.state.unwrap_or_else(|| paths::STATE_DIR.into());
        findings.extend(Host { root: self.root.clone(), state }.findings(SystemTime::now()));
        findings.extend(untrusting(&self.root, &daemon.runtime));
        findings
    }
}

/// The daemon does not tell what it knows.
fn unasked(error: &ControlError) -> Finding {
    Finding::host(
        "daemon",
        if matches!(error, ControlError::NotRunning) { Severity::Medium } else { Severity::Low },
        format!("the daemon cannot be asked: {}", Chain(error)),
        "Tags, kernel layers and the self-test are not part of this answer. Without a daemon tagged processes are refused.",
        error.remedy(),
    )
}

/// Trust stores whose users will not believe a leaf of ours: their jobs fail, and are untagged soon after.
fn untrusting(root: &Path, runtime: &Path) -> Option<Finding> {
    let path = runtime.join(paths::CA_CERT);
    let ca = CaCertificate::parse(&path, &std::fs::read(&path).ok()?).ok()?;
    let stores = trust::status(&Tree::new(root), Some(&ca), &[]).ok()?;
    let not = |store: &trust::StoreStatus| match store.trusted {
        Ok(Trusted::Yes) | Err(_) => None,
        Ok(Trusted::No) => Some(store.path.display().to_string()),
        Ok(Trusted::Stale) => Some(format!("{} (has an earlier CA)", store.path.display())),
    };
    let missing: Vec<String> = stores.iter().filter_map(not).collect();
    (!missing.is_empty()).then(|| {
        Finding::host(
            "trust",
            Severity::Low,
            format!("trust stores without the CA of this host: {}", missing.join(", ")),
            "Programs that use them refuse the agent's certificates: tagged jobs fail there. `sluice run` sets variables \
             that most runtimes follow.",
            "sluice trust install, or `sluice trust env --systemd` for one unit.",
        )
    })
}

/// The drop-in for a service, after what systemd says of it.
fn drop_in(unit: &str) -> Result<String, Failure> {
    let wrong = |why: String, remedy: &str| Failure { why, remedy: remedy.to_owned(), code: 2 };
    let Some(name) = dropin::service(unit) else {
        let why = format!("{unit:?} is no service: slices, scopes and users have no such settings");
        return Err(wrong(why, "name each service that runs in it"));
    };
    let facts = Command::new("systemctl")
        .args(["show", "--property", UnitFacts::PROPERTIES, "--", &name])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let facts = match facts {
        Ok(output) if output.status.success() => UnitFacts::parse(&String::from_utf8_lossy(&output.stdout)),
        _ => UnitFacts::default(),
    };
    if facts.is_known() == Some(false) {
        return Err(wrong(
            format!("systemd knows no unit {name}"),
            "systemctl list-units --type=service lists them",
        ));
    }
    Ok(dropin::compose(&name, &facts))
}

fn print(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    let look = table::Look::of_stdout();
    for finding in findings.iter().filter(|finding| finding.counts()) {
        let tone = if finding.severity == Severity::High { table::Tone::Bad } else { table::Tone::Warn };
        let word = table::painted(&format!("{:<7}", finding.severity.as_str()), tone, look);
        // Names of processes and cgroups are others' to choose.
        writeln!(out, "{word} {}", wrapped(&visible(&finding.what, Keep::Nothing), 8))?;
        writeln!(out, "        why: {}", wrapped(&visible(&finding.why, Keep::Nothing), 13))?;
        writeln!(out, "        do:  {}\n", wrapped(&visible(&finding.remedy, Keep::Nothing), 13))?;
    }
    let mut counts: BTreeMap<Severity, usize> = BTreeMap::new();
    for finding in findings {
        if finding.counts() {
            *counts.entry(finding.severity).or_default() += 1;
        } else {
            writeln!(out, "note    {}", wrapped(&visible(&finding.what, Keep::Nothing), 8))?;
        }
    }
    let counts: Vec<_> =
        counts.iter().map(|(severity, count)| format!("{count} {}", severity.as_str())).collect();
    match counts.is_empty() {
        true => writeln!(out, "nothing that weakens the enforcement was found"),
        false => writeln!(out, "{}", counts.join(", ")),
    }
}

/// Words in lines of [`WIDTH`], those after the first indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut wrapped = String::new();
    let mut column = indent;
    for word in text.split_ascii_whitespace() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_and_long_words_whole() {
        let text = format!("a {} b", "x".repeat(120));
        assert_eq!(wrapped(&text, 4), format!("a\n    {}\n    b", "x".repeat(120)));
        assert!(wrapped(&"word ".repeat(100), 8).lines().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn a_process_name_cannot_drive_the_terminal() {
        let finding = Finding::host("x", Severity::High, "tag ci: \x1b[2Jjob", "why", "do");
        let mut out = Vec::new();
        print(&mut out, &[finding]).expect("a Vec takes all");
        assert!(!out.contains(&0x1b));
    }

    #[test]
    fn what_is_about_another_tag_is_left_out() {
        let args = |tag: Option<&str>, unit: Option<&str>| DoctorArgs {
            json: false,
            tag: tag.map(str::to_owned),
            unit: unit.map(str::to_owned),
            drop_in: None,
            root: "/".into(),
        };
        let host = Finding::host("x", Severity::Low, "", "", "");
        let ci = Finding { tag: Some("ci".into()), unit: Some("ci.service".into()), ..host.clone() };
        assert!(args(Some("other"), None).wants(&host) && !args(Some("other"), None).wants(&ci));
        assert!(args(Some("ci"), None).wants(&ci) && args(None, Some("ci")).wants(&ci));
        assert!(!args(None, Some("other.service")).wants(&ci) && args(None, None).wants(&ci));
    }
}
