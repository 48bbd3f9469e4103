//! A body that is signed piece by piece (`aws-chunked`, S3's SigV4 streaming): each chunk's signature is replaced as it
//! passes, and each depends on the one before. Signatures have one length, so the body keeps its own.
//!
//! ```text
//! 10000;chunk-signature=<64 hex digits> CRLF <data> CRLF … 0;chunk-signature=<64> CRLF CRLF
//! … 0;chunk-signature=<64> CRLF x-amz-checksum-crc32c:… CRLF x-amz-trailer-signature:<64> CRLF CRLF      with a trailer
//! ```

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use bytes::{Buf as _, Bytes, BytesMut};

/// Largest chunk: its signature stands before it, so all of it must be here first. Clients send 64 to 128 KiB.
const CHUNK_MAX: usize = 4 << 20;
/// A chunk's first line.
const LINE_MAX: usize = 256;
/// All of the trailer.
const TRAILER_MAX: usize = 4096;
/// What stands between a chunk's size and its signature.
const SIGNATURE: &[u8] = b";chunk-signature=";
const TRAILER_SIGNATURE: &[u8] = b"x-amz-trailer-signature:";

/// Why a body is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not the signed chunks that its head says: {0}")]
pub struct Broken(pub &'static str);

/// Signs chunks anew.
pub struct Chunks {
    key: hmac::Key,
    /// Date and scope: what a string to sign has between its algorithm and the signature before it.
    scope: String,
    previous: String,
    trailer: bool,
    /// What has come and is not passed on yet.
    held: BytesMut,
    at: At,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Chunk,
    /// Behind the last chunk: its empty line, or the trailer.
    Last,
    End,
}

impl Chunks {
    /// `key` is the signing key, `seed` the signature of the head.
    pub(super) fn new(key: &[u8], scope: String, seed: String, trailer: bool) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Self { key, scope, previous: seed, trailer, held: BytesMut::new(), at: At::Chunk }
    }

    /// Takes what has come, and gives what can be passed on.
    ///
    /// # Errors
    /// [`Broken`]; nothing more may be passed on.
    pub fn push(&mut self, data: &[u8]) -> Result<Bytes, Broken> {
        self.held.extend_from_slice(data);
        let mut out = BytesMut::new();
        while match self.at {
            At::Chunk => self.chunk(&mut out)?,
            At::Last if self.trailer => self.trailer(&mut out)?,
            At::Last => self.last(&mut out)?,
            At::End if self.held.is_empty() => false,
            At::End => return Err(Broken("something stands behind its end")),
        } {}
        Ok(out.freeze())
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether the body is whole.
    pub fn is_whole(&self) -> bool {
        self.at == At::End
    }

    fn chunk(&mut self, out: &mut BytesMut) -> Result<bool, Broken> {
        let Some(end) = self.held.iter().take(LINE_MAX).position(|b| *b == b'\n') else {
            let too_long = self.held.len() >= LINE_MAX;
            return if too_long { Err(Broken("a chunk's first line is too long")) } else { Ok(false) };
        };
        let line = self.held[..end].strip_suffix(b"\r").ok_or(Broken("a line does not end with CRLF"))?;
        let split = line.iter().position(|b| *b == b';').ok_or(Broken("a chunk has no signature"))?;
        let (digits, signature) = line.split_at(split);
        let signature = signature.strip_prefix(SIGNATURE).ok_or(Broken("a chunk has no signature"))?;
        if signature.len() != 64 || !signature.iter().all(u8::is_ascii_hexdigit) {
            return Err(Broken("a chunk's signature is malformed"));
        }
        let size = size(digits).ok_or(Broken("a chunk's size is malformed, or too large"))?;
        let (from, to) = (end + 1, end + 1 + size);
        // The last chunk's own empty line is the body's.
        let whole = if size == 0 { to } else { to + 2 };
        if self.held.len() < whole {
            self.held.reserve(whole - self.held.len());
            return Ok(false);
        }
        let hash = hex(digest(&SHA256, &self.held[from..to]).as_ref());
        let nothing = hex(digest(&SHA256, b"").as_ref());
        let signed = self.sign("AWS4-HMAC-SHA256-PAYLOAD", &format!("{nothing}\n{hash}"));
        if size > 0 && &self.held[to..whole] != b"\r\n" {
            return Err(Broken("a chunk is longer than it says"));
        }
        out.reserve(whole);
        out.extend_from_slice(&self.held[..split + SIGNATURE.len()]);
        out.extend_from_slice(signed.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.held[from..whole]);
        self.held.advance(whole);
        if size == 0 {
            self.at = At::Last;
        }
        Ok(true)
    }

    fn last(&mut self, out: &mut BytesMut) -> Result<bool, Broken> {
        if self.held.len() < 2 {
            return Ok(false);
        }
        if &self.held[..2] != b"\r\n" {
            return Err(Broken("its last chunk has data or a trailer"));
        }
        out.extend_from_slice(&self.held.split_to(2));
        self.at = At::End;
        Ok(true)
    }

    fn trailer(&mut self, out: &mut BytesMut) -> Result<bool, Broken> {
        let lines = self.held.split_inclusive(|b| *b == b'\n');
        let (mut length, mut signed, mut fields) = (0, None, Vec::new());
        for line in lines {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.is_empty() {
                let Some(signature) = signed else { return Err(Broken("its trailer has no signature")) };
                return self.trailer_ends(out, &fields, signature, length + line.len());
            }
            if signed.is_some() {
                return Err(Broken("something stands behind the trailer's signature"));
            }
            match text.strip_prefix(TRAILER_SIGNATURE) {
                Some(was) if was.len() == 64 && was.iter().all(u8::is_ascii_hexdigit) => {
                    signed = Some(length + TRAILER_SIGNATURE.len());
                }
                Some(_) => return Err(Broken("its trailer's signature is malformed")),
                None => fields.push(field(text)?),
            }
            length += line.len();
        }
        if self.held.len() > TRAILER_MAX {
            return Err(Broken("its trailer is too long"));
        }
        Ok(false)
    }

    fn trailer_ends(
        &mut self,
        out: &mut BytesMut,
        fields: &[String],
        signature: usize,
        length: usize,
    ) -> Result<bool, Broken> {
        let mut fields = fields.to_vec();
        fields.sort();
        let hash = hex(digest(&SHA256, fields.concat().as_bytes()).as_ref());
        let signed = self.sign("AWS4-HMAC-SHA256-TRAILER", &hash);
        let mut whole = self.held.split_to(length);
        whole[signature..signature + 64].copy_from_slice(signed.as_bytes());
        out.extend_from_slice(&whole);
        self.at = At::End;
        Ok(true)
    }

    fn sign(&mut self, algorithm: &str, what: &str) -> String {
        let text = format!("{algorithm}\n{}\n{}\n{what}", self.scope, self.previous);
        self.previous = hex(hmac::sign(&self.key, text.as_bytes()).as_ref());
        self.previous.clone()
    }
}

fn size(digits: &[u8]) -> Option<usize> {
    let good = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| good)?;
    usize::from_str_radix(text, 16).ok().filter(|size| *size <= CHUNK_MAX)
}

