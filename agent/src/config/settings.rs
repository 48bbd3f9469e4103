//! Every key, in one place: what may be written where, and what it becomes.

mod kept;

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::intercept::{self, Intercept, user_name};
use super::issuer;
use super::section::{Place, Problems, Section, Sited};
use super::{Config, Problem, Source, case, credential, dns, mask, quantity, reach, rule, sockets};
use crate::policy::Mode;
use crate::policy::mask::Mask;

/// The cgroup tree and the kernel's maps are sized for this many tags at once, run-time ones included.
const MAX_INTERCEPTS: usize = 200;

/// Resolves all files into one configuration; what is wrong goes to `problems` and keeps its default.
pub(super) fn resolve(sources: &[Source], dir: &Path, problems: &mut Vec<Problem>) -> Config {
    let mut resolver = Resolver {
        config: Config::default(),
        set: HashMap::new(),
        intercepts: Vec::new(),
        rules: Vec::new(),
        credentials: Vec::new(),
        masks: Vec::new(),
        record_masked: Vec::new(),
        dir,
        problems: Problems(problems),
    };
    for source in sources {
        resolver.file(source);
    }
    resolver.finish()
}

struct Resolver<'a> {
    config: Config,
    /// Where each key was set: a second file that sets it again is a mistake, not an override.
    set: HashMap<&'static str, Place>,
    intercepts: Vec<Sited<Intercept>>,
    rules: Vec<rule::Read>,
    credentials: Vec<credential::Read>,
    masks: Vec<Sited<Mask>>,
    record_masked: Vec<Sited<String>>,
    dir: &'a Path,
    problems: Problems<'a>,
}

