//! AWS Signature Version 4: a request that a client signed with keys of its own (placeholders) is signed anew with the real
//! ones. What the client's signature said is read first ([`Claim`]), then [`super::strip`] takes it out, then [`sign`] puts
//! the new one into the head; a body that is signed in pieces goes through [`Chunks`].
//!
//! The client is believed in what the provider looks at anyway: the region and service (a wrong one is refused there, and
//! the configuration may name them), which headers are signed (more than these: every `x-amz-*`, and the host), and the
//! hash of the body, which the provider compares with what it gets.
//!
//! Not here: SigV4A (`AWS4-ECDSA-P256-SHA256`), event streams, policies of form uploads. They are refused.

mod chunks;
mod keys;
mod scope;

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode,
};
use aws_sigv4::sign::v4;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use time::OffsetDateTime;
use time::macros::format_description;

use super::bind::Bound;
use super::inject;
use super::keep::Value;
use crate::types::credential::Inject;

pub use chunks::{Broken, Chunks};
pub use keys::Keys;

const SHA: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const STREAMING_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
/// What is passed on as it is: it has no signature.
const UNSIGNED: [&str; 2] = ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"];

/// A body is read up to this length where its hash must be known and the client did not say it. DynamoDB takes 16 MiB.
pub const BODY_MAX: u64 = 16 << 20;

/// Fields that may change on their way, or do not go on.
const UNSIGNABLE: [&str; 14] = [
    "authorization",
    "connection",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
];

/// Why a request is not signed. Nothing of a key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsignable {
    /// Signed in a way that is not known here.
    #[error("{0} cannot be signed anew")]
    Way(&'static str),
    /// Neither configured, nor said by the client or the host's name.
    #[error("nothing says its AWS {0}: write it in inject.sigv4")]
    Unsaid(&'static str),
    /// What the client says is malformed.
    #[error("the client's {0} is malformed")]
    Malformed(&'static str),
    /// The secret is no pair of keys.
    #[error("{0}")]
    Keys(&'static str),
    /// The credential is injected in another way.
    #[error("it is not injected by a signature")]
    Another,
    /// The body must be known.
    #[error("its body must be read whole, and is longer than {BODY_MAX} bytes or was not there in time")]
    Body,
}

/// What the client's own signature says of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    region: Option<String>,
    service: Option<String>,
    signed: Vec<String>,
    payload: Payload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Payload {
    /// The client's word: a hash, or that there is none.
    Said(String),
    Chunks {
        trailer: bool,
    },
    /// S3 need not be told; others hash what they get.
    Unsaid,
}

impl Claim {
    /// Reads it out of a head that has not been stripped.
    ///
    /// # Errors
    /// [`Unsignable::Way`], [`Unsignable::Malformed`].
    pub fn of<B>(request: &Request<B>) -> Result<Self, Unsignable> {
        let (mut credential, mut signed, mut presigned) = (None, None, false);
        if let Some(value) = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
            if value.starts_with("AWS4-ECDSA") {
                return Err(Unsignable::Way("SigV4A"));
            }
            if let Some(fields) = value.strip_prefix("AWS4-HMAC-SHA256") {
                let field = |name: &str| {
                    fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
                };
                credential = field("Credential").map(str::to_owned);
                signed = field("SignedHeaders").map(str::to_owned);
            }
        }
        for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "X-Amz-Algorithm" if value != "AWS4-HMAC-SHA256" => return Err(Unsignable::Way("SigV4A")),
                "X-Amz-Algorithm" => presigned = true,
                "X-Amz-Credential" => credential = Some(value.into_owned()),
                "X-Amz-SignedHeaders" => signed = Some(value.into_owned()),
                _ => {}
            }
        }
        let (mut region, mut service) = (None, None);
        if let Some(credential) = credential {
            // ID/DATE/REGION/SERVICE/aws4_request; an id may have slashes of its own.
            let mut back = credential.rsplit('/').skip(1);
            let part = |text: Option<&str>| text.filter(|text| scope::is_part(text)).map(str::to_owned);
            service = Some(part(back.next()).ok_or(Unsignable::Malformed("credential scope"))?);
            region = Some(part(back.next()).ok_or(Unsignable::Malformed("credential scope"))?);
        }
        let signed = signed.map(|list| list.split(';').map(str::to_ascii_lowercase).collect());
        let payload = payload(request, presigned)?;
        Ok(Self { region, service, signed: signed.unwrap_or_default(), payload })
    }

    /// Whether [`sign`] must be given the body: `host` is where it goes.
    pub fn wants_body(&self, inject: &Inject, host: &str) -> bool {
        let Inject::Sigv4 { service, .. } = inject else { return false };
        let service =
            service.clone().or_else(|| self.service.clone()).or_else(|| scope::of(host).map(|(s, _)| s));
        self.payload == Payload::Unsaid && !service.is_some_and(|service| scope::is_s3(&service))
    }
}

