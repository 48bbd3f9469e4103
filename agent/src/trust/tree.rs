//! The files of a host, or of a tree that is a host's root (`--root DIR`): reading, exact replacing, comparing, and the
//! host's own tools. Paths here are written as the host itself writes them (`/etc/…`), also below another root.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::{Error, hex_sha256};

/// Largest file that is read: the largest of its kind (RHEL's extracted bundles) is under 2 MiB.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;
/// Entries of all watched folders together: a store has a few hundred.
const ENTRY_LIMIT: usize = 20_000;
/// Symbolic links followed in one path, as in the kernel (MAXSYMLINKS).
const LINK_LIMIT: usize = 40;

/// A root folder, and what lies below it.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

/// What stands at a path, not following a last symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub(super) enum Entry {
    File { sha256: String, mode: u32, uid: u32, gid: u32 },
    Link { target: PathBuf },
    Folder,
}

/// Entries by path: absent paths are absent here.
pub(super) type Snapshot = BTreeMap<PathBuf, Entry>;

impl Tree {
    /// `/` for this host.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where a path of the tree stands in our own file system.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether something stands there, seen from inside the tree.
    pub(super) fn exists(&self, path: &Path) -> bool {
        self.resolve(path).is_some_and(|real| self.at(&real).symlink_metadata().is_ok())
    }

    /// The path without symbolic links, each followed inside the tree. `None` if it leads nowhere or in circles.
    pub(super) fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut rest: Vec<PathBuf> = parts(path);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == Path::new("..") {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            let Ok(target) = fs::read_link(self.at(&next)) else {
                self.at(&next).symlink_metadata().ok()?;
                real = next;
                continue;
            };
            links += 1;
            if links > LINK_LIMIT {
                return None;
            }
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        }
        Some(real)
    }

    /// A file's bytes, following links inside the tree.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let real = self.resolve(path).unwrap_or_else(|| path.to_owned());
        read(&self.at(&real))
    }

    /// Names in a folder, sorted; empty where there is no such folder.
    pub(super) fn names(&self, folder: &Path) -> Vec<PathBuf> {
        let Some(real) = self.resolve(folder) else { return Vec::new() };
        let mut names: Vec<PathBuf> = fs::read_dir(self.at(&real))
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .take(ENTRY_LIMIT)
            .map(|entry| folder.join(entry.file_name()))
            .collect();
        names.sort();
        names
    }

    /// Everything at and below the watched paths.
    pub(super) fn snapshot(&self, watched: &[PathBuf]) -> Result<Snapshot, Error> {
        let mut found = Snapshot::new();
        let mut rest = watched.to_vec();
        while let Some(path) = rest.pop() {
            let Some(entry) = self.entry(&path)? else { continue };
            if entry == Entry::Folder {
                rest.extend(self.names(&path));
            }
            found.insert(path, entry);
            if found.len() > ENTRY_LIMIT {
                let source =
                    io::Error::other(format!("more than {ENTRY_LIMIT} entries below the certificate stores"));
                return Err(Error::Read { path: watched.first().cloned().unwrap_or_default(), source });
            }
        }
        Ok(found)
    }

    /// What stands at one path.
    pub(super) fn entry(&self, path: &Path) -> Result<Option<Entry>, Error> {
        let here = self.at(path);
        let failed = |source| Error::Read { path: here.clone(), source };
        let metadata = match here.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        Ok(Some(if metadata.is_symlink() {
            Entry::Link { target: fs::read_link(&here).map_err(failed)? }
        } else if metadata.is_dir() {
            Entry::Folder
        } else {
            let sha256 = hex_sha256(&read(&here)?);
            Entry::File { sha256, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
        }))
    }

    /// Makes the path what `entry` says: `content` is needed for a file.
    pub(super) fn restore(&self, path: &Path, entry: Option<&Entry>, content: &[u8]) -> Result<(), Error> {
        let here = self.at(path);
        let failed = |source| Error::Write { path: here.clone(), source };
        match entry {
            Some(Entry::File { mode, uid, gid, .. }) => {
                replace(&here, content, *mode)?;
                std::os::unix::fs::chown(&here, Some(*uid), Some(*gid)).map_err(failed)?;
                self.relabel(path);
                Ok(())
            }
            Some(Entry::Folder) => fs::create_dir_all(&here).map_err(failed),
            Some(Entry::Link { target }) => {
                gone(fs::remove_file(&here)).map_err(failed)?;
                std::os::unix::fs::symlink(target, &here).map_err(failed)
            }
            None if here.is_dir() && !here.is_symlink() => gone(fs::remove_dir(&here)).map_err(failed),
            None => gone(fs::remove_file(&here)).map_err(failed),
        }
    }

    /// Runs one of the tree's own tools with this on its standard input, and gives its standard output.
    pub(super) fn run(&self, program: &Path, arguments: &[&OsStr], input: &[u8]) -> Result<String, Error> {
        let mut command = if self.root == Path::new("/") {
            Command::new(program)
        } else {
            let mut chroot = Command::new("chroot");
            chroot.arg(&self.root).arg(program);
            chroot
        };
        let tool = describe(program, arguments);
        // The caller's environment stays: dpkg tells the hooks of the certificate tool by it that it runs them itself.
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.args(arguments).env("PATH", path).env("LC_ALL", "C.UTF-8").env_remove("JAVA_TOOL_OPTIONS");
        command.current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = |source| Error::Start { tool: tool.clone(), source };
        let mut child = command.spawn().map_err(started)?;
        // One certificate at most: it fits the pipe. A tool that does not read it is no error.
        drop(child.stdin.take().map(|mut stdin| stdin.write_all(input)));
        let output = child.wait_with_output().map_err(started)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let last = [said.trim(), String::from_utf8_lossy(&output.stderr).trim()].join(" ");
        let from = last.char_indices().rev().nth(400).map_or(0, |(at, _)| at);
        Err(Error::Tool { tool, said: format!("{}: {}", output.status, last[from..].trim()) })
    }

    /// A file made anew has its folder's SELinux label, which is not always its own.
    fn relabel(&self, path: &Path) {
        let restorecon = Path::new("/usr/sbin/restorecon");
        if self.exists(restorecon) && self.run(restorecon, &[path.as_os_str()], b"").is_err() {
            tracing::warn!(path = %path.display(), "restorecon failed");
        }
    }
}

