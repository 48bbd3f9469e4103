//! Names, which take a model: a service on this host that speaks as Presidio's analyser does is asked. Here it is a stand-in that
//! knows some names, over real HTTP; it writes down what it was given.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sluice_tests::client;
use sluice_tests::harness::World;

use crate::rig::{EMAIL, WWW, curl, file, kept_nowhere, record, sent, with};

const RULES: &str = r#"mode = "enforce"

[[mask]]
name = "pii"
detect = ["email"]

[[mask]]
name = "names"
directions = "request"
analyser = { url = "http://127.0.0.1:5002", entities = ["PERSON", "LOCATION"], timeout = "1500ms" }

[[mask]]
name = "lenient"
directions = "request"
analyser = { url = "http://127.0.0.1:5002", on_failure = "pass" }

[[rule]]
name = "lenient"
query = { how = "lenient" }
verdict = "allow"
mask = ["pii", "lenient"]

[[rule]]
name = "masked"
verdict = "allow"
mask = ["pii", "names"]
"#;

const SERVER: &str = r#"
import http.server, json, re, sys, time
NAMES = {"Zoë Kravitz": "PERSON", "Jane Roe": "PERSON", "Łódź": "LOCATION", "Initech": "ORGANIZATION"}
class Analyser(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = asked["text"]
        with open(sys.argv[1], "a") as log:
            log.write(self.path + " " + text + "\n")
        if "SLOW" in text:
            time.sleep(5)
        found = [{"entity_type": kind, "start": m.start(), "end": m.end(), "score": 0.85}
                 for name, kind in NAMES.items() for m in re.finditer(name, text)]
        body = b"what?" if "BROKEN" in text else json.dumps(found).encode()
        self.send_response(500 if "FAILS" in text else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 5002), Analyser)
print("listening", flush=True)
server.serve_forever()
"#;

/// The stand-in, until it is dropped.
struct Analyser(Child, PathBuf);

impl Analyser {
    fn start(world: &World) -> Self {
        let log = world.space().dir().join("analyser.log");
        let mut command = world.untagged("python3").expect("a command");
        command.args(["-c", SERVER]).arg(&log);
        Self::run(command, log)
    }

    fn run(mut command: Command, log: PathBuf) -> Self {
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert_eq!(line, "listening\n");
        Self(child, log)
    }

    fn given(&self) -> String {
        std::fs::read_to_string(&self.1).unwrap_or_default()
    }
}

impl Drop for Analyser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn names_are_hidden_and_come_back() {
    let world = with(RULES);
    let analyser = Analyser::start(&world);
    let body = format!(
        "{{\"m\": [\"é Zoë Kravitz and Jane\\u0020Roe of \u{141}ód\\u017a, Initech\"], \"to\":\"{EMAIL}\", \"n\": 1.0}}"
    );
    for version in ["--http1.1", "--http2"] {
        let (status, back, ended) = curl(&world, &[version, "--json", &body, &format!("{WWW}/echo")]);
        assert_eq!(status, "200", "{ended:?}");
        let said: serde_json::Value = serde_json::from_str(&back).expect("JSON");
        assert_eq!(said["m"][0], "é Zoë Kravitz and Jane Roe of Łódź, Initech", "{back}");
        assert_eq!(said["to"], EMAIL, "{back}");
    }
    let sent = sent(&world);
    for value in ["Zoë", "Kravitz", "Roe", "\u{141}ód", "jane.roe"] {
        assert!(!sent.contains(value), "{value}: {sent}");
    }
    assert!(sent.contains("Initech") && sent.contains("\"n\": 1.0}"), "what was not asked for stays: {sent}");
    let given = analyser.given();
    assert!(given.starts_with("/analyze ") && given.contains("Zoë Kravitz"), "{given}");
    assert!(!given.contains("jane.roe"), "it is given what is masked already: {given}");
    let summary = record(&world, "a request", |s| s.masked.contains_key("person"));
    assert_eq!((summary.masked["person"], summary.masked["location"], summary.masked["email"]), (2, 1, 1));
    kept_nowhere(&world, &["Kravitz", "Jane Roe", "jane.roe"]);
}

#[test]
fn without_an_answer_nothing_is_sent_unless_it_may() {
    let world = with(RULES);
    let post = |body: &str, query: &str| {
        let (status, said, _) = curl(&world, &["--json", body, &format!("{WWW}/echo{query}")]);
        (status, said)
    };
    let lone = format!("[\"Jane Roe {EMAIL}\"]");
    let (status, said) = post(&lone, "");
    assert!(status == "422" && said.contains("the analyser at 127.0.0.1:5002"), "{status} {said}");
    assert!(!said.contains("Roe") && sent(&world).is_empty(), "{said}");
    let (status, said) = post(&lone, "?how=lenient");
    assert_eq!((status.as_str(), said), ("200", lone));
    assert!(sent(&world).contains("Jane Roe") && !sent(&world).contains("jane.roe"));
    world.seen().forget();

    let _analyser = Analyser::start(&world);
    for (text, why) in
        [("SLOW", "no answer in 1500 ms"), ("BROKEN", "no list of spans"), ("FAILS", "it answered 500")]
    {
        let (status, said) = post(&format!("[\"Jane Roe {text}\"]"), "");
        assert!(status == "422" && said.contains(why), "{text}: {status} {said}");
    }
    let long = format!("[\"{}\"]", "words and more ".repeat(40_000));
    let (status, said) = post(&format!("@{}", file(&world, "long", long.as_bytes()).display()), "");
    assert!(status == "422" && said.contains("more text than"), "{status} {said}");
    // What does not say how long it is passes in pieces, and is not given to it.
    let chunked = ["-H", "Transfer-Encoding: chunked", "--json", "[\"Jane Roe\"]"];
    let (status, said, _) = curl(&world, &[&chunked[..], &[&format!("{WWW}/echo")]].concat());
    assert!(status == "422" && said.contains("cannot be given to the analyser"), "{status} {said}");
    assert!(sent(&world).is_empty(), "{}", sent(&world));
    let (status, back) = post("[\"Jane Roe\"]", "");
    assert_eq!((status.as_str(), back.as_str()), ("200", "[\"Jane Roe\"]"));
    assert!(!sent(&world).contains("Roe"));
    kept_nowhere(&world, &["jane.roe"]);
}

/// Presidio's own, where it is at hand: `SLUICE_PRESIDIO` names the Python that has it.
#[test]
#[ignore = "needs presidio-analyzer and a model of spaCy's"]
fn presidios_own_analyser() {
    let python = std::env::var("SLUICE_PRESIDIO").expect("SLUICE_PRESIDIO: a Python");
    let world = with(RULES);
    let mut command = world.untagged(&python).expect("a command");
    command.arg(client::program("presidio_server.py"));
    let _analyser = Analyser::run(command, PathBuf::new());
    let body = "{\"content\": \"My name is John Smith, and I live in Paris.\"}";
    let (status, back, ended) = curl(&world, &["--json", body, &format!("{WWW}/echo")]);
    assert_eq!((status.as_str(), back.as_str()), ("200", body), "{ended:?}");
    let sent = sent(&world);
    assert!(!sent.contains("Smith") && !sent.contains("Paris") && sent.contains("My name is "), "{sent}");
}