fn payload<B>(request: &Request<B>, presigned: bool) -> Result<Payload, Unsignable> {
    let mut said = request.headers().get_all(SHA).iter();
    match (said.next().map(HeaderValue::to_str), said.next()) {
        (None, _) => Ok(Payload::Unsaid),
        // A URL that was signed before there was a body.
        (Some(_), None) if presigned => Ok(Payload::Unsaid),
        (Some(Ok(STREAMING)), None) => Ok(Payload::Chunks { trailer: false }),
        (Some(Ok(STREAMING_TRAILER)), None) => Ok(Payload::Chunks { trailer: true }),
        (Some(Ok(said)), None) if UNSIGNED.contains(&said) => Ok(Payload::Said(said.to_owned())),
        (Some(Ok(said)), None) if said.len() == 64 && said.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(Payload::Said(said.to_owned()))
        }
        (Some(Ok(said)), None) if said.starts_with("STREAMING-") => {
            Err(Unsignable::Way("this kind of streaming"))
        }
        _ => Err(Unsignable::Malformed("x-amz-content-sha256")),
    }
}

/// The hash of a body, as a signature has it.
pub fn hash(body: &[u8]) -> String {
    chunks::hex(digest(&SHA256, body).as_ref())
}

/// Signs a stripped head; costs the right to. `host` is the name of the other side, `body` the [`hash`] of the whole body
/// where [`Claim::wants_body`] says so. What is given back, if anything, the body must go through.
///
/// # Errors
/// [`Unsignable`]; the head may have been changed, and must not be sent.
pub fn sign<B>(
    bound: &Bound,
    value: &Value,
    claim: &Claim,
    host: &str,
    body: Option<&str>,
    request: &mut Request<B>,
) -> Result<Option<Chunks>, Unsignable> {
    let Some(Inject::Sigv4 { region, service }) = &bound.credential().inject else {
        return Err(Unsignable::Another);
    };
    let guess = scope::of(host);
    let service =
        service.clone().or_else(|| claim.service.clone()).or(guess.as_ref().map(|(s, _)| s.clone()));
    let region = region.clone().or_else(|| claim.region.clone()).or(guess.map(|(_, r)| r));
    let scope = Scope {
        service: service.ok_or(Unsignable::Unsaid("service"))?,
        region: region.ok_or(Unsignable::Unsaid("region"))?,
        time: SystemTime::now(),
    };
    let keys = Keys::parse(value.secret().expose()).map_err(Unsignable::Keys)?;
    sign_with(&keys, &scope, claim, body, request)
}

/// For what, and when, a signature is.
pub(in crate::credential) struct Scope {
    pub service: String,
    pub region: String,
    pub time: SystemTime,
}

impl Claim {
    /// Of a request of our own, whose body is known: its fields are signed.
    pub(in crate::credential) fn own<B>(request: &Request<B>) -> Self {
        let signed = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
        Self { region: None, service: None, signed, payload: Payload::Unsaid }
    }

    fn signs(&self, name: &str) -> bool {
        let always = name.starts_with("x-amz-") || name == HOST.as_str() || name == CONTENT_TYPE.as_str();
        (always || self.signed.iter().any(|signed| signed == name)) && !UNSIGNABLE.contains(&name)
    }
}

