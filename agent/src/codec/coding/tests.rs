//! Real coded data, cut in every way; and what is no such data.

use std::io::Write;

use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use flate2::{Compression, GzBuilder};
use http::HeaderValue;

use super::*;

/// Bytes that do not shrink, always the same ones.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_le_bytes()[3]
        };
        (0..n).map(|_| next()).collect()
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::default());
    to.write_all(plain).expect("memory");
    to.finish().expect("memory")
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut to = ZlibEncoder::new(Vec::new(), Compression::default());
    to.write_all(plain).expect("memory");
    to.finish().expect("memory")
}

fn raw(plain: &[u8]) -> Vec<u8> {
    let mut to = DeflateEncoder::new(Vec::new(), Compression::default());
    to.write_all(plain).expect("memory");
    to.finish().expect("memory")
}

fn br(plain: &[u8]) -> Vec<u8> {
    let mut to = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    to.write_all(plain).expect("memory");
    to.into_inner()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut to = ::zstd::stream::write::Encoder::new(Vec::new(), 3).expect("encoder");
    to.include_checksum(true).expect("checksum");
    to.write_all(plain).expect("memory");
    to.finish().expect("memory")
}

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(CONTENT_ENCODING, HeaderValue::from_str(value).expect("value"));
    }
    headers
}

fn decoder(reading: Reading, coding: &str) -> Decoder {
    Decoder::reading(&headers(&[coding]), reading).expect(coding).expect(coding)
}

/// All of it, in pieces of `size` bytes, up to `max`.
fn decode_with(mut decoder: Decoder, coded: &[u8], size: usize, max: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    for piece in coded.chunks(size) {
        decoder.push(piece, &mut out, max)?;
    }
    decoder.finish().map(|()| out)
}

fn decode(coding: &str, coded: &[u8]) -> Result<Vec<u8>, Fault> {
    let whole = decode_with(decoder(Reading::Lenient, coding), coded, coded.len().max(1), 1 << 22);
    let bytes = decode_with(decoder(Reading::Lenient, coding), coded, 1, 1 << 22);
    assert_eq!(whole, bytes, "{coding}: cut into bytes it reads otherwise");
    whole
}

fn strict(coding: &str, coded: &[u8]) -> Result<Vec<u8>, Fault> {
    decode_with(decoder(Reading::Strict, coding), coded, 100, 1 << 22)
}

type Encode = fn(&[u8]) -> Vec<u8>;

const ALL: [(&str, Encode); 5] =
    [("gzip", gzip), ("deflate", zlib), ("deflate", raw), ("br", br), ("zstd", zstd)];

#[test]
fn all_codings_however_they_are_cut() {
    let noise = Noise(7).bytes(70_000);
    let plains: [&[u8]; 4] = [b"", b"x", &noise, &b"the same again and again, ".repeat(9000)];
    for (coding, encode) in ALL {
        for plain in plains {
            let coded = encode(plain);
            assert!(decode(coding, &coded).as_deref() == Ok(plain), "{coding} {}", plain.len());
            for size in [2, 3, 7, 1000, 65_536] {
                let got = decode_with(decoder(Reading::Lenient, coding), &coded, size, plain.len());
                assert!(got.as_deref() == Ok(plain), "{coding} by {size}");
            }
            if encode as usize != raw as Encode as usize {
                assert!(strict(coding, &coded).as_deref() == Ok(plain), "{coding}");
            }
        }
        assert_eq!(decode(coding, b"").as_deref(), Ok(&b""[..]), "nothing at all");
    }
}

#[test]
fn a_coding_that_breaks_off_or_goes_on_is_a_fault() {
    let plain = b"some text that is long enough to have a begin and an end".repeat(40);
    for (coding, encode) in ALL {
        let coded = encode(&plain);
        for n in 1..coded.len() {
            assert!(decode(coding, &coded[..n]).is_err(), "{coding}: {n} of {} bytes", coded.len());
        }
        for behind in [&b"\0"[..], b"x", b"\x1f", b"{\"model\":\"other\"}"] {
            let got = decode(coding, &[&coded, behind].concat());
            assert!(got.is_err(), "{coding}: {behind:?} behind it");
        }
    }
}

