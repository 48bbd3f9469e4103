//! What bodies say, end to end: conditions over each shape, and content codings as unchanged clients send them.

use std::fs;
use std::process::Command;

use sluice::types::Verdict;
use sluice_tests::client;
use sluice_tests::harness::World;
use sluice_tests::process::{PATIENCE, run};

use crate::rig::{TAG, curl, fetched, judged, record, world};

const RULES: &str = r#"
[[rule]]
name = "no-interpreter"
when = 'request.json.tools.exists(t, t.type == "code_interpreter")'
query = { view = "json" }
verdict = "deny"

[[rule]]
name = "json"
query = { view = "json" }
when = 'request.json.model == "small" && request.json.max_tokens <= 100'
verdict = "allow"

[[rule]]
name = "form"
query = { view = "form" }
when = 'request.form.grant_type == ["refresh_token"]'
verdict = "allow"

[[rule]]
name = "parts"
query = { view = "parts" }
when = 'request.multipart.names.all(n, n in ["file", "purpose"]) && request.multipart.files.all(f, f.endsWith(".txt"))'
verdict = "allow"

[[rule]]
name = "graphql"
query = { view = "graphql" }
when = 'request.graphql.type == "query" && !("secrets" in request.graphql.names)'
verdict = "allow"

[[rule]]
name = "grpc"
protocol = "grpc"
when = 'request.grpc.service == "echo.Echo" && request.grpc.method == "Unary"'
verdict = "allow"

[[rule]]
name = "words"
hosts = ["api.openai.com"]
prompt_words = ["unicorn"]
verdict = "deny"

[[rule]]
name = "patterns"
hosts = ["api.openai.com"]
prompt_patterns = ['\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b']
verdict = "deny"

[[rule]]
name = "models"
hosts = ["api.openai.com"]
when = '''
(request.llm.provider == "openai" && request.llm.model == "gpt-4o-mini" && !request.llm.tools.exists(t, t == "shell"))
|| (request.llm.provider == "anthropic" && request.llm.model == "claude-x" && request.llm.max_tokens <= 50)
'''
verdict = "allow"
"#;

const JSON: &str = "-HContent-Type: application/json";

/// The path and the body; the rule that decides, and whether it lets through.
#[track_caller]
fn ask(world: &World, host: &str, path: &str, args: &[&str], rule: &str, allowed: bool) {
    let url = format!("https://{host}{path}");
    let before = world.seen().requests().len();
    let (status, body, ended) = fetched(curl(world, TAG, args).arg(&url));
    assert_eq!(status != "403", allowed, "{path} {args:?}: {status} {body} {}", ended.stderr);
    assert_eq!(world.seen().requests().len(), before + usize::from(allowed), "{path} {args:?}");
    if !allowed {
        assert!(body.contains(&format!("\"rule\":\"{rule}\"")), "{path} {args:?}: {body}");
    } else {
        let wanted =
            |s: &sluice::types::Summary| s.path.as_deref() == Some(path) && s.verdict == Verdict::Allow;
        assert_eq!(judged(&record(world, path, wanted)).0, Some(rule));
    }
}

