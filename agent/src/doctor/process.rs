//! What /proc says of a process that bears on its confinement: ids, capabilities, namespaces. Reads only; `root` is `/proc`
//! or a tree made for a test.

use std::fs;
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;

use crate::types::Weakness;

/// Bits of the capability sets (capabilities(7)).
pub mod cap {
    /// CAP_CHOWN.
    pub const CHOWN: u64 = 1;
    /// CAP_DAC_OVERRIDE.
    pub const DAC_OVERRIDE: u64 = 1 << 1;
    /// CAP_DAC_READ_SEARCH.
    pub const DAC_READ_SEARCH: u64 = 1 << 2;
    /// CAP_FOWNER.
    pub const FOWNER: u64 = 1 << 3;
    /// CAP_SETGID.
    pub const SETGID: u64 = 1 << 6;
    /// CAP_SETUID.
    pub const SETUID: u64 = 1 << 7;
    /// CAP_NET_ADMIN.
    pub const NET_ADMIN: u64 = 1 << 12;
    /// CAP_NET_RAW.
    pub const NET_RAW: u64 = 1 << 13;
    /// CAP_SYS_MODULE.
    pub const SYS_MODULE: u64 = 1 << 16;
    /// CAP_SYS_RAWIO.
    pub const SYS_RAWIO: u64 = 1 << 17;
    /// CAP_SYS_PTRACE.
    pub const SYS_PTRACE: u64 = 1 << 19;
    /// CAP_SYS_ADMIN.
    pub const SYS_ADMIN: u64 = 1 << 21;
    /// CAP_SYS_BOOT: kexec.
    pub const SYS_BOOT: u64 = 1 << 22;
    /// CAP_MKNOD.
    pub const MKNOD: u64 = 1 << 27;
    /// CAP_SETFCAP.
    pub const SETFCAP: u64 = 1 << 31;
    /// CAP_BPF (5.8).
    pub const BPF: u64 = 1 << 39;
    /// Each of these is enough to become root, or to act as root would.
    pub const LIKE_ROOT: u64 = CHOWN
        | DAC_OVERRIDE
        | DAC_READ_SEARCH
        | FOWNER
        | SETGID
        | SETUID
        | SYS_MODULE
        | SYS_RAWIO
        | SYS_BOOT
        | MKNOD
        | SETFCAP;
}

/// Facts of one process. Ids are the host's, as the reader's user namespace shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Real, effective, saved and file system user id.
    pub uids: [u32; 4],
    /// Real, effective, saved and file system group id.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Effective and permitted capabilities together: what it has, and what it can take up without help.
    pub capabilities: u64,
    /// It cannot gain rights by executing a program.
    pub no_new_privs: bool,
    /// Its user namespace is not ours: its capabilities count for what that namespace owns, not for the host.
    pub own_users: bool,
    /// Its network namespace is not ours.
    pub own_network: bool,
    /// Its mount namespace and root, as /proc names them: who shares both sees the same files.
    pub view: Option<(PathBuf, PathBuf)>,
}

/// Where processes are looked at.
#[derive(Clone, Debug)]
pub struct Proc(PathBuf);

impl Default for Proc {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl Proc {
    /// Below `root`: `/proc`, or a made-up tree.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// A process's directory.
    pub fn of(&self, pid: u32) -> PathBuf {
        self.0.join(pid.to_string())
    }