#[test]
fn a_bit_that_flips_is_a_fault_where_there_is_a_checksum() {
    let plain = b"some text that is long enough to have a begin and an end".repeat(4);
    for (coding, encode) in ALL {
        let coded = encode(&plain);
        for at in 0..coded.len() {
            let mut other = coded.clone();
            other[at] ^= 0x10;
            let got = decode_with(decoder(Reading::Lenient, coding), &other, 50, 1 << 20);
            let summed = encode as usize != raw as Encode as usize && coding != "br";
            // Bytes 4 to 9 of gzip say when and where it was made; in zstd's byte 4 the bit has no meaning, byte 5 is the
            // window.
            let unread = match coding {
                "gzip" => 4..10,
                _ => 4..6,
            };
            if summed && (coding == "deflate" || !unread.contains(&at)) {
                assert!(got.is_err(), "{coding}: byte {at} of {}", coded.len());
            }
        }
    }
    let mut coded = gzip(&plain);
    let at = coded.len() - 5;
    coded[at] ^= 1;
    assert_eq!(decode("gzip", &coded), Err(Fault::Checksum("gzip")));
}

#[test]
fn bombs_stop_at_the_bound() {
    let zeros = vec![0; 64 << 20];
    for (coding, encode) in ALL {
        let coded = encode(&zeros);
        assert!(coded.len() < 1 << 17, "{coding}");
        let mut decoder = decoder(Reading::Lenient, coding);
        let mut out = Vec::new();
        let got = coded.chunks(1000).try_for_each(|piece| decoder.push(piece, &mut out, 1 << 20));
        assert_eq!(got, Err(Fault::TooLong(1 << 20)), "{coding}");
        assert!(out.len() == 1 << 20 && out.capacity() <= 4 << 20, "{coding}");
    }
    // One in another, where nothing comes out at the end: the zeros are no gzip.
    for outer in ["gzip", "br", "zstd"] {
        let coded = ALL.iter().find(|(name, _)| *name == outer).expect("coding").1(&zeros);
        assert!(decode(&format!("gzip, {outer}"), &coded).is_err());
    }
    // A head of gzip that goes on and on.
    let endless = [&b"\x1f\x8b\x08\x10\0\0\0\0\0\0"[..], &vec![b'x'; 32 << 20]].concat();
    assert_eq!(decode("gzip, br", &br(&endless)), Err(Fault::Growth));
    assert_eq!(decode("gzip, zstd, br", &br(&zstd(&endless))), Err(Fault::Growth));
}

#[test]
fn a_stream_is_taken_as_there_is_room() {
    let plain = b"0123456789".repeat(100_000);
    for (coding, encode) in ALL {
        let (coded, mut decoder) = (encode(&plain), decoder(Reading::Lenient, coding));
        let (mut all, mut piece) = (Vec::new(), Vec::new());
        for input in coded.chunks(700) {
            let mut input = input;
            loop {
                let step = decoder.step(&mut input, &mut piece, 333).expect(coding);
                assert!(piece.len() <= 333);
                all.append(&mut piece);
                if step == Step::Hungry {
                    break;
                }
            }
            assert!(input.is_empty());
        }
        assert_eq!(decoder.finish(), Ok(()));
        assert!(all == plain, "{coding}");
    }
}

#[test]
fn several_after_one_another() {
    let plain = b"text in text ".repeat(500);
    assert!(decode("gzip, br", &br(&gzip(&plain))).as_ref() == Ok(&plain));
    assert!(decode("gzip,deflate , ZSTD", &zstd(&zlib(&gzip(&plain)))).as_ref() == Ok(&plain));
    assert!(decode("gzip, br", &gzip(&br(&plain))).is_err(), "the wrong way round");
    assert_eq!(decode("gzip, br", &br(b"")), Err(Fault::Truncated("gzip")));
    assert_eq!(decode("gzip, br", &br(&gzip(&plain)[..40])), Err(Fault::Truncated("gzip")));
}

#[test]
fn members_and_frames() {
    for (coding, encode) in [("gzip", gzip as Encode), ("zstd", zstd)] {
        let two = [encode(b"one "), encode(b"two")].concat();
        assert_eq!(decode(coding, &two).as_deref(), Ok(&b"one two"[..]));
        assert_eq!(strict(coding, &two), Err(Fault::Several(coding)));
        assert!(decode(coding, &two[..two.len() - 1]).is_err());
    }
    // A frame that is skipped (RFC 8878 §3.1.2) hides from some what others read.
    let skipped = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd(b"two")].concat();
    assert_eq!(decode("zstd", &skipped).as_deref(), Ok(&b"two"[..]));
    assert_eq!(strict("zstd", &skipped), Err(Fault::Several("zstd")));
    let two = [br(b"one"), br(b"two")].concat();
    assert_eq!(decode("br", &two), Err(Fault::Trailing("br")));
}

