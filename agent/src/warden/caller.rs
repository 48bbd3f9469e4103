//! Caller facts: what /proc says of the process behind an [`Origin`], believed only while it is the same process.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use agent_ebpf::Origin;
use nix::unistd::{SysconfVar, Uid, User, sysconf};

use super::containers::Containers;
use super::programs::Programs;
use crate::types::{Caller, Exe, TagName};

/// Users whose names are remembered; beyond it the memory is emptied.
const NAMES: usize = 1024;

/// Reads callers. Holds the user names that it looked up, since a name service may be slow.
#[derive(Default)]
pub struct Callers {
    names: HashMap<u32, Option<String>>,
    containers: Containers,
    /// What hashes their programs.
    pub programs: Programs,
}

impl Callers {
    /// Who `origin` was. Facts that only a living process has are `None` when it is gone, or when its pid was given
    /// to a process that started after the connection was made.
    ///
    /// `netns` is the inode of the network namespace that the connection was made in, if that is not the host's.
    pub fn describe(
        &mut self,
        origin: &Origin,
        tag: TagName,
        tag_cgroup: &str,
        netns: Option<u64>,
    ) -> Caller {
        let process = Process::read(origin);
        let cgroups = process.as_ref().and_then(|p| p.cgroups.as_deref());
        let own = cgroups.and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::")));
        let cgroup = own.unwrap_or(tag_cgroup).to_owned();
        let container = self.containers.of(cgroups.unwrap_or(&format!("0::{tag_cgroup}")));
        let (container, container_runtime, image) = match container {
            Some(found) => (Some(found.id), Some(found.runtime), found.image),
            None => (None, None, None),
        };
        Caller {
            tag,
            pid: origin.tgid,
            start_time: process.as_ref().map(|p| p.start_time),
            uid: origin.uid,
            gid: origin.gid,
            user: self.name(origin.uid),
            comm: String::from_utf8_lossy(origin.comm.split(|&b| b == 0).next().unwrap_or_default())
                .into_owned(),
            exe: process.and_then(|p| p.exe),
            unit: unit_of(&cgroup),
            container,
            container_runtime,
            image,
            netns,
            cgroup,
            weakened: None,
        }
    }

    fn name(&mut self, uid: u32) -> Option<String> {
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let look_up = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        self.names.entry(uid).or_insert_with(look_up).clone()
    }
}

struct Process {
    start_time: u64,
    exe: Option<Exe>,
    /// /proc/PID/cgroup.
    cgroups: Option<String>,
}

impl Process {
    fn read(origin: &Origin) -> Option<Self> {
        let proc = Path::new("/proc").join(origin.tgid.to_string());
        let before = start_time(&proc)?;
        if started_after(before, origin.connected_at) {
            return None;
        }
        let process = Self { start_time: before, exe: exe(&proc), cgroups: cgroups(&proc) };
        // Still the same one: what was read in between belongs to it.
        (start_time(&proc)? == before).then_some(process)
    }
}

/// Field 22 of /proc/PID/stat, in clock ticks since boot. The command name in field 2 may hold spaces and brackets,
/// so the fields are counted from the last bracket.
pub(super) fn start_time(proc: &Path) -> Option<u64> {
    // Not read as text: the command name is any bytes that the process likes.
    let stat = fs::read(proc.join("stat")).ok()?;
    String::from_utf8_lossy(&stat).rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a process that started at `ticks` is younger than a connection made at `connected_at` ns since boot. A
/// tick is 10 ms: the process may have connected in the tick in which it started.
fn started_after(ticks: u64, connected_at: u64) -> bool {
    static PER_SECOND: OnceLock<u64> = OnceLock::new();
    let hz = *PER_SECOND.get_or_init(|| {
        sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|hz| u64::try_from(hz).ok()).unwrap_or(100)
    });
    u128::from(ticks) * 1_000_000_000 / u128::from(hz) > u128::from(connected_at)
}

