//! Rotation under load: a file changes while requests are under way, and no request fails or bears what was long gone.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use sluice_tests::process::{eventually, finish};

use crate::rig::{Keys, TAG, WWW, credential, field, seen, world};

const REQUESTS: usize = 10_000;
const CHANGES: usize = 50;

#[test]
fn a_file_that_changes_fifty_times_fails_no_request() {
    let keys = Keys::new();
    let file = keys.put("key", "value-0");
    let config = credential("key", &file, "hosts = [\"www.example.test\"]\ninject.bearer = true")
        + "[[rule]]\nname = \"all\"\nverdict = \"allow\"\ncredential = \"key\"\n";
    let world = world(&config);
    let mut job = world.job(TAG, "curl").expect("a job");
    job.args(["-sS", "--http1.1", "-o", "/dev/null", "-w", "%{http_code}\\n"]);
    job.arg(format!("https://{WWW}/status/200?n=[1-{REQUESTS}]"));
    let out = fs::File::create(keys.path("out")).expect("file");
    let child = job.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped()).spawn().expect("started");
    let count = || world.seen().requests().len();
    // How many requests had come when each change began, and when it was over.
    let (mut begun, mut done) = (vec![0], vec![0]);
    for change in 1..=CHANGES {
        let wanted = change * REQUESTS / (CHANGES + 1);
        let there = eventually(Duration::from_secs(30), || Ok((count() >= wanted).then_some(())));
        assert!(there.expect("counted").is_some(), "{} requests of {wanted}", count());
        begun.push(count());
        match change % 2 {
            // Replaced, and written in place.
            0 => drop(keys.put("key", format!("value-{change}\n"))),
            _ => fs::write(keys.path("key"), format!("value-{change}")).expect("written"),
        }
        done.push(count());
    }
    let ended = finish(child, Duration::from_secs(120)).expect("ended");
    assert!(ended.good(), "{ended:?}");
    let statuses = fs::read_to_string(keys.path("out")).expect("statuses");
    assert_eq!(statuses.lines().filter(|status| *status == "200").count(), REQUESTS);

    let requests = seen(&world, "/status/200");
    assert_eq!(requests.len(), REQUESTS);
    let mut versions = vec![0; CHANGES + 1];
    for (at, request) in requests.iter().enumerate() {
        let values = field(request, "authorization");
        let version = values.first().and_then(|value| value.strip_prefix("Bearer value-"));
        let version: usize =
            version.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{request:?}"));
        let newest = begun.iter().rposition(|begin| *begin <= at).expect("the first");
        let settled = done.iter().rposition(|done| *done < at).unwrap_or(0);
        assert!(
            version <= newest && version + 1 >= settled,
            "request {at} bore {version}, {settled} to {newest} were there"
        );
        versions[version] += 1;
    }
    let unused = versions.iter().filter(|count| **count == 0).count();
    assert_eq!(unused, 0, "every value was used: {versions:?}");
}
