//! `sluice policy explain`: which rule decides a request and why the others do not. The request is put together from
//! flags, or taken from the store.

use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use http::header::{HeaderName, HeaderValue};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{recorded, wrong};
use crate::cli::DaemonAt;
use crate::cli::Failure;
use crate::cli::filter::default_store;
use crate::cli::identity::Reading;
use crate::cli::table::{self, Cell, Look, Tone};
use crate::paths;
use crate::policy::limit::Bound;
use crate::policy::past::{Outcome, Past};
use crate::policy::question::{Decision, Question};
use crate::policy::rule::{Effect, Rule};
use crate::policy::{Match, Policy};
use crate::record::visible::{Keep, visible};
use crate::types::action::Speaker;
use crate::types::{Identity, TagName};

/// Arguments of `sluice policy explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice policy explain --tag ci --method POST --url https://api.openai.com/v1/responses
  sluice policy explain --tag ci --url https://pypi.org/simple/ --user builder --exe /usr/bin/pip
  sluice policy explain --exchange 01JZ8Q4T9V/3 --json")]
pub struct ExplainArgs {
    /// Directory with sluice.toml and policy.d
    #[arg(long, value_name = "DIR", default_value = paths::CONFIG_DIR)]
    config: PathBuf,
    /// A recorded exchange, as `sluice sessions` shows it
    #[arg(long, value_name = "SESSION/N", conflicts_with_all = ["url", "tag", "method", "header", "json_body", "address"])]
    exchange: Option<String>,
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
    /// With --exchange: file with the age identity that opens bodies; without it the host's own, where it can be read
    #[arg(long, value_name = "FILE", requires = "exchange")]
    bodies_identity: Option<PathBuf>,
    /// What is asked for: https://…, http://…, wss://…, or tcp://host:port for what is no HTTP
    #[arg(long, required_unless_present = "exchange")]
    url: Option<String>,
    /// The caller's tag
    #[arg(long, default_value = "any")]
    tag: String,
    /// The caller's systemd unit
    #[arg(long)]
    unit: Option<String>,
    /// The caller's user, by name or number
    #[arg(long)]
    user: Option<String>,
    /// The caller's executable
    #[arg(long, value_name = "PATH")]
    exe: Option<String>,
    /// SHA-256 of the executable
    #[arg(long, value_name = "HEX", requires = "exe")]
    exe_sha256: Option<String>,
    /// The caller's container, by id
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// Subject of the verified identity
    #[arg(long, value_name = "SUBJECT")]
    identity: Option<String>,
    /// Issuer of the verified identity
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// A group of the verified identity; may be given several times
    #[arg(long)]
    group: Vec<String>,
    /// Claims of the verified identity, a JSON object
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// The request's method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The request's protocol: http/1.1, h2, grpc, websocket
    #[arg(long)]
    protocol: Option<String>,
    /// A header field; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A file with the request's body of JSON; - is stdin
    #[arg(long, value_name = "FILE")]
    json_body: Option<PathBuf>,
    /// A text message on the WebSocket that it opens, in place of the handshake
    #[arg(long, value_name = "TEXT", conflicts_with = "json_body")]
    message: Option<String>,
    /// Who sends it: client, server
    #[arg(long, value_name = "SIDE", requires = "message", default_value = "client", value_parser = ["client", "server"])]
    message_from: String,
    /// The address that the name stands for, perhaps with a port
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// The time, such as 2026-01-31T09:30:00Z; now, if it is not given
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// One JSON object a rule, then one with the decision
    #[arg(long)]
    json: bool,
}

