//! The drop-in that confines a tagged service: each setting closes a way around the tag that no hook on its cgroup closes.

use std::collections::BTreeMap;

/// What systemd says of a unit (`systemctl show`), as far as it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFacts(BTreeMap<String, String>);

impl UnitFacts {
    /// What to ask systemd for.
    pub const PROPERTIES: &'static str = "LoadState,User,DynamicUser,Type,BusName,IPAddressDeny";

    /// Reads `KEY=VALUE` lines.
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_some_and(|is| is == value)
    }

    /// Whether systemd knows the unit; `None`: it was not asked.
    pub fn is_known(&self) -> Option<bool> {
        self.0.get("LoadState").map(|state| state != "not-found")
    }

    /// Whether its processes begin as root; `None`: systemd was not asked.
    fn is_root(&self) -> Option<bool> {
        let user = self.0.get("User")?;
        Some((user.is_empty() || user == "root" || user == "0") && !self.is("DynamicUser", "yes"))
    }

    fn needs_bus(&self) -> bool {
        self.is("Type", "dbus") || self.0.get("BusName").is_some_and(|name| !name.is_empty())
    }

    fn has_filter(&self) -> bool {
        self.0.get("IPAddressDeny").is_some_and(|filter| !filter.is_empty())
    }
}

/// Sockets of daemons that do things for whoever may ask.
const HELPERS: &str = "-/run/docker.sock -/run/podman -/run/containerd -/run/crio -/run/k3s -/run/buildkit -/run/libvirt \
                       -/run/lxd.socket -/run/incus -/var/lib/lxd -/var/lib/incus -/var/snap/lxd";

/// Sockets of name services, whose lookups no rule sees.
const NAMES: &str = "-/run/nscd -/run/unscd -/run/systemd/resolve/io.systemd.Resolve -/run/systemd/resolve/io.systemd.Resolve.Monitor \
     -/run/avahi-daemon";

/// The bus, by which systemd, systemd-resolved and others are asked.
const BUS: &str = "-/run/dbus/system_bus_socket -/run/systemd/private -/run/user";

/// What runs later and elsewhere.
const DEFERRED: &str = "-/var/spool/cron -/var/spool/at -/var/spool/anacron";

/// The unit's full name when it can have such settings: only services can. `job` stands for `job.service`.
pub fn service(unit: &str) -> Option<String> {
    let name = if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    (name.ends_with(".service") && name.len() <= 255 && name.bytes().all(plain)).then_some(name)
}

/// The drop-in for a service.
pub fn compose(unit: &str, facts: &UnitFacts) -> String {
    let mut text = format!(
        "# Confines {unit} to its tag: printed by `sluice doctor --drop-in`. Write it to\n\
         #   /etc/systemd/system/{unit}.d/60-confine.conf\n\
         # then: systemctl daemon-reload && systemctl restart {unit}\n\
         # Each setting closes a way around the tag. Comment out what the job cannot do without; `sluice doctor` says what that\n\
         # opens.\n[Service]\n"
    );
    if facts.is_root() != Some(false) {
        text += "# Root owns the cgroup tree and can leave its tag: give the job a user that nobody else has. One that is made for\n\
                 # it at each start (files that it keeps go to StateDirectory=):\n\
                 #DynamicUser=yes\n# or one that you made:\n#User=JOB\n";
    }
    text += "# No rights but its user's, and none gained by executing a program (sudo, ping).\n\
             CapabilityBoundingSet=\nAmbientCapabilities=\nNoNewPrivileges=yes\nRestrictSUIDSGID=yes\n\
             # TCP, UDP, Unix and netlink sockets: no packet sockets, no vsock, no PPP, nothing that the hooks do not see.\n\
             RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n";
    text += &format!(
        "# Container engines and hypervisors: they start what they are told to, outside of the tag.\nInaccessiblePaths={HELPERS}\n\
         # Name services: without them lookups go over UDP, to the agent, which applies rules and records them.\n\
         InaccessiblePaths={NAMES}\n"
    );
    text += if facts.needs_bus() {
        "# The system bus: systemd and systemd-resolved can be asked over it. This unit has a name on it, so it stays.\n#"
    } else {
        "# The system bus and the users' own: systemd and systemd-resolved can be asked over them.\n"
    };
    text += &format!("InaccessiblePaths={BUS}\n");
    text += &format!(
        "# What would run later, elsewhere.\nInaccessiblePaths={DEFERRED}\n\
         # Processes of others, and the kernel's own switches.\n\
         ProtectProc=invisible\nPrivateTmp=yes\nProtectControlGroups=yes\nProtectKernelTunables=yes\n\
         ProtectKernelModules=yes\nProtectKernelLogs=yes\nLockPersonality=yes\nSystemCallArchitectures=native\n\
         # Namespaces of its own (a job that runs containers or a browser's sandbox needs them):\n#RestrictNamespaces=yes\n"
    );
    if facts.has_filter() {
        text += "# This unit has IPAddressDeny=: it does not bound what the agent dials for the job. Filter user sluice instead.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_units_can_have_one() {
        assert_eq!(service("job").as_deref(), Some("job.service"));
        assert_eq!(service("a@b.service").as_deref(), Some("a@b.service"));
        for bad in ["jobs.slice", "a.scope", "../x", "a b", "a\nb", "a;b.service"] {
            assert_eq!(service(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn it_follows_what_systemd_says_of_the_unit() {
        let nothing = compose("job.service", &UnitFacts::default());
        assert!(nothing.contains("#User=JOB\n") && nothing.contains("\nInaccessiblePaths=-/run/dbus/"));
        let facts = UnitFacts::parse(
            "LoadState=loaded\nUser=ann\nDynamicUser=no\nType=dbus\nIPAddressDeny=::/0 0.0.0.0/0\n",
        );
        assert_eq!(facts.is_known(), Some(true));
        let text = compose("job.service", &facts);
        assert!(!text.contains("User=") && text.contains("\n#InaccessiblePaths=-/run/dbus/"), "{text}");
        assert!(text.contains("has IPAddressDeny="));
        assert_eq!(UnitFacts::parse("LoadState=not-found").is_known(), Some(false));
    }

    #[test]
    fn every_line_is_a_comment_or_a_setting() {
        for facts in [UnitFacts::default(), UnitFacts::parse("User=ann\nType=simple\n")] {
            for line in compose("job.service", &facts).lines() {
                let setting = line.split_once('=').is_some_and(|(key, _)| {
                    key.bytes().all(|b| b.is_ascii_alphanumeric())
                        && key.starts_with(|c: char| c.is_ascii_uppercase())
                });
                assert!(line.starts_with('#') || line == "[Service]" || setting, "{line:?}");
            }
        }
    }
}
