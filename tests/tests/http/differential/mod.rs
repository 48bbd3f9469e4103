//! What policy judged is what the upstream received: 100,000 drawn requests, HTTP/1 and HTTP/2.
//!
//! A request says in fields of its own what it believes its method, path, host, query and model to be (one in some is
//! wrong), and the rules compare that with what the gate judges. Which rule decides is therefore known from the octets
//! alone: [`oracle`] computes it from what a reader of the test's own ([`heard`]) found on the upstream's side, and the
//! record must say the same. `SLUICE_SEED` draws the same requests again; `SLUICE_REQUESTS` draws more or fewer.

mod draw;
mod heard;
mod oracle;
mod wire1;
mod wire2;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sluice::engine::Verified;
use sluice::policy::Policy;
use sluice::policy::rule::Source;
use sluice::record::headers::Stored;
use sluice::record::read::unseal::Access;
use sluice::record::read::whole::{self, Which};
use sluice::types::{HostName, Summary, Verdict};

use super::rig::{HOST, Rig};
use draw::{Asked, Draw};
use heard::Heard;
use oracle::Rules;

/// Requests of one connection and one policy; a refusal may close it before.
const BATCH: usize = 250;

/// What became of one request.
struct Passed {
    /// What the upstream received, if anything.
    heard: Option<Heard>,
    /// What HTTP/2 itself refuses is a stream that never was: there is no record of it.
    record: Option<Summary>,
}

/// Counts that show that everything was drawn.
#[derive(Default)]
struct Tally {
    by_rule: BTreeMap<String, u64>,
    forwarded: u64,
    refused: u64,
    malformed: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        for (rule, n) in &other.by_rule {
            *self.by_rule.entry(rule.clone()).or_default() += n;
        }
        self.forwarded += other.forwarded;
        self.refused += other.refused;
        self.malformed += other.malformed;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Compares one request as it was asked, heard, judged and recorded; gives what does not agree.
fn compare(asked: &Asked, passed: &Passed, rules: &Rules, tally: &mut Tally) -> Result<(), String> {
    let Some(record) = &passed.record else {
        tally.malformed += 1;
        let unseen = asked.malformed && passed.heard.is_none();
        return if unseen { Ok(()) } else { Err("there is no record of it".to_owned()) };
    };
    let rule = record.rule.as_deref();
    *tally.by_rule.entry(rule.unwrap_or("-").to_owned()).or_default() += 1;
    if asked.malformed {
        tally.malformed += 1;
    } else if rule.is_none() {
        return Err("it was refused before any rule".to_owned());
    }
    let Some(heard) = &passed.heard else {
        tally.refused += 1;
        if asked.malformed && rule.is_none() {
            return Ok(());
        }
        // What was asked for is what would have been heard: the other requests of this test show it.
        let want = rules.decide(&asked.said);
        let denied = record.verdict == Verdict::Deny;
        if asked.malformed || (denied && want.is(rule, denied) && rules.enforced) {
            return Ok(());
        }
        return Err(format!("nothing was heard of it, and it should be {want:?}"));
    };
    tally.forwarded += 1;
    let want = rules.decide(heard);
    let denied = record.verdict == Verdict::Deny;
    if !want.is(rule, denied) || (denied && rules.enforced) {
        return Err(format!("by what was heard it should be {want:?}"));
    }
    if record.method.as_deref() != Some(&heard.method) {
        return Err("the record has another method".to_owned());
    }
    if record.path.as_deref().map(str::as_bytes) != Some(&heard.target()) {
        return Err("the record has another path".to_owned());
    }
    if record.host != heard.host() || record.bytes_up != heard.body.len() as u64 {
        return Err(format!("the record has another host, or length ({})", record.bytes_up));
    }
    if !asked.malformed && asked.said != *heard {
        return Err("something else was asked for".to_owned());
    }
    Ok(())
}

/// What stands in the store of one request, against what was heard.
fn stored(heard: &Heard, headers: &whole::Headers) -> Result<(), String> {
    use base64::Engine as _;
    let mut had: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    // A cookie is a secret: that it is there, and how often, is all that may be there of it.
    let kept = |name: &str, value: &[u8]| if name.contains("cookie") { Vec::new() } else { value.to_vec() };
    for (name, value) in headers {
        let octets = match value {
            Stored::Text(text) => text.as_bytes().to_vec(),
            Stored::Raw { base64 } => {
                base64::engine::general_purpose::STANDARD.decode(base64).expect("Base64")
            }
        };
        had.entry(name).or_default().push(kept(name, &octets));
    }
    let mut wanted: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, value) in &heard.headers {
        wanted.entry(name).or_default().push(kept(name, value));
    }
    if had == wanted { Ok(()) } else { Err(format!("the store has {had:?}")) }
}

