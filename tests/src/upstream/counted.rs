//! Real servers that say which requests reached their application: nginx, Node, Go and gunicorn, each on a Unix socket,
//! each with a file of its own in which every request that was handled is one line, method and target. No TLS: what is
//! asked of them is how they read HTTP/1.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::binary::workspace;
use crate::client;
use crate::process::eventually;

/// One kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Debian's nginx.
    Nginx,
    /// Node's `http`.
    Node,
    /// Go's `net/http`.
    Go,
    /// gunicorn with threads and kept-alive connections.
    Python,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Node, Self::Go, Self::Python];
}

/// A running server; dropped, it is ended.
pub struct Counted {
    child: Child,
    dir: PathBuf,
}

impl Counted {
    /// Starts one, with its files in `dir`, and waits until it takes connections.
    ///
    /// # Errors
    /// It is missing or does not come up.
    pub fn start(kind: Kind, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let (socket, log) = (dir.join("socket"), dir.join("log"));
        File::create(&log)?;
        let programs = workspace().join("tests/desync/servers");
        let mut command = match kind {
            Kind::Nginx => {
                fs::write(dir.join("nginx.conf"), configuration(&dir.display().to_string()))?;
                let mut command = Command::new("nginx");
                command.arg("-p").arg(dir).args(["-c", "nginx.conf"]);
                command
            }
            Kind::Node => {
                let mut command = Command::new("/usr/bin/node");
                command.arg(programs.join("app.mjs")).arg(&socket).arg(&log);
                command
            }
            Kind::Go => {
                let mut command = Command::new(client::go_server()?);
                command.arg(&socket).arg(&log);
                command
            }
            Kind::Python => {
                let mut command = Command::new(client::python_server()?);
                command.args(["-m", "gunicorn", "--worker-class", "gthread", "--threads", "2"]);
                command.args(["--keep-alive", "5", "--graceful-timeout", "1", "--no-control-socket"]);
                command.arg("--bind").arg(format!("unix:{}", socket.display()));
                command.arg("--chdir").arg(&programs).arg("app:app").env("APP_LOG", &log);
                command
            }
        };
        let said = File::create(dir.join("stderr"))?;
        command.process_group(0).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn().with_context(|| format!("{kind:?}"))?;
        let mut server = Self { child, dir: dir.to_owned() };
        let up = eventually(Duration::from_secs(20), || {
            if let Some(status) = server.child.try_wait()? {
                bail!("{kind:?} ended: {status}: {}", server.said());
            }
            Ok(UnixStream::connect(server.socket()).is_ok().then_some(()))
        })?;
        up.with_context(|| format!("{kind:?} takes no connections: {}", server.said()))?;
        Ok(server)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Every request that its application has handled.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn handled(&self) -> Result<Vec<String>> {
        let text = fs::read(self.dir.join("log"))?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Its own words, for a failure.
    pub fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        read("stderr") + &read("error.log")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // SIGTERM, so that a master ends its workers.
        let _told = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ended = self.child.wait();
    }
}

fn configuration(dir: &str) -> String {
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
        .collect();
    format!(
        "daemon off; worker_processes 1; user root; pid {dir}/pid; error_log {dir}/error.log error;
         events {{ worker_connections 256; }}
         http {{ {temp}
         map $status $handled {{ default 0; 200 1; }}
         map $request $said {{ \"~^(?<line>.*) HTTP/1\\.[01]$\" $line; default $request; }}
         log_format line escape=none '$said';
         access_log {dir}/log line if=$handled;
         server {{ listen unix:{dir}/socket; location / {{ return 200 ok; }} }} }}\n",
    )
}
