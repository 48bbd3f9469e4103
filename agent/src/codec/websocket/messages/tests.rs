//! Frames as clients send them, and as none may.

use super::*;

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x93, 0x44];
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..126 => frame.push(0x80 | u8::try_from(n).expect("short")),
        n @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(n).expect("short").to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

/// What is judged, what passes; in pieces of `size` bytes. Messages with an `x` are dropped, and with them the rest.
fn read(wire: &[u8], size: usize, max: usize) -> (Vec<String>, Vec<u8>, Option<Violation>) {
    let (mut messages, mut out, mut seen) = (Messages::default(), BytesMut::new(), Vec::new());
    for mut piece in wire.chunks(size) {
        loop {
            match messages.read(&mut piece, max, &mut out) {
                Ok(Event::Hungry) => break,
                Ok(Event::TooLong) => seen.push("too long".to_owned()),
                Ok(Event::Message) => {
                    let (binary, data) = messages.message();
                    let data = String::from_utf8_lossy(data).into_owned();
                    if data.contains('x') {
                        return (seen, out.to_vec(), None);
                    }
                    seen.push(if binary { format!("binary {data}") } else { data });
                }
                Err(violation) => return (seen, out.to_vec(), Some(violation)),
            }
            messages.pass(&mut out);
        }
    }
    (seen, out.to_vec(), None)
}

#[test]
fn messages_are_joined_and_pass_as_they_came() {
    let long = "a".repeat(300);
    let parts = [
        frame(0x81, b"one"),
        frame(0x01, "tw\u{f6}".as_bytes().split_at(3).0),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x80, "tw\u{f6}".as_bytes().split_at(3).1),
        frame(0x82, long.as_bytes()),
        frame(0x82, b""),
        frame(0x88, &[3, 232]),
    ];
    // The ping goes before what was not whole then.
    let order = [0, 2, 1, 3, 4, 5, 6, 7].map(|at: usize| parts[at].clone()).concat();
    for size in [1, 2, 3, 7, 100, 10_000] {
        let (seen, out, violation) = read(&parts.concat(), size, 1000);
        assert_eq!(seen, ["one", "tw\u{f6}", &format!("binary {long}"), "binary "]);
        assert!(out == order && violation.is_none());
    }
}

#[test]
fn nothing_of_a_message_that_is_dropped_passes() {
    let wire = [frame(0x81, b"good"), frame(0x01, b"ab"), frame(0x8a, b"!"), frame(0x80, b"x")].concat();
    for size in [1, 5, 1000] {
        let (seen, out, _) = read(&wire, size, 100);
        assert_eq!(seen, ["good"]);
        assert_eq!(out, [frame(0x81, b"good"), frame(0x8a, b"!")].concat());
    }
}

#[test]
fn what_is_too_long_is_asked_for_once_and_then_passes() {
    let (begin, middle) = (frame(0x02, &[b'a'; 60]), frame(0x00, &[b'x'; 70_000]));
    let rest = [frame(0x89, b""), frame(0x80, b"y"), frame(0x81, b"after")].concat();
    let wire = [begin, middle, rest].concat();
    for size in [1, 50, 1 << 20] {
        let (seen, out, violation) = read(&wire, size, 100);
        assert_eq!((seen, violation), (vec!["too long".to_owned(), "after".to_owned()], None));
        assert!(out == wire);
    }
    let single = [frame(0x82, &[b'a'; 101]), frame(0x82, &[b'a'; 100])].concat();
    let (seen, out, _) = read(&single, 9, 100);
    assert_eq!(seen, ["too long", &format!("binary {}", "a".repeat(100))]);
    assert!(out == single);
    // Heads alone are bounded too.
    let heads = [frame(0x02, b""), frame(0x00, b"").repeat(20_000)].concat();
    assert_eq!(read(&heads, 1000, 10).0, ["too long"]);
}

#[test]
fn violations() {
    let set = |mut frame: Vec<u8>, at: usize, to: u8| {
        frame[at] = to;
        frame
    };
    let length = |bytes: &[u8]| [&[0x82][..], bytes, &[0; 4]].concat();
    for (wire, wanted) in [
        (frame(0xc1, b"a"), Violation::Reserved),
        (frame(0x91, b"a"), Violation::Reserved),
        (frame(0xc9, b"a"), Violation::Reserved),
        (frame(0x83, b"a"), Violation::Opcode),
        (frame(0x8b, b"a"), Violation::Opcode),
        (set(frame(0x81, b"a"), 1, 1), Violation::Unmasked),
        (length(&[0xfe, 0, 125]), Violation::Length),
        (length(&[0xff, 0, 0, 0, 0, 0, 0, 255, 255]), Violation::Length),
        (length(&[0xff, 0x80, 0, 0, 0, 0, 0, 0, 1]), Violation::Length),
        (frame(0x09, b"a"), Violation::Control),
        (frame(0x89, &[0; 126]), Violation::Control),
        (frame(0x88, &[3]), Violation::Control),
        (frame(0x80, b"a"), Violation::Order),
        ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), Violation::Order),
        (frame(0x81, &[0xff]), Violation::Text),
        ([frame(0x01, &[0xc3]), frame(0x80, b"a")].concat(), Violation::Text),
        ([frame(0x88, b""), frame(0x81, b"a")].concat(), Violation::Closed),
    ] {
        for size in [1, 1000] {
            let (seen, _, violation) = read(&wire, size, 1000);
            assert_eq!((seen.len(), violation), (0, Some(wanted)), "{wire:02x?}");
            let (mut messages, mut out, mut rest) = (Messages::default(), BytesMut::new(), &wire[..]);
            assert_eq!(messages.read(&mut rest, 1000, &mut out), Err(wanted));
            messages.give_up(&mut out);
            assert!([&out, rest].concat() == wire, "given up, all is there: {wire:02x?}");
        }
    }
}

#[test]
fn a_servers_frames_bear_no_mask() {
    let wire = [
        &[0x01, 2, b'h', b'e'][..],
        &[0x89, 0],
        &[0x80, 3, b'l', b'l', b'o'],
        &[0x82, 126, 0, 200],
        &[7; 200],
    ]
    .concat();
    for size in [1, 3, wire.len()] {
        let (mut messages, mut out, mut seen) = (Messages::of(Speaker::Server), BytesMut::new(), Vec::new());
        for mut piece in wire.chunks(size) {
            while let Event::Message = messages.read(&mut piece, 1000, &mut out).expect("frames") {
                seen.push(messages.message().1.to_vec());
                messages.pass(&mut out);
            }
        }
        assert_eq!(seen, [b"hello".to_vec(), vec![7; 200]]);
        // The ping is not held back.
        assert_eq!((out.len(), &out[..2]), (wire.len(), &[0x89, 0][..]));
    }
    let mut masked = &frame(0x81, b"hello")[..];
    let read = Messages::of(Speaker::Server).read(&mut masked, 1000, &mut BytesMut::new());
    assert_eq!(read.expect_err("masked"), Violation::Masked);
}
