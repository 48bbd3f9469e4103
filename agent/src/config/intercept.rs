//! `[[intercept]]`: what is tagged, and how it is named.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::options::{Options, UdpRule};
use super::rule;
use super::section::{Place, Problems, Section, Sited};
use crate::policy::Mode;
use crate::types::TagName;

/// Where the processes of a tag are found. Texts are checked for shape, not for existence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Designation {
    /// A systemd service or scope, with its suffix.
    Unit(String),
    /// A systemd slice, with its suffix.
    Slice(String),
    /// A cgroup below the v2 mount, `/` first: `/machine/builder`.
    Cgroup(String),
    /// A user, by name or number: everything in their `user-UID.slice`.
    User(String),
}

/// A designation's text that cannot be one, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadDesignation {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

fn bad(what: impl Into<String>, remedy: impl Into<String>) -> BadDesignation {
    BadDesignation { what: what.into(), remedy: remedy.into() }
}

impl Designation {
    /// A unit's name; without a suffix it is a service's, as for systemctl.
    ///
    /// # Errors
    /// [`BadDesignation`] for what systemd would not take as the name of a unit with processes of its own.
    pub fn unit(text: &str) -> Result<Self, BadDesignation> {
        if text.ends_with(".slice") {
            return Err(bad(format!("{text:?} is a slice"), "name it with slice ="));
        }
        let full = match text.rsplit_once('.') {
            Some((_, "service" | "scope")) => text.to_owned(),
            Some((_, "socket" | "timer" | "target" | "mount" | "automount" | "swap" | "path" | "device")) => {
                return Err(bad(format!("{text:?} runs no job"), "name the .service that it starts"));
            }
            _ => format!("{text}.service"),
        };
        if full.split_once('@').is_some_and(|(_, rest)| rest.starts_with('.')) {
            return Err(bad(format!("{full:?} is a template"), "name an instance: name@instance.service"));
        }
        unit_name(&full).map(Self::Unit)
    }

    /// A slice's name, with or without `.slice`.
    ///
    /// # Errors
    /// [`BadDesignation`] for the root slice and for what is no slice's name.
    pub fn slice(text: &str) -> Result<Self, BadDesignation> {
        let stem = text.strip_suffix(".slice").unwrap_or(text);
        if stem == "-" {
            return Err(bad("-.slice is the whole host", "name a slice below it"));
        }
        if stem.split('-').any(str::is_empty) {
            return Err(bad(
                format!("{text:?} is not a slice's name"),
                "parts between dashes must not be empty",
            ));
        }
        unit_name(&format!("{stem}.slice")).map(Self::Slice)
    }

    /// A cgroup's path below the v2 mount; a leading `/` may stand or not.
    ///
    /// # Errors
    /// [`BadDesignation`] for the root, for `.` and `..`, and for what is no path.
    pub fn cgroup(text: &str) -> Result<Self, BadDesignation> {
        let path = text.strip_prefix('/').unwrap_or(text);
        if path.is_empty() {
            return Err(bad("the root cgroup cannot be tagged", "name a cgroup below it"));
        }
        let good = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
        if path.len() > 4000 || !path.split('/').all(good) {
            return Err(bad(
                format!("{text:?} is not a cgroup's path"),
                "write it as /a/b, without . and ..",
            ));
        }
        Ok(Self::Cgroup(format!("/{path}")))
    }

    /// A user's name or number.
    ///
    /// # Errors
    /// [`BadDesignation`] for what useradd would not take, and for root (whose slice holds the administrator).
    pub fn user(text: &str) -> Result<Self, BadDesignation> {
        if matches!(text, "root" | "0") {
            return Err(bad(
                "root's own slice cannot be tagged",
                "root could leave it at will: tag a unit instead",
            ));
        }
        if !user_name(text) && text.parse::<u32>().is_err() {
            return Err(bad(format!("{text:?} is not a user"), "write a user's name or number"));
        }
        Ok(Self::User(text.to_owned()))
    }

    /// The key under which it is written.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Unit(_) => "unit",
            Self::Slice(_) => "slice",
            Self::Cgroup(_) => "cgroup",
            Self::User(_) => "user",
        }
    }

    /// What it names.
    pub fn target(&self) -> &str {
        match self {
            Self::Unit(text) | Self::Slice(text) | Self::Cgroup(text) | Self::User(text) => text,
        }
    }
}

