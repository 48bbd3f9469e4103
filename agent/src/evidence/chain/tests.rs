use super::*;
use crate::evidence::note::Signer;
use crate::evidence::tree::leaf;

const STORE: Ulid = Ulid::from_parts(1, 1);
const LOG: Ulid = Ulid::from_parts(2, 2);
const OTHER: Ulid = Ulid::from_parts(3, 3);

fn signer(number: u64) -> Signer {
    Signer::new(&key_name(STORE, number), &[number as u8 + 1; 32]).expect("a name")
}

fn head(size: u64) -> Head {
    Head { size, root: leaf(&size.to_be_bytes()) }
}

fn certificate(number: u64, pins: &[(Ulid, u64)]) -> Certificate {
    let pins = pins.iter().map(|(log, size)| Pin { log: *log, tree: head(*size) }).collect();
    let time = format!("2026-11-23T0{number}:00:00.000000Z");
    Certificate { store: STORE, number, key: signer(number).verifier().clone(), time, pins }
}

fn signed(certificate: &Certificate, by: u64) -> Note {
    Note::sign(certificate.to_string(), &signer(by)).expect("text")
}

fn checkpoint(log: Ulid, size: u64, by: u64) -> Note {
    let checkpoint = Checkpoint {
        origin: Origin { store: STORE, log },
        tree: head(size),
        time: "2026-11-23T00:00:00.000000Z".to_owned(),
        more: vec![],
    };
    Note::sign(checkpoint.to_string(), &signer(by)).expect("text")
}

/// Key 0 signed LOG up to 10, key 1 up to 20 and closed it, OTHER up to 5; key 2 goes on with OTHER.
fn chain() -> Chain {
    let mut chain =
        Chain::begin(&signed(&certificate(0, &[]), 0), Some(signer(0).verifier())).expect("first");
    chain.add(&signed(&certificate(1, &[(LOG, 10)]), 0)).expect("second");
    chain.add(&signed(&certificate(2, &[(LOG, 20), (OTHER, 5)]), 1)).expect("third");
    chain.add(&signed(&certificate(3, &[(OTHER, 9)]), 2)).expect("fourth");
    chain
}

#[test]
fn certificates_come_back() {
    for pins in [&[][..], &[(LOG, 10)], &[(LOG, 10), (OTHER, 0)]] {
        let certificate = certificate(1, pins);
        assert_eq!(certificate.to_string().parse(), Ok(certificate));
    }
    let text = certificate(1, &[(LOG, 10)]).to_string();
    assert!(
        text.starts_with(
            "sluice/00000000010000000000000001/key\n1\nsluice/00000000010000000000000001/key#1+"
        )
    );
    for (from, to) in [
        ("\n1\n", "\n2\n"),
        ("\n1\n", "\n01\n"),
        ("/key\n", "/keys\n"),
        (" 10 ", " 10  "),
        (" 10 ", " 010 "),
        ("Z\n", "Z\n\n"),
        ("Z\n", "Z\n- 0 -\n"),
        ("T01", "x01"),
    ] {
        assert!(text.replacen(from, to, 1).parse::<Certificate>().is_err(), "{to:?} for {from:?}");
    }
    let twice = certificate(1, &[(LOG, 10), (LOG, 11)]).to_string();
    assert_eq!(twice.parse::<Certificate>(), Err(Broken::Certificate));
}

#[test]
fn a_chain_is_verified_from_its_first_key() {
    let chain = chain();
    assert_eq!(chain.certificates().len(), 4);
    assert_eq!(chain.first(), signer(0).verifier());
    let first = signed(&certificate(0, &[]), 0);
    assert_eq!(Chain::begin(&first, Some(signer(1).verifier())).map(|_| ()), Err(Broken::First));
    let second = signed(&certificate(1, &[]), 0);
    assert_eq!(Chain::begin(&second, None).map(|_| ()), Err(Broken::Number));
    let not_by_itself = signed(&certificate(0, &[]), 1);
    assert_eq!(Chain::begin(&not_by_itself, None).map(|_| ()), Err(Broken::Unsigned(Unsigned::Missing)));
}

