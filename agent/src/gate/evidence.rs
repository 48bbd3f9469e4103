//! Has the warden sign what the store recorded: the store says when a tree is due, the warden's answer goes back to it.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

use super::link::Warden;
use super::{dns, errand};
use crate::credential::Errand;
use crate::evidence::tree::Head;
use crate::record::Store;
use crate::record::trees::Due;
use crate::tls::Tls;
use crate::wire::{Signed, ToWarden, Unsigned};

/// Trees that wait for the warden. Beyond it one is dropped: the next, a second later, covers it.
const WAITING: usize = 4;

/// How long the end of the gate waits for the last signature. What has none is said by the next log.
const LAST: Duration = Duration::from_secs(2);

/// From one checkpoint that is posted to the next.
const POSTED: Duration = Duration::from_secs(10);

/// What an errand takes.
pub struct Errands {
    pub tls: Arc<Tls>,
    pub dns: Arc<dns::Resolver>,
    pub warden: Warden,
}

/// Has trees signed from now on, as long as the gate lives, and posts the checkpoints to these URLs.
pub fn keep(store: &Store, urls: &[String], errands: Errands) {
    let (due, trees) = mpsc::channel(WAITING);
    store.keep_evidence(Arc::new(move |tree| drop(due.try_send(tree))));
    let last = watch::Sender::new(String::new());
    let errands = Arc::new(errands);
    for url in urls {
        #[expect(clippy::disallowed_methods, reason = "lives as long as the gate, not as a session")]
        tokio::spawn(post(url.clone(), last.subscribe(), Arc::clone(&errands)));
    }
    #[expect(clippy::disallowed_methods, reason = "lives as long as the gate, not as a session")]
    tokio::spawn(sign(trees, store.clone(), errands.warden.clone(), last));
}

/// Posts the newest checkpoint whenever there is another, one in [`POSTED`] at most. What fails is tried with the next; the
/// journal has that it does, and that it does no more.
async fn post(url: String, mut newest: watch::Receiver<String>, errands: Arc<Errands>) {
    let Errands { tls, dns, warden } = &*errands;
    let mut failing = false;
    while newest.changed().await.is_ok() {
        let note = newest.borrow_and_update().clone();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let body = Zeroizing::new(note.into_bytes());
        let errand = Errand { method: Method::POST, url: url.clone(), headers, body, certificate: None };
        let posted = errand::run(errand, tls, dns, warden).await.and_then(|reply| match reply.status {
            200..300 => Ok(()),
            status => Err(format!("it answered {status}")),
        });
        if failing != posted.is_err() {
            failing = posted.is_err();
            warden.tell(ToWarden::Trouble(match posted {
                Err(why) => format!("checkpoints cannot be posted to {url}: {why}"),
                Ok(()) => format!("checkpoints are posted to {url} again"),
            }));
        }
        tokio::time::sleep(POSTED).await;
    }
}

/// Waits, after the store was closed, for the last signature.
pub async fn seal(store: &Store) {
    if tokio::time::timeout(LAST, store.sealed()).await.is_err() {
        tracing::warn!("the last records are not signed: the next start says what they are");
    }
}

async fn sign(
    mut trees: mpsc::Receiver<Due>,
    store: Store,
    warden: Warden,
    last_note: watch::Sender<String>,
) {
    while let Some(due) = trees.recv().await {
        let (log, last) = (due.log.clone(), due.last);
        let mut asked = ask(&warden, &store, due).await;
        // What was asked for a moment ago was signed meanwhile: once more, from there.
        if let Ok((_, Signed::Behind(head))) = asked {
            asked = match store.behind(&log, head, last) {
                Some(due) => ask(&warden, &store, due).await,
                None => continue,
            };
        }
        match asked {
            Ok((new, Signed::Note { note, keys })) => {
                store.signed(&log, new, &note, &keys);
                last_note.send_replace(note);
            }
            Ok((_, Signed::Closed)) => store.log_closed(&log),
            Ok((_, Signed::Behind(_) | Signed::NotNow)) => {}
            // The warden has told the journal.
            Err(why) => tracing::warn!(log, why, "a tree is not signed"),
        }
    }
}

async fn ask(warden: &Warden, store: &Store, due: Due) -> Result<(Head, Signed), String> {
    let Due { store: name, log, growth, last } = due;
    let new = growth.new;
    let unsigned = Unsigned { store: name, log, growth, keys: store.keys(), last };
    warden.checkpoint(unsigned).await.map(|signed| (new, signed))
}
