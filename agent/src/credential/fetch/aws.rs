//! AWS: Secrets Manager, Systems Manager's parameters, and roles that are assumed. Requests are signed with keys that are a
//! credential of their own.

use std::time::SystemTime;

use http::Uri;
use http::header::{ACCEPT, HOST, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::provider::{Answer, moment, secret};
use super::{Ask, Errand, Failed, Fetched, Fetching};
use crate::credential::sigv4::{self, Claim, Keys};
use crate::types::credential::{AwsEndpoint, AwsSecret, AwsSsm, Secret, Shape, Sts};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const JSON: &str = "application/x-amz-json-1.1";

/// Secrets Manager.
pub(super) async fn secret_manager(source: &AwsSecret, cx: &Fetching) -> Result<Fetched, Failed> {
    let body = json!({ "SecretId": source.id });
    let mut answer = call(&source.aws, "secretsmanager", "secretsmanager.GetSecretValue", body, cx).await?;
    if answer.has("SecretBinary") && !answer.has("SecretString") {
        return Err(Failed("it is binary in Secrets Manager: only text can be used".to_owned()));
    }
    let text = answer.text("SecretString")?;
    let text = match &source.field {
        None => text,
        Some(field) => Answer::read("the secret".to_owned(), text.as_bytes())?.text(field)?,
    };
    Ok(Fetched::lasting(secret(&text, cx.credential.shape())?))
}

/// Systems Manager's Parameter Store; a SecureString is decrypted there.
pub(super) async fn parameter(source: &AwsSsm, cx: &Fetching) -> Result<Fetched, Failed> {
    let body = json!({ "Name": source.parameter, "WithDecryption": true });
    let mut answer = call(&source.aws, "ssm", "AmazonSSM.GetParameter", body, cx).await?;
    let mut parameter = answer.object("Parameter")?;
    if parameter.maybe_text("Type")?.is_some_and(|kind| *kind == "StringList") {
        return Err(Failed("it is a list of texts in the Parameter Store".to_owned()));
    }
    Ok(Fetched::lasting(secret(&parameter.text("Value")?, cx.credential.shape())?))
}

async fn call(
    aws: &AwsEndpoint,
    service: &str,
    target: &'static str,
    body: Json,
    cx: &Fetching,
) -> Result<Answer, Failed> {
    let mut errand = Errand::json(endpoint(aws, service), body);
    errand.headers.insert(TARGET, HeaderValue::from_static(target));
    errand.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    signed(errand, aws, service, cx).await?.send(&cx.run).await
}

fn endpoint(aws: &AwsEndpoint, service: &str) -> String {
    let domain = if aws.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let own = || format!("https://{service}.{}.{domain}", aws.region);
    let base = aws.endpoint.clone().unwrap_or_else(own);
    format!("{}/", base.trim_end_matches('/'))
}

async fn signed(
    mut errand: Errand,
    aws: &AwsEndpoint,
    service: &str,
    cx: &Fetching,
) -> Result<Errand, Failed> {
    let keys = cx.needed(&aws.keys).await?;
    let keys = Keys::parse(keys.secret().expose());
    let keys = keys.map_err(|why| Failed(format!("credential {}: {why}", aws.keys)))?;
    let uri: Uri = errand.url.parse().map_err(|_| Failed("its endpoint is no URL".to_owned()))?;
    let mut request = http::Request::new(());
    let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    errand.headers.insert(HOST, host.ok_or_else(|| Failed("its endpoint is no URL".to_owned()))?);
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) =
        (errand.method.clone(), uri, errand.headers);
    let scope =
        sigv4::Scope { service: service.to_owned(), region: aws.region.clone(), time: SystemTime::now() };
    let claim = Claim::own(&request);
    let done = sigv4::sign_with(&keys, &scope, &claim, Some(&sigv4::hash(&errand.body)), &mut request);
    done.map_err(|why| Failed(why.to_string()))?;
    errand.headers = std::mem::take(request.headers_mut());
    Ok(errand)
}

/// A role that is assumed in the session's name.
pub(super) async fn assume_role(source: &Sts, cx: &Fetching) -> Result<Fetched, Failed> {
    let (name, seconds) = (session_name(&cx.ask), source.duration.as_secs().to_string());
    let form = [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", &source.role_arn),
        ("RoleSessionName", &name),
        ("DurationSeconds", &seconds),
        ("ExternalId", source.external_id.as_deref().unwrap_or_default()),
    ];
    let mut errand = Errand::form(endpoint(&source.aws, "sts"), &form);
    errand.headers.insert(ACCEPT, HeaderValue::from_static("text/xml"));
    let (host, reply) = signed(errand, &source.aws, "sts", cx).await?.reply(&cx.run).await?;
    let (keys, expires) =
        assumed(&reply.body).map_err(|what| Failed(format!("{host}'s answer is malformed: {what}")))?;
    Ok(Fetched::ending(keys, Some(expires)))
}

/// Who assumes it, in what IAM lets a session's name have: 2 to 64 of `\w+=,.@-`. CloudTrail shows it: the verified subject,
/// or the tag, and the end of the session's id.
fn session_name(ask: &Ask) -> String {
    let who = ask.identity.as_ref().map_or(ask.tag.as_str(), |identity| &identity.subject);
    let good = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let who: String = who.chars().map(|c| if good(c) { c } else { '-' }).take(48).collect();
    let session = ask.session.0.to_string();
    format!("{who}-{}", &session[session.len().saturating_sub(15)..])
}

/// The keys in an `AssumeRoleResponse`: each of the four elements is there once, with text alone in it.
fn assumed(body: &[u8]) -> Result<(Secret, SystemTime), &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8")?;
    let credentials = element(text, "Credentials")?;
    let id = element(credentials, "AccessKeyId")?;
    let secret = element(credentials, "SecretAccessKey")?;
    let token = element(credentials, "SessionToken")?;
    let expires =
        moment(element(credentials, "Expiration")?).ok_or("its keys have ended, or it says no end")?;
    let base64 = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    if !id.bytes().all(|b| b.is_ascii_alphanumeric()) || !base64(secret) || !base64(token) {
        return Err("its keys have characters that no key has");
    }
    let keys = Zeroizing::new(format!("{id}:{secret}:{token}"));
    Keys::parse(&keys)?;
    let keys = Secret::clean(keys.as_bytes().to_vec(), Shape::Line).map_err(|_| "its keys are malformed")?;
    Ok((keys, expires))
}

fn element<'t>(text: &'t str, name: &str) -> Result<&'t str, &'static str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut parts = text.split(open.as_str());
    let (_, Some(behind), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it has not exactly one of an element");
    };
    let (within, after) = behind.split_once(close.as_str()).ok_or("an element has no end")?;
    if after.contains(close.as_str()) || text.contains("<!") {
        return Err("it is no plain XML");
    }
    Ok(within.trim())
}