#[test]
fn what_does_not_go_on_is_refused() {
    let base = chain();
    let mut other = certificate(4, &[]);
    other.store = LOG;
    other.key = Signer::new(&key_name(LOG, 4), &[9; 32]).expect("name").verifier().clone();
    for (certificate, by, why) in [
        (certificate(5, &[]), 3, Broken::Number),
        (certificate(3, &[]), 3, Broken::Number),
        (certificate(4, &[]), 4, Broken::Unsigned(Unsigned::Missing)),
        (certificate(4, &[]), 2, Broken::Unsigned(Unsigned::Missing)),
        (certificate(4, &[(OTHER, 8)]), 3, Broken::Shrunk),
        (certificate(4, &[(LOG, 19)]), 3, Broken::Shrunk),
        (other, 3, Broken::Store),
    ] {
        let mut chain = base.clone();
        assert_eq!(chain.add(&signed(&certificate, by)), Err(why));
        assert_eq!(chain.certificates().len(), 4);
    }
    let mut pin = certificate(4, &[(OTHER, 9)]);
    pin.pins[0].tree.root = leaf(b"another");
    assert_eq!(base.clone().add(&signed(&pin, 3)), Err(Broken::Shrunk));
}

#[test]
fn every_flipped_bit_of_a_certificate_is_refused() {
    let base = chain();
    let text = signed(&certificate(4, &[(OTHER, 9)]), 3).to_string();
    assert!(base.clone().add(&Note::parse(&text).expect("note")).is_ok());
    for bit in 0..text.len() * 8 {
        let mut bad = text.clone().into_bytes();
        bad[bit / 8] ^= 1 << (bit % 8);
        let Some(note) = str::from_utf8(&bad).ok().and_then(|bad| Note::parse(bad).ok()) else { continue };
        assert!(base.clone().add(&note).is_err(), "bit {bit}");
    }
}

#[test]
fn a_key_signs_only_in_its_epoch() {
    let chain = chain();
    for (log, size, by) in
        [(LOG, 1, 0), (LOG, 10, 0), (LOG, 10, 1), (LOG, 20, 1), (OTHER, 1, 1), (OTHER, 9, 2), (OTHER, 99, 3)]
    {
        let opened =
            chain.open(&checkpoint(log, size, by)).map(|(number, c)| (c.origin.log, c.tree.size, number));
        assert_eq!(opened, Ok((log, size, by)));
    }
    for (log, size, by, why) in [
        (LOG, 11, 0, Worthless::After(0)),
        (LOG, 9, 1, Worthless::Before(1)),
        (LOG, 21, 1, Worthless::After(1)),
        // Closed logs get no more, and no log can be put between.
        (LOG, 20, 2, Worthless::After(2)),
        (LOG, 25, 3, Worthless::Closed(3)),
        (STORE, 3, 1, Worthless::After(1)),
        (OTHER, 8, 3, Worthless::Before(3)),
        (OTHER, 9, 4, Worthless::Unknown),
    ] {
        assert_eq!(chain.open(&checkpoint(log, size, by)), Err(why), "{log} {size} {by}");
    }
    // Under the name of one key with another's signature; and the same size with another root.
    let name = key_name(STORE, 1);
    let forger = Signer::new(&name, &[77; 32]).expect("name");
    let text = checkpoint(LOG, 15, 1).text().to_owned();
    let forged = Note::sign(text.clone(), &forger).expect("text");
    assert_eq!(chain.open(&forged), Err(Worthless::Unknown));
    let honest = Note::sign(text, &signer(1)).expect("text").to_string();
    let moved = Note::parse(&honest.replace(" 15\n", " 16\n").replace("\n15\n", "\n16\n")).expect("note");
    assert_eq!(chain.open(&moved), Err(Worthless::Wrong(1)));
    let root = head(20).root.to_string();
    let text = checkpoint(LOG, 20, 1).text().replace(&root, &leaf(b"x").to_string());
    assert_eq!(chain.open(&Note::sign(text, &signer(1)).expect("text")), Err(Worthless::After(1)));
}