impl ExplainArgs {
    /// Prints it; exit code 0 whatever the decision.
    ///
    /// # Errors
    /// [`Failure`]: bad flags, a bad configuration, no such exchange; or stdout cannot be written.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        if let Some(id) = &self.exchange {
            let reading = Reading::new(self.bodies_identity.clone());
            reading.record(daemon, &self.store, format!("policy explain {id}"));
        }
        let policy = super::in_force(&self.config)?;
        let past = match &self.exchange {
            Some(id) => recorded::read(
                &self.store,
                id,
                &Reading::new(self.bodies_identity.clone()).access(&self.store)?,
            )?,
            None => Past::from(self.question()?),
        };
        let decision = past.decide(&policy);
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = if self.json {
            as_json(&mut out, &policy, &past, &decision)
        } else {
            as_text(&mut out, &policy, &past, &decision)
        };
        match printed.and_then(|()| out.flush()) {
            Err(error) if !table::nobody_reads(&error) => Err(anyhow::Error::new(error).context("stdout")),
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    fn question(&self) -> Result<Question, Failure> {
        let tag = TagName::parse(&self.tag).map_err(|e| wrong(e.to_string(), "see sluice tags"))?;
        let url = self.url.as_deref().unwrap_or_default();
        let mut question = Question::of(tag, url).map_err(|e| wrong(e.to_string(), "give --url whole"))?;
        question.caller.unit.clone_from(&self.unit);
        question.caller.container.clone_from(&self.container);
        if let Some(user) = &self.user {
            question.by_user(user);
        }
        if let Some(exe) = &self.exe {
            question.by_exe(exe.clone(), self.exe_sha256.as_ref().map(|sum| sum.to_ascii_lowercase()));
        }
        question.identity = self.identity()?;
        question.http.method.clone_from(&self.method);
        if let Some(protocol) = &self.protocol {
            question.http.protocol = protocol.clone().into();
        }
        for field in &self.header {
            let (name, value) = field.split_once(':').unwrap_or((field, ""));
            match (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim())) {
                (Ok(name), Ok(value)) => drop(question.http.headers.append(name, value)),
                _ => {
                    return Err(wrong(
                        format!("--header {field:?} is no header field"),
                        "write \"name: value\"",
                    ));
                }
            }
        }
        if let Some(path) = &self.json_body {
            question.with_json(read(path)?);
        }
        if let Some(message) = &self.message {
            let from = Speaker::parse(&self.message_from).unwrap_or_default();
            question.with_message(from, message.clone());
        }
        if let Some(address) = &self.address {
            match (address.parse::<IpAddr>(), address.parse::<SocketAddr>()) {
                (Ok(ip), _) => question.at(ip),
                (_, Ok(socket)) => question.at_socket(socket),
                _ => {
                    return Err(wrong(
                        format!("--address {address:?} is no address"),
                        "write such as 192.0.2.7",
                    ));
                }
            }
        }
        if let Some(at) = &self.at {
            question.now = OffsetDateTime::parse(at, &Rfc3339)
                .map_err(|e| wrong(format!("--at {at:?}: {e}"), "write such as 2026-01-31T09:30:00Z"))?;
        }
        Ok(question)
    }

    fn identity(&self) -> Result<Option<Identity>, Failure> {
        let given = self.identity.is_some() || self.issuer.is_some() || self.claims.is_some();
        if !given && self.group.is_empty() {
            return Ok(None);
        }
        let text = self.claims.as_deref().unwrap_or("{}");
        let claims: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        if !claims.is_object() {
            return Err(wrong(
                format!("--claims {text:?} is no JSON object"),
                "write such as '{\"ref\": \"main\"}'",
            ));
        }
        Ok(Some(Identity {
            issuer: self.issuer.clone().unwrap_or_default(),
            subject: self.identity.clone().unwrap_or_default(),
            groups: self.group.clone(),
            claims,
            expires: i64::MAX,
        }))
    }
}

/// The most of a body that any rule may ask for, and one byte more.
const READ: u64 = crate::policy::rule::BODY_LIMIT + 1;

fn read(path: &std::path::Path) -> Result<String, Failure> {
    let open = || -> io::Result<Box<dyn io::Read>> {
        if path.as_os_str() == "-" {
            Ok(Box::new(io::stdin()))
        } else {
            Ok(Box::new(std::fs::File::open(path)?))
        }
    };
    let mut text = String::new();
    open()
        .and_then(|file| io::Read::read_to_string(&mut io::Read::take(file, READ), &mut text))
        .map_err(|e| wrong(format!("--json-body {}: {e}", path.display()), "name a readable file of text"))?;
    Ok(text)
}

