//! `sluice mask test`: what masks make of a text, and what was found in it. Values are shown by their last letters only.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::Failure;
use super::table::{self, Cell, Look};
use crate::config;
use crate::mask::detect::{self, Detector};
use crate::mask::{Body, Custom, Kind, Plan, Replacement, Scope, Set, Stream, replace};
use crate::paths;
use crate::policy::mask::{Mask, With};
use crate::record::visible::{Keep, visible};
use crate::report::Chain;

/// Longest text.
const TEXT_MAX: u64 = 64 << 20;
/// Findings that are listed; all are counted.
const LISTED: usize = 1000;

/// Arguments of `sluice mask`.
#[derive(Debug, clap::Args)]
pub struct MaskArgs {
    #[command(subcommand)]
    verb: MaskVerb,
}

#[derive(Debug, clap::Subcommand)]
enum MaskVerb {
    /// Mask a text as traffic would be: the text to stdout, what was found in it to stderr.
    Test(TestArgs),
}

/// Arguments of `sluice mask test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  echo 'mail to jane.roe@corp-mail.net' | sluice mask test
  sluice mask test --mask pii --type application/json request.json
  sluice mask test --list")]
struct TestArgs {
    /// Directory with sluice.toml and policy.d
    #[arg(long, value_name = "DIR", default_value = paths::CONFIG_DIR)]
    config: PathBuf,
    /// A [[mask]] of the configuration; may be given several times. Without it, all detectors, each value replaced by its label
    #[arg(long, value_name = "NAME")]
    mask: Vec<String>,
    /// Media type of the text, such as application/json; told from the file's name if it is not given
    #[arg(long = "type", value_name = "MEDIA")]
    media: Option<String>,
    /// One JSON object for each value that was found, then one with the masked text and the counts; all to stdout
    #[arg(long)]
    json: bool,
    /// List the detectors instead: name, grammar, source
    #[arg(long, conflicts_with_all = ["mask", "media", "file"])]
    list: bool,
    /// The text; stdin if it is not given, or -
    file: Option<PathBuf>,
}

/// A value that was found in the text as it stands.
struct Finding {
    from: u64,
    end: u64,
    detector: String,
    shown: String,
}

impl MaskArgs {
    /// Does it.
    ///
    /// # Errors
    /// [`Failure`]: wrong usage, or a text that cannot be masked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let MaskVerb::Test(args) = self.verb;
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = if args.list { args.list(&mut out) } else { args.test(&mut out)? };
        match printed.and_then(|()| out.flush()) {
            Err(error) if !table::nobody_reads(&error) => Err(anyhow::Error::new(error).context("stdout")),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

impl TestArgs {
    fn list(&self, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            return detect::all().try_for_each(|one| {
                writeln!(
                    out,
                    "{}",
                    json!({ "detector": one.name, "grammar": one.grammar, "source": one.source })
                )
            });
        }
        let row = |one: &Detector| [one.name, one.grammar, one.source].map(Cell::new);
        let rows: Vec<_> = detect::all().map(row).collect();
        table::write(out, Look::of_stdout(), Some(["DETECTOR", "GRAMMAR", "SOURCE"]), &rows, 60)
    }

    fn test(&self, out: &mut impl Write) -> anyhow::Result<io::Result<()>> {
        let masks = self.masks()?;
        let bytes = self.read()?;
        let plain: Vec<_> = masks.iter().map(Mask::plain).collect();
        let unmade = |why: String| wrong_usage(why, "mend the mask: sluice policy check says where");
        let plan = Plan::compile(&plain).map_err(|error| unmade(Chain(&error).to_string()))?;
        let names = masks.iter().flat_map(|mask| &mask.detect);
        let detectors: Vec<_> =
            detect::all().filter(|one| names.clone().any(|name| means(name, one))).collect();
        let custom: Vec<Custom> = plain.iter().flat_map(|mask| mask.custom.clone()).collect();
        let set = Set::compile(detectors, &custom).map_err(|error| unmade(Chain(&error).to_string()))?;
        let found = find(&set, &bytes);
        let media = self.media();
        let refused = |why: String| Failure {
            code: 1,
            why: format!("it cannot be masked, and would not be sent: {why}"),
            remedy: "send what its type says, in UTF-8".to_owned(),
        };
        let kind = Kind::of(Some(media.as_bytes()), &bytes).map_err(|why| refused(why.to_string()))?;
        let scope = Arc::new(Scope::new(rand()));
        let (mut body, mut masked) = (Body::hiding(Arc::new(plan), scope, kind), Vec::new());
        let hidden = body.push(&bytes, &mut masked).and_then(|()| body.end(&mut masked));
        hidden.map_err(|why| refused(why.to_string()))?;
        let counts: BTreeMap<_, _> = body.counts().iter().collect();
        Ok(if self.json {
            as_json(out, &found, &masked, &counts)
        } else {
            out.write_all(&masked).and_then(|()| told(&found, &counts))
        })
    }

    fn masks(&self) -> Result<Vec<Mask>, Failure> {
        if self.mask.is_empty() {
            let all = Mask { detect: vec!["default".into()], with: With::Redact, ..Mask::default() };
            return Ok(vec![Mask { name: "default".into(), ..all }]);
        }
        let config = config::load(&self.config).map_err(|problems| {
            let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let why = format!("the configuration cannot be used:\n{}", all.join("\n"));
            wrong_usage(why, "sluice policy check tells the same")
        })?;
        let named = |name: &String| {
            let found = config.policy.masks.iter().find(|mask| mask.name == *name);
            found.cloned().ok_or_else(|| {
                let names: Vec<_> = config.policy.masks.iter().map(|mask| mask.name.as_str()).collect();
                wrong_usage(
                    format!("there is no [[mask]] {name:?}"),
                    format!("there are: {}", names.join(", ")),
                )
            })
        };
        self.mask.iter().map(named).collect()
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = match &self.file {
            Some(path) if path.as_os_str() != "-" => {
                std::fs::File::open(path).and_then(|file| file.take(TEXT_MAX + 1).read_to_end(&mut bytes))
            }
            _ => io::stdin().lock().take(TEXT_MAX + 1).read_to_end(&mut bytes),
        };
        read.map_err(|error| {
            wrong_usage(format!("the text cannot be read: {error}"), "name a readable file")
        })?;
        if bytes.len() as u64 > TEXT_MAX {
            return Err(wrong_usage(
                format!("the text is longer than {TEXT_MAX} bytes"),
                "test a part of it",
            ));
        }
        Ok(bytes)
    }

    fn media(&self) -> String {
        let by_name = || match self.file.as_deref().and_then(Path::extension).and_then(|end| end.to_str()) {
            Some("json") => "application/json",
            Some("ndjson" | "jsonl") => "application/x-ndjson",
            Some("xml") => "application/xml",
            Some("html" | "htm") => "text/html",
            Some("csv") => "text/csv",
            _ => "text/plain",
        };
        self.media.clone().unwrap_or_else(|| by_name().to_owned())
    }
}

/// Whether a name in `detect` means a detector.
fn means(name: &str, detector: &Detector) -> bool {
    let name = name.replace('_', "-");
    name == "default" || name == detector.name || (name == "credit-card" && detector.name == "card")
}

fn wrong_usage(why: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { why: why.into(), remedy: remedy.into(), code: 2 }
}

fn rand() -> [u8; 32] {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).expect("the kernel's generator answers");
    secret
}

