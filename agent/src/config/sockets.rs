//! Unix sockets that no tag may talk to, as the kernel compares their names: in one form, and by prefixes of it.

use agent_ebpf::lsm::{UNIX_NAME, UNIX_RULES};

use super::section::{Problems, Sited};

/// The kernel's list of Unix sockets has room for this many.
const MAX_SOCKETS: usize = UNIX_RULES as usize;

/// A Unix socket, or all that begin alike, that no tag may talk to: `/run/docker.sock`, `@/tmp/dbus-*` (abstract).
///
/// `/var/run/` is `/run/`, and the user in `/run/user/1000/` any user (`*`): names are compared in that form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixRule(String);

/// Why a text is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// Neither kind of name.
    #[error("neither a path from the root (/run/…) nor an abstract name (@…)")]
    Start,
    /// Longer than a socket's name can be.
    #[error("longer than the name of a Unix socket can be ({} octets)", UNIX_NAME - 1)]
    Long,
    /// Would deny everything of its kind.
    #[error("says nothing but `*`")]
    Everything,
    /// A character that no name has.
    #[error("holds a NUL, or a `*` that is neither its end nor the user in /run/user/*/")]
    Character,
}

impl UnixRule {
    /// Reads one.
    ///
    /// # Errors
    /// The text names no Unix socket.
    pub fn parse(text: &str) -> Result<Self, BadRule> {
        if !text.starts_with(['/', '@']) {
            return Err(BadRule::Start);
        }
        let text = text.strip_prefix("/var").filter(|rest| rest.starts_with("/run/")).unwrap_or(text);
        let text = any_user(text).unwrap_or_else(|| text.to_owned());
        let name = text.strip_suffix('*').unwrap_or(&text);
        if name.len() >= UNIX_NAME {
            return Err(BadRule::Long);
        }
        if name.len() < 2 {
            return Err(BadRule::Everything);
        }
        if name.strip_prefix("/run/user/*/").unwrap_or(name).contains(['*', '\0']) {
            return Err(BadRule::Character);
        }
        Ok(Self(text))
    }

    /// The rule in the form in which names are compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Octets to be compared, and how many bits of them count.
    pub(crate) fn key(&self) -> ([u8; UNIX_NAME], u32) {
        let (name, end) = match self.0.strip_suffix('*') {
            Some(prefix) => (prefix, 0),
            None => (self.0.as_str(), 1), // With the NUL that ends a name.
        };
        let mut octets = [0; UNIX_NAME];
        octets[..name.len()].copy_from_slice(name.as_bytes());
        (octets, (name.len() + end) as u32 * 8)
    }
}

/// `/run/user/1000/bus` as `/run/user/*/bus`, if it is of that form.
fn any_user(text: &str) -> Option<String> {
    let (user, rest) = text.strip_prefix("/run/user/")?.split_once('/')?;
    (!user.is_empty() && user.len() <= 10 && user.bytes().all(|octet| octet.is_ascii_digit()))
        .then(|| format!("/run/user/*/{rest}"))
}

/// The built-in list.
pub(super) fn built_in() -> Vec<UnixRule> {
    DENIED_BY_DEFAULT.iter().filter_map(|text| UnixRule::parse(text).ok()).collect() // A test reads each.
}

/// What is on the list unless the configuration takes it off: helpers that start programs, containers or connections for
/// whoever asks, outside of the asker's cgroup.
pub const DENIED_BY_DEFAULT: [&str; 40] = [
    // Containers and virtual machines: a new one is in no tag.
    "/run/docker.sock",
    "/run/docker/*",
    "/run/user/*/docker.sock",
    "/run/cri-dockerd.sock",
    "/run/containerd/*",
    "/run/user/*/containerd*",
    "@/containerd-shim/*",
    "/run/k3s/containerd/*",
    "/run/buildkit/*",
    "/run/user/*/buildkit*",
    "/run/podman/*",
    "/run/user/*/podman/*",
    "/run/crio/*",
    "/run/libvirt/*",
    "/run/user/*/libvirt/*",
    "/var/lib/incus/*",
    "/var/lib/lxd/*",
    "/var/snap/lxd/common/lxd/*",
    "/run/snapd.socket",
    "/run/snapd-snap.socket",
    // Service managers and buses: systemd-run, and every service that fetches something for its caller.
    "/run/systemd/private",
    "/run/systemd/io.systemd.Manager",
    "/run/systemd/io.systemd.Import",
    "/run/systemd/machine/*",
    "/run/dbus/system_bus_socket",
    "/run/user/*/systemd/private",
    "/run/user/*/systemd/io.systemd.*",
    "/run/user/*/bus",
    "@/tmp/dbus-*",
    "/run/at-spi/*",
    // Names asked for by others: what they ask, no tag's rules see. Programs fall back to DNS, which is taken.
    "/run/systemd/resolve/*",
    "/run/nscd/*",
    "/run/avahi-daemon/*",
    // Terminals that run elsewhere and take keys from a socket.
    "/tmp/tmux-*",
    "/run/screen/*",
    // Network access for whoever asks.
    "/run/tailscale/*",
    "/run/cups/*",
    // Build daemons that fetch.
    "/nix/var/nix/daemon-socket/*",
    "/var/guix/daemon-socket/*",
    "/run/user/*/gvfsd/*",
];

