//! Whether a process may connect to the socket of a container engine or of another daemon that starts what it is told to.
//!
//! Looked at in the process's own view of the files (/proc/PID/root), by its ids against the permissions. Symbolic links
//! are not followed: an absolute one would lead into our own view.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use super::process::Facts;

/// Sockets whose owners start processes for whoever connects, outside of the caller's cgroup.
pub const ENGINES: [&str; 15] = [
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/dockershim.sock",
    "/run/balena-engine.sock",
    "/run/incus/unix.socket",
    "/run/libvirt/libvirt-sock",
    "/run/lxd.socket",
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/run/docker.sock",
];

/// The sockets of a user's own engines, below /run/user/UID.
pub const OF_USERS: [&str; 2] = ["docker.sock", "podman/podman.sock"];

/// Those that a process may connect to, by their paths in its view. `root` is its root as we see it: `/proc/PID/root`.
pub fn reachable(root: &Path, facts: &Facts) -> Vec<PathBuf> {
    let of_user = OF_USERS.iter().map(|name| format!("/run/user/{}/{name}", facts.uids[3]));
    ENGINES
        .iter()
        .map(|path| (*path).to_owned())
        .chain(of_user)
        .filter(|path| may_connect(root, Path::new(path), facts))
        .map(PathBuf::from)
        .collect()
}

/// Whether the file at `path` is a socket that the process may connect to: search permission on each directory, write
/// permission on the socket (unix(7)).
pub fn may_connect(root: &Path, path: &Path, facts: &Facts) -> bool {
    let mut at = root.to_path_buf();
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        at.push(name);
        let Ok(meta) = fs::symlink_metadata(&at) else { return false };
        if meta.is_dir() {
            if !permits(&at, &meta, facts, SEARCH) {
                return false;
            }
            continue;
        }
        // What systemd puts over a path of InaccessiblePaths= is a socket without permissions: nobody listens there.
        return meta.file_type().is_socket() && meta.mode() & 0o777 != 0 && permits(&at, &meta, facts, WRITE);
    }
    false
}

const SEARCH: u32 = 1;
const WRITE: u32 = 2;

/// The permission check of the kernel (acl(5), path_resolution(7)): owner, named users, groups, others.
fn permits(path: &Path, meta: &Metadata, facts: &Facts, want: u32) -> bool {
    if facts.overrides_files() {
        return true;
    }
    let (uid, gid) = (facts.uids[3], facts.gids[3]);
    let is_in = |group: u32| gid == group || facts.groups.contains(&group);
    let mode = meta.mode();
    if meta.uid() == uid {
        return (mode >> 6) & want == want;
    }
    match access_list(path) {
        Some(list) => list.permits(uid, is_in, meta.gid(), want),
        None if is_in(meta.gid()) => (mode >> 3) & want == want,
        None => mode & want == want,
    }
}

/// The entries of a POSIX access control list: tag, permissions, id.
struct AccessList(Vec<(u16, u32, u32)>);

/// `system.posix_acl_access`: a version (2), then entries of 8 bytes (linux/posix_acl_xattr.h).
fn access_list(path: &Path) -> Option<AccessList> {
    let mut buffer = [0u8; 4096];
    let n = rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut buffer[..]).ok()?;
    AccessList::parse(buffer.get(..n)?)
}

const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHER: u16 = 32;

impl AccessList {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != 2 {
            return None;
        }
        let entry = |e: &[u8]| {
            let half = |at: usize| u16::from_le_bytes([e[at], e[at + 1]]);
            (half(0), u32::from(half(2)), u32::from_le_bytes([e[4], e[5], e[6], e[7]]))
        };
        Some(Self(entries.chunks_exact(8).map(entry).collect()))
    }

    fn permits(&self, uid: u32, is_in: impl Fn(u32) -> bool, owner_group: u32, want: u32) -> bool {
        let first = |tag: u16| self.0.iter().find(|e| e.0 == tag).map(|e| e.1);
        let mask = first(MASK).unwrap_or(7);
        if let Some((_, perms, _)) = self.0.iter().find(|e| e.0 == USER && e.2 == uid) {
            return perms & mask & want == want;
        }
        let group = |e: &&(u16, u32, u32)| match e.0 {
            GROUP_OBJ => is_in(owner_group),
            GROUP => is_in(e.2),
            _ => false,
        };
        let mut groups = self.0.iter().filter(group).peekable();
        if groups.peek().is_some() {
            return groups.any(|e| e.1 & mask & want == want);
        }
        first(OTHER).is_some_and(|perms| perms & want == want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    fn job(uid: u32, gid: u32) -> Facts {
        Facts {
            uids: [uid; 4],
            gids: [gid; 4],
            groups: vec![],
            capabilities: 0,
            no_new_privs: false,
            own_users: false,
            own_network: false,
            view: None,
        }
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    }

    #[test]
    fn who_may_connect_to_the_engine() {
        let root = tempfile::tempdir().expect("directory");
        let run = root.path().join("run");
        fs::create_dir(&run).expect("run");
        let socket = run.join("docker.sock");
        let _listening = UnixListener::bind(&socket).expect("socket");
        let meta = fs::metadata(&socket).expect("metadata");
        let (owner, group) = (meta.uid(), meta.gid());
        let (stranger, member) = (job(owner + 1, group + 1), job(owner + 1, group));
        let can = |facts: &Facts| !reachable(root.path(), facts).is_empty();

        set(&socket, 0o660);
        assert_eq!(reachable(root.path(), &member), [PathBuf::from("/run/docker.sock")]);
        assert!(!can(&stranger) && can(&job(owner, group + 1)));
        let supplementary = Facts { groups: vec![group], ..stranger.clone() };
        assert!(can(&supplementary));
        let overrides = Facts { capabilities: super::super::process::cap::DAC_OVERRIDE, ..stranger.clone() };
        assert!(can(&overrides));
        // In a user namespace of its own the capability is worth nothing here.
        assert!(!can(&Facts { own_users: true, ..overrides.clone() }));
        set(&socket, 0o666);
        assert!(can(&stranger));
        set(&run, 0o700);
        assert!(!can(&stranger), "it may not enter the directory");
        // InaccessiblePaths=
        set(&socket, 0);
        assert!(!can(&overrides));
    }

    #[test]
    fn a_link_or_a_file_is_no_socket() {
        let root = tempfile::tempdir().expect("directory");
        fs::create_dir(root.path().join("run")).expect("run");
        let overrides = Facts { capabilities: u64::MAX, ..job(0, 0) };
        std::os::unix::fs::symlink("/run/elsewhere.sock", root.path().join("run/docker.sock")).expect("link");
        fs::write(root.path().join("run/crio"), "").expect("file");
        assert_eq!(reachable(root.path(), &overrides), Vec::<PathBuf>::new());
    }

    #[test]
    fn access_lists() {
        // user::rw-, user:1000:rw-, group::---, group:50:rw-, mask::rw-, other::---
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, perms, id) in
            [(1u16, 6u16, u32::MAX), (2, 6, 1000), (4, 0, u32::MAX), (8, 6, 50), (16, 6, 0), (32, 0, 0)]
        {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(perms.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        let list = AccessList::parse(&bytes).expect("list");
        assert!(list.permits(1000, |_| false, 1, WRITE));
        assert!(!list.permits(1001, |_| false, 1, WRITE));
        assert!(!list.permits(1001, |g| g == 1, 1, WRITE));
        assert!(list.permits(1001, |g| g == 50, 1, WRITE));
        assert!(AccessList::parse(&[1, 0, 0]).is_none());
    }
}
