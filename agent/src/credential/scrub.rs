//! The forms in which a live value may be seen: as it is, base64 in its three alignments, percent-encoded, in hex, as it is
//! quoted in JSON and HTML, and what injection makes of it. `codec::scrub` looks for them.
//!
//! Not looked for: a value of fewer than [`SHORTEST`] bytes (but Basic's `user:password` of one is), base64 that is broken
//! into lines, pieces of a value, and any other way to write it: an upstream that wants to tell the value can.

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::inject;
use super::sigv4::Keys;
use crate::codec::scrub::{SHORTEST, Texts, pieces};
use crate::types::CredentialName;
use crate::types::credential::{Inject, Secret};

/// A longer text is looked for in pieces: no stream is held back by more than three times this.
const PIECE: usize = 256;
/// In a text of several parts (keys in PEM, key files, key pairs) these are secret: the words of so many characters.
const WORD: usize = 32;

/// What to look for, of one value.
pub fn texts(name: &CredentialName, secret: &Secret, inject: Option<&Inject>) -> Texts {
    let mut texts = Vec::new();
    let mut add = |text: Vec<u8>| texts.push(text);
    for part in parts(secret.expose(), inject) {
        pieces(part, PIECE).into_iter().for_each(|piece| forms(&part[piece], &mut add));
    }
    if let Some(Inject::Basic { user }) = inject
        && let Ok(token) = inject::basic(user.as_deref(), secret)
    {
        // As what is sent: an upstream that shows its head in base64 shows this in base64.
        let token = token.trim_end_matches('=');
        pieces(token, PIECE).into_iter().for_each(|piece| forms(&token[piece], &mut add));
    }
    Texts::new(&format!("[credential {name}]"), texts)
}

/// The parts of a value that are secret by themselves.
fn parts<'a>(text: &'a str, inject: Option<&Inject>) -> Vec<&'a str> {
    if let Some(Inject::Sigv4 { .. }) = inject
        && let Ok(keys) = Keys::parse(text)
        && let Some(at) = text.find(keys.secret.as_str())
    {
        // The id is public, and a session's token, which is long and one for each session, is of no use without this.
        return vec![&text[at..at + keys.secret.len()]];
    }
    let several =
        text.contains('\n') || text.starts_with('{') || matches!(inject, Some(Inject::Sigv4 { .. }));
    if several {
        // In a key file PEM's line ends are written `\n`.
        let lines = text.split(|c: char| c.is_control()).flat_map(|line| line.split("\\n"));
        let words = lines.flat_map(|line| {
            line.split(|c: char| {
                !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_' | '.'))
            })
        });
        let words: Vec<_> = words.filter(|word| word.len() >= WORD && !word.starts_with("---")).collect();
        if !words.is_empty() {
            return words;
        }
    }
    match inject {
        // The password alone, too.
        Some(Inject::Basic { user: None }) => {
            let password = text.split_once(':').map(|(_, password)| password);
            std::iter::once(text).chain(password).collect()
        }
        _ => vec![text],
    }
}

fn forms(text: &str, add: &mut impl FnMut(Vec<u8>)) {
    if text.len() < SHORTEST {
        return;
    }
    let add = &mut |form: Vec<u8>| {
        // What can name a field is written in lower case there (RFC 9113 §8.2), by some also in what they tell of it.
        if form.iter().any(u8::is_ascii_uppercase) && form.iter().all(|b| is_token(*b)) {
            add(form.to_ascii_lowercase());
        }
        add(form);
    };
    add(text.as_bytes().to_vec());
    let escaped = serde_json::to_string(text).expect("a text has a JSON form");
    let escaped = &escaped[1..escaped.len() - 1];
    // As serde, PHP, and Go write it; then HTML. What is the same is looked for once.
    add(escaped.as_bytes().to_vec());
    add(escaped.replace('/', "\\/").into_bytes());
    let go = escaped.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    add(go.into_bytes());
    for quote in ["&#39;", "&#x27;"] {
        let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        add(html.replace('"', "&quot;").replace('\'', quote).into_bytes());
    }
    // RFC 3986; encodeURIComponent; a path's; encodeURI; all of it.
    for keep in ["-._~", "-._~!'()*", "-._~/", "-._~!'()*;/?:@&=+$,#", ""] {
        for upper in [true, false] {
            add(percent(text, keep, upper));
        }
    }
    add(form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().into_bytes());
    for upper in [true, false] {
        add(hex(text, upper));
    }
    for at in 0..3 {
        add(aligned(&BASE64_STANDARD_NO_PAD, text, at));
        add(aligned(&BASE64_URL_SAFE_NO_PAD, text, at));
    }
}

/// A character of a field's name (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `keep`: what stays beside letters and digits; where it is empty, these do not stay either.
fn percent(text: &str, keep: &str, upper: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if !keep.is_empty() && (byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte)) {
            out.push(byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(&digits(byte, upper));
        }
    }
    out
}

fn hex(text: &str, upper: bool) -> Vec<u8> {
    text.bytes().flat_map(|byte| digits(byte, upper)).collect()
}

