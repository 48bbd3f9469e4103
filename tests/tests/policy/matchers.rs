//! The keys of a rule that no other test here asks: units, containers, hours, identities' absence, protocols, conditions over
//! who asks. One world.

use sluice::types::Verdict;
use time::{OffsetDateTime, Weekday};

use crate::rig::{TAG, curl, fetched, judged, record, world};

const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Hours that hold now and in ten minutes, and hours that hold in neither.
fn hours() -> (String, String) {
    let now = OffsetDateTime::now_utc();
    let day = |day: Weekday| day.to_string()[..3].to_lowercase();
    let today = now.weekday();
    // Around midnight the test may see both days.
    let now = format!("{},{} 00:00-24:00", day(today), day(today.next()));
    (now, format!("{},{} 00:00-24:00", day(today.nth_next(3)), day(today.nth_next(4))))
}

fn rules() -> String {
    let (now, never) = hours();
    format!(
        r#"
[[intercept]]
name = "unit"
cgroup = "/system.slice/ci.service"
[[intercept]]
name = "boxed"
cgroup = "/system.slice/docker-{CONTAINER}.scope"

[[rule]]
name = "unit-only"
unit = "ci"
path = "/bytes/1"
verdict = "allow"

[[rule]]
name = "container-only"
container = "0123456789ab*"
path = "/bytes/1"
verdict = "allow"

[[rule]]
name = "never"
windows = ["{never}"]
path = "/bytes/2"
verdict = "deny"

[[rule]]
name = "now"
windows = ["{never}", "{now}"]
path = "/bytes/2"
verdict = "allow"

[[rule]]
name = "closed"
windows = "{never}"
path = "/bytes/3"
verdict = "allow"

[[rule]]
name = "h1"
protocol = "http/1.1"
path = "/bytes/4"
verdict = "allow"

[[rule]]
name = "h2"
protocols = ["h2"]
path = "/bytes/5"
verdict = "allow"

[[rule]]
name = "when"
when = '''
caller.tag == "job" && caller.exe.endsWith("/curl") && caller.uid == 0 && !has(identity.subject)
&& request.query.x[0] == "1" && request.headers["x-team"].exists(t, t == "red") && now.getFullYear() > 2025
&& destination.port == 443 && host.endsWith(".example.test") && request.path == "/bytes/6"
'''
verdict = "allow"

[[rule]]
name = "network"
addresses = ["203.0.113.0/24", "2001:db8::/32"]
method = "PUT"
verdict = "allow"
"#
    )
}

#[test]
fn units_containers_hours_protocols_and_conditions() {
    let world = world("mode = \"enforce\"", &rules());
    let at = |path: &str| format!("https://www.example.test{path}");
    let docker = format!("/system.slice/docker-{CONTAINER}.scope");
    for (cgroup, rule) in [("system.slice/ci.service", "unit-only"), (&docker[1..], "container-only")] {
        let mut job = world.space().command(cgroup, "curl").expect("a command");
        job.args(["-ksS", "-w", "\n%{http_code}"]).arg(at("/bytes/1"));
        let (status, body, ended) = fetched(&mut job);
        assert_eq!(status, "200", "{rule}: {body} {}", ended.stderr);
        let summary = record(&world, rule, |s| s.rule.as_deref() == Some(rule));
        match rule {
            "unit-only" => assert_eq!(summary.unit.as_deref(), Some("ci.service")),
            _ => assert_eq!(summary.container.as_deref(), Some(CONTAINER)),
        }
    }
    let six = at("/bytes/6?x=1");
    for (args, status, rule) in [
        (&[&*at("/bytes/1")][..], "403", "(none)"),
        (&[&at("/bytes/2")], "200", "now"),
        (&[&at("/bytes/3")], "403", "(none)"),
        (&["--http1.1", &at("/bytes/4")], "200", "h1"),
        (&["--http2", &at("/bytes/4")], "403", "(none)"),
        (&["--http2", &at("/bytes/5")], "200", "h2"),
        (&["--http1.1", &at("/bytes/5")], "403", "(none)"),
        (&["-HX-Team: red", &six], "200", "when"),
        (&["-HX-Team: blue", &six], "403", "(none)"),
        (&["-HX-Team: red", &at("/bytes/6?x=2")], "403", "(none)"),
        (&["-XPUT", &at("/sink")], "200", "network"),
    ] {
        let (got, body, ended) = fetched(&mut curl(&world, TAG, args));
        assert_eq!(got, status, "{args:?}: {body} {}", ended.stderr);
        let url = args[args.len() - 1];
        let path = url.trim_start_matches("https://www.example.test");
        let summary = record(&world, url, |s| {
            s.path.as_deref() == Some(path) && s.rule.as_deref() == Some(rule) && s.tag == TAG
        });
        let verdict = if status == "200" { Verdict::Allow } else { Verdict::Deny };
        assert_eq!(judged(&summary), (Some(rule), verdict), "{args:?}");
    }
}

/// A client that waits for leave to send its body (curl does from a megabyte on, for a second) is told to when a rule wants to
/// see it, before anything is sent: it would wait for the other side else.
#[test]
fn whoever_waits_to_send_a_body_that_is_judged_is_told_to() {
    let rules = "[[rule]]\nname = \"small\"\nwhen = 'request.json.n == 1'\nverdict = \"allow\"\n";
    let world = world("mode = \"enforce\"", rules);
    for (body, status) in [("{\"n\": 1}", "200"), ("{\"n\": 2}", "403")] {
        let mut job =
            curl(&world, TAG, &["--http1.1", "--expect100-timeout", "15", "-HExpect: 100-continue"]);
        job.args(["-HContent-Type: application/json", "-d", body, "https://www.example.test/echo"]);
        let began = std::time::Instant::now();
        let (got, said, ended) = fetched(&mut job);
        assert_eq!(got, status, "{said} {}", ended.stderr);
        assert!(began.elapsed().as_secs() < 10, "it was let wait: {:?}", began.elapsed());
    }
}
