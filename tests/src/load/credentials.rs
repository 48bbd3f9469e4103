//! What an injected credential costs, or masks: the same requests under a rule that names one and under a rule that does not,
//! right after each other. The client sends a placeholder both times.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::harness::World;
use crate::process::{eventually, run};
use crate::upstream::nginx::PORT;

/// nginx answers here with the `Authorization` that it was sent.
pub const SEEN: &str = "/seen";
/// nginx takes whatever is put here, and answers when it has all of it.
pub const PUT: &str = "/put";
/// A body's length.
const BODY: usize = 1 << 20;
/// Length of a piece that is signed by itself, as AWS's SDKs cut them.
const PIECE: usize = 64 << 10;
const PLACEHOLDER: &str = "Authorization: Bearer sk-sluice-placeholder";

/// nginx reads a body that is posted here, and answers with JSON.
pub const JSON: &str = "/json";
/// All detectors, and one field by which a mask that is in force is told.
const MASKS: &str = r#"
[[mask]]
name = "all"
detect = ["default"]
[[mask]]
name = "marker"
headers = ["authorization"]
with = "redact"
"#;

/// 1 KiB of JSON as an API has it.
pub fn json() -> String {
    let item = r#"{"id":"item_%","kind":"message","count":17,"done":false,"text":"the quick brown fox is happy today"},"#;
    let items: String = (0..10).map(|n| item.replace('%', &n.to_string())).collect();
    format!("{{\"model\":\"small\",\"items\":[{}]}}", items.trim_end_matches(','))
}

/// One way of injection that is measured: the same with and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// A bearer, answers of 1 KiB.
    Bearer,
    /// Signature Version 4, bodies of 1 MiB whose hash the client says.
    Hashed,
    /// The same, bodies in pieces that are signed each.
    Pieces,
    /// Every detector over 1 KiB of JSON each way, nothing to be found.
    Masked,
}

impl Case {
    /// Those with a credential, in the order in which they are measured.
    pub const CREDENTIALS: [Self; 3] = [Self::Bearer, Self::Hashed, Self::Pieces];