#[test]
fn each_shape_of_a_body() {
    let world = world("mode = \"enforce\"", RULES);
    let www = |path: &str, args: &[&str], rule: &str, allowed| {
        ask(&world, "www.example.test", path, args, rule, allowed)
    };
    let json = |path: &str, body: &str, rule: &str, allowed| www(path, &[JSON, "-d", body], rule, allowed);
    json("/echo?view=json&n=1", r#"{"model": "small", "max_tokens": 100}"#, "json", true);
    json("/echo?view=json&n=2", r#"{"model": "small", "max_tokens": 101}"#, "(none)", false);
    json("/echo?view=json&n=3", r#"{"model": "small"}"#, "(none)", false);
    json(
        "/echo?view=json&n=4",
        r#"{"model": "small", "max_tokens": 1, "tools": [{"type": "code_interpreter"}]}"#,
        "no-interpreter",
        false,
    );
    json(
        "/echo?view=json&n=5",
        r#"{"model": "small", "max_tokens": 1, "tools": [{"type": "function"}]}"#,
        "json",
        true,
    );
    json(
        "/echo?view=json&n=6",
        r#"{"model": "big", "model": "small", "max_tokens": 1}"#,
        "no-interpreter",
        false,
    );

    www("/echo?view=form&n=1", &["-d", "grant_type=refresh_token&x=1"], "form", true);
    www("/echo?view=form&n=2", &["-d", "grant_type=refresh_token&grant_type=password"], "(none)", false);

    let file = world.space().dir().join("notes.txt");
    fs::write(&file, "text").expect("file");
    let part = format!("file=@{}", file.display());
    www("/sink?view=parts&n=1", &["-F", &part, "-F", "purpose=x"], "parts", true);
    www("/sink?view=parts&n=2", &["-F", &part, "-F", "other=x"], "(none)", false);
    let named = format!("{part};filename=notes.pdf");
    www("/sink?view=parts&n=3", &["-F", &named], "(none)", false);

    json("/echo?view=graphql&n=1", r#"{"query": "query { me { id } }"}"#, "graphql", true);
    json("/echo?view=graphql&n=2", r#"{"query": "mutation { x { id } }"}"#, "(none)", false);
    json("/echo?view=graphql&n=3", r#"{"query": "{ a: secrets { id } }"}"#, "(none)", false);
}

#[test]
fn requests_to_models_whoever_serves_them() {
    let world = world("mode = \"enforce\"", RULES);
    let api = |path: &str, body: &str, rule: &str, allowed| {
        ask(&world, "api.openai.com", path, &[JSON, "-d", body], rule, allowed);
    };
    let hello = r#"[{"role": "user", "content": "hello"}]"#;
    let chat = |model: &str, more: &str| format!(r#"{{"model": "{model}", "messages": {hello}{more}}}"#);
    api("/v1/chat/completions?n=1", &chat("gpt-4o-mini", ""), "models", true);
    api("/v1/chat/completions?n=2", &chat("gpt-5", ""), "(none)", false);
    let tool = r#", "tools": [{"type": "function", "function": {"name": "shell"}}]"#;
    api("/v1/chat/completions?n=3", &chat("gpt-4o-mini", tool), "(none)", false);
    api("/v1/responses?n=4", r#"{"model": "gpt-4o-mini", "input": "a unic\u006frn"}"#, "words", false);
    api("/v1/messages?n=5", &chat("claude-x", r#", "max_tokens": 50"#), "models", true);
    api("/v1/messages?n=6", &chat("claude-x", r#", "max_tokens": 51"#), "(none)", false);
    api("/v1/messages?n=7", &chat("claude-x", r#", "system": "Unicorn", "max_tokens": 5"#), "words", false);
    api("/v1/responses?n=8", r#"{"model": "gpt-4o-mini", "input": "it is 078-05-1120."}"#, "patterns", false);
    // The packages of OpenAI itself, unchanged: another model than the rule's.
    let python = client::python().expect("python clients");
    let mut job = world.job(TAG, &python).expect("a job");
    let script = "import openai\nfor model in ['gpt-4o-mini', 'gpt-5']:\n    try:\n        answer = openai.OpenAI().chat.completions.create(model=model, messages=[{'role': 'user', 'content': 'hi'}])\n        print(answer.choices[0].message.content)\n    except openai.PermissionDeniedError as e:\n        print('refused', e.status_code)\n";
    let ended = run(job.args(["-c", script]).env("OPENAI_API_KEY", "sk-test"), PATIENCE).expect("started");
    assert!(
        ended.stdout.ends_with("refused 403\n") && ended.stdout.lines().count() == 2,
        "{} {}",
        ended.stdout,
        ended.stderr
    );
}

#[test]
fn methods_of_grpc() {
    let world = world("mode = \"enforce\"", RULES);
    let python = client::python().expect("python clients");
    let mut job = world.job(TAG, &python).expect("a job");
    let ended =
        run(job.arg(client::program("grpc_echo.py")).arg("www.example.test:443"), PATIENCE).expect("started");
    assert_eq!(ended.stdout, "hello grpc OK\n", "{}", ended.stderr);
    let args = ["--http2", "-D", "-", "-HContent-Type: application/grpc", "-HTE: trailers", "-d", "x"];
    let (_, head, _) = fetched(curl(&world, TAG, &args).arg("https://www.example.test/echo.Echo/Delete"));
    assert!(head.contains("grpc-status: 7"), "{head}");
}

/// Sends `body` as it is, under a content coding; the status, and what came back.
fn send(world: &World, coding: &[&str], path: &str, body: &[u8]) -> (String, Vec<u8>) {
    let (from, to) = (world.space().dir().join("coded"), world.space().dir().join("came"));
    fs::write(&from, body).expect("file");
    let data = format!("@{}", from.display());
    let fields: Vec<String> = coding.iter().map(|coding| format!("-HContent-Encoding: {coding}")).collect();
    let mut command = curl(world, TAG, &[JSON, "--data-binary", &data, "-o"]);
    let _before = fs::remove_file(&to);
    let (status, _, ended) =
        fetched(command.arg(&to).args(fields).arg(format!("https://www.example.test{path}")));
    let came = fs::read(&to).unwrap_or_else(|_| format!("nothing: {}", ended.stderr).into_bytes());
    (status, came)
}

fn coded(program: &str, plain: &str) -> Vec<u8> {
    let script = format!("printf %s '{plain}' | {program}");
    Command::new("sh").args(["-c", &script]).output().expect("started").stdout
}

#[test]
fn content_codings_are_judged_by_what_they_stand_for() {
    let world = world("mode = \"enforce\"", RULES);
    let (small, big) = (r#"{"model": "small", "max_tokens": 1}"#, r#"{"model": "big", "max_tokens": 1}"#);
    let zlib =
        "python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))'";
    let path = "/echo?view=json";
    for (coding, program) in
        [("gzip", "gzip"), ("GZIP", "gzip -9"), ("x-gzip", "gzip"), ("zstd", "zstd -q"), ("deflate", zlib)]
    {
        let (yes, no) = (coded(program, small), coded(program, big));
        let (status, came) = send(&world, &[coding], path, &yes);
        assert_eq!(status, "200", "{coding}: {}", String::from_utf8_lossy(&came));
        assert_eq!(came, yes, "{coding}: the upstream got the coded bytes");
        assert_eq!(send(&world, &[coding], path, &no).0, "403", "{coding}");
    }
    let twice = coded("gzip | zstd -q", small);
    assert_eq!(send(&world, &["gzip, zstd"], path, &twice).0, "200");
    let gzip = coded("gzip", small);
    let bomb =
        Command::new("sh").args(["-c", "head -c 3000000 /dev/zero | gzip"]).output().expect("started").stdout;
    for (fields, body) in [
        (&["gzip"][..], &gzip[..gzip.len() - 1]),
        (&["gzip"], &[&gzip[..], b"x"].concat()),
        (&["gzip"], &[&gzip[..], &gzip[..]].concat()),
        (&["gzip"], small.as_bytes()),
        (&["gzip"], &bomb),
        (&["gzip", "identity"], &gzip),
        (&["identity, gzip"], &gzip),
        (&["rot13"], small.as_bytes()),
        (&["br"], small.as_bytes()),
    ] {
        let (status, came) = send(&world, fields, path, body);
        let came = String::from_utf8_lossy(&came);
        assert_eq!(status, "403", "{fields:?} {came}");
        // The rule that refuses cannot be judged either.
        assert!(
            came.contains("\"rule\":\"no-interpreter\"") && came.contains("cannot be judged"),
            "{fields:?} {came}"
        );
    }
    // An unchanged client that compresses by itself.
    let script = "const z = require('zlib');\nfetch('https://www.example.test/echo?view=json', {method: 'POST', body: z.gzipSync(process.argv[1]), headers: {'content-type': 'application/json', 'content-encoding': 'gzip'}}).then(async r => console.log(r.status, r.ok ? z.gunzipSync(Buffer.from(await r.arrayBuffer())).toString() : ''))";
    for (body, wanted) in [(small, format!("200 {small}\n")), (big, "403 \n".to_owned())] {
        let mut job = world.job(TAG, "/usr/bin/node").expect("a job");
        let ended = run(job.args(["-e", script, "--", body]), PATIENCE).expect("started");
        assert_eq!(ended.stdout, wanted, "{}", ended.stderr);
    }
}

/// A stream that is reset while its request is still coming is a failure to curl 7.88: it would show no answer.
#[test]
fn whoever_uploads_over_http2_hears_the_refusal() {
    let world = world("mode = \"enforce\"", RULES);
    let file = world.space().dir().join("upload");
    fs::write(&file, vec![b'x'; 300_000]).expect("a file");
    let data = format!("@{}", file.display());
    for _ in 0..10 {
        let args = ["--http2", "--data-binary", &data, "https://www.example.test/upload"];
        let (status, body, ended) = fetched(&mut curl(&world, TAG, &args));
        assert_eq!(status, "403", "{body} {}", ended.stderr);
    }
}
