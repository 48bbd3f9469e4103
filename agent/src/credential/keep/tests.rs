//! Values under failure, change and load.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::entry::{BEFORE, IDLE, PAUSE, RENEW_PAUSE};
use super::*;
use crate::credential::fetch::{Renew, Revoke};
use crate::policy::credential::Binding;
use crate::types::credential::{AwsEndpoint, Inject, Secret, Sts};

type Script = Arc<Mutex<Vec<Result<(String, Option<Duration>), String>>>>;

struct Rig {
    keeper: Arc<Keeper>,
    /// What the source gives, the last of it again and again.
    script: Script,
    fetches: Arc<AtomicUsize>,
    /// How often a value was made to live longer, and how often one was given back.
    renewals: Arc<AtomicUsize>,
    revokes: Arc<AtomicUsize>,
}

fn rig() -> Rig {
    let (script, fetches): (Script, Arc<AtomicUsize>) = Default::default();
    let (renewals, revokes): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let (given, counted) = (Arc::clone(&script), Arc::clone(&fetches));
    let back = (Arc::clone(&renewals), Arc::clone(&revokes));
    let fetch: Fetch = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let given = Arc::clone(&given);
        let (renewed, revoked) = back.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let mut script = given.lock().expect("script");
            let next = if script.len() > 1 { script.remove(0) } else { script[0].clone() };
            let (text, life) = next.map_err(Failed)?;
            let expires = life.map(|life| SystemTime::now() + life);
            let renew: Renew = Arc::new(move || {
                renewed.fetch_add(1, Ordering::SeqCst);
                // Once; then it has come to the longest that it may live.
                let longer = if renewed.load(Ordering::SeqCst) % 2 == 1 { life } else { None };
                let end = longer.map_or(SystemTime::now() + PAUSE, |life| SystemTime::now() + life);
                Box::pin(async move { Ok(Some(end)) })
            });
            let revoke: Revoke = Box::new(move || {
                revoked.fetch_add(1, Ordering::SeqCst);
                Box::pin(async { Ok(()) })
            });
            Ok(Fetched {
                secret: Secret::line(text.clone()).expect("good"),
                expires,
                renew: text.starts_with("lease").then_some(renew),
                revoke: Some(revoke),
            })
        })
    });
    let (_, policy) = tokio::sync::watch::channel(Arc::default());
    let run: Run = Arc::new(|_| Box::pin(async { Err("none".to_owned()) }));
    let keeper = Keeper::new(policy, Arc::clone(&fetch), fetch, run, Arc::new(|_, _| ()));
    Rig { keeper, script, fetches, renewals, revokes }
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
        veil: Veil::none(),
    }
}

/// A session of its own in a tag, as the gate has it.
fn session(keeper: &Keeper, tag: &str) -> Ask {
    let tag = TagName::parse(tag).expect("tag");
    let veil = keeper.veil(&tag);
    Ask { tag, session: SessionId(ulid::Ulid::generate()), veil, ..ask() }
}

fn sts() -> Arc<Credential> {
    let name = CredentialName::parse("keys").expect("name");
    let aws = AwsEndpoint { region: "r".into(), endpoint: None, keys: name };
    let (role_arn, duration) = ("arn".into(), Duration::from_secs(3600));
    credential(Source::Sts(Sts { aws, role_arn, external_id: None, duration }))
}

fn shows(ask: &Ask, text: &str) -> bool {
    ask.veil.needles().is_some_and(|needles| needles.is_in(text.as_bytes()))
}