    /// The facts of a process; `None` when it is gone or not to be read.
    pub fn facts(&self, pid: u32) -> Option<Facts> {
        let dir = self.of(pid);
        // The kernel escapes newlines in the name, the only text of the process's own; it may be no UTF-8 all the same.
        let status = fs::read(dir.join("status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let capabilities = |name| field(name).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let groups = field("Groups:")?.split_ascii_whitespace().filter_map(|g| g.parse().ok()).collect();
        // A namespace that cannot be read (another user's process, read without rights) counts as ours: more weaknesses
        // are named then, never fewer.
        let differs = |kind: &str| {
            let theirs = fs::read_link(dir.join("ns").join(kind)).ok();
            let ours = fs::read_link(self.0.join("self/ns").join(kind)).ok();
            theirs.is_some() && theirs != ours
        };
        let link = |name: &str| fs::read_link(dir.join(name)).ok();
        Some(Facts {
            uids: four(field("Uid:")?)?,
            gids: four(field("Gid:")?)?,
            groups,
            capabilities: capabilities("CapEff:")? | capabilities("CapPrm:")?,
            no_new_privs: field("NoNewPrivs:") == Some("1"),
            own_users: differs("user"),
            own_network: differs("net"),
            view: link("ns/mnt").zip(link("root")),
        })
    }

    /// Field 22 of /proc/PID/stat: when it began, in clock ticks since boot. With the pid it names one process.
    pub fn start_time(&self, pid: u32) -> Option<u64> {
        self.stat(pid)?.1
    }

    /// Whether it has ended and waits for its parent.
    pub fn is_zombie(&self, pid: u32) -> bool {
        self.stat(pid).is_none_or(|(state, _)| state == "Z" || state == "X")
    }

    fn stat(&self, pid: u32) -> Option<(String, Option<u64>)> {
        // Fields count from the last bracket: the command name in field 2 is any bytes that the process likes.
        let stat = fs::read(self.of(pid).join("stat")).ok()?;
        let text = String::from_utf8_lossy(&stat);
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.to_owned();
        Some((state, fields.nth(18).and_then(|f| f.parse().ok())))
    }

    /// The path of its cgroup from the v2 root.
    pub fn cgroup(&self, pid: u32) -> Option<String> {
        let text = fs::read(self.of(pid).join("cgroup")).ok()?;
        String::from_utf8_lossy(&text).lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
    }

    /// Its command name, for people.
    pub fn comm(&self, pid: u32) -> String {
        let bytes = fs::read(self.of(pid).join("comm")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    /// Every process id, as far as they can be listed.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    }

    /// The user who may trace a process: its user, or root when it may not be dumped (proc(5)).
    pub fn owner(&self, pid: u32) -> Option<u32> {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(self.of(pid)).ok().map(|dir| dir.uid())
    }
}

fn four(text: &str) -> Option<[u32; 4]> {
    let ids: Vec<u32> = text.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect();
    ids.try_into().ok()
}

impl Facts {
    /// What the process's own rights weaken. `packets_closed`: a layer closes packet sockets (the LSM's).
    pub fn weaknesses(&self, packets_closed: bool) -> Vec<Weakness> {
        let mut found = Vec::new();
        let mut add = |holds: bool, weakness| {
            if holds {
                found.push(weakness);
            }
        };
        add(self.uids.contains(&0), Weakness::Root);
        // In a user namespace of its own it is somebody only over what that namespace owns: the host's network is not among
        // it, a container's own network (which leads out by a bridge) may be.
        let over_network = !self.own_users || self.own_network;
        let has = |bits: u64| self.capabilities & bits != 0;
        add(has(cap::NET_RAW) && over_network && !packets_closed, Weakness::CapNetRaw);
        add(has(cap::NET_ADMIN) && over_network, Weakness::CapNetAdmin);
        add(has(cap::SYS_ADMIN) && !self.own_users, Weakness::CapSysAdmin);
        add(has(cap::BPF) && !self.own_users, Weakness::CapBpf);
        add(has(cap::SYS_PTRACE) && !self.own_users, Weakness::CapSysPtrace);
        add(has(cap::LIKE_ROOT) && !self.own_users, Weakness::CapLikeRoot);
        found
    }

    /// Whether file permissions do not hold for it on the host.
    pub fn overrides_files(&self) -> bool {
        self.capabilities & cap::DAC_OVERRIDE != 0 && !self.own_users
    }
}

/// A process as a test wants it, written below `root`.
#[cfg(test)]
pub fn made_up(root: &Path, pid: u32, uid: u32, capabilities: u64, namespaces: &str) -> PathBuf {
    use std::os::unix::fs::symlink;
    let dir = root.join(pid.to_string());
    fs::create_dir_all(dir.join("ns")).expect("directory");
    let status = format!(
        "Name:\tjob\\n\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n\
         Gid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t7 999 \nCapInh:\t0000000000000000\nCapPrm:\t{capabilities:016x}\n\
         CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t1\n"
    );
    fs::write(dir.join("status"), status).expect("status");
    fs::write(dir.join("cgroup"), format!("0::/jobs/{pid}\n")).expect("cgroup");
    fs::write(dir.join("comm"), "job\n").expect("comm");
    let after = "1 ".repeat(18);
    fs::write(dir.join("stat"), format!("{pid} (a) b) S {after}{pid}00 0 0\n")).expect("stat");
    for kind in ["user", "net", "mnt"] {
        symlink(format!("{kind}:[{namespaces}]"), dir.join("ns").join(kind)).expect("namespace");
    }
    symlink("/", dir.join("root")).expect("root");
    dir
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Proc) {
        let root = tempfile::tempdir().expect("directory");
        made_up(root.path(), 1, 0, u64::MAX, "1");
        std::os::unix::fs::symlink("1", root.path().join("self")).expect("self");
        let proc = Proc::new(root.path());
        (root, proc)
    }

    #[test]
    fn a_job_without_rights_is_no_weakness_and_root_is_all_of_them() {
        let (root, proc) = tree();
        made_up(root.path(), 20, 1000, 0, "1");
        let facts = proc.facts(20).expect("facts");
        assert_eq!((facts.uids[3], facts.groups.as_slice(), facts.no_new_privs), (1000, &[7, 999][..], true));
        assert_eq!((facts.own_users, facts.own_network), (false, false));
        assert_eq!(facts.weaknesses(false), []);
        assert_eq!(proc.start_time(20), Some(2000));
        assert_eq!(proc.cgroup(20).as_deref(), Some("/jobs/20"));

        let all = proc.facts(1).expect("facts").weaknesses(false);
        use Weakness::*;
        assert_eq!(all, [Root, CapNetRaw, CapNetAdmin, CapSysAdmin, CapBpf, CapSysPtrace, CapLikeRoot]);
        assert!(!proc.facts(1).expect("facts").weaknesses(true).contains(&CapNetRaw));
    }

    #[test]
    fn each_capability_counts_for_what_it_rules() {
        let (root, proc) = tree();
        for (pid, capabilities, want) in [
            (30, cap::NET_RAW, Some(Weakness::CapNetRaw)),
            (31, cap::NET_ADMIN, Some(Weakness::CapNetAdmin)),
            (32, cap::SYS_ADMIN, Some(Weakness::CapSysAdmin)),
            (33, cap::BPF, Some(Weakness::CapBpf)),
            (34, cap::SYS_PTRACE, Some(Weakness::CapSysPtrace)),
            (35, cap::SETUID, Some(Weakness::CapLikeRoot)),
            (36, cap::DAC_READ_SEARCH, Some(Weakness::CapLikeRoot)),
            (37, 1 << 10 /* NET_BIND_SERVICE */, None),
        ] {
            made_up(root.path(), pid, 1000, capabilities, "1");
            let found = proc.facts(pid).expect("facts").weaknesses(false);
            assert_eq!(found.as_slice(), want.as_slice(), "{capabilities:x}");
        }
    }

    #[test]
    fn capabilities_of_another_user_namespace_rule_its_own_network_only() {
        let (root, proc) = tree();
        made_up(root.path(), 40, 100_000, u64::MAX, "2");
        let found = proc.facts(40).expect("facts").weaknesses(false);
        assert_eq!(found, [Weakness::CapNetRaw, Weakness::CapNetAdmin]);
        // The host's network with users of its own: nothing.
        let dir = made_up(root.path(), 41, 100_000, u64::MAX, "2");
        fs::remove_file(dir.join("ns/net")).expect("remove");
        std::os::unix::fs::symlink("net:[1]", dir.join("ns/net")).expect("namespace");
        assert_eq!(proc.facts(41).expect("facts").weaknesses(false), []);
        // One that cannot be read is taken for the host's.
        fs::remove_file(dir.join("ns/user")).expect("remove");
        assert!(proc.facts(41).expect("facts").weaknesses(false).contains(&Weakness::CapSysAdmin));
    }

    #[test]
    fn what_is_gone_or_garbled_has_no_facts() {
        let (root, proc) = tree();
        assert_eq!(proc.facts(99), None);
        fs::write(made_up(root.path(), 50, 1, 0, "1").join("status"), b"Name:\t\xff\nUid:\t1\n")
            .expect("write");
        assert_eq!(proc.facts(50), None);
        assert!(proc.is_zombie(99) && !proc.is_zombie(1));
    }
}