fn matched(matched: &Match) -> (&'static str, Option<&'static str>) {
    match matched {
        Match::Yes => ("yes", None),
        Match::No(key) => ("no", Some(key)),
        Match::NotYet(key) | Match::Cannot(key, _) => ("unknown", Some(key)),
    }
}

/// Each rule, in order, and how it matches.
fn rules<'p>(policy: &'p Policy, past: &Past) -> Vec<(&'p Rule, Match)> {
    let Some(asked) = past.asked(policy) else { return Vec::new() };
    policy.source().rules.iter().zip(past.explain(policy, &asked).map(|(_, how)| how)).collect()
}

fn as_json(out: &mut impl Write, policy: &Policy, past: &Past, outcome: &Outcome) -> io::Result<()> {
    let decides = outcome.rule();
    for (rule, how) in rules(policy, past) {
        let (matches, key) = matched(&how);
        let limits: Vec<_> = rule.limits.iter().map(ToString::to_string).collect();
        let line = json!({
            "rule": rule.name, "verdict": rule.verdict, "matches": matches, "failed": key,
            "decides": decides == Some(rule.name.as_str()), "limits": limits,
        });
        writeln!(out, "{line}")?;
    }
    let mode = policy.mode(&past.caller.tag);
    let line = match outcome {
        Outcome::Decided(Decision { effect, rule, sent, limits, masks }) => {
            let limit = |Bound { limit, key }: &Bound| json!({ "limit": limit.to_string(), "count": key });
            let limits: Vec<_> = limits.iter().map(limit).collect();
            json!({ "decision": effect, "rule": rule, "sent": sent, "mode": mode, "limits": limits, "masks": masks })
        }
        Outcome::Unknown(why) => {
            json!({ "decision": "unknown", "rule": null, "sent": null, "mode": mode, "why": why })
        }
    };
    writeln!(out, "{line}")
}

fn as_text(out: &mut impl Write, policy: &Policy, past: &Past, outcome: &Outcome) -> io::Result<()> {
    let mut rows = Vec::new();
    for (rule, how) in rules(policy, past) {
        let says = match matched(&how) {
            _ if outcome.rule() == Some(rule.name.as_str()) => Cell::new("decides"),
            (_, Some(key)) if matches!(how, Match::No(_)) => {
                Cell::new(format!("no: its {key}")).tone(Tone::Dim)
            }
            (_, Some(key)) => Cell::new(format!("cannot be known: its {key}")).tone(Tone::Warn),
            _ => Cell::new("would match; an earlier rule decides").tone(Tone::Dim),
        };
        rows.push([Cell::new(rule.name.as_str()), Cell::new(rule.verdict.to_string()), says]);
    }
    if !rows.is_empty() {
        table::write(out, Look::of_stdout(), Some(["RULE", "VERDICT", "MATCHES"]), &rows, 60)?;
    }
    match outcome {
        Outcome::Decided(decision) => decided(out, decision),
        Outcome::Unknown(why) => writeln!(out, "cannot be judged: {}", visible(why, Keep::Nothing)),
    }
}

fn decided(out: &mut impl Write, decision: &Decision) -> io::Result<()> {
    let Decision { effect, rule, sent, limits, masks } = decision;
    let but = if *effect == Effect::Deny && *sent { ", recorded only: it is sent" } else { "" };
    writeln!(out, "{effect} by rule {rule}{but}")?;
    for Bound { limit, key } in limits {
        let shared = if key.is_empty() { "all callers of the rule" } else { key };
        let line = format!("limit {{ {limit} }}, on the count of {shared}");
        writeln!(out, "{}", visible(&line, Keep::Nothing))?;
    }
    if !masks.is_empty() {
        writeln!(out, "masked by {}", visible(&masks.join(", "), Keep::Nothing))?;
    }
    Ok(())
}