/// Whatever runs beside, runs.
async fn settled(done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not happen");
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
async fn an_idle_source_s_last_value_is_not_used_for_longer_either() {
    let rig = rig();
    rig.gives(&[Ok("one"), Err("gone")]);
    let file = file();
    assert_eq!(rig.value(&file).await.as_deref(), Ok("one"));
    rig.keeper.changed(&file.name);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(
        rig.value(&file).await,
        Err("gone".into()),
        "it counts from when it changed, not from who asks"
    );

    rig.gives(&[Ok("two"), Err("gone")]);
    let command = credential(Source::Command(vec!["/c".into()]));
    assert_eq!(rig.value(&command).await.as_deref(), Ok("two"));
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(rig.value(&command).await.as_deref(), Ok("two"), "who asks does not wait");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(rig.value(&command).await, Err("gone".into()));
    rig.gives(&[Ok("three")]);
    tokio::time::advance(PAUSE).await;
    assert_eq!(rig.value(&command).await.as_deref(), Ok("three"));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_held_is_looked_for() {
    let rig = rig();
    rig.gives(&[Ok("value-one"), Ok("value-two"), Ok("value-three")]);
    let (credential, ask) = (file(), session(&rig.keeper, "ci"));
    let live = || ["one", "two", "three"].map(|n| shows(&ask, &format!("a value-{n}.")));
    assert_eq!(live(), [false; 3]);
    let one = rig.keeper.value(&credential, &ask).await.expect("a value");
    assert_eq!(live(), [true, false, false]);
    for _ in 0..2 {
        rig.keeper.changed(&credential.name);
        rig.value(&credential).await.expect("a value");
    }
    assert_eq!(live(), [true; 3], "also what an exchange still holds, and the one before");
    drop(one);
    rig.keeper.tend();
    settled(|| live() == [false, true, true]).await;
    tokio::time::advance(BEFORE).await;
    rig.keeper.tend();
    settled(|| live() == [false, false, true]).await;
    rig.keeper.rules_changed();
    settled(|| live() == [false; 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_s_own_value_is_looked_for_there_alone() {
    let rig = rig();
    rig.gives(&[Ok("value-one"), Ok("value-two")]);
    let [one, two] = [(); 2].map(|()| session(&rig.keeper, "ci"));
    rig.keeper.value(&sts(), &one).await.expect("a value");
    rig.keeper.value(&sts(), &two).await.expect("a value");
    let seen = |ask| [shows(ask, "value-one"), shows(ask, "value-two")];
    assert_eq!([seen(&one), seen(&two)], [[true, false], [false, true]]);
    rig.keeper.session_over(one.session);
    settled(|| rig.revokes.load(Ordering::SeqCst) == 1).await;
    assert_eq!(rig.keeper.value(&sts(), &two).await.expect("kept").secret().expose(), "value-two");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_for_is_not_used() {
    let rig = rig();
    rig.gives(&[Ok("value-one")]);
    // A session without any room.
    let Failed(why) = rig.keeper.value(&sts(), &ask()).await.err().expect("refused");
    assert!(why.contains("no room to look for one more"), "{why}");
    settled(|| rig.revokes.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn many_sessions_stay_bounded() {
    let rig = rig();
    let secret = |n: usize| format!("{n:08}/wJalrXUtnFEMI+K7MDENGbPxRfiCY");
    *rig.script.lock().expect("script") =
        (0..9000).map(|n| Ok((secret(n), Some(Duration::from_secs(3600))))).collect();
    let (credential, mut held) = (sts(), Vec::new());
    let other = session(&rig.keeper, "other");
    for n in 0..9000 {
        let ask = session(&rig.keeper, "ci");
        match rig.keeper.value(&credential, &ask).await {
            Ok(value) => {
                assert!(shows(&ask, &secret(n)) && !shows(&other, &secret(n)));
                held.push((ask, value));
            }
            Err(Failed(why)) => {
                assert!(n > 2000 && why.contains("too many values"), "{n}: {why}");
                rig.keeper.value(&credential, &other).await.expect("another tag has its own room");
                held.truncate(10);
                rig.keeper.value(&credential, &ask).await.err().expect("not at once");
                tokio::time::advance(PAUSE).await;
                rig.keeper.value(&credential, &ask).await.expect("there is room again");
                return;
            }
        }
    }
    panic!("there is no bound");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_and_what_nobody_uses_goes_back() {
    let rig = rig();
    let (renewals, revokes) = (|| rig.renewals.load(Ordering::SeqCst), || rig.revokes.load(Ordering::SeqCst));
    let life = Some(Duration::from_secs(900));
    *rig.script.lock().expect("script") =
        vec![Ok(("lease-one".into(), life)), Ok(("lease-two".into(), life))];
    let credential = credential(Source::Command(vec!["/c".into()]));
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("lease-one"));
    tokio::time::advance(Duration::from_secs(601)).await;
    assert_eq!(rig.value(&credential).await.as_deref(), Ok("lease-one"));
    settled(|| renewals() == 1).await;
    tokio::time::advance(Duration::from_secs(599)).await;
    assert_eq!((rig.value(&credential).await.as_deref(), rig.fetches()), (Ok("lease-one"), 1), "it lives on");
    tokio::time::advance(Duration::from_secs(10)).await;
    rig.value(&credential).await.expect("a value");
    settled(|| renewals() == 2 && rig.fetches() == 2).await;
    // It came to its longest life.
    while rig.value(&credential).await.as_deref() != Ok("lease-two") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(revokes(), 0, "it may be on its way still");
    tokio::time::advance(BEFORE).await;
    rig.keeper.tend();
    settled(|| revokes() == 1).await;
    rig.keeper.close(Duration::from_secs(1)).await;
    assert_eq!(revokes(), 2, "at the end everything goes back");
}

#[tokio::test(start_paused = true)]
async fn what_was_made_for_somebody_goes_back_when_he_is_idle() {
    let rig = rig();
    let life = Some(Duration::from_secs(10_000));
    *rig.script.lock().expect("script") =
        vec![Ok(("value-one".into(), life)), Ok(("value-two".into(), life))];
    let ask = session(&rig.keeper, "ci");
    rig.keeper.value(&sts(), &ask).await.expect("a value");
    rig.keeper.value(&file(), &ask).await.expect("a value");
    tokio::time::advance(IDLE - PAUSE).await;
    rig.keeper.tend();
    tokio::time::sleep(PAUSE).await;
    assert_eq!(rig.revokes.load(Ordering::SeqCst), 0);
    rig.keeper.tend();
    settled(|| rig.revokes.load(Ordering::SeqCst) == 1).await;
    rig.keeper.value(&file(), &ask).await.expect("kept");
    assert_eq!(rig.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_source_under_the_same_name_is_another_credential() {
    let rig = rig();
    rig.gives(&[Ok("one"), Ok("two")]);
    assert_eq!(rig.value(&file()).await.as_deref(), Ok("one"));
    assert_eq!(rig.value(&file()).await.as_deref(), Ok("one"), "rules read again change nothing");
    assert_eq!(rig.value(&credential(Source::Env("C".into()))).await.as_deref(), Ok("two"));
}