fn exe(proc: &Path) -> Option<Exe> {
    let link = proc.join("exe");
    let path = fs::read_link(&link).ok()?;
    let file = fs::metadata(&link).ok()?;
    Some(Exe {
        path: path.to_string_lossy().into_owned(),
        device: file.dev(),
        inode: file.ino(),
        sha256: None,
    })
}

fn cgroups(proc: &Path) -> Option<String> {
    let text = fs::read(proc.join("cgroup")).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The systemd unit of a cgroup path, as systemd and journald have it (cg_path_get_unit): what comes after the slices,
/// with systemd's escaping `_` before reserved names taken off. Never a part further in: below a delegated unit, such as
/// every user's `user@UID.service`, the job names cgroups as it likes.
fn unit_of(cgroup: &str) -> Option<String> {
    let is_slice = |part: &&str| part.ends_with(".slice");
    let parts = || cgroup.split('/').filter(|part| !part.is_empty());
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    let part = match parts().find(|part| !is_slice(part)) {
        Some(part) if is_unit(&part) => part,
        _ => parts().take_while(is_slice).last()?,
    };
    Some(part.strip_prefix('_').unwrap_or(part).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin_of(pid: u32, connected_at: u64) -> Origin {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"test");
        Origin {
            cookie: 1,
            connected_at,
            cgroup: 1,
            address: [0; 16],
            port: 443,
            family: 2,
            tag: 1,
            tgid: pid,
            pid,
            uid: 0,
            gid: 0,
            comm,
        }
    }

    #[test]
    fn a_living_process_is_described_and_a_younger_one_is_not_believed() {
        let tag = || TagName::parse("t").expect("a tag name");
        let me = Callers::default().describe(&origin_of(std::process::id(), u64::MAX), tag(), "/x", None);
        let exe = me.exe.expect("this process lives");
        assert_eq!(Path::new(&exe.path), std::env::current_exe().expect("exe"));
        assert_eq!(me.comm, "test");
        assert!(me.start_time.is_some());

        // The same pid, but the connection is older than the process.
        let gone = Callers::default().describe(&origin_of(std::process::id(), 0), tag(), "/x", None);
        assert_eq!((gone.exe, gone.start_time, gone.cgroup.as_str()), (None, None, "/x"));
    }

    #[test]
    fn a_command_name_that_is_no_text_hides_nothing() {
        const RENAMED: &str = "import sys; open('/proc/self/comm', 'wb').write(b'\\xff) 1 ('); print(flush=True); sys.stdin.read()";
        let mut child = std::process::Command::new("python3")
            .args(["-c", RENAMED])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let renamed = std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut [0]);
        let tag = TagName::parse("t").expect("a tag name");
        let caller = Callers::default().describe(&origin_of(child.id(), u64::MAX), tag, "/x", None);
        drop(child.stdin.take());
        child.wait().expect("ended");
        renamed.expect("it renamed itself");
        assert!(caller.start_time.is_some() && caller.exe.is_some(), "{caller:?}");
    }

    #[test]
    fn units_of_cgroups() {
        let id = "0123456789abcdef".repeat(4);
        for (cgroup, unit) in [
            ("/system.slice/ci.service", Some("ci.service")),
            ("/system.slice/ci.service/runner/job1", Some("ci.service")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice", Some("user.slice")),
            // Made by the user, who may name it so.
            ("/user.slice/user-1.slice/user@1.service/app.slice/ci.service", Some("user@1.service")),
            ("/mine/ci.service", None),
            ("/sluice/run-1", None),
            (&format!("/system.slice/docker-{id}.scope"), Some(&*format!("docker-{id}.scope"))),
            (&format!("/docker/{id}"), None),
            ("/system.slice/ci.service/sshd.service", Some("ci.service")),
        ] {
            assert_eq!(unit_of(cgroup).as_deref(), unit, "{cgroup}");
        }
    }
}
