//! OpenAI's agents for Python, unchanged, inside a tag with rules over the model: what the rules allow runs to its end,
//! with a tool and streamed, and what they refuse comes out as the package's own error with the reason in it.

use std::process::Command;

use sluice::types::{Summary, Verdict};
use sluice_tests::client;
use sluice_tests::client::check::TAG;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{Ended, PATIENCE, eventually, run};

const RULES: &str = r#"mode = "enforce"

[[rule]]
name = "model"
tag = "job"
host = "api.openai.com"
when = 'request.llm.model == "gpt-4o-mini"'
verdict = "allow"

[[rule]]
name = "traces"
tag = "job"
host = "api.openai.com"
method = "POST"
path = "/v1/traces/ingest"
verdict = "TRACES"
"#;

/// The same with a budget.
const BUDGET: &str = r#"verdict = "allow"
limit = { tokens = 20, per = "1h", by = "tag" }

[[rule]]
name = "traces""#;

fn world(traces: &str) -> World {
    with_rules(RULES.replace("TRACES", traces))
}

fn with_rules(config: String) -> World {
    World::with(Options { config, no_roots: true, ..Options::default() }).expect("a world with the agent")
}

fn agent(world: &World, model: &str) -> Ended {
    let python = client::python_agents().expect("Python with agents");
    let mut command: Command = world.job(TAG, &python).expect("a job");
    command.arg(client::program("agents_run.py")).arg(model).env("OPENAI_API_KEY", "sk-test");
    let ended = run(&mut command, PATIENCE * 2).expect("started");
    assert!(ended.good(), "{ended:?}");
    ended
}

fn to(path: &str, sessions: &[Summary]) -> Vec<(u16, Verdict, String)> {
    let of = sessions.iter().filter(|s| s.path.as_deref() == Some(path));
    of.map(|s| (s.status.unwrap_or(0), s.verdict, s.rule.clone().unwrap_or_default())).collect()
}

#[test]
fn an_allowed_model_runs_with_its_tool_and_streams() {
    let world = world("allow");
    let ended = agent(&world, "gpt-4o-mini");
    let want = "tool called for Ulm\nfinal: echo: sunny in Ulm\n\
                tool called for Bonn\nstreamed: echo: sunny in Bonn True\nfinal: echo: sunny in Bonn\n";
    assert_eq!(ended.stdout, want, "{}", ended.stderr);
    if world.is_direct() {
        return;
    }
    world
        .expect("the traces", |s| s.path.as_deref() == Some("/v1/traces/ingest") && s.status.is_some())
        .expect("recorded");
    let sessions = world.sessions().expect("sessions");
    let allowed = (200, Verdict::Allow, "model".to_owned());
    assert_eq!(to("/v1/responses", &sessions), vec![allowed; 4], "two a run: the call, and what came of it");
    let traces = to("/v1/traces/ingest", &sessions);
    assert!(!traces.is_empty(), "traces are exchanges like any other");
    assert!(traces.iter().all(|t| *t == (204, Verdict::Allow, "traces".to_owned())), "{traces:?}");
    assert_eq!(world.seen().strangers(), []);
}

#[test]
fn another_model_is_refused_as_the_package_says_it() {
    let world = world("deny");
    if world.is_direct() {
        return;
    }
    let ended = agent(&world, "gpt-4o");
    assert!(ended.stdout.starts_with("PermissionDeniedError 403 "), "{ended:?}");
    assert!(ended.stdout.contains("no rule allows it") && !ended.stdout.contains("tool called"), "{ended:?}");
    world
        .expect("the traces", |s| s.path.as_deref() == Some("/v1/traces/ingest") && s.status.is_some())
        .expect("recorded");
    let sessions = world.sessions().expect("sessions");
    let refused = to("/v1/responses", &sessions);
    assert_eq!(refused, [(403, Verdict::Deny, "(none)".to_owned())], "once: a 403 is not tried again");
    let traces = to("/v1/traces/ingest", &sessions);
    assert!(!traces.is_empty());
    assert!(traces.iter().all(|t| *t == (403, Verdict::Deny, "traces".to_owned())), "{traces:?}");
    assert_eq!(world.seen().requests().len(), 0, "nothing of either reached the upstream");
}

#[test]
fn a_budget_of_tokens_ends_in_the_packages_own_error() {
    let rules = RULES.replace("verdict = \"allow\"\n\n[[rule]]\nname = \"traces\"", BUDGET);
    let world = with_rules(rules.replace("TRACES", "allow"));
    if world.is_direct() {
        return;
    }
    let ended = agent(&world, "gpt-4o-mini");
    let said = "tool called for Ulm\nRateLimitError 429 ";
    assert!(ended.stdout.starts_with(said) && ended.stdout.contains("is reached: tokens"), "{ended:?}");
    let asked = |s: &&Summary| s.path.as_deref() == Some("/v1/responses");
    let all = || {
        let sessions = world.sessions()?;
        let all: Vec<_> = sessions.iter().filter(asked).map(|s| s.status.unwrap_or(0)).collect();
        Ok((all.len() >= 2).then_some(all))
    };
    let all = eventually(PATIENCE, all).expect("asked");
    assert_eq!(all, Some(vec![200, 429]), "an hour is longer than the package waits");
}
