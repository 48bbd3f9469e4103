//! Secrets without a shape: what a name such as `password` or `api_key` is set to, where it looks like no word.

use super::private::{decoded, is_placeholder};
use super::sums::entropy;
use super::{Begin, Detector, Shape, Step, Tail, Text, step};

pub const ALL: &[Detector] = &[Detector {
    name: "secret",
    grammar: "behind a name that holds password, passwd, passphrase, pwd, secret, token, credential, api key, access key, private \
              key, auth key or the like, and `:`, `=`, `:=` or `=>`: for passwords 6 to 512 bytes up to a space or quote, with \
              a digit or a sign; for the others 16 or more (of hexadecimal digits 20) bytes of base64, a digit among them, of 3 bits of \
              entropy a byte (12 of both letter cases). Behind `Bearer ` the same, behind `Basic ` base64 of a text with a colon",
    source: "RFC 6750, RFC 7617; else as gitleaks' generic-api-key and detect-secrets' KeywordDetector look for them",
    examples: &[
        "password = \"«hunter2!»\"",
        "\"api_key\": \"«q8Xw2Zr5Tb9Lm3Kd7Vn1»\"",
        "SECRET_TOKEN=«0a9f8e7d6c5b4a3928171605f4e3d2c1»",
        "Authorization: Basic «QWxhZGRpbjpvcGVuIHNlc2FtZQ==»",
    ],
    shapes: &[
        Shape::by(Begin::Literal(STEMS, behind_stem)),
        Shape::by(Begin::Literal(&["Bearer ", "bearer ", "Basic ", "basic "], behind_scheme)),
    ],
}];

/// What the names hold: few texts, so that few places are looked at.
const STEMS: &[&str] = &[
    "pwd",
    "Pwd",
    "PWD",
    "pass",
    "Pass",
    "PASS",
    "_pw",
    "_PW",
    "otdepasse",
    "ontrase",
    "ecret",
    "ECRET",
    "oken",
    "OKEN",
    "redent",
    "REDENT",
    "creds",
    "CREDS",
    "key",
    "Key",
    "KEY",
    "uthoriz",
    "UTHORIZ",
    "earer",
    "ookie",
    "ession",
    "ESSION",
    "ebhook",
    "EBHOOK",
    "ignature",
];

/// From a part of a name to the sign behind it.
fn behind_stem(text: Text<'_>, stem: usize) -> Option<(usize, Step)> {
    let found = (|| {
        let end = text.run(stem, 32, is_name)?;
        let sign = text.run(end, 4, |b| b" \"'])\\\t".contains(&b))?;
        Ok(matches!(text.at(sign)?, Some(b':' | b'=')).then_some(sign))
    })();
    match found {
        Ok(sign) => assigned(text, sign?),
        Err(more) => Some((stem, more)),
    }
}