    /// Key of the figure: requests/s with the credential, to those without ("direct").
    pub fn key(self) -> &'static str {
        match self {
            Self::Bearer => "bearer_rps_32",
            Self::Hashed => "sigv4_1mib_rps_8",
            Self::Pieces => "sigv4_pieces_1mib_rps_8",
            Self::Masked => "mask_json_rps_32",
        }
    }

    /// The path that is asked for.
    pub fn path(self) -> &'static str {
        match self {
            Self::Bearer => "/1k",
            Self::Masked => JSON,
            Self::Hashed | Self::Pieces => PUT,
        }
    }

    /// Arguments of wrk beside its time and URL. `dir` is for its script.
    ///
    /// # Errors
    /// The script cannot be written.
    pub fn wrk(self, dir: &Path) -> Result<Vec<String>> {
        if self == Self::Bearer {
            return Ok(["-t1", "-c32", "-H", PLACEHOLDER].map(str::to_owned).to_vec());
        }
        let script = dir.join(format!("{}.lua", self.key()));
        if self == Self::Masked {
            let lua = format!(
                "wrk.method = 'POST'\nwrk.body = '{}'\nwrk.headers['content-type'] = 'application/json'\n",
                json()
            );
            fs::write(&script, lua)?;
            return Ok(["-t1", "-c32", "-s", &script.display().to_string()].map(str::to_owned).to_vec());
        }
        fs::write(&script, self.script())?;
        Ok(["-t1", "-c8", "-s", &script.display().to_string()].map(str::to_owned).to_vec())
    }

    /// A client of S3 whose keys are placeholders: nobody looks at what it signs with them.
    fn script(self) -> String {
        let (payload, body) = match self {
            Self::Pieces => (
                "'STREAMING-AWS4-HMAC-SHA256-PAYLOAD'".to_owned(),
                format!(
                    "local piece = '{PIECE:x};chunk-signature=' .. string.rep('0', 64) .. '\\r\\n' .. string.rep('x', {PIECE}) .. '\\r\\n'\n\
                     wrk.body = string.rep(piece, {}) .. '0;chunk-signature=' .. string.rep('0', 64) .. '\\r\\n\\r\\n'\n\
                     wrk.headers['content-encoding'] = 'aws-chunked'\n\
                     wrk.headers['x-amz-decoded-content-length'] = '{BODY}'\n",
                    BODY / PIECE
                ),
            ),
            _ => ("string.rep('0', 64)".to_owned(), format!("wrk.body = string.rep('x', {BODY})\n")),
        };
        format!(
            "wrk.method = 'PUT'\n{body}\
             local now = os.date('!%Y%m%dT%H%M%SZ')\n\
             wrk.headers['x-amz-date'] = now\n\
             wrk.headers['x-amz-content-sha256'] = {payload}\n\
             wrk.headers['authorization'] = 'AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER/' .. now:sub(1, 8)\n\
             .. '/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=' .. string.rep('0', 64)\n"
        )
    }

    /// Has the agent read a rule for `host` that names a credential, or one that does not, and waits until it is in force:
    /// until the upstream is sent what it should be.
    ///
    /// # Errors
    /// It is not in force in time.
    pub fn put(self, world: &World, host: &str, with: bool) -> Result<()> {
        let dir = world.space().dir();
        let config = dir.join("etc/policy.d/measured.toml");
        fs::create_dir_all(config.parent().context("a folder")?)?;
        let mut text = format!("[[rule]]\nname = \"all\"\nhost = \"{host}\"\nverdict = \"allow\"\n");
        if with && self == Self::Masked {
            write!(text, "mode = \"enforce\"\nmask = [\"all\", \"marker\"]\n{MASKS}")?;
        } else if with {
            let (secret, inject) = match self {
                Self::Bearer => ("sk-measured-0123456789abcdef0123456789abcdef", "bearer = true"),
                _ => ("AKIDMEASURED0123:0123456789abcdef0123456789abcdef01234567", "sigv4 = {}"),
            };
            let file = dir.join(format!("measured-{}", self.key()));
            fs::write(&file, secret)?;
            fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            // Under a name of its own each: an old value is told from the new.
            write!(
                text,
                "credential = \"{key}\"\n[[credential]]\nname = \"{key}\"\nhosts = [\"{host}\"]\nports = [{PORT}]\n\
                 source.file = \"{file}\"\ninject.{inject}\n",
                key = self.key(),
                file = file.display(),
            )?;
        }
        fs::write(&config, text)?;
        world.daemon().signal(world.daemon().warden_pid()?, Signal::SIGHUP)?;
        let mut last = String::new();
        let in_force = eventually(Duration::from_secs(20), || {
            last = self.seen(world, host)?;
            // What the upstream says back is masked: by the credential's name, or by none.
            let wanted = match (with, self) {
                (false, Self::Bearer | Self::Masked) => last == "Bearer sk-sluice-placeholder",
                (false, _) => last.contains("Credential=AKIAPLACEHOLDER/"),
                (true, Self::Masked) => last.starts_with('['),
                (true, Self::Bearer) => last.contains(&format!("[credential {}]", self.key())),
                (true, _) => last.contains("Credential=AKIDMEASURED0123/"),
            };
            Ok(wanted.then_some(()))
        })?;
        in_force.with_context(|| format!("{} is not in force: nginx was sent {last:?}", self.key()))
    }

    /// What nginx was sent, as the client sees it.
    fn seen(self, world: &World, host: &str) -> Result<String> {
        let mut curl = world.job("bench", "curl")?;
        curl.args(["-sS", "-H"]);
        if matches!(self, Self::Bearer | Self::Masked) {
            curl.arg(PLACEHOLDER);
        } else {
            curl.arg("Authorization: AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0");
            curl.args(["-H", "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD"]);
        }
        let ended = run(curl.arg(format!("https://{host}:{PORT}{SEEN}")), Duration::from_secs(5))?;
        Ok(ended.stdout)
    }

    /// Takes the rule away again.
    ///
    /// # Errors
    /// The agent does not run.
    pub fn clear(world: &World, host: &str) -> Result<()> {
        Self::Bearer.put(world, host, false)?;
        fs::remove_file(world.space().dir().join("etc/policy.d/measured.toml"))?;
        world.daemon().signal(world.daemon().warden_pid()?, Signal::SIGHUP)
    }
}

/// Requests/s out of what wrk printed.
///
/// # Errors
/// It met errors, or printed no such line.
pub fn per_second(text: &str) -> Result<f64> {
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk met errors:\n{text}");
    Ok(super::after(text, "Requests/sec:")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_for_each_that_has_a_body() {
        let dir = tempfile::tempdir().expect("directory");
        for case in Case::CREDENTIALS {
            let args = case.wrk(dir.path()).expect("arguments");
            let script = args.iter().position(|arg| arg == "-s").map(|at| fs::read_to_string(&args[at + 1]));
            assert_eq!(script.is_some(), case.path() == PUT, "{case:?}");
            if let Some(script) = script {
                let script = script.expect("written");
                let pieces = script.contains("string.rep(piece, 16)");
                assert!(
                    pieces == (case == Case::Pieces) && script.contains("wrk.method = 'PUT'"),
                    "{script}"
                );
            }
        }
    }
}