impl fmt::Display for Designation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key(), self.target())
    }
}

/// Whether a text can be a user's name as useradd takes it.
pub(super) fn user_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn unit_name(text: &str) -> Result<String, BadDesignation> {
    // systemd.unit(5): at most 255 characters of these; the first dot alone would make a hidden drop-in directory.
    let good = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    if text.len() <= 255 && !text.starts_with('.') && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err(bad(format!("{text:?} is not a unit's name"), "see systemctl list-units"))
    }
}

/// One thing that the configuration tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intercept {
    /// The tag's name.
    pub name: TagName,
    /// Whose processes.
    pub designation: Designation,
    /// What it lets through.
    pub options: Options,
}

const KINDS: &str = "unit, slice, cgroup or user";

/// Reads one `[[intercept]]`, and the mode that its tag has of its own; whatever is wrong is reported, and then there is
/// none.
pub(super) fn resolve(
    mut section: Section<'_>,
    problems: &mut Problems<'_>,
) -> Option<(Sited<Intercept>, Option<Mode>)> {
    let place = section.place().clone();
    let name = section.text("name", problems);
    let unit = section.text("unit", problems);
    let slice = section.text("slice", problems);
    let cgroup = section.text("cgroup", problems);
    let user = section.text("user", problems);
    let mode = section.text("mode", problems).and_then(|text| rule::mode(&text, problems));
    let options = options(&mut section, problems);
    section.finish(problems);

    let name = match name {
        None => {
            problems.add(&place, "[[intercept]] has no name", "add name = \"…\"");
            None
        }
        Some(text) => {
            good(TagName::parse(&text.value).map_err(|e| bad(e.to_string(), "")), &text.place, problems)
        }
    };
    let mut found = Vec::new();
    type Parse = fn(&str) -> Result<Designation, BadDesignation>;
    let parsers: [(Option<Sited<String>>, Parse); 4] = [
        (unit, Designation::unit),
        (slice, Designation::slice),
        (cgroup, Designation::cgroup),
        (user, Designation::user),
    ];
    let mut given = 0;
    for (text, parse) in parsers {
        let Some(text) = text else { continue };
        given += 1;
        found.extend(good(parse(&text.value), &text.place, problems));
    }
    if given != 1 {
        let what = if given == 0 { "does not say what it tags" } else { "says twice what it tags" };
        problems.add(&place, format!("[[intercept]] {what}"), format!("write exactly one of {KINDS}"));
        return None;
    }
    let value = Intercept { name: name?, designation: found.pop()?, options: options? };
    Some((Sited { value, place }, mode))
}

/// Reads what the tag lets through; `None` when something of it is wrong.
fn options(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Options> {
    let plain = Options::default();
    let mut whole = true;
    let mut complain = |place: &Place, what: String, remedy: &str, problems: &mut Problems<'_>| {
        problems.add(place, what, remedy);
        whole = false;
    };
    let loopback = section.text("loopback", problems).map_or(plain.loopback, |text| {
        text.value.parse().unwrap_or_else(|remedy| {
            complain(&text.place, format!("loopback is {:?}", text.value), remedy, problems);
            plain.loopback
        })
    });
    let mut udp = Vec::new();
    for text in section.texts("udp", problems).unwrap_or_default() {
        match text.value.parse::<UdpRule>() {
            Ok(rule) => udp.push(rule),
            Err(e) => complain(&text.place, e.what, e.remedy, problems),
        }
    }
    if udp.len() > agent_ebpf::UDP_RULE_ENTRIES as usize {
        let what = format!("udp has {} rules, {} is the most", udp.len(), agent_ebpf::UDP_RULE_ENTRIES);
        complain(&section.place().clone(), what, "write wider networks", problems);
    }
    let mut flag = |key, default| section.flag(key, problems).map_or(default, |flag| flag.value);
    let (metadata, inbound) = (flag("metadata", plain.metadata), flag("inbound", plain.inbound));
    let mptcp = flag("mptcp", plain.mptcp);
    whole.then_some(Options { loopback, metadata, inbound, mptcp, udp })
}

fn good<T>(result: Result<T, BadDesignation>, place: &Place, problems: &mut Problems<'_>) -> Option<T> {
    result.map_err(|e| problems.add(place, e.what, e.remedy)).ok()
}
