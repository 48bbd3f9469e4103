//! A host that nobody but the caller names is no host: what a job says of the other side opens nothing.

use sluice::types::Verdict;
use sluice_tests::harness::address;

use crate::rig::{TAG, curl, fetched, judged, record, world};

#[test]
fn an_allowed_name_does_not_open_another_address() {
    let rules = format!(
        "[[rule]]\nname = \"proxy\"\naddress = \"{0}\"\npaths = [\"/bytes/2\"]\nverdict = \"allow\"\n\
         [[rule]]\nname = \"web\"\nhost = \"allowed.example\"\nverdict = \"allow\"\n\
         [[rule]]\nname = \"few\"\naddress = \"{0}\"\npaths = [\"/bytes/3\"]\nverdict = \"allow\"\nlimit = {{ requests = 9, per = \"1h\" }}\n",
        address("www.example.test")
    );
    let world = world("mode = \"enforce\"", &rules);
    let at = format!("http://{}", address("www.example.test"));
    let host = "-HHost: allowed.example";
    let (status, body, _) = fetched(&mut curl(&world, TAG, &[host, &format!("{at}/bytes/1")]));
    assert_eq!(status, "403", "{body}");
    assert!(body.contains("nothing proves"), "{body}");
    let refused = record(&world, "the refusal", |s| s.path.as_deref() == Some("/bytes/1"));
    assert_eq!(judged(&refused), (Some("(none)"), Verdict::Deny));
    // A CONNECT names whom it is for, and says as much to whoever takes it.
    let proxied = ["-p", "-x", &at, "http://allowed.example/bytes/1"];
    let (status, _, ended) = fetched(&mut curl(&world, TAG, &proxied));
    assert_eq!(status, "000", "{}", ended.stderr);
    assert_eq!(world.seen().requests().len(), 0);
    // Where the address itself is allowed, both judgements hold.
    let (status, body, _) = fetched(&mut curl(&world, TAG, &[host, &format!("{at}/bytes/2")]));
    assert_eq!(status, "200", "{body}");
    // But not past the limits of one of them.
    let (status, body, _) = fetched(&mut curl(&world, TAG, &[host, &format!("{at}/bytes/3")]));
    assert_eq!(status, "403", "{body}");
    assert!(body.contains("one has limits"), "{body}");
    let (status, body, _) = fetched(&mut curl(&world, TAG, &[&format!("{at}/bytes/3")]));
    assert_eq!(status, "200", "{body}");
}
