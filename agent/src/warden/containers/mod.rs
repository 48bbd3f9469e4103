//! Containers: which one a process is in and what it was made from.
//!
//! All from files; no engine is asked, since one that hangs would hold up every connection. What a cgroup is called is
//! believed as far as its owner: cgroups of root's were named by root's engine, a delegated one by whoever got it.

mod image;
mod named;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use self::image::Images;

/// The container of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hex digits, or the machine's name (nspawn, LXC).
    pub id: String,
    /// `docker`, `podman`, …; with ` (rootless)` where a user named the cgroup, who may have named it as he liked.
    pub runtime: String,
    /// The image's name, where the engine's files have it.
    pub image: Option<String>,
}

/// Finds containers. Remembers images.
#[derive(Default)]
pub struct Containers {
    images: Images,
    /// Where cgroup v2 is mounted; found at the first need.
    mount: Option<PathBuf>,
}

impl Containers {
    /// The container of a process with this /proc/PID/cgroup; `None` outside of any. Reads some files.
    pub fn of(&mut self, cgroups: &str) -> Option<Container> {
        let (hierarchy, found) = lines(cgroups).find_map(|(h, path)| Some((h, named::find(path)?)))?;
        let directory = self.directory(hierarchy).map(|mount| mount.join(found.path.trim_start_matches('/')));
        let is_roots = directory.is_some_and(|directory| is_roots(&directory));
        let rootless = !is_roots || found.path.split('/').any(named::is_user_manager);
        Some(Container {
            image: if rootless { None } else { self.images.of(found.runtime, &found.id) },
            runtime: format!("{}{}", found.runtime, if rootless { " (rootless)" } else { "" }),
            id: found.id,
        })
    }

    /// Where a hierarchy is mounted: v2 has no name.
    fn directory(&mut self, hierarchy: &str) -> Option<PathBuf> {
        if hierarchy.is_empty() {
            if self.mount.is_none() {
                self.mount = super::kernel::mount_point().ok();
            }
            return self.mount.clone();
        }
        let name = hierarchy.strip_prefix("name=").unwrap_or(hierarchy);
        (!name.contains('/')).then(|| Path::new("/sys/fs/cgroup").join(name))
    }
}

/// Hierarchy and path of each line of /proc/PID/cgroup, v2 first; v1 has its containers where v2 is mounted beside it.
fn lines(cgroups: &str) -> impl Iterator<Item = (&str, &str)> {
    let split = |line: &'_ str| -> Option<(usize, usize)> {
        let first = line.find(':')? + 1;
        Some((first, first + line[first..].find(':')?))
    };
    let parts = move |line| {
        let (start, end) = split(line)?;
        Some((&line[start..end], &line[end + 1..]))
    };
    let v2 = cgroups.lines().filter_map(parts).filter(|(hierarchy, _)| hierarchy.is_empty());
    v2.chain(cgroups.lines().filter_map(parts).filter(|(hierarchy, _)| !hierarchy.is_empty()))
}

fn is_roots(directory: &Path) -> bool {
    directory.metadata().is_ok_and(|meta| meta.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_counts_before_v1() {
        let text = "9:name=systemd:/libpod_parent/x\n4:cpu,cpuacct:/a:b\n0::/ci\n";
        let all: Vec<_> = lines(text).collect();
        assert_eq!(all, [("", "/ci"), ("name=systemd", "/libpod_parent/x"), ("cpu,cpuacct", "/a:b")]);
    }

    #[test]
    fn a_cgroup_that_is_not_roots_names_no_image() {
        let id = "0123456789abcdef".repeat(4);
        let of = |line: String| Containers::default().of(&line).expect("named");
        let found = of(format!("0::/nobody-made-this/docker-{id}.scope\n"));
        assert_eq!((found.runtime.as_str(), found.image), ("docker (rootless)", None));
        assert_eq!(found.id, id);
        assert!(Containers::default().of("0::/user.slice\n").is_none());
    }
}