/// Writes a file as a whole or not at all; readers see the old or the new one.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let write = || -> io::Result<()> {
        remove_unfinished(path)?;
        gone(fs::remove_file(&new))?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new))).map_err(failed)
}

/// Removes what writers of a file left that were killed before they were done. Those that live are left alone.
fn remove_unfinished(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let head = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let writer = name.to_str().and_then(|n| n.strip_prefix(&head)?.strip_suffix(".new"));
        if writer.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            gone(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// A file's bytes, bounded.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    fs::File::open(path).map_err(failed)?.take(FILE_LIMIT + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > FILE_LIMIT {
        return Err(Error::TooLarge { path: path.to_owned(), limit: FILE_LIMIT });
    }
    Ok(content)
}

/// Absent already is removed, too.
pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn describe(program: &Path, arguments: &[&OsStr]) -> String {
    let mut line = program.display().to_string();
    for argument in arguments {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// The parts of a path from last to first: a stack to take them from.
fn parts(path: &Path) -> Vec<PathBuf> {
    let normal = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(normal).map(|part| PathBuf::from(part.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = Tree::new(folder.path());
        (folder, tree)
    }

    #[test]
    fn links_are_followed_inside_the_tree_only() {
        let (folder, tree) = tree();
        fs::create_dir_all(folder.path().join("etc/a")).expect("a folder");
        fs::write(folder.path().join("etc/a/f"), "x").expect("a file");
        std::os::unix::fs::symlink("/etc/a", folder.path().join("etc/b")).expect("a link");
        std::os::unix::fs::symlink("../../../../etc/b/f", folder.path().join("etc/up")).expect("a link");
        std::os::unix::fs::symlink("round", folder.path().join("round")).expect("a link");
        assert_eq!(tree.resolve(Path::new("/etc/b/f")), Some(PathBuf::from("/etc/a/f")));
        assert_eq!(tree.resolve(Path::new("/etc/up")), Some(PathBuf::from("/etc/a/f")));
        assert_eq!(tree.resolve(Path::new("/round")), None);
        assert!(!tree.exists(Path::new("/etc/passwd")));
        assert_eq!(tree.read(Path::new("/etc/up")).expect("the file"), b"x");
    }

    #[test]
    fn what_a_snapshot_saw_can_be_restored() {
        let (folder, tree) = tree();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "old").expect("a file");
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o640)).expect("a mode");
        std::os::unix::fs::symlink("nowhere", at("link")).expect("a link");
        let watched = [PathBuf::from("/")];
        let before = tree.snapshot(&watched).expect("a snapshot");
        fs::write(at("file"), "new").expect("a file");
        fs::remove_file(at("link")).expect("no link");
        fs::write(at("more"), "").expect("a file");
        assert_ne!(tree.snapshot(&watched).expect("a snapshot"), before);
        for name in ["/file", "/link", "/more"] {
            tree.restore(Path::new(name), before.get(Path::new(name)), b"old").expect("restored");
        }
        assert_eq!(tree.snapshot(&watched).expect("a snapshot"), before);
    }

    #[test]
    fn a_file_beyond_the_bound_is_refused() {
        let (folder, _) = tree();
        let path = folder.path().join("huge");
        fs::File::create(&path).expect("a file").set_len(FILE_LIMIT + 1).expect("a hole");
        assert!(matches!(read(&path), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_failing_tool_says_why() {
        let arguments = ["-c", "echo broken >&2; exit 3"].map(OsStr::new);
        let error = Tree::new("/").run(Path::new("/bin/sh"), &arguments, b"").expect_err("exit 3");
        assert!(error.to_string().contains("broken") && error.to_string().contains('3'), "{error}");
    }
}
