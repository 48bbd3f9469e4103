//! Values under failure, change and load.

use std::sync::atomic::AtomicUsize;

use super::entry::{PAUSE, RENEW_PAUSE};
use super::*;
use crate::policy::credential::Binding;
use crate::types::TagName;
use crate::types::credential::Inject;

type Script = Arc<Mutex<Vec<Result<(String, Option<Duration>), String>>>>;

struct Rig {
    keeper: Arc<Keeper>,
    /// What the source gives, the last of it again and again.
    script: Script,
    fetches: Arc<AtomicUsize>,
}

fn rig() -> Rig {
    let (script, fetches): (Script, Arc<AtomicUsize>) = Default::default();
    let (given, counted) = (Arc::clone(&script), Arc::clone(&fetches));
    let fetch: Fetch = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let given = Arc::clone(&given);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let mut script = given.lock().expect("script");
            let next = if script.len() > 1 { script.remove(0) } else { script[0].clone() };
            let (text, life) = next.map_err(Failed)?;
            let expires = life.map(|life| SystemTime::now() + life);
            Ok(Fetched { secret: Secret::line(text).expect("good"), expires, revoke: None })
        })
    });
    let (_, policy) = tokio::sync::watch::channel(Arc::default());
    let run: Run = Arc::new(|_| Box::pin(async { Err("none".to_owned()) }));
    let keeper = Keeper::new(policy, Arc::clone(&fetch), fetch, run, Arc::new(|_, _| ()));
    Rig { keeper, script, fetches }
}

impl Rig {
    fn gives(&self, values: &[Result<&str, &str>]) {
        let one =
            |value: &Result<&str, &str>| value.map(|text| (text.to_owned(), None)).map_err(str::to_owned);
        *self.script.lock().expect("script") = values.iter().map(one).collect();
    }

