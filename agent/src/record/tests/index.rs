//! The index gives what reading the whole store gives.

use std::path::PathBuf;

use super::*;
use crate::record::read::index::{self as by_index, Index, path_of};
use crate::record::read::list::{Filter, Host, Status};

fn filters() -> Vec<Filter> {
    let none = Filter::default();
    let unit = |unit: &str| Filter { unit: Some(unit.to_owned()), ..none.clone() };
    let host = |host| Filter { host: Some(host), ..none.clone() };
    let status = |status| Filter { status: Some(status), ..none.clone() };
    vec![
        none.clone(),
        unit("job.service"),
        unit("none.service"),
        Filter { tag: Some("ci".to_owned()), ..none.clone() },
        host(Host::Exact("api.EXAMPLE".to_owned())),
        host(Host::Below("example".to_owned())),
        host(Host::Below("x' OR '1'='1".to_owned())),
        status(Status::Exact(204)),
        status(Status::Class(2)),
        status(Status::Class(4)),
        Filter { since: Some("2026-01-01T00:00:00.000000Z".to_owned()), ..unit("job.service") },
        Filter { until: Some("2026-01-01T00:00:00.000000Z".to_owned()), ..none },
    ]
}

#[track_caller]
fn same(dir: &Path) -> PathBuf {
    let index = path_of(dir);
    for filter in filters() {
        for limit in [1, 7, 10_000] {
            let by_index = by_index::newest(dir, &index, &filter, limit).expect("by the index").0;
            let by_reading = list::newest(dir, &filter, limit).expect("by reading").0;
            assert_eq!(by_index, by_reading, "{filter:?} {limit}");
        }
    }
    index
}

fn some(store: &Store, count: usize, status: u16) {
    let session = begin(store);
    for _ in 0..count {
        let exchange = session.exchange(head("/x")).expect("exchange");
        exchange.response(status, &HeaderMap::new()).expect("answer");
        exchange.finish(None);
    }
    session.close(None);
}

#[test]
fn it_gives_what_reading_gives_while_the_store_grows_breaks_off_and_shrinks() {
    let parent = tempfile::tempdir().expect("directory");
    let dir = parent.path().join("store");
    let (first, _) = store(&dir);
    some(&first, 300, 200);
    same(&dir);
    // One runs over several segments and has no end when the agent dies.
    let session = begin(&first);
    let open = session.exchange(head("/open")).expect("exchange");
    some(&first, 300, 404);
    same(&dir);
    open.response(204, &HeaderMap::new()).expect("answer");
    some(&first, 300, 200);
    let index = same(&dir);
    let killed = parent.path().join("killed");
    std::fs::create_dir(&killed).expect("copy");
    let segments = segment::list(&dir).expect("segments").0;
    for found in &segments {
        std::fs::copy(&found.path, killed.join(found.path.file_name().expect("name"))).expect("copy");
    }
    std::fs::copy(&index, path_of(&killed)).expect("copy");
    open.finish(None);
    session.close(None);
    first.close();
    same(&dir);

    let (second, _) = store(&killed);
    some(&second, 300, 500);
    let index = same(&killed);
    let interrupted = list::newest(&killed, &Filter::default(), 10_000).expect("read").0;
    assert!(interrupted.iter().any(|s| s.path.as_deref() == Some("/open") && s.error.is_some()));
    // The oldest goes; so it does from the index.
    std::fs::remove_file(&segments[0].path).expect("gone");
    std::fs::remove_file(killed.join(segments[0].path.file_name().expect("name"))).expect("gone");
    same(&killed);
    // And one that says nonsense is no worse than none.
    let reader = Reader::open(&killed).expect("reader");
    let mut opened = Index::open(&index, &reader).expect("index");
    assert!(opened.through().expect("through") > 0);
    opened.forget(&reader).expect("forgotten");
    assert_eq!(opened.through().expect("through"), 0);
    assert!(opened.catch_up(&reader).expect("again").records > 100);
    drop(opened);
    second.close();
    same(&killed);
}

#[test]
fn one_of_another_store_is_made_anew_and_no_link_is_followed() {
    let parent = tempfile::tempdir().expect("directory");
    let [a, b] = ["a", "b"].map(|name| parent.path().join(name));
    for (dir, status) in [(&a, 200), (&b, 404)] {
        let (store, _) = store(dir);
        some(&store, 200, status);
        store.close();
    }
    same(&a);
    std::fs::copy(path_of(&a), path_of(&b)).expect("copy");
    same(&b);
    std::fs::remove_file(path_of(&b)).expect("gone");
    std::os::unix::fs::symlink(parent.path().join("elsewhere"), path_of(&b)).expect("link");
    let filter = Filter { tag: Some("ci".to_owned()), ..Filter::default() };
    assert!(by_index::newest(&b, &path_of(&b), &filter, 10).is_err());
    assert!(!parent.path().join("elsewhere").exists());
}