/// `sockets.deny` adds to the list, `sockets.allow` takes off it what stands there by that name.
pub(super) fn change(
    denied: &mut Vec<UnixRule>,
    (key, name): (&str, &str),
    texts: Vec<Sited<String>>,
    problems: &mut Problems<'_>,
) {
    for text in texts {
        let rule = match UnixRule::parse(&text.value) {
            Ok(rule) => rule,
            Err(why) => {
                let what = format!("{name}: {:?} is no Unix socket: {why}", text.value);
                problems.add(&text.place, what, "write /run/some.sock, /run/some/*, or @abstract");
                continue;
            }
        };
        let listed = denied.iter().position(|one| *one == rule);
        match (key, listed) {
            ("deny", None) if denied.len() >= MAX_SOCKETS => {
                let what = format!("{name}: more than {MAX_SOCKETS} sockets");
                problems.add(&text.place, what, "name folders (/run/some/*) instead of their sockets");
            }
            ("deny", None) => denied.push(rule),
            ("deny", Some(_)) => {}
            (_, Some(at)) => drop(denied.remove(at)),
            (_, None) => {
                let what = format!("{name}: {} is not on the list", rule.as_str());
                problems.add(
                    &text.place,
                    what,
                    "name an entry of the list as it stands there (see sluice.toml)",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_that_is_built_in_is_good_and_says_nothing_twice() {
        let mut rules: Vec<UnixRule> = DENIED_BY_DEFAULT
            .iter()
            .map(|text| UnixRule::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")))
            .collect();
        assert!(rules.iter().zip(DENIED_BY_DEFAULT).all(|(rule, text)| rule.as_str() == text));
        rules.sort();
        rules.dedup();
        assert_eq!(rules.len(), DENIED_BY_DEFAULT.len());
    }

    #[test]
    fn names_have_one_form() {
        let form = |text: &str| UnixRule::parse(text).expect("a rule").0;
        assert_eq!(form("/var/run/docker.sock"), "/run/docker.sock");
        assert_eq!(form("/run/user/1000/bus"), "/run/user/*/bus");
        assert_eq!(form("/var/run/user/0/podman/*"), "/run/user/*/podman/*");
        assert_eq!(form("/var/runner"), "/var/runner");
        assert_eq!(form("/run/user/bus"), "/run/user/bus");
    }

    #[test]
    fn an_exact_name_ends_with_its_nul() {
        assert_eq!(UnixRule::parse("/ab").expect("a rule").key().1, 32);
        assert_eq!(UnixRule::parse("/ab*").expect("a rule").key().1, 24);
        assert_eq!(&UnixRule::parse("@ab").expect("a rule").key().0[..4], b"@ab\0");
    }

    #[test]
    fn what_is_no_rule() {
        for (text, why) in [
            ("", BadRule::Start),
            ("run/docker.sock", BadRule::Start),
            ("/*", BadRule::Everything),
            ("@", BadRule::Everything),
            ("/a*b", BadRule::Character),
            ("/run/user/*/a*b", BadRule::Character),
            ("/a\0b", BadRule::Character),
        ] {
            assert_eq!(UnixRule::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(UnixRule::parse(&format!("/{}", "a".repeat(107))), Err(BadRule::Long));
        assert!(UnixRule::parse(&format!("/{}", "a".repeat(106))).is_ok());
    }
}