/// [`sign`] with everything said.
pub(in crate::credential) fn sign_with<B>(
    keys: &Keys,
    scope: &Scope,
    claim: &Claim,
    body: Option<&str>,
    request: &mut Request<B>,
) -> Result<Option<Chunks>, Unsignable> {
    let s3 = scope::is_s3(&scope.service);
    let payload = match (&claim.payload, body) {
        (Payload::Said(said), _) => said.clone(),
        (Payload::Chunks { trailer: true }, _) => STREAMING_TRAILER.to_owned(),
        (Payload::Chunks { trailer: false }, _) => STREAMING.to_owned(),
        (Payload::Unsaid, Some(hash)) => hash.to_owned(),
        (Payload::Unsaid, None) if s3 => UNSIGNED[0].to_owned(),
        (Payload::Unsaid, None) => return Err(Unsignable::Body),
    };
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Double;
    if s3 || request.headers().contains_key(SHA) {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    if s3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    for own in [AUTHORIZATION, DATE, TOKEN, SHA] {
        request.headers_mut().remove(own);
    }
    let signable = signable(claim, s3, SignableBody::Precomputed(payload), request)?;
    let token = keys.token.as_ref().map(|token| token.to_string());
    let credentials = Credentials::new(&*keys.id, keys.secret.as_str(), token, None, "sluice").into();
    let params = v4::SigningParams::builder()
        .identity(&credentials)
        .region(&scope.region)
        .name(&scope.service)
        .time(scope.time)
        .settings(settings)
        .build()
        .map_err(|_| Unsignable::Malformed("request"))?
        .into();
    let signed = aws_sigv4::http_request::sign(signable, &params);
    let (put, seed) = signed.map_err(|_| Unsignable::Malformed("request"))?.into_parts();
    let fields: Vec<(HeaderName, HeaderValue)> = put
        .headers()
        .map(|(name, value)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, inject::value(&[value]).ok()?))
        })
        .collect::<Option<_>>()
        .ok_or(Unsignable::Malformed("request"))?;
    request.headers_mut().extend(fields);
    let Payload::Chunks { trailer } = claim.payload else { return Ok(None) };
    let key = v4::generate_signing_key(&keys.secret, scope.time, &scope.region, &scope.service);
    let time = OffsetDateTime::from(scope.time);
    let (day, moment) =
        (format_description!("[year][month][day]"), format_description!("T[hour][minute][second]Z"));
    let text = |format| time.format(format).map_err(|_| Unsignable::Malformed("request"));
    let (day, moment) = (text(day)?, text(moment)?);
    let between = format!("{day}{moment}\n{day}/{}/{}/aws4_request", scope.region, scope.service);
    Ok(Some(Chunks::new(key.as_ref(), between, seed, trailer)))
}

/// The request as it is signed.
fn signable<'a, B>(
    claim: &Claim,
    s3: bool,
    body: SignableBody<'a>,
    request: &'a Request<B>,
) -> Result<SignableRequest<'a>, Unsignable> {
    let authority = match (request.headers().get(HOST), request.uri().authority()) {
        (Some(host), _) => host.to_str().map_err(|_| Unsignable::Malformed("host"))?,
        (None, Some(authority)) => authority.as_str(),
        (None, None) => return Err(Unsignable::Malformed("host")),
    };
    let path = if s3 { scope::encoded_once(request.uri().path()) } else { request.uri().path().to_owned() };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut fields = vec![(HOST.as_str(), authority)];
    for (name, value) in
        request.headers().iter().filter(|(name, _)| **name != HOST && claim.signs(name.as_str()))
    {
        fields
            .push((name.as_str(), value.to_str().map_err(|_| Unsignable::Malformed("signed header field"))?));
    }
    let uri = format!("https://{authority}{path}{query}");
    let made = SignableRequest::new(request.method().as_str(), uri, fields.into_iter(), body);
    made.map_err(|_| Unsignable::Malformed("request"))
}

#[cfg(test)]
mod tests;