    async fn value(&self, credential: &Arc<Credential>) -> Result<String, String> {
        let value = self.keeper.value(credential, &ask()).await;
        value.map(|value| value.secret().expose().to_owned()).map_err(|Failed(why)| why)
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

fn ask() -> Ask {
    Ask {
        tag: TagName::parse("ci").expect("tag"),
        session: SessionId(ulid::Ulid::nil()),
        identity: None,
        token: None,
    }
}

fn credential(source: Source) -> Arc<Credential> {
    Arc::new(Credential {
        name: CredentialName::parse("c").expect("name"),
        binding: Binding::default(),
        source,
        inject: Some(Inject::Bearer),
        ttl: Duration::from_secs(60),
    })
}

fn file() -> Arc<Credential> {
    credential(Source::File("/c".into()))
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_are_one_fetch() {
    let rig = rig();
    rig.gives(&[Ok("one")]);
    let credential = file();
    let all = futures_util::future::join_all((0..1000).map(|_| rig.value(&credential))).await;
    assert!(all.iter().all(|value| value.as_deref() == Ok("one")));
    assert_eq!(rig.fetches(), 1);
    tokio::time::advance(Duration::from_secs(100_000)).await;
    assert_eq!((rig.value(&credential).await.as_deref(), rig.fetches()), (Ok("one"), 1), "a file is watched");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_does_not_stop_a_fetch() {
    let rig = rig();
    rig.gives(&[Ok("one")]);
    let credential = file();
    for _ in 0..5 {
        tokio::time::timeout(Duration::from_millis(1), rig.value(&credential)).await.expect_err("it leaves");
    }
    assert_eq!((rig.value(&credential).await.as_deref(), rig.fetches()), (Ok("one"), 1));
}

#[tokio::test(start_paused = true)]
async fn the_last_good_value_serves_while_the_source_fails_and_then_no_more() {
    let rig = rig();
    rig.gives(&[Ok("one"), Err("gone")]);
    let credential = file();
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("one"));
    rig.keeper.changed(&credential.name);
    for _ in 0..100 {
        assert_eq!(rig.value(&credential).await.as_deref(), Ok("one"));
    }
    assert_eq!(rig.fetches(), 2, "a source that fails is not asked by each request");
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(rig.value(&credential).await, Err("gone".into()));
    let asked = rig.fetches();
    assert_eq!(rig.value(&credential).await, Err("gone".into()));
    assert_eq!(rig.fetches(), asked);
    rig.gives(&[Ok("two")]);
    tokio::time::advance(PAUSE).await;
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("two"), "it recovers by itself");
    rig.gives(&[Err("gone")]);
    rig.keeper.changed(&credential.name);
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("two"), "and has its time again");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_by_the_next_who_asks() {
    let rig = rig();
    let credential = file();
    for n in 0..20 {
        rig.gives(&[Ok(&format!("v{n}"))]);
        rig.keeper.changed(&credential.name);
        assert_eq!(rig.value(&credential).await, Ok(format!("v{n}")));
    }
    // A change while a fetch is under way: what it brings may be of before.
    let (slow, _) = tokio::join!(rig.value(&credential), async {
        rig.keeper.changed(&credential.name);
    });
    slow.expect("a value");
    let before = rig.fetches();
    rig.keeper.changed(&credential.name);
    let (first, ()) = tokio::join!(rig.value(&credential), async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        rig.gives(&[Ok("late")]);
        rig.keeper.changed(&credential.name);
    });
    first.expect("a value");
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("late"));
    assert_eq!(rig.fetches(), before + 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_value_is_fetched_anew_once() {
    let rig = rig();
    rig.gives(&[Ok("old"), Ok("new")]);
    let credential = file();
    let old = rig.keeper.value(&credential, &ask()).await.expect("a value");
    let who = ask();
    let all = (0..50).map(|_| rig.keeper.renewed(&credential, &who, &old));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|value| value.as_ref().is_ok_and(|value| value.secret().expose() == "new")));
    assert_eq!(rig.fetches(), 2);
    let new = rig.keeper.value(&credential, &ask()).await.expect("a value");
    rig.keeper.renewed(&credential, &ask(), &new).await.expect("the same");
    assert_eq!(rig.fetches(), 2, "not each refusal mints one");
    tokio::time::advance(RENEW_PAUSE).await;
    rig.keeper.renewed(&credential, &ask(), &new).await.expect("another");
    assert_eq!(rig.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_ends_is_fetched_before_it_does() {
    let rig = rig();
    let life = Duration::from_secs(1000);
    *rig.script.lock().expect("script") =
        vec![Ok(("one".into(), Some(life))), Ok(("two".into(), Some(life)))];
    let credential = credential(Source::Command(vec!["/c".into()]));
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("one"));
    tokio::time::advance(Duration::from_secs(799)).await;
    assert_eq!((rig.value(&credential).await.as_deref(), rig.fetches()), (Ok("one"), 1));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("one"), "who asks does not wait");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((rig.value(&credential).await.as_deref(), rig.fetches()), (Ok("two"), 2));
    rig.gives(&[Err("down")]);
    tokio::time::advance(Duration::from_secs(801)).await;
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("two"));
    tokio::time::advance(Duration::from_secs(189)).await;
    assert_eq!(rig.value(&credential).await, Err("down".into()), "nothing is used beyond its end");
    *rig.script.lock().expect("script") = vec![Ok(("dead".into(), Some(Duration::ZERO)))];
    tokio::time::advance(PAUSE).await;
    assert_eq!(rig.value(&credential).await, Err("its source gave a value that has ended".into()));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_held_is_known() {
    let rig = rig();
    rig.gives(&[Ok("one"), Ok("two"), Ok("three")]);
    let credential = file();
    let live = || -> Vec<String> {
        rig.keeper.live().iter().map(|(_, value)| value.secret().expose().to_owned()).collect()
    };
    let one = rig.keeper.value(&credential, &ask()).await.expect("a value");
    let generation = rig.keeper.generation();
    for _ in 0..2 {
        rig.keeper.changed(&credential.name);
        rig.value(&credential).await.expect("a value");
    }
    assert_ne!(rig.keeper.generation(), generation);
    assert_eq!(live(), ["one", "two", "three"], "also what an exchange still holds, and the one before");
    drop(one);
    assert_eq!(live(), ["two", "three"]);
    rig.keeper.rules_changed();
    assert!(live().is_empty(), "no rule has it any more");
}

#[tokio::test(start_paused = true)]
async fn another_source_under_the_same_name_is_another_credential() {
    let rig = rig();
    rig.gives(&[Ok("one"), Ok("two")]);
    assert_eq!(rig.value(&file()).await.as_deref(), Ok("one"));
    assert_eq!(rig.value(&file()).await.as_deref(), Ok("one"), "rules read again change nothing");
    assert_eq!(rig.value(&credential(Source::Env("C".into()))).await.as_deref(), Ok("two"));
}
