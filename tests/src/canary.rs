//! A search for secrets, byte by byte, in whatever a run leaves behind or gives away: in the forms that a secret takes
//! without anybody meaning to hide it. It knows nothing of how Sluice looks for them. Of a store it searches the files, and
//! the bodies as who may read them sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use sluice::record::read::unseal::{Access, Unsealer, identity};
use sluice::record::read::{Damage, Reader};

/// Zeros are looked for in steps of this: most of a segment of the store is allocated ahead.
const STEP: usize = 4096;

/// What a secret may look like: plain, in hex, URL-encoded (whole, and as forms and paths are), in base64 at each of its
/// three alignments.
pub fn looks(secret: &str) -> Vec<String> {
    let mut looks = BTreeSet::from([secret.to_owned()]);
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    looks.extend([hex.to_uppercase(), hex]);
    looks.extend([percent(secret, false), percent(secret, true)]);
    looks.extend([percent(secret, false).to_lowercase(), secret.replace('/', "\\/")]);
    for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let text = engine.encode([&vec![b'x'; before], secret.as_bytes()].concat());
            // Only what no neighbour has a part in.
            let from = (before * 8).div_ceil(6);
            let upto = (before + secret.len()) * 8 / 6;
            looks.insert(text[from..upto].to_owned());
        }
    }
    looks.into_iter().collect()
}

/// Percent-encoded (RFC 3986): all of it, or what is not unreserved.
fn percent(text: &str, unreserved: bool) -> String {
    let stays = |b: u8| unreserved && (b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    text.bytes().map(|b| if stays(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Secrets by name, and all their looks.
pub struct Search {
    looks: Vec<(String, String)>,
    automaton: AhoCorasick,
}

/// What was found: `PLACE: NAME as LOOK`, each once.
pub type Found = BTreeSet<String>;

impl Search {
    /// Looks for these: (name, secret).
    ///
    /// # Errors
    /// They are too many for one automaton.
    pub fn new<N: ToString, S: AsRef<str>>(secrets: impl IntoIterator<Item = (N, S)>) -> Result<Self> {
        let looks: Vec<(String, String)> = secrets
            .into_iter()
            .flat_map(|(name, secret)| {
                let name = name.to_string();
                looks(secret.as_ref()).into_iter().map(move |look| (name.clone(), look))
            })
            .collect();
        let automaton = AhoCorasick::new(looks.iter().map(|(_, look)| look)).context("the automaton")?;
        Ok(Self { looks, automaton })
    }

    /// Searches a text.
    pub fn text(&self, place: &str, bytes: impl AsRef<[u8]>, found: &mut Found) {
        for hit in self.automaton.find_overlapping_iter(bytes.as_ref()) {
            let (name, look) = &self.looks[hit.pattern().as_usize()];
            found.insert(format!("{place}: {name} as {look}"));
        }
    }

    /// Searches a file, or all below a directory. Links are not followed, and what goes meanwhile is no failure.
    ///
    /// # Errors
    /// What is there cannot be read.
    pub fn place(&self, place: &Path, found: &mut Found) -> Result<()> {
        let Ok(meta) = fs::symlink_metadata(place) else { return Ok(()) };
        if meta.is_dir() {
            for entry in fs::read_dir(place)? {
                self.place(&entry?.path(), found)?;
            }
            if place.join("lock").exists() && place.join("keys.salt").exists() {
                self.bodies(place, found)?;
            }
        } else if meta.is_file() {
            let bytes = fs::read(place).with_context(|| place.display().to_string())?;
            self.text(&place.display().to_string(), written(&bytes), found);
        }
        Ok(())
    }

    /// Searches the bodies of a store that lies beside the identity of its host. Each must be readable.
    fn bodies(&self, store: &Path, found: &mut Found) -> Result<()> {
        let own = store.parent().unwrap_or(store).join("audit/identity");
        let access = Access::with(identity(&own).with_context(|| own.display().to_string())?);
        let (reader, mut unsealer) = (Reader::open(store)?, Unsealer::new(store, &access));
        let mut bodies: BTreeMap<(u128, u32, bool), Vec<u8>> = BTreeMap::new();
        let mut hidden = None;
        reader.frames(0..reader.segments(), |frame| {
            if let Some(piece) = unsealer.piece(&frame) {
                match piece.bytes {
                    Ok(bytes) => {
                        let of = (piece.at.session, piece.at.exchange, piece.at.down);
                        bodies.entry(of).or_default().extend_from_slice(&bytes);
                    }
                    Err(why) => hidden = Some(why),
                }
            }
            ControlFlow::Continue(())
        })?;
        let none: [Damage; 0] = [];
        ensure!(
            unsealer.damage == none && hidden.is_none(),
            "a body is not searched: {hidden:?} {:?}",
            unsealer.damage
        );
        for ((_, exchange, down), body) in &bodies {
            let side = if *down { "answer" } else { "request" };
            self.text(&format!("{}: body of a {side} ({exchange})", store.display()), body, found);
        }
        Ok(())
    }

    /// Every look of the secret of this name: what a control must find.
    pub fn looks_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.looks.iter().filter(move |(of, _)| of == name).map(|(_, look)| look.as_str())
    }
}

/// All but the zeros at the end, in whole steps.
fn written(bytes: &[u8]) -> &[u8] {
    let mut end = bytes.len();
    while end >= STEP && bytes[end - STEP..end] == [0; STEP] {
        end -= STEP;
    }
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_look_is_found_wherever_it_stands() {
        let secret = "a/secret+of=some?length";
        let search = Search::new([("one", secret), ("other", "something-else")]).expect("a search");
        for before in 0..5 {
            let text = format!("{}{secret}{}", "y".repeat(before), "z".repeat(before % 3));
            for coded in [
                text.clone(),
                BASE64_STANDARD_NO_PAD.encode(&text),
                BASE64_URL_SAFE_NO_PAD.encode(&text),
                percent(&text, false),
                percent(&text, true),
                text.bytes().map(|b| format!("{b:02X}")).collect(),
            ] {
                let mut found = Found::new();
                search.text("here", &coded, &mut found);
                assert!(!found.is_empty() && found.iter().all(|f| f.starts_with("here: one as ")), "{coded}");
            }
        }
        let mut found = Found::new();
        search.text("here", "a/secret+of=some!length", &mut found);
        assert_eq!(found, Found::new());
    }

    #[test]
    fn zeros_at_the_end_are_left_out() {
        let bytes = [&[1; 10][..], &[0; 3 * STEP]].concat();
        assert!(written(&bytes).len() < STEP + 10 && written(&bytes).starts_with(&[1; 10]));
        assert_eq!(written(&[0; STEP + 1]).len(), 1);
        assert_eq!(written(&[7; 5]), [7; 5]);
    }
}
