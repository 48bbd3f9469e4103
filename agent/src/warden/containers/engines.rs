//! Container engines: whoever can connect to one's socket has a process made that is not below his cgroup, and so in no
//! tag of his. That is the known hole; here is who can.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, getgrouplist};

/// Sockets of engines, with the engine. `{uid}` stands for the user.
const SOCKETS: &[(&str, &str)] = &[
    ("run/docker.sock", "docker"),
    ("run/podman/podman.sock", "podman"),
    ("run/user/{uid}/podman/podman.sock", "podman"),
    ("run/user/{uid}/docker.sock", "docker"),
    ("run/containerd/containerd.sock", "containerd"),
    ("run/k3s/containerd/containerd.sock", "containerd"),
    ("run/user/{uid}/containerd/containerd.sock", "containerd"),
    ("run/crio/crio.sock", "cri-o"),
    ("run/buildkit/buildkitd.sock", "buildkit"),
    ("run/incus/unix.socket", "incus"),
    ("var/lib/incus/unix.socket", "incus"),
    ("var/lib/lxd/unix.socket", "lxd"),
    ("var/snap/lxd/common/lxd/unix.socket", "lxd"),
    ("run/libvirt/libvirt-sock", "libvirt"),
];

/// An engine whose socket a user can connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// `docker`, `podman`, …
    pub name: &'static str,
    /// The socket.
    pub socket: PathBuf,
    /// What lets him: `mode 0660, group docker (999)`.
    pub because: String,
}

/// A user as the file system judges him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group ids, the supplementary ones too.
    pub groups: Vec<u32>,
}

impl Account {
    /// The user with this id, with the groups that the host's name service gives him; `gid` is one more.
    pub fn of(uid: u32, gid: u32) -> Self {
        let groups = || {
            let user = User::from_uid(Uid::from_raw(uid)).ok()??;
            let name = std::ffi::CString::new(user.name).ok()?;
            getgrouplist(&name, user.gid).ok()
        };
        let mut groups: Vec<u32> = groups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
        if !groups.contains(&gid) {
            groups.push(gid);
        }
        Self { uid, groups }
    }

    /// Which of the permission bits 4, 2, 1 (read, write, search) count for him, and why. Root has all.
    fn may(&self, file: &Metadata, bit: u32) -> Option<String> {
        let mode = file.mode() & 0o7777;
        if self.uid == 0 {
            return Some("root".to_owned());
        }
        let (shift, who) = if file.uid() == self.uid {
            (6, "its owner".to_owned())
        } else if self.groups.contains(&file.gid()) {
            (3, format!("group {}", file.gid()))
        } else {
            (0, "everybody".to_owned())
        };
        (mode >> shift & bit != 0).then(|| format!("mode {mode:04o}, {who}"))
    }
}

/// The engines that an account can have make containers. Reads a dozen files' attributes.
pub fn reachable(account: &Account) -> Vec<Engine> {
    below(Path::new("/"), account)
}

fn below(root: &Path, account: &Account) -> Vec<Engine> {
    let uid = account.uid.to_string();
    let engine = |(path, name): &(&str, &'static str)| {
        // A link (/var/run) leads to where the way counts.
        let socket = root.join(path.replace("{uid}", &uid)).canonicalize().ok()?;
        let meta = fs::metadata(&socket).ok().filter(|meta| meta.file_type().is_socket())?;
        let walked = socket.ancestors().skip(1).take_while(|above| above.starts_with(root));
        let opens = |folder: &Path| {
            fs::metadata(folder).is_ok_and(|meta| grants(account, folder, &meta, 1).is_some())
        };
        if !walked.into_iter().all(opens) {
            return None;
        }
        let because = grants(account, &socket, &meta, 2)?;
        Some(Engine { name, socket, because })
    };
    SOCKETS.iter().filter_map(engine).collect()
}

/// An access control list may let anybody in: it is taken to, rather than read.
fn grants(account: &Account, path: &Path, meta: &Metadata, bit: u32) -> Option<String> {
    let listed = || {
        let length = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 1024]).ok()?;
        (length > 4).then(|| "an access control list".to_owned())
    };
    account.may(meta, bit).or_else(listed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_can_connect() {
        if !Uid::effective().is_root() {
            eprintln!("skipped: giving files away needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("temporary folder");
        let root = dir.path().canonicalize().expect("path");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("mode");
        let place = |path: &str, mode: u32, group: u32, folder: u32| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("folder")).expect("made");
            let _listener = UnixListener::bind(&path).expect("socket");
            chown(&path, Some(0), Some(group)).expect("owner");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
            fs::set_permissions(path.parent().expect("folder"), fs::Permissions::from_mode(folder))
                .expect("mode");
        };
        place("run/docker.sock", 0o660, 999, 0o755);
        place("run/podman/podman.sock", 0o666, 0, 0o700); // nobody but root gets there
        fs::create_dir_all(root.join("run/crio")).expect("folder");
        fs::write(root.join("run/crio/crio.sock"), "no socket").expect("file");

        let names = |uid: u32, groups: &[u32]| -> Vec<&str> {
            let account = Account { uid, groups: groups.to_vec() };
            below(&root, &account).into_iter().map(|engine| engine.name).collect()
        };
        assert_eq!(names(1000, &[1000]), [""; 0]);
        assert_eq!(names(1000, &[1000, 999]), ["docker"]);
        assert_eq!(names(0, &[0]), ["docker", "podman"]);
        let docker = below(&root, &Account { uid: 7, groups: vec![999] });
        assert_eq!(docker[0].because, "mode 0660, group 999");
    }

    #[test]
    fn an_account_has_its_groups() {
        let root = Account::of(0, 7);
        assert!(root.groups.contains(&0) && root.groups.contains(&7));
        assert_eq!(Account::of(4_000_000, 5).groups, [5]);
    }
}