fn find(set: &Set, bytes: &[u8]) -> Vec<Finding> {
    let (mut found, key) = (Vec::new(), crate::mask::Key::new([0; 32]));
    let mut note = |one: crate::mask::Found<'_>| {
        if one.continues || found.len() >= LISTED {
            return;
        }
        let mut shown = Vec::new();
        replace::write(&one, Replacement::Partial, &key, None, &mut shown);
        let shown = String::from_utf8_lossy(&shown).into_owned();
        found.push(Finding { from: one.from, end: one.end, detector: one.detector.to_owned(), shown });
    };
    let mut stream = Stream::default();
    for piece in bytes.chunks(16 << 10) {
        stream.push(set, piece, &mut note);
    }
    stream.end(set, &mut note);
    found
}

fn why(detector: &str) -> &'static str {
    detect::named(detector).map_or("a detector of this configuration", |one| one.grammar)
}

fn as_json(
    out: &mut impl Write,
    found: &[Finding],
    masked: &[u8],
    counts: &BTreeMap<&str, u64>,
) -> io::Result<()> {
    for one in found {
        let line = json!({
            "detector": one.detector, "from": one.from, "end": one.end, "value": one.shown,
            "grammar": why(&one.detector), "source": detect::named(&one.detector).map(|one| one.source),
        });
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{}", json!({ "masked": String::from_utf8_lossy(masked), "counts": counts }))
}

fn told(found: &[Finding], counts: &BTreeMap<&str, u64>) -> io::Result<()> {
    let mut err = io::stderr().lock();
    for one in found {
        let line =
            format!("{}..{} {} {}: {}", one.from, one.end, one.detector, one.shown, why(&one.detector));
        writeln!(err, "{}", visible(&line, Keep::Nothing))?;
    }
    let all: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let all = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
    // Places are those of the text as it stands: what is spelled with escapes, or named as a field, is counted alone.
    writeln!(err, "masked: {}", visible(&all, Keep::Nothing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_listed_by_their_last_letters() {
        let set = Set::compile(detect::all(), []).expect("the default set");
        let found = find(&set, b"pay 4111 1111 1111 1111 to jane.roe@corp-mail.net");
        let shown: Vec<_> = found.iter().map(|one| (one.detector.as_str(), one.from, one.end)).collect();
        assert_eq!(shown, [("card", 4, 23), ("email", 27, 49)]);
        assert!(found.iter().all(|one| one.shown.contains('*') && !one.shown.contains("jane")));
        assert!(means("credit_card", detect::named("card").expect("a detector")));
    }

    /// The table of docs/masking.md.
    fn table() -> String {
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let row =
            |one: &Detector| format!("| `{}` | {} | {} |\n", one.name, cell(one.grammar), cell(one.source));
        let rows: String = detect::all().map(row).collect();
        format!("| detector | grammar | source |\n|---|---|---|\n{rows}")
    }

    #[test]
    fn the_page_lists_every_detector() {
        let page = include_str!("../../../docs/masking.md");
        let shown =
            page.split_once("a test compares -->\n").and_then(|(_, rest)| rest.split_once("<!-- end"));
        let shown = shown.expect("the table's place").0;
        assert!(shown == table(), "put this between the marks in docs/masking.md:\n{}", table());
    }

    #[test]
    fn what_the_page_configures_is_good() {
        let page = include_str!("../../../docs/masking.md");
        let text =
            page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let read = config::parse(Path::new("sluice.toml"), text.to_owned());
        assert_eq!(read.expect("good").policy.masks.len(), 1);
    }
}
