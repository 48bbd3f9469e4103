//! An errand against a server in this process.

use super::*;

#[test]
fn how_long_an_answer_may_be_kept() {
    for (value, wanted) in [
        ("max-age=600", Some(600)),
        ("public, max-age=21600, must-revalidate, no-transform", Some(21600)),
        ("Max-Age=\"60\"", Some(60)),
        ("max-age=600, no-store", Some(0)),
        ("no-cache", Some(0)),
        ("max-age=-1", None),
        ("private", None),
    ] {
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.parse().expect("a value"))]);
        assert_eq!(max_age(&headers), wanted.map(Duration::from_secs), "{value}");
    }
    assert_eq!(max_age(&HeaderMap::new()), None);
}
