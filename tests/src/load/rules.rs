//! The rules under which requests/s are measured once more: a hundred, ten of them in CEL, all of them asked of each request.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::harness::World;
use crate::process::{eventually, run};

/// A path that the rules refuse: who is refused it knows that they are in force.
pub const MARKER: &str = "/rules-in-force";

/// The rules, for requests to `host`: none but the last matches what is measured.
pub fn hundred(host: &str) -> String {
    let mut text = format!(
        "[[rule]]\nname = \"marker\"\nhost = \"{host}\"\npath = \"{MARKER}\"\nmode = \"enforce\"\nverdict = \"deny\"\n"
    );
    for n in 1..99 {
        // The host in each: no index may leave one out.
        let _ = write!(text, "[[rule]]\nname = \"r{n}\"\nhost = \"{host}\"\nverdict = \"deny\"\n");
        let _ = match n % 10 {
            0..=2 => writeln!(text, "path = \"/v{n}/*/things/**\""),
            3..=4 => writeln!(text, "methods = [\"POST\", \"PUT\", \"DELETE\"]\npath = \"/{n}/**\""),
            5..=6 => writeln!(text, "headers = {{ x-team = \"team-{n}\" }}"),
            7..=8 => writeln!(text, "query = {{ page = \"{n}-*\" }}"),
            _ => writeln!(
                text,
                "when = 'request.method == \"GET\" && request.path.startsWith(\"/{n}\") || request.headers[\"x-n\"][0] == \"{n}\"'"
            ),
        };
    }
    // The tenth in CEL is the one that lets through.
    let _ = write!(
        text,
        "[[rule]]\nname = \"rest\"\nwhen = 'request.path.size() < 1000 && host == \"{host}\"'\nverdict = \"allow\"\n"
    );
    text
}

/// Has the agent read these rules, and waits until they are in force: `url` is the marker's.
///
/// # Errors
/// They are not in force in time.
pub fn put(world: &World, rules: &str, url: &str) -> Result<()> {
    let path = world.space().dir().join("etc/policy.d/measured.toml");
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, rules)?;
    world.daemon().signal(world.daemon().warden_pid()?, Signal::SIGHUP)?;
    let wanted = if rules.is_empty() { "404" } else { "403" };
    let in_force = eventually(Duration::from_secs(20), || {
        let mut curl = world.job("bench", "curl")?;
        let ended =
            run(curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", url]), Duration::from_secs(5))?;
        Ok((ended.stdout == wanted).then_some(()))
    })?;
    in_force.context("the rules are not in force")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_hundred_and_ten_of_them_in_cel() {
        let rules = hundred("a.example");
        assert_eq!(rules.matches("[[rule]]").count(), 100);
        assert_eq!(rules.matches("when = ").count(), 10);
        let read: toml::Value = toml::from_str(&rules).expect("TOML");
        assert_eq!(read["rule"].as_array().map(Vec::len), Some(100));
    }
}