/// A field of the trailer as it is signed.
fn field(text: &[u8]) -> Result<String, Broken> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.contains(char::is_control));
    let (name, value) =
        text.and_then(|text| text.split_once(':')).ok_or(Broken("its trailer is malformed"))?;
    Ok(format!("{}:{}\n", name.to_ascii_lowercase(), value.trim()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_sigv4::sign::v4::generate_signing_key;

    use super::*;

    /// AWS's own example ("Signature calculations for the Authorization header: transferring payload in multiple chunks").
    fn example(trailer: bool, seed: &str) -> Chunks {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let time = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let key = generate_signing_key(secret, time, "us-east-1", "s3");
        let scope = "20130524T000000Z\n20130524/us-east-1/s3/aws4_request".to_owned();
        Chunks::new(key.as_ref(), scope, seed.to_owned(), trailer)
    }

    fn body(end: &str) -> Vec<u8> {
        let none = "0".repeat(64);
        let mut body = format!("10000;chunk-signature={none}\r\n").into_bytes();
        body.extend_from_slice(&vec![b'a'; 65536]);
        body.extend_from_slice(format!("\r\n400;chunk-signature={none}\r\n").as_bytes());
        body.extend_from_slice(&[b'a'; 1024]);
        body.extend_from_slice(format!("\r\n0;chunk-signature={none}\r\n{end}").as_bytes());
        body
    }

    fn signatures(out: &[u8]) -> Vec<String> {
        let text = String::from_utf8(out.to_vec()).expect("text");
        let of = |part: &str| part[..64].to_owned();
        text.split("-signature=").skip(1).chain(text.split("-signature:").skip(1)).map(of).collect()
    }

    #[test]
    fn aws_own_example_however_it_comes() {
        let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
        let body = body("\r\n");
        for piece in [1, 7, 100, 8192, body.len()] {
            let mut chunks = example(false, seed);
            let mut out = Vec::new();
            for piece in body.chunks(piece) {
                assert!(!chunks.is_whole());
                out.extend_from_slice(&chunks.push(piece).expect("chunks"));
            }
            assert!(chunks.is_whole() && chunks.held() == 0 && out.len() == body.len());
            assert_eq!(
                signatures(&out),
                [
                    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
                    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
                    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"
                ]
            );
        }
    }

    #[test]
    fn aws_own_example_with_a_trailer() {
        let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
        let none = "0".repeat(64);
        let body = body(&format!("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{none}\r\n\r\n"));
        for piece in [1, 50_000, body.len()] {
            let mut chunks = example(true, seed);
            let out: Vec<u8> =
                body.chunks(piece).flat_map(|piece| chunks.push(piece).expect("chunks").to_vec()).collect();
            assert!(chunks.is_whole() && out.len() == body.len());
            assert_eq!(
                signatures(&out),
                [
                    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
                    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
                    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
                    "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
                ]
            );
        }
    }

    #[test]
    fn what_is_no_chunk_ends_the_body() {
        let good = "0".repeat(64);
        for bad in [
            "5\r\nhello\r\n".to_owned(),
            format!("5;chunk-signature={good}\nhello\r\n"),
            format!("5;chunk-signature={good}\r\nhello!!"),
            format!("5;x=y;chunk-signature={good}\r\nhello\r\n"),
            format!("5;chunk-signature={}\r\nhello\r\n", &good[1..]),
            format!("-5;chunk-signature={good}\r\n"),
            format!(";chunk-signature={good}\r\n"),
            format!("+5;chunk-signature={good}\r\n"),
            format!("ffffffff;chunk-signature={good}\r\n"),
            format!("0;chunk-signature={good}\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"),
            format!("0;chunk-signature={good}\r\n\r\nmore"),
            "0".repeat(300),
        ] {
            assert!(example(false, &good).push(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in [
            format!("0;chunk-signature={good}\r\n\r\n"),
            format!("0;chunk-signature={good}\r\nx:y\r\n\r\n"),
            format!("0;chunk-signature={good}\r\nx-amz-trailer-signature:{good}\r\nx:y\r\n\r\n"),
            format!("0;chunk-signature={good}\r\nx-amz-trailer-signature:short\r\n\r\n"),
            format!("0;chunk-signature={good}\r\nx:{}", "y".repeat(TRAILER_MAX)),
        ] {
            assert!(example(true, &good).push(bad.as_bytes()).is_err(), "{bad}");
        }
        let mut cut = example(false, &good);
        cut.push(format!("5;chunk-signature={good}\r\nhel").as_bytes()).expect("not all yet");
        assert!(!cut.is_whole() && cut.held() > 0);
    }
}
