use super::*;

fn signer(name: &str, seed: u8) -> Signer {
    Signer::new(name, &[seed; 32]).expect("a name")
}

/// The example of golang.org/x/mod/sumdb/note, which C2SP signed-note was made from.
#[test]
fn go_s_own_example_is_read() {
    let key: VerifierKey =
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().expect("key");
    assert_eq!(key.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    let text = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n\n\
                — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let note = Note::parse(text).expect("note");
    assert_eq!(note.signed_by(&key), Ok(()));
    assert_eq!(note.to_string(), text);
    assert_eq!(note.text().lines().count(), 2);
}

#[test]
fn a_note_comes_back_and_every_flipped_bit_is_refused() {
    let signer = signer("sluice/store/key#0", 1);
    let key = signer.verifier();
    let note = Note::sign("origin\n12\nroot\n".to_owned(), &signer).expect("text");
    let text = note.to_string();
    assert_eq!(Note::parse(&text).as_ref(), Ok(&note));
    for bit in 0..text.len() * 8 {
        let mut bad = text.clone().into_bytes();
        bad[bit / 8] ^= 1 << (bit % 8);
        let good = str::from_utf8(&bad)
            .ok()
            .and_then(|bad| Note::parse(bad).ok())
            .is_some_and(|n| n.signed_by(key).is_ok());
        assert!(!good, "bit {bit}");
    }
    for cut in 0..text.len() {
        let Some(part) = text.get(..cut) else { continue };
        assert!(Note::parse(part).is_err(), "cut {cut}");
    }
    for more in [" ", "\n", "x", "\n\n", "— a b\n"] {
        assert!(Note::parse(&format!("{text}{more}")).is_err(), "{more:?}");
    }
}

#[test]
fn other_signatures_are_kept_and_ignored() {
    let (ours, witness) = (signer("ours", 1), signer("witness.example/w", 2));
    let note = Note::sign("text\n".to_owned(), &ours).expect("text");
    let theirs = Note::sign("text\n".to_owned(), &witness).expect("text");
    let line = theirs.to_string().lines().last().map(str::to_owned).expect("signature");
    let both = format!("{note}{line}\n— odd/algorithm AAAAAAAA\n");
    let read = Note::parse(&both).expect("note");
    assert_eq!(read.signatures().len(), 3);
    assert_eq!(read.signed_by(ours.verifier()), Ok(()));
    assert_eq!(read.signed_by(witness.verifier()), Ok(()));
    assert_eq!(read.to_string(), both);
    // The same name is not the same key.
    assert_eq!(read.signed_by(signer("ours", 3).verifier()), Err(Unsigned::Missing));
    let more = line.clone() + "\n";
    assert_eq!(Note::parse(&format!("{note}{}", more.repeat(100))), Err(Malformed::Signatures));
}

#[test]
fn what_is_no_key_is_refused() {
    let key = signer("a", 1).verifier().to_string();
    assert_eq!(key.parse::<VerifierKey>().map(|k| k.to_string()), Ok(key.clone()));
    for at in 0..key.len() {
        let mut bad = key.clone().into_bytes();
        bad[at] = if bad[at] == b'b' { b'c' } else { b'b' };
        let bad = String::from_utf8(bad).expect("ASCII");
        assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
    }
    assert!(key.to_uppercase().parse::<VerifierKey>().is_err());
    for name in ["", "a b", "a+b", "a\n"] {
        assert!(Signer::new(name, &[1; 32]).is_none(), "{name:?}");
    }
    for text in ["", "\n", "a", "a\r\n", "a\0\n"] {
        assert_eq!(Note::sign(text.to_owned(), &signer("a", 1)), Err(Malformed::Text), "{text:?}");
    }
}

#[test]
fn a_file_of_notes_is_split_and_what_is_torn_is_said() {
    let note = |text: &str| Note::sign(format!("{text}\n"), &signer("a", 1)).expect("text").to_string();
    let (one, two) = (note("one"), note("two\nlines"));
    let file = format!("{one}\n{two}\n");
    let pieces: Vec<_> = split(file.as_bytes()).collect();
    assert_eq!(pieces, [(0, Piece::Note(one.as_str())), (one.len() + 1, Piece::Note(&two))]);
    for cut in 0..file.len() {
        let part = &file.as_bytes()[..cut];
        let notes = split(part).filter(|(_, p)| matches!(p, Piece::Note(_))).count();
        assert_eq!(notes, usize::from(cut > one.len()), "cut {cut}");
        let bytes: usize = split(part)
            .map(|(_, p)| match p {
                Piece::Note(note) => note.len() + 1,
                Piece::Torn(bytes) => bytes.len(),
            })
            .sum();
        assert_eq!(bytes, cut);
    }
    // Damage takes no note beside it along when it has an end.
    let file = format!("{one}\ntorn\n\n{two}\n");
    let kinds: Vec<_> = split(file.as_bytes()).map(|(_, p)| matches!(p, Piece::Note(_))).collect();
    assert_eq!(kinds, [true, false, true]);
}
