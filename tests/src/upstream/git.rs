//! git over smart HTTP: a CGI bridge (RFC 3875) to Debian's `git http-backend`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::routes::{Answer, full, text};

pub(super) async fn answer(request: Request<Incoming>, repositories: &Path) -> Answer {
    match bridge(request, repositories).await {
        Ok(answer) => answer,
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
    }
}

async fn bridge(request: Request<Incoming>, repositories: &Path) -> Result<Answer> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let header =
        |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut child = Command::new("/usr/bin/git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("GIT_PROJECT_ROOT", repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path().trim_start_matches("/git"))
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REMOTE_ADDR", "203.0.113.254")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("running git http-backend")?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    // Written from a task of its own: git may answer before it has read all.
    tokio::spawn(async move {
        let _ = stdin.write_all(&body).await;
    });
    parse(Bytes::from(child.wait_with_output().await?.stdout))
}

/// A CGI answer: header lines (`Status:` among them), an empty line, the body.
fn parse(output: Bytes) -> Result<Answer> {
    let end =
        output.windows(4).position(|w| w == b"\r\n\r\n").context("no CGI header from git http-backend")?;
    let mut answer = Response::new(full(output.slice(end + 4..)));
    for line in std::str::from_utf8(&output[..end])?.lines() {
        let (name, value) = line.split_once(':').context("a CGI header line without a colon")?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().unwrap_or_default();
            *answer.status_mut() = StatusCode::from_bytes(code.as_bytes())?;
        } else {
            answer
                .headers_mut()
                .append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
    }
    answer.headers_mut().remove(header::CONNECTION);
    Ok(answer)
}