/// What an `Authorization` header says.
fn behind_scheme(text: Text<'_>, scheme: usize) -> Option<(usize, Step)> {
    if text.before(scheme).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let from = scheme + text.slice(scheme, scheme + 7).iter().position(|b| *b == b' ')? + 1;
    let found = (|| {
        let end = text.run(from, LONGEST, is_value)?;
        let value = text.slice(from, end);
        let is = match text.bytes[scheme] {
            b'B' | b'b' if from - scheme == 7 => is_secret(value),
            _ => {
                value.len() >= 8 && {
                    let told = decoded(value);
                    told.contains(&b':') && told.iter().all(|b| *b >= b' ')
                }
            }
        };
        Ok(match (is, end - from == LONGEST) {
            (false, _) => Step::No,
            (true, false) => Step::Found(end),
            (true, true) => Step::Runs(end, Tail::Token),
        })
    })();
    Some((from, step(found)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Password,
    Secret,
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

const PASSWORDS: &str = "password passwd passphrase pwd passwort contrase motdepasse";
/// Names that hold a secret's word and mean something else.
const OTHERS: &str = "publickey tokens tokencount tokentype tokenizer tokenid secretname keyid secretarn expires credentialid \
                      credentialsid publictoken secretlength keyvault withcredentials";
const SECRETS: &str = "secret token credential apikey accesskey privatekey authkey clientkey encryptionkey signingkey masterkey \
                       servicekey accountkey sharedkey appkey subscriptionkey licensekey adminkey authorization bearer cookie \
                       session webhook signature sasl creds";

/// What the name before a sign promises.
fn named(text: Text<'_>, sign: usize) -> Option<Named> {
    let end = text.run_before(sign, 4, |b| b" \"'])\\\t:".contains(&b));
    let name = text.slice(text.run_before(end, 40, is_name), end);
    let name: Vec<u8> =
        name.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    let has =
        |words: &str| words.split(' ').any(|word| memchr::memmem::find(&name, word.as_bytes()).is_some());
    if has(PASSWORDS) || name.ends_with(b"pass") || name.ends_with(b"pw") {
        return Some(Named::Password);
    }
    (!has(OTHERS) && has(SECRETS)).then_some(Named::Secret)
}

fn is_value(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.~+/=|".contains(&byte)
}

/// Longest value that is judged as a whole.
const LONGEST: usize = 512;

fn assigned(text: Text<'_>, sign: usize) -> Option<(usize, Step)> {
    if text.bytes[sign] == b':' && text.bytes.get(sign + 1) == Some(&b':') {
        return None;
    }
    let begins = |b: u8| b" \"'>=:\\\t`".contains(&b);
    // Most of what is set is a number, a list or a short word: that is told before the name is read.
    let from = match text.run(sign + 1, 6, begins) {
        Ok(from) => from,
        Err(more) => return Some((sign + 1, more)),
    };
    let short = text.slice(from, from + 6).iter().position(|b| *b <= b' ' || b"\"',;`\\".contains(b));
    if short.is_some() {
        return None;
    }
    let what = named(text, sign)?;
    Some((from, step(value(text, sign, from, what))))
}

fn value(text: Text<'_>, sign: usize, from: usize, what: Named) -> Result<Step, Step> {
    let quote = text.slice(sign + 1, from).iter().copied().find(|b| b"\"'`".contains(b));
    let end = match (what, quote) {
        (Named::Password, Some(quote)) => {
            text.run(from, LONGEST, |b| b != quote && b > b' ' && b != b'\\')?
        }
        (Named::Password, None) => text.run(from, LONGEST, |b| b > b' ' && !b"\"',;<>`\\".contains(&b))?,
        (Named::Secret, _) => text.run(from, LONGEST, is_value)?,
    };
    let found = text.slice(from, end);
    let next = text.at(end)?;
    let is = match what {
        _ if is_placeholder(found) => false,
        Named::Password => is_password(found, quote.is_some()),
        // A name, a call or a path goes on.
        Named::Secret if next.is_some_and(|b| b"([{:@".contains(&b)) => false,
        Named::Secret => is_secret(found),
    };
    Ok(match (is, end - from == LONGEST) {
        (false, _) => Step::No,
        (true, false) => Step::Found(end),
        (true, true) => Step::Runs(end, Tail::Token),
    })
}

/// Six bytes or more that are no word of a language, no variable and no call.
fn is_password(value: &[u8], quoted: bool) -> bool {
    let has = |class: fn(&u8) -> bool| value.iter().any(class);
    let call = value
        .iter()
        .position(|b| b"([{".contains(b))
        .is_some_and(|at| value[..at].iter().all(|b| is_name(*b)));
    let code = !quoted
        && (call
            || memchr::memchr(b'.', value).is_some_and(|at| value[..at].iter().all(u8::is_ascii_alphabetic)));
    let sign = has(|b| b.is_ascii_punctuation() && !b"_-./:".contains(b));
    value.len() >= 6
        && !code
        && has(u8::is_ascii_alphanumeric)
        && (has(u8::is_ascii_digit) || (sign && quoted))
}

fn is_secret(value: &[u8]) -> bool {
    let value = value.trim_ascii_end();
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let hexadecimal = value.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
    let path = value.iter().filter(|b| **b == b'/').count() > 2 && value.len() < 40;
    let words = value
        .split(|b| !b.is_ascii_alphanumeric())
        .filter(|w| w.len() > 2 && w.iter().all(u8::is_ascii_lowercase))
        .count();
    let both = value.iter().any(u8::is_ascii_lowercase) && value.iter().any(u8::is_ascii_uppercase);
    let least = if hexadecimal {
        20
    } else if both {
        12
    } else {
        16
    };
    value.len() >= least && digits > 0 && letters > 1 && !path && words < 3 && entropy(value) >= 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_words_are_no_secrets() {
        for text in [
            "password = getpass.getpass()",
            "\"password\": \"required\"",
            "token_count: 1234567890123456",
            "secret = os.environ[\"X1\"]",
            "\"token\": \"the-name-of-a-token-1\"",
            "api_key: ${API_KEY_12345678901}",
            "\"max_tokens\": 100000000000000000000",
            "password: ********",
        ] {
            for (sign, _) in text.bytes().enumerate().filter(|(_, b)| *b == b':' || *b == b'=') {
                let got = assigned(Text { bytes: text.as_bytes(), last: true }, sign);
                assert!(matches!(got, None | Some((_, Step::No))), "{text}: {got:?}");
            }
        }
    }
}