fn digits(byte: u8, upper: bool) -> [u8; 2] {
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

/// What of the base64 is the same whatever stands around the text, which begins `at` bytes behind a group of three.
fn aligned(engine: &impl base64::Engine, text: &str, at: usize) -> Vec<u8> {
    let mut padded = Zeroizing::new(vec![0; at]);
    padded.extend_from_slice(text.as_bytes());
    let coded = Zeroizing::new(engine.encode(&*padded).into_bytes());
    coded[(at * 8).div_ceil(6)..padded.len() * 8 / 6].to_vec()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    use super::*;
    use crate::codec::scrub::{Needles, Set};

    fn of(secret: &str, inject: Option<&Inject>) -> Needles {
        let secret = Secret::line(secret.to_owned()).expect("a line");
        let name = CredentialName::parse("openai").expect("name");
        let texts = Arc::new(texts(&name, &secret, inject));
        Needles::new(Set::new(vec![texts]).map(Arc::new)).expect("long enough")
    }

    #[test]
    fn every_form_is_found() {
        let secret = "sk-Canary/+&?=é~\"x\\7<y>0123456789";
        let needles = of(secret, None);
        let mut forms = vec![
            secret.to_owned(),
            serde_json::to_string(secret).expect("JSON"),
            form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            String::from_utf8(percent(secret, "-._~", false)).expect("ASCII"),
            String::from_utf8(hex(secret, true)).expect("hex"),
            String::from_utf8(hex(secret, false)).expect("hex"),
        ];
        for before in ["", "a", "ab", "user:"] {
            for after in ["", "z", "zz", "zzz"] {
                forms.push(BASE64_STANDARD.encode(format!("{before}{secret}{after}")));
                forms.push(BASE64_URL_SAFE.encode(format!("{before}{secret}{after}")));
            }
        }
        for form in forms {
            assert!(needles.is_in(form.as_bytes()), "{form}");
            let masked = needles.mask_text(format!("<{form}>"));
            assert!(masked.contains("[credential openai]") && masked.len() == form.len() + 2, "{masked}");
        }
    }

    #[test]
    fn what_injection_makes_of_it_is_found() {
        let user = Inject::Basic { user: Some("bob".into()) };
        let short = of("abc", Some(&user));
        assert!(short.is_in(BASE64_STANDARD.encode("bob:abc").as_bytes()) && !short.is_in(b"abcabcabc"));
        let head = format!("authorization: Basic {}", BASE64_STANDARD.encode("bob:abc"));
        assert!(short.is_in(BASE64_STANDARD.encode(head).as_bytes()), "coded twice");
        let pair = of("bob:hunter2hunter2", Some(&Inject::Basic { user: None }));
        assert!(pair.is_in(b"the password hunter2hunter2 is wrong"));
    }

    #[test]
    fn in_a_field_s_name_it_is_found() {
        let secret = "Sk-Canary_0123456789abcDEF";
        let needles = of(secret, None);
        for form in [secret.to_owned(), BASE64_STANDARD.encode(secret)] {
            let name = http::HeaderName::from_bytes(form.trim_end_matches('=').as_bytes()).expect("a name");
            assert!(needles.is_in(name.as_str().as_bytes()), "{name}");
        }
    }

    #[test]
    fn of_a_key_file_the_secret_words_are_found() {
        let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----");
        let found = parts(&pem, None);
        assert_eq!(found, [key]);
        let file = serde_json::json!({"type": "service_account", "private_key": pem}).to_string();
        assert_eq!(parts(&file, None), [key]);
    }

    #[test]
    fn of_aws_keys_the_secret_one_is_found() {
        let aws = Inject::Sigv4 { region: None, service: None };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let token = "IQoJb3JpZ2luX2Vj".repeat(60);
        for text in [
            format!("AKIDEXAMPLE:{secret}"),
            format!("ASIDEXAMPLE:{secret}:{token}"),
            format!(
                "{{\"AccessKeyId\": \"ASIDEXAMPLE\", \"SecretAccessKey\": \"{secret}\", \"Token\": \"{token}\"}}"
            ),
        ] {
            assert_eq!(parts(&text, Some(&aws)), [secret], "{text}");
        }
    }

    /// `cargo test -p sluice --lib -- --ignored --nocapture cost_of_scrubbing`
    #[test]
    #[ignore = "a measurement"]
    fn cost_of_scrubbing() {
        let text: Vec<u8> =
            (0..1 << 20).map(|n: u32| b' ' + (n.wrapping_mul(2_654_435_761) >> 25) as u8 % 95).collect();
        for values in [1, 10, 100, 1000] {
            let name = CredentialName::parse("c").expect("name");
            let secrets: Vec<_> = (0..values)
                .map(|n: u32| {
                    Secret::line(format!("sk-proj-{:08x}-{n:032}", n.wrapping_mul(2_654_435_761)))
                        .expect("line")
                })
                .collect();
            let begun = std::time::Instant::now();
            let all = secrets.iter().map(|secret| Arc::new(texts(&name, secret, None))).collect();
            let needles = Needles::new(Set::new(all).map(Arc::new)).expect("some");
            let built = begun.elapsed();
            let data = bytes::Bytes::from(text.clone());
            let begun = std::time::Instant::now();
            let mut stream = crate::codec::scrub::Stream::default();
            for _ in 0..16 {
                for at in (0..data.len()).step_by(16 << 10) {
                    drop(stream.push(&needles, data.slice(at..at + (16 << 10))));
                }
            }
            let rate = 16.0 / begun.elapsed().as_secs_f64();
            println!("{values} values: built in {built:?}, {rate:.0} MiB/s");
        }
    }
}
