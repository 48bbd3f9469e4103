//! What must not be seen is in no frame, wherever it came in.

use super::*;
use crate::codec::scrub::Texts;
use crate::record::Direction;
use crate::record::veil::{Room, Scope, Veil};

#[test]
fn a_live_value_is_in_no_frame() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, seen) = store(dir.path());
    let secret = "sk-canary-0123456789";
    let scope = Scope::new(Room::new(1 << 20, None));
    let hidden = scope.hide(Texts::new("[credential a]", [secret.as_bytes().to_vec()]));
    let _hidden = hidden.expect("room");
    store.keep_unseen(Arc::new(move |_| Veil::new(&scope, &scope)));
    let session = begin(&store);
    let mut head = head(&format!("/{secret}?x={secret}"));
    head.host = format!("{secret}.example");
    head.headers.to_mut().insert("x-plain", secret.parse().expect("value"));
    let exchange = session.exchange(head).expect("begun");
    let body = format!("so {secret} it is, and sk-canary-no. {secret}");
    for piece in body.as_bytes().chunks(7) {
        exchange.up(piece).expect("up");
        exchange.down(piece).expect("down");
        // Writes what is held, wherever it ends.
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("runtime")
            .block_on(exchange.durable())
            .expect("synced");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-trailer", format!("a {secret}").parse().expect("value"));
    exchange.trailers(Direction::Down, &trailers).expect("trailers");
    exchange.finish(Some(format!("failed with {secret}")));
    session.close(Some(format!("closed with {secret}")));
    store.close();
    let files = std::fs::read_dir(dir.path()).expect("directory").map(|entry| entry.expect("entry").path());
    for file in files.filter(|path| path.is_file()) {
        let bytes = std::fs::read(file).expect("file");
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
    let summary = seen.lock().expect("sink")[0].clone();
    let text = serde_json::to_string(&summary).expect("JSON");
    assert!(!text.contains(secret) && text.contains("[credential a]"), "{text}");
    assert_eq!((summary.bytes_up, summary.bytes_down), (body.len() as u64, body.len() as u64));
    assert_eq!(everything(dir.path()).len(), 1);
}
