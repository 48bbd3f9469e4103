//! Debian's nginx as the benchmark's upstream: one worker, 1 KiB answers, and a file for bulk.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::certs::Flaw;
use crate::far::{self, Far};
use crate::harness::World;
use crate::load::credentials::{JSON, PUT, SEEN, json};
use crate::process::{eventually, run};

/// Port with HTTP/1.1 and HTTP/2 and nginx's default of session tickets.
pub const PORT: u16 = 8443;
/// Port on which every handshake is a full one: no tickets, no session cache.
pub const FULL_PORT: u16 = 9443;
/// Bytes of `/bulk`.
pub const BULK: u64 = 512 << 20;

/// A running nginx; dropped, it is killed.
pub struct Nginx {
    child: Child,
}

impl Nginx {
    /// Starts nginx as www.example.test on the far host, on the processor `core` if one is given.
    ///
    /// # Errors
    /// nginx is missing or does not come up; its own words are in the text.
    pub fn start(world: &World, far: &Far, core: Option<usize>) -> Result<Self> {
        let dir = world.space().dir().join("nginx");
        fs::create_dir_all(dir.join("www"))?;
        let pem = world.authority().leaf(&["www.example.test", "*.cold.example.test"], Flaw::None)?;
        fs::write(dir.join("chain.pem"), pem.chain)?;
        fs::write(dir.join("key.pem"), pem.key)?;
        fs::write(dir.join("www/1k"), [b'k'; 1024])?;
        fs::File::create(dir.join("www/bulk"))?.set_len(BULK)?;
        let at = far::ADDRESS;
        fs::write(
            dir.join("nginx.conf"),
            configuration(
                &dir.display().to_string(),
                SocketAddr::new(at, PORT),
                SocketAddr::new(at, FULL_PORT),
            ),
        )?;
        let mut parts = Vec::new();
        if let Some(core) = core {
            parts.extend(["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        }
        parts.extend([
            "nginx".to_owned(),
            "-p".to_owned(),
            dir.display().to_string(),
            "-c".to_owned(),
            "nginx.conf".to_owned(),
        ]);
        let mut command = far.command(&parts[0]);
        let log = fs::File::create(dir.join("stderr"))?;
        let child = command.args(&parts[1..]).process_group(0).stdin(Stdio::null()).stderr(log).spawn()?;
        let mut nginx = Self { child };
        let up = eventually(Duration::from_secs(10), || {
            if let Some(status) = nginx.child.try_wait()? {
                anyhow::bail!(
                    "nginx ended: {status}: {}",
                    fs::read_to_string(dir.join("stderr")).unwrap_or_default()
                );
            }
            Ok(nginx.answers(world)?.then_some(()))
        })?;
        up.context("nginx does not answer")?;
        Ok(nginx)
    }

    fn answers(&self, world: &World) -> Result<bool> {
        let mut curl = world.untagged("curl")?;
        let ended = run(
            curl.args(["-sS", &format!("https://www.example.test:{FULL_PORT}/1k")]),
            Duration::from_secs(5),
        )?;
        ensure!(
            !ended.good() || ended.stdout.len() == 1024,
            "nginx answers with {} bytes",
            ended.stdout.len()
        );
        Ok(ended.good())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that the master ends its worker.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn configuration(dir: &str, default: SocketAddr, full: SocketAddr) -> String {
    let server = |listen: SocketAddr, more: &str| {
        format!(
            "server {{ listen {listen} ssl http2 backlog=4096; ssl_certificate {dir}/chain.pem; ssl_certificate_key {dir}/key.pem; {more}
             location = {PUT} {{ client_body_buffer_size 2m; proxy_pass_request_body off; proxy_set_header Content-Length '';
                proxy_pass http://unix:{dir}/taken.sock; }}
             location = {JSON} {{ client_body_buffer_size 2m; proxy_pass_request_body off; proxy_set_header Content-Length '';
                proxy_pass http://unix:{dir}/taken.sock; }}
             location = {SEEN} {{ default_type text/plain; return 200 $http_authorization; }}
             root {dir}/www; }}"
        )
    };
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
        .collect();
    format!(
        "daemon off; worker_processes 1; user root; pid {dir}/pid; error_log {dir}/error.log error; worker_rlimit_nofile 40000;
         events {{ worker_connections 20000; }}
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; client_max_body_size 8m; client_header_timeout 1h; {temp}
         ssl_protocols TLSv1.2 TLSv1.3; http2_max_concurrent_streams 256; http2_recv_timeout 1h; output_buffers 2 512k;
         server {{ listen unix:{dir}/taken.sock; location = {JSON} {{ default_type application/json; return 200 '{}'; }} location / {{ return 200; }} }}
         {}\n{} }}\n",
        json(),
        server(default, ""),
        server(full, "ssl_session_tickets off; ssl_session_cache off;"),
    )
}
