//! An engine between two in-memory streams, and the records that it makes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice::drain::Drain;
use sluice::engine::http::{self, Version};
use sluice::engine::{Connection, Context, Verified, tunnel};
use sluice::policy::Policy;
use sluice::record::{Ended, Session, Settings, Store};
use sluice::stream::BoxStream;
use sluice::types::{Caller, Destination, HostName, HostSource, LookedUp, Summary, TagName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes; with paused time it is no time at all.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// The host that TLS has verified in these tests.
pub const HOST: &str = "api.example";

pub struct Rig {
    pub drain: Drain,
    pub again: Arc<Mutex<Vec<(BoxStream, BoxStream)>>>,
    /// What was said of the peers of `again`.
    pub behind: Arc<Mutex<Vec<Option<Verified>>>>,
    pub session: Arc<Session>,
    context: Context,
    records: Arc<Mutex<Vec<Summary>>>,
    _store: Store,
    dir: TempDir,
}

/// The two far ends of an engine that runs.
pub struct Ends {
    pub client: DuplexStream,
    pub upstream: DuplexStream,
    pub done: JoinHandle<Result<(), String>>,
}

impl Rig {
    pub fn new() -> Self {
        Self::verified(Verified::Name(HostName::parse(HOST).expect("name")))
    }

    pub fn plain() -> Self {
        Self::verified(Verified::Plain)
    }

    pub fn verified(verified: Verified) -> Self {
        Self::of(verified, None)
    }

    fn of(verified: Verified, looked_up: Option<LookedUp>) -> Self {
        let records: Arc<Mutex<Vec<Summary>>> = Arc::default();
        let seen = Arc::clone(&records);
        let dir = TempDir::with_prefix("sluice-http-").expect("directory");
        let mut settings = Settings::new(dir.path());
        settings.segment_bytes = 1 << 20;
        settings.body_limit = 4096;
        settings.recipients = vec![sluice::record::age::Identity::generate().recipient()];
        let sink = Arc::new(move |s: &Ended<'_>| seen.lock().expect("records").push(s.summary()));
        let store = Store::open(settings, sink).expect("store");
        let destination = Destination::new([192, 0, 2, 1].into(), 443);
        let client = "127.0.0.1:40000".parse().expect("address");
        let caller = Arc::new(caller());
        let session = Arc::new(store.begin(Arc::clone(&caller), destination, client, None).expect("session"));
        let drain = Drain::default();
        let again: Arc<Mutex<Vec<(BoxStream, BoxStream)>>> = Arc::default();
        let taken = Arc::clone(&again);
        let behind: Arc<Mutex<Vec<Option<Verified>>>> = Arc::default();
        let said = Arc::clone(&behind);
        let tokens = Arc::new(sluice::engine::masking::Tokens::new(Arc::default(), caller.tag.clone()));
        let connection = Connection {
            caller,
            tokens,
            destination,
            verified,
            looked_up,
            shown: None,
            limits: sluice::limit::Limits::open(dir.path(), Box::new(|trouble| panic!("{trouble}"))),
            refusal: None,
            session: Arc::clone(&session),
            drain: drain.clone(),
            credentials: sluice::credential::Keeper::none(),
            again: Arc::new(move |client, upstream, verified| {
                said.lock().expect("behind").push(verified);
                taken.lock().expect("again").push((client, upstream));
                Box::pin(async {})
            }),
        };
        let policy = tokio::sync::watch::channel(Arc::new(Policy::default())).1;
        let context = Context::new(connection, sluice::identity::Who::nobody(), policy);
        Self { drain, again, behind, session, context, records, _store: store, dir }
    }

    /// With rules.
    pub fn judging(verified: Verified, policy: Policy) -> Self {
        let mut rig = Self::verified(verified);
        rig.context.policy = tokio::sync::watch::channel(Arc::new(policy)).1;
        rig
    }

    /// With rules, and whose address the host's own name servers said that the destination is.
    pub fn looked_up(verified: Verified, policy: Policy, name: &str) -> Self {
        let name = HostName::parse(name).expect("name");
        let mut rig = Self::of(verified, Some(LookedUp { name, by: HostSource::Dns }));
        rig.context.policy = tokio::sync::watch::channel(Arc::new(policy)).1;
        rig
    }

    /// Where the store is.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// How many exchanges are finished now.
    pub fn count(&self) -> usize {
        self.records.lock().expect("records").len()
    }

    /// The record of the `n`th exchange, from 0, once it is finished.
    pub async fn nth(&self, n: usize) -> Summary {
        for _ in 0..20_000 {
            if let Some(record) = self.records.lock().expect("records").get(n) {
                return record.clone();
            }
            tokio::task::yield_now().await;
        }
        panic!("waited for record {n}, there are {}", self.count());
    }

    /// Runs the HTTP engine.
    pub fn http(&self, version: Version) -> Ends {
        self.ends(64 * 1024, |client, upstream, cx| async move {
            http::serve(client, upstream, version, cx)
                .await
                .map_err(|e| sluice::report::Chain(&e).to_string())
        })
    }

    /// Runs the tunnel engine.
    pub fn tunnel(&self, why: &'static str) -> Ends {
        self.ends(1024, move |client, upstream, cx| async move {
            tunnel::serve(client, upstream, why, cx).await.map_err(|e| sluice::report::Chain(&e).to_string())
        })
    }

    pub fn context(&self) -> Context {
        self.context.clone()
    }

    fn ends<F: Future<Output = Result<(), String>> + Send + 'static>(
        &self,
        buffer: usize,
        engine: impl FnOnce(BoxStream, BoxStream, Context) -> F,
    ) -> Ends {
        let (client, ours) = duplex(buffer);
        let (upstream, theirs) = duplex(buffer);
        let done = tokio::spawn(engine(Box::new(ours), Box::new(theirs), self.context.clone()));
        Ends { client, upstream, done }
    }

    /// Takes the store's directory away: it can make no further segment.
    pub fn break_store(&self) {
        std::fs::remove_dir_all(self.dir.path()).expect("directory");
    }

    /// The records of exchanges that are finished now.
    pub fn so_far(&self) -> Vec<Summary> {
        self.records.lock().expect("records").clone()
    }

    /// The records of finished exchanges, once there are `n` of them.
    pub async fn records(&self, n: usize) -> Vec<Summary> {
        for _ in 0..20_000 {
            let records = self.records.lock().expect("records").clone();
            if records.len() >= n {
                assert_eq!(records.len(), n, "{records:#?}");
                return records;
            }
            tokio::task::yield_now().await;
        }
        panic!("waited for {n} records, there are {:#?}", self.records.lock().expect("records"));
    }

    /// The record of the only exchange.
    pub async fn record(&self) -> Summary {
        self.records(1).await.remove(0)
    }
}

fn caller() -> Caller {
    Caller {
        start_time: Some(1),
        uid: 1000,
        gid: 1000,
        comm: "curl".to_owned(),
        cgroup: "/test".to_owned(),
        ..Caller::unknown(TagName::parse("test").expect("tag"), 1)
    }
}

impl Ends {
    /// The client says `text`.
    pub async fn ask(&mut self, text: impl AsRef<[u8]>) {
        self.client.write_all(text.as_ref()).await.expect("client writes");
    }

    /// The upstream says `text`.
    pub async fn answer(&mut self, text: impl AsRef<[u8]>) {
        self.upstream.write_all(text.as_ref()).await.expect("upstream writes");
    }

    /// The upstream hears exactly `text`.
    pub async fn heard(&mut self, text: &str) {
        expect(&mut self.upstream, text, "upstream").await;
    }

    /// The client hears exactly `text`.
    pub async fn told(&mut self, text: &str) {
        expect(&mut self.client, text, "client").await;
    }

    /// Everything that the client hears until the connection closes.
    pub async fn told_to_the_end(&mut self) -> String {
        to_the_end(&mut self.client).await
    }

    /// One answer of ours: head and body.
    pub async fn refusal(&mut self) -> (String, serde_json::Value) {
        let head = until(&mut self.client, "\r\n\r\n").await;
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.client.read_exact(&mut body).await.expect("a body");
        (head, serde_json::from_slice(&body).expect("JSON"))
    }
}

/// An HTTP/1 connection whose first request the upstream has heard.
pub async fn asked(request: &str) -> (Rig, Ends) {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    ends.ask(request).await;
    until(&mut ends.upstream, "\r\n\r\n").await;
    (rig, ends)
}

/// Reads up to and including `mark`.
pub async fn until(stream: &mut DuplexStream, mark: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(mark) {
        let byte = timeout(PATIENCE, stream.read_u8()).await;
        match byte {
            Ok(Ok(byte)) => text.push(char::from(byte)),
            other => panic!("waited for {mark:?}, {other:?} after {text:?}"),
        }
    }
    text
}

async fn expect(stream: &mut DuplexStream, text: &str, who: &str) {
    let mut bytes = vec![0; text.len()];
    let mut at = 0;
    while at < bytes.len() {
        let read = timeout(PATIENCE, stream.read(&mut bytes[at..])).await;
        let so_far = String::from_utf8_lossy(&bytes[..at]).into_owned();
        match read {
            Ok(Ok(n)) if n > 0 => at += n,
            other => panic!("the {who} waits for {text:?}; {other:?} after {so_far:?}"),
        }
    }
    assert_eq!(String::from_utf8_lossy(&bytes), text, "what the {who} hears");
}

pub async fn to_the_end(stream: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it closes in time").expect("it closes");
    String::from_utf8_lossy(&bytes).into_owned()
}