impl Resolver<'_> {
    fn file(&mut self, source: &Source) {
        let mut top = Section::of_file(source, &mut self.problems);
        if let Some(mode) = top.text("mode", &mut self.problems) {
            self.mode(&mode);
        }
        if let Some(user) = top.text("user", &mut self.problems)
            && self.first("user", &user.place)
        {
            self.user(user);
        }
        for section in top.tables("intercept", &mut self.problems) {
            if let Some((intercept, mode)) = intercept::resolve(section, &mut self.problems) {
                self.config.policy.tag_modes.extend(mode.map(|mode| (intercept.value.name.clone(), mode)));
                self.intercepts.push(intercept);
            }
        }
        for section in top.tables("issuer", &mut self.problems) {
            if let Some(issuer) = issuer::resolve(section, self.dir, &mut self.problems) {
                self.issuer(issuer);
            }
        }
        for section in top.tables("rule", &mut self.problems) {
            self.rules.extend(rule::resolve(section, &mut self.problems));
        }
        for section in top.tables("credential", &mut self.problems) {
            self.credentials.extend(credential::resolve(section, &mut self.problems));
        }
        for section in top.tables("mask", &mut self.problems) {
            self.masks.extend(mask::resolve(section, self.dir, &mut self.problems));
        }
        if let Some(names) = top.list(["record_masked", "record_masked"], &mut self.problems) {
            self.record_masked.extend(names);
        }
        for section in top.tables("test", &mut self.problems) {
            self.config.cases.extend(case::resolve(section, &mut self.problems));
        }
        self.kept(&mut top);
        if let Some(section) = top.table("tls", &mut self.problems) {
            self.tls(section);
        }
        if let Some(section) = top.table("dns", &mut self.problems) {
            self.dns(section);
        }
        if let Some(section) = top.table("sockets", &mut self.problems) {
            self.sockets(section);
        }
        if let Some(section) = top.table("limits", &mut self.problems) {
            self.limits(section);
        }
        if let Some(section) = top.table("drain", &mut self.problems) {
            self.drain(section);
        }
        if let Some(section) = top.table("paths", &mut self.problems) {
            self.paths(section);
        }
        top.finish(&mut self.problems);
    }

    fn issuer(&mut self, issuer: Sited<issuer::Issuer>) {
        let known = &self.config.issuers;
        if known.iter().any(|other| other.told.url == issuer.value.told.url) {
            let what = format!("[[issuer]] {} stands twice", issuer.value.told.url);
            self.problems.add(&issuer.place, what, "keep one, with all its audiences in a list");
        } else if known.len() == issuer::ISSUERS {
            let what = format!("more than {} [[issuer]]", issuer::ISSUERS);
            self.problems.add(&issuer.place, what, "bridge them by one identity provider");
        } else {
            self.config.issuers.push(issuer.value);
        }
    }

    /// Whether `key` is set here for the first time; otherwise that is reported.
    fn first(&mut self, key: &'static str, place: &Place) -> bool {
        if let Some(earlier) = self.set.get(key) {
            let what = format!("{key} is set already at {earlier}");
            self.problems.add(place, what, "keep one of the two");
            return false;
        }
        self.set.insert(key, place.clone());
        true
    }

    fn mode(&mut self, text: &Sited<String>) {
        if !self.first("mode", &text.place) {
            return;
        }
        if let Some(mode) = rule::mode(text, &mut self.problems) {
            self.config.policy.mode = mode;
        }
    }

    fn user(&mut self, user: Sited<String>) {
        if user.value == "root" {
            let remedy = "name a user without rights, such as sluice";
            self.problems.add(&user.place, "user = \"root\": the gate reads network bytes", remedy);
        } else if user_name(&user.value) {
            self.config.user = user.value;
        } else {
            let what = format!("user {:?} is not a user's name", user.value);
            self.problems.add(&user.place, what, "write the name of a system user");
        }
    }

    fn bytes(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        full: &'static str,
        (min, max, shape): (u64, u64, &str),
    ) -> Option<u64> {
        let text = section.quantity(key, &mut self.problems)?;
        if !self.first(full, &text.place) {
            return None;
        }
        let size = quantity::bytes(&text.value).filter(|n| (min..=max).contains(n));
        if size.is_none() {
            self.problems.add(&text.place, format!("{full} is {:?}", text.value), format!("write {shape}"));
        }
        size
    }

    fn tls(&mut self, mut section: Section<'_>) {
        let place = section.place().clone();
        if let Some(files) = section.texts("extra_roots", &mut self.problems)
            && self.first("tls.extra_roots", &place)
        {
            for file in files {
                let path = self.dir.join(&file.value);
                match holds_certificate(&path) {
                    Ok(true) => self.config.tls.extra_roots.push(path),
                    Ok(false) => self.problems.add(
                        &file.place,
                        format!("{} holds no PEM certificate", path.display()),
                        "name a file with -----BEGIN CERTIFICATE-----",
                    ),
                    Err(e) => self.problems.add(
                        &file.place,
                        format!("{} cannot be read: {e}", path.display()),
                        "name a PEM file, absolute or beside the configuration",
                    ),
                }
            }
        }
        section.finish(&mut self.problems);
    }

    fn dns(&mut self, section: Section<'_>) {
        let keys = dns::read(section, &mut self.problems);
        if let Some((place, value)) = keys.upstream
            && self.first("dns.upstream", &place)
        {
            self.config.dns.upstream = value;
        }
        if let Some((place, value)) = keys.deny
            && self.first("dns.deny", &place)
        {
            self.config.dns.lookups.deny = value;
        }
        if let Some((place, value)) = keys.answer
            && self.first("dns.answer", &place)
        {
            self.config.dns.lookups.answer = value;
        }
        if let Some((place, value)) = keys.max_label
            && self.first("dns.max_label", &place)
        {
            self.config.dns.lookups.max_label = value;
        }
        if let Some((place, value)) = keys.rate
            && self.first("dns.rate", &place)
        {
            self.config.dns.lookups.rate = value;
        }
        if let Some((place, value)) = keys.new_names
            && self.first("dns.new_names", &place)
        {
            self.config.dns.lookups.new_names = value;
        }
        if let Some((place, value)) = keys.types
            && self.first("dns.types", &place)
        {
            self.config.dns.lookups.types = value;
        }
    }

    fn sockets(&mut self, mut section: Section<'_>) {
        let place = section.place().clone();
        for (key, name) in [("deny", "sockets.deny"), ("allow", "sockets.allow")] {
            if let Some(texts) = section.texts(key, &mut self.problems)
                && self.first(name, &place)
            {
                sockets::change(&mut self.config.denied_sockets, (key, name), texts, &mut self.problems);
            }
        }
        section.finish(&mut self.problems);
    }

    fn limits(&mut self, mut section: Section<'_>) {
        if let Some(text) = section.quantity("sessions", &mut self.problems)
            && self.first("limits.sessions", &text.place)
        {
            match text.value.parse::<u32>() {
                Ok(n) if (1..=1_000_000).contains(&n) => self.config.limits.sessions = n,
                _ => self.problems.add(
                    &text.place,
                    format!("limits.sessions is {:?}", text.value),
                    "write a number from 1 to 1000000",
                ),
            }
        }
        section.finish(&mut self.problems);
    }

    fn drain(&mut self, mut section: Section<'_>) {
        if let Some(text) = section.quantity("grace", &mut self.problems)
            && self.first("drain.grace", &text.place)
        {
            // systemd kills a stopping service after 90 s unless it is told otherwise.
            match quantity::duration(&text.value).filter(|d| *d <= Duration::from_secs(80)) {
                Some(grace) => self.config.drain.grace = grace,
                None => self.problems.add(
                    &text.place,
                    format!("drain.grace is {:?}", text.value),
                    "write a duration up to 80s, such as \"10s\"",
                ),
            }
        }
        section.finish(&mut self.problems);
    }

    fn paths(&mut self, mut section: Section<'_>) {
        for (key, full) in [("state", "paths.state"), ("runtime", "paths.runtime"), ("bpf", "paths.bpf")] {
            let Some(text) = section.text(key, &mut self.problems) else { continue };
            if !self.first(full, &text.place) {
                continue;
            }
            let path = PathBuf::from(&text.value);
            let dots = path.components().any(|c| c == std::path::Component::ParentDir);
            // The path goes into systemd's unit files, where these mean something.
            let odd =
                text.value.contains(|c: char| c.is_control() || c.is_whitespace() || "%\"'\\".contains(c));
            if !path.is_absolute() || dots || odd || path.parent().is_none() {
                let what = format!("{full} is {:?}", text.value);
                self.problems.add(
                    &text.place,
                    what,
                    "write an absolute path below /, without .., spaces, quotes, % and \\",
                );
                continue;
            }
            let paths = &mut self.config.paths;
            *match key {
                "state" => &mut paths.state,
                "runtime" => &mut paths.runtime,
                _ => &mut paths.bpf,
            } = path;
        }
        section.finish(&mut self.problems);
    }

    fn finish(mut self) -> Config {
        let mut kept: Vec<Sited<Intercept>> = Vec::new();
        for one in self.intercepts {
            let name = kept.iter().find(|k| k.value.name == one.value.name);
            let same = kept.iter().find(|k| k.value.designation == one.value.designation);
            if let Some(earlier) = name.or(same) {
                let of = if name.is_some() { "name" } else { one.value.designation.key() };
                let at = &earlier.place;
                let what = format!("[[intercept]] {}: its {of} is taken already at {at}", one.value.name);
                self.problems.add(&one.place, what, "give each tag its own name and its own processes");
            } else if kept.len() == MAX_INTERCEPTS {
                let what = format!("more than {MAX_INTERCEPTS} [[intercept]]");
                self.problems.add(&one.place, what, "put the jobs into one slice and tag that");
                break;
            } else {
                kept.push(one);
            }
        }
        self.config.intercepts = kept.into_iter().map(|k| k.value).collect();
        reach::check(&self.rules, &mut self.problems);
        reach::check_cases(&self.config.cases, &self.rules, &mut self.problems);
        credential::check(&self.credentials, &self.rules, &mut self.problems);
        credential::unused(&self.credentials, &self.rules, &mut Problems(&mut self.config.warnings));
        mask::check(&self.masks, &self.rules, &self.record_masked, &mut self.problems);
        self.config.policy.masks = self.masks.into_iter().map(|mask| mask.value).collect();
        self.config.policy.record_masked = self.record_masked.into_iter().map(|name| name.value).collect();
        self.config.policy.credentials =
            self.credentials.into_iter().map(|read| read.credential.value).collect();
        self.config.policy.rules = self.rules.into_iter().map(|read| read.rule.value).collect();
        let enforced = |mode: &Mode| *mode == Mode::Enforce;
        let policy = &self.config.policy;
        if policy.rules.is_empty() && (enforced(&policy.mode) || policy.tag_modes.values().any(enforced)) {
            self.config.warnings.push(Problem {
                file: self.dir.join(super::MAIN_FILE),
                line: 0,
                column: 0,
                what: "mode is \"enforce\" and there is no [[rule]]: everything is refused".to_owned(),
                remedy: "add rules, or write mode = \"observe\"".to_owned(),
            });
        }
        self.config
    }
}

/// Whether a file looks like PEM certificates. How good they are is judged where they are used.
fn holds_certificate(path: &Path) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(4 << 20).read_to_end(&mut bytes)?;
    Ok(bytes.windows(27).any(|w| w == b"-----BEGIN CERTIFICATE-----"))
}
