//! A pair of AWS keys in a secret's text:
//!
//! ```text
//! ACCESS_KEY_ID:SECRET_ACCESS_KEY             one line; with :SESSION_TOKEN behind it for temporary ones
//! {"AccessKeyId": "…", "SecretAccessKey": "…", "SessionToken": "…"}     as `aws sts` and credential processes print it
//! [default]                                   one profile of ~/.aws/credentials
//! aws_access_key_id = …
//! ```
//!
//! JSON may have them below `Credentials`, and the profile's names in place of these.

use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

use crate::codec::json;

/// See the module.
pub struct Keys {
    /// `AKIA…`. It is public, as names are.
    pub id: String,
    /// The key itself.
    pub secret: Zeroizing<String>,
    /// Of temporary keys.
    pub token: Option<Zeroizing<String>>,
}

/// Names of the three, as AWS has them in JSON, in profiles and from its metadata service.
const NAMES: [[&str; 3]; 3] = [
    ["AccessKeyId", "aws_access_key_id", "access_key_id"],
    ["SecretAccessKey", "aws_secret_access_key", "secret_access_key"],
    ["SessionToken", "aws_session_token", "Token"],
];

impl Keys {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong with the text, without any of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim_ascii();
        let found = if text.starts_with('{') {
            of_json(text)?
        } else if text.starts_with('[') || text.contains('\n') || text.contains('=') && !text.contains(':') {
            of_profile(text)?
        } else {
            let mut parts = text.splitn(3, ':').map(|part| Zeroizing::new(part.to_owned()));
            [parts.next(), parts.next(), parts.next()]
        };
        let [Some(id), Some(secret), token] = found else {
            return Err("it has no pair of AWS keys: write ACCESS_KEY_ID:SECRET_ACCESS_KEY");
        };
        // What stands between separators of the header, and in it.
        let good = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !good(&id) || id.len() > 128 || id.contains(['/', ',', '=']) {
            return Err("its access key id is malformed");
        }
        if !good(&secret) || secret.len() > 512 {
            return Err("its secret access key is malformed");
        }
        if token.as_ref().is_some_and(|token| !good(token)) {
            return Err("its session token is malformed");
        }
        Ok(Self { id: id.to_string(), secret, token })
    }
}

type Found = [Option<Zeroizing<String>>; 3];

fn of_json(text: &str) -> Result<Found, &'static str> {
    let mut whole = json::object(text.as_bytes()).map_err(|_| "it is no strict JSON")?;
    let taken = match whole.get_mut("Credentials") {
        Some(Value::Object(within)) => take(within),
        _ => take(&mut whole),
    };
    taken.ok_or("its JSON has no AccessKeyId and SecretAccessKey, or something else than text there")
}

fn take(members: &mut Map<String, Value>) -> Option<Found> {
    let mut found: Found = [None, None, None];
    for (place, names) in found.iter_mut().zip(NAMES) {
        for name in names {
            match members.get_mut(name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if place.is_none() => {
                    *place = Some(Zeroizing::new(std::mem::take(text)))
                }
                Some(Value::String(text)) => {
                    text.zeroize();
                    return None;
                }
                Some(_) => return None,
            }
        }
    }
    (found[0].is_some() && found[1].is_some()).then_some(found)
}

fn of_profile(text: &str) -> Result<Found, &'static str> {
    let mut found: Found = [None, None, None];
    let mut profiles = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if line.starts_with('[') && line.ends_with(']') {
            profiles += 1;
            continue;
        }
        let (name, value) = line.split_once('=').ok_or("it is no profile: a line has no =")?;
        let Some(place) = NAMES.iter().position(|names| names[1] == name.trim()) else { continue };
        if found[place].replace(Zeroizing::new(value.trim().to_owned())).is_some() {
            return Err("its profile has a key twice");
        }
    }
    if profiles > 1 {
        return Err("it has more than one profile");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_and_no_other() {
        for (text, token) in [
            ("AKIDEXAMPLE:wJalr/K7MDENG+bPx", None),
            ("AKIDEXAMPLE:wJalr/K7MDENG+bPx:IQoJ//tok==", Some("IQoJ//tok==")),
            (r#"{"AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"wJalr/K7MDENG+bPx","Version":1}"#, None),
            (
                r#"{"Credentials":{"AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"wJalr/K7MDENG+bPx","SessionToken":"t"}}"#,
                Some("t"),
            ),
            (r#"{"aws_access_key_id":"AKIDEXAMPLE","aws_secret_access_key":"wJalr/K7MDENG+bPx"}"#, None),
            (
                "[default]\naws_access_key_id = AKIDEXAMPLE\r\naws_secret_access_key=wJalr/K7MDENG+bPx\nregion = x",
                None,
            ),
            (
                "aws_access_key_id=AKIDEXAMPLE\n# c\naws_secret_access_key=wJalr/K7MDENG+bPx\naws_session_token=t",
                Some("t"),
            ),
        ] {
            let keys = Keys::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(
                (keys.id.as_str(), keys.secret.as_str()),
                ("AKIDEXAMPLE", "wJalr/K7MDENG+bPx"),
                "{text}"
            );
            assert_eq!(keys.token.as_deref().map(String::as_str), token, "{text}");
        }
        for bad in [
            "AKIDEXAMPLE",
            "AKIDEXAMPLE:",
            ":secret",
            "AKID/x:secret",
            "AKIDEXAMPLE:se cret",
            "AKIDEXAMPLE:secret:",
            "{}",
            r#"{"AccessKeyId":"a","AccessKeyId":"b","SecretAccessKey":"c"}"#,
            r#"{"AccessKeyId":"a","aws_access_key_id":"b","SecretAccessKey":"c"}"#,
            r#"{"AccessKeyId":"a","SecretAccessKey":7}"#,
            "[a]\naws_access_key_id=a\n[b]\naws_secret_access_key=b",
            "aws_access_key_id=a\naws_access_key_id=b\naws_secret_access_key=b",
            "[default]\naws_access_key_id",
        ] {
            Keys::parse(bad).err().unwrap_or_else(|| panic!("taken: {bad}"));
        }
    }
}