#[test]
fn heads_of_gzip() {
    let mut to = GzBuilder::new()
        .filename("a name")
        .comment("a comment")
        .extra(b"AB\x02\0xy".as_slice())
        .write(Vec::new(), Compression::best());
    to.write_all(b"plain").expect("memory");
    let coded = to.finish().expect("memory");
    assert_eq!(decode("x-gzip", &coded).as_deref(), Ok(&b"plain"[..]));
    // With a sum over the head, right and wrong.
    let head = b"\x1f\x8b\x08\x02\0\0\0\0\0\x03";
    let mut crc = flate2::Crc::new();
    crc.update(head);
    let rest = &gzip(b"plain")[10..];
    let sum = crc.sum().to_le_bytes();
    assert_eq!(decode("gzip", &[head, &sum[..2], rest].concat()).as_deref(), Ok(&b"plain"[..]));
    assert_eq!(decode("gzip", &[head, &b"\0\0"[..], rest].concat()), Err(Fault::Checksum("gzip")));
    let mut reserved = gzip(b"plain");
    reserved[3] |= 0x20;
    assert_eq!(decode("gzip", &reserved), Err(Fault::Broken("gzip")));
}

#[test]
fn deflate_that_two_read_differently() {
    // Raw: a stored block of 0xfe9c bytes; zlib: a head, and data that begins with the same bytes.
    let two = [0x78, 0x9c, 0x03, 0x63, 0xfc, 0, 0, 0, 1];
    assert_eq!(decode("deflate", &two), Err(Fault::TwoWays));
    assert_eq!(strict("deflate", &raw(b"plain")), Err(Fault::Broken("deflate")));
    // A dictionary is asked for (RFC 1950 §2.2): nobody has it.
    assert!(decode("deflate", &[0x78, 0xbb, 0, 0, 0, 1, 3, 0, 0, 0, 0, 1]).is_err());
}

#[test]
fn windows_have_a_bound() {
    let large = [0x11, 0x1e, 0x03];
    assert_eq!(decode("br", &large), Err(Fault::Broken("br")));
    let mut to = ::zstd::stream::write::Encoder::new(Vec::new(), 3).expect("encoder");
    to.set_parameter(::zstd::stream::raw::CParameter::WindowLog(24)).expect("window");
    to.write_all(&Noise(3).bytes(20 << 20)).expect("memory");
    let coded = to.finish().expect("memory");
    assert_eq!(
        decode_with(decoder(Reading::Lenient, "zstd"), &coded, 9999, 1 << 30),
        Err(Fault::Broken("zstd"))
    );
}

#[test]
fn fields() {
    let of = |values: &[&str], reading| Decoder::reading(&headers(values), reading).map(|d| d.is_some());
    for reading in [Reading::Lenient, Reading::Strict] {
        assert_eq!(of(&[], reading), Ok(false));
        assert_eq!(of(&["identity"], reading), Ok(false));
        assert_eq!(of(&["IDENTITY", ""], reading), Ok(false));
        assert_eq!(of(&["GZip"], reading), Ok(true));
        assert_eq!(of(&["X-GZIP , br"], reading), Ok(true));
        for unknown in ["compress", "gzip;q=1", "gzip br", "\"gzip\"", "aws-chunked", "gzip, rot13"] {
            assert!(matches!(of(&[unknown], reading), Err(Unsupported::Unknown(_))), "{unknown}");
        }
        assert_eq!(of(&["gzip, gzip, gzip, gzip"], reading), Err(Unsupported::TooMany));
    }
    for differ in [&["identity", "gzip"][..], &["gzip", "br"], &["gzip, identity"], &["gzip", ""]] {
        assert_eq!(of(differ, Reading::Lenient), Ok(true), "{differ:?}");
        assert!(matches!(of(differ, Reading::Strict), Err(Unsupported::Differ(_))), "{differ:?}");
    }
}

#[test]
fn coded_bytes_that_are_something_else_too() {
    let of = |kind: &'static str, coded: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        two_meanings(&headers, coded).is_some()
    };
    assert!(!of("application/json", b"\x1f\x8b\x08") && !of("application/json", b""));
    // As br it is the empty body, and bytes behind it that some leave out.
    assert!(of("application/json", b"{\"model\": \"other\"}"));
    assert!(of("Multipart/form-data; boundary=x", b"\x1f\x8b\x08"));
    assert!(of(" application/x-www-form-urlencoded", b"\x1f\x8b\x08"));
}

#[test]
fn a_body_that_is_there_whole() {
    let plain = br#"{"model": "small"}"#;
    let of = |values: &[&str], coded: &[u8]| request_body(&headers(values), coded, 100);
    assert_eq!(of(&[], plain), Ok(None));
    assert_eq!(of(&["gzip"], &gzip(plain)), Ok(Some(plain.to_vec())));
    assert!(of(&["gzip"], plain).is_err() && of(&["gzip"], &gzip(&[0; 101])).is_err());
}