/// One policy, one session, as many connections as it takes.
async fn batch(seed: u64, requests: usize) -> Tally {
    let mut draw = Draw::new(seed);
    let http2 = draw.one_in(2);
    let plain = draw.one_in(2);
    let verified = if plain { Verified::Plain } else { Verified::Name(HostName::parse(HOST).expect("name")) };
    let mut rules = Rules::draw(&mut draw);
    rules.reached = plain.then_some(HOST);
    let source = Source { mode: rules.mode(), rules: rules.written(), ..Source::default() };
    let rig = Rig::looked_up(verified, Policy::compile(source).expect("a policy"), HOST);
    let asked: Vec<Asked> = (0..requests).map(|_| draw.request(http2, plain)).collect();
    let passed = if http2 { wire2::pass(&rig, &asked).await } else { wire1::pass(&rig, &asked).await };
    let session = rig.session.id().to_string();
    let records = whole::read(rig.dir(), &session, Which::First(u32::MAX), usize::MAX, &Access::none());
    let records = records.expect("the store");
    let mut tally = Tally::default();
    for (asked, passed) in asked.iter().zip(&passed) {
        let agreed = compare(asked, passed, &rules, &mut tally).and_then(|()| {
            let (Some(heard), Some(record)) = (&passed.heard, &passed.record) else { return Ok(()) };
            let head = records.exchanges.get(&record.exchange).and_then(|e| e.head.as_ref());
            stored(heard, &head.ok_or("the store has no head of it")?.headers)
        });
        if let Err(what) = agreed {
            let mut text =
                format!("SLUICE_SEED of the batch: {seed} (HTTP/{})\n{what}\n", 1 + u8::from(http2));
            let _ = writeln!(text, "asked  {}\nsaid   {:?}", asked.text(), asked.said);
            let _ = writeln!(text, "heard  {:?}\nrecord {:?}\nrules  {rules:?}", passed.heard, passed.record);
            panic!("{text}");
        }
    }
    assert_eq!(passed.len(), asked.len(), "a batch of {seed} ended early");
    tally
}

#[test]
fn what_policy_judged_is_what_the_upstream_received() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let seed = number("SLUICE_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()));
    let requests = number("SLUICE_REQUESTS").map_or(100_000, |n| usize::try_from(n).expect("a number"));
    println!("SLUICE_SEED={seed}");
    let next = std::sync::atomic::AtomicUsize::new(0);
    let tally = std::sync::Mutex::new(Tally::default());
    let batches = requests.div_ceil(BATCH);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().expect("runtime");
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if at >= batches {
                        break;
                    }
                    let done = runtime.block_on(batch(seed.wrapping_add(at as u64), BATCH));
                    tally.lock().expect("tally").add(&done);
                }
            });
        }
    });
    let tally = tally.into_inner().expect("tally");
    let Tally { by_rule, forwarded, refused, malformed } = &tally;
    println!("{forwarded} forwarded, {refused} refused, {malformed} malformed; by rule: {by_rule:?}");
    // Enough of each, or something is not tested at all.
    let enough = requests as u64 / 1000;
    for rule in oracle::NAMES {
        assert!(by_rule.get(rule).is_some_and(|n| *n >= enough), "{rule}: {by_rule:?}");
    }
    assert!(*forwarded >= enough * 500 && *refused >= enough * 30 && *malformed >= enough * 10);
}
