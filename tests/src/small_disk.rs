//! A small file system of a test's own, to be filled. Needs root.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A mounted tmpfs; unmounted and removed when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    /// Holds the mount point; removed after the mount is gone.
    _around: TempDir,
}

impl SmallDisk {
    /// Mounts one of `size`, as tmpfs(5) writes sizes: `3m`.
    ///
    /// # Errors
    /// Without the right to mount.
    pub fn new(size: &str) -> io::Result<Self> {
        let around = tempfile::tempdir()?;
        let path = around.path().join("disk");
        std::fs::create_dir(&path)?;
        let options = format!("size={size}");
        mount(Some("sluice-test"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self { path, _around: around })
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.path, MntFlags::MNT_DETACH).expect("unmounted");
    }
}
