//! `[[issuer]]`: whose tokens prove an identity, and where a caller's are looked for.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use http::Uri;

use super::section::{Problems, Section, Sited};
use crate::types;

/// Issuers that may be listed.
pub(super) const ISSUERS: usize = 16;
/// Variables that are looked for, of all issuers.
const VARIABLES: usize = 16;
/// Audiences of one issuer.
const AUDIENCES: usize = 16;
/// Largest `jwks_file`: with the rest of an issuer it fits into one message to the gate.
const JWKS_FILE: u64 = 48 * 1024;

/// One `[[issuer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What the gate is told.
    pub told: types::Issuer,
    /// Variables of the caller's environment that may hold a token, the likeliest first.
    pub token_env: Vec<String>,
    /// A file that may hold one: absolute in the caller's own file system, or from its working directory on.
    pub token_file: Option<PathBuf>,
}

/// Reads one; whatever is wrong is reported. Without an url there is none.
pub(super) fn resolve(
    mut section: Section<'_>,
    dir: &Path,
    problems: &mut Problems<'_>,
) -> Option<Sited<Issuer>> {
    let place = section.place().clone();
    let url = section.text("url", problems);
    let audiences = section.text_or_texts("audience", problems);
    let groups_claim = section.text("groups_claim", problems);
    let token_env = section.text_or_texts("token_env", problems);
    let token_file = section.text("token_file", problems);
    let accept_bearer = section.flag("accept_bearer", problems).is_some_and(|flag| flag.value);
    let jwks = section.text("jwks_file", problems).and_then(|file| jwks(&file, dir, problems));
    section.finish(problems);

    let audiences = match audiences {
        Some((at, texts)) => {
            if texts.is_empty() || texts.len() > AUDIENCES || texts.iter().any(|text| text.value.is_empty()) {
                let what = "issuer.audience names no audience, an empty one, or too many";
                problems.add(
                    &at,
                    what,
                    "write the `aud` that its tokens for Sluice have, such as \"sluice\"",
                );
            }
            texts.into_iter().map(|text| text.value).collect()
        }
        None => {
            let remedy = "add audience = \"…\": without one, a token made for any other service would count";
            problems.add(&place, "[[issuer]] has no audience", remedy);
            Vec::new()
        }
    };
    let groups_claim = groups_claim.map_or_else(|| "groups".to_owned(), |text| text.value);
    let token_env = token_env.map(|(_, texts)| variables(texts, problems)).unwrap_or_default();
    let token_file = token_file.and_then(|text| token_path(&text, problems));
    let Some(url) = url else {
        problems.add(&place, "[[issuer]] has no url", "add url = \"https://…\", the `iss` of its tokens");
        return None;
    };
    if let Some(why) = bad_url(&url.value) {
        let what = format!("issuer.url is {:?}: {why}", url.value);
        problems.add(
            &url.place,
            what,
            "write the `iss` of its tokens to the letter, such as \"https://gitlab.example.com\"",
        );
    }
    let told = types::Issuer { url: url.value, audiences, groups_claim, accept_bearer, jwks };
    Some(Sited { value: Issuer { told, token_env, token_file }, place: url.place })
}

/// What is wrong with an issuer's URL (OpenID Connect Discovery §3: https, no query, no fragment).
pub(super) fn bad_url(text: &str) -> Option<&'static str> {
    let Ok(url) = text.parse::<Uri>() else { return Some("it is no URL") };
    if url.scheme_str() != Some("https") || !text.starts_with("https://") {
        return Some("it must begin with https://: whoever can change the keys on their way can be anybody");
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if authority.is_empty() || authority.contains('@') {
        return Some("it names no host, or a user");
    }
    (url.query().is_some() || text.contains('#')).then_some("it has a query or a fragment")
}

/// Whether a text names a variable of an environment.
pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn variables(texts: Vec<Sited<String>>, problems: &mut Problems<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for text in texts {
        if !is_variable(&text.value) {
            let what = format!("issuer.token_env has {:?}", text.value);
            problems.add(&text.place, what, "write names of variables, such as \"SLUICE_ID_TOKEN\"");
        } else if found.len() == VARIABLES {
            let remedy = "every connection has them all looked for";
            problems.add(&text.place, format!("issuer.token_env has more than {VARIABLES} names"), remedy);
            break;
        } else {
            found.push(text.value);
        }
    }
    found
}

fn token_path(text: &Sited<String>, problems: &mut Problems<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(&text.value);
    let plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
    if text.value.contains('\0') || path.file_name().is_none() || !path.components().all(plain) {
        let what = format!("issuer.token_file is {:?}", text.value);
        let remedy = "write a path without . and .., absolute or from the caller's working directory on";
        problems.add(&text.place, what, remedy);
        return None;
    }
    Some(path)
}

fn jwks(file: &Sited<String>, dir: &Path, problems: &mut Problems<'_>) -> Option<String> {
    let path = dir.join(&file.value);
    let mut text = String::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(JWKS_FILE + 1).read_to_string(&mut text));
    let why = match read {
        Err(error) => format!("cannot be read: {error}"),
        Ok(length) if length as u64 > JWKS_FILE => format!("is longer than {JWKS_FILE} bytes"),
        Ok(_) if has_keys(&text) => return Some(text),
        Ok(_) => "is no JWK set".to_owned(),
    };
    let remedy = "name a file with the issuer's JWK set ({\"keys\": […]}), as its jwks_uri gives it";
    problems.add(&file.place, format!("{} {why}", path.display()), remedy);
    None
}

/// Whether it looks like a JWK set. How good its keys are is judged where they are used.
fn has_keys(text: &str) -> bool {
    let set = serde_json::from_str::<serde_json::Value>(text).ok();
    set.as_ref().and_then(|set| set.get("keys")?.as_array()).is_some_and(|keys| !keys.is_empty())
}
