//! What this kernel has of what containment needs: version, cgroup v2, BPF, the LSM and why it is not there.

use std::fs;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Severity};
use crate::types::{Layer, LayerState, Weakness};

/// A host's kernel, read below `root` (`/`, or a tree made for a test).
#[derive(Clone, Debug)]
pub struct Kernel {
    root: PathBuf,
}

impl Kernel {
    /// The kernel as the files below `root` show it.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// All there is to say. `layers`: what the daemon loaded; empty when it cannot be asked.
    pub fn findings(&self, layers: &[Layer]) -> Vec<Finding> {
        let mut found = vec![self.version(), self.cgroups()];
        found.extend(self.lsm(layers));
        found.extend(self.settings(layers));
        found
    }

    fn version(&self) -> Finding {
        let release = self.text("proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned());
        let Some(version) = parse_version(&release) else {
            return Finding::host(
                "kernel",
                Severity::Low,
                format!("the kernel's version cannot be told: {release}"),
                "Whether all layers can load is not known.",
                "`sluice status` lists the layers that did.",
            );
        };
        if version < (5, 15) {
            return Finding::host(
                "kernel",
                Severity::High,
                format!("kernel {release} is older than 5.15"),
                "The tag's programs do not load; the agent does not start.",
                "Use a kernel from 5.15 on.",
            );
        }
        Finding::host(
            "kernel",
            Severity::Note,
            format!("kernel {release}"),
            "5.15 is the oldest that works.",
            "",
        )
    }

    fn cgroups(&self) -> Finding {
        let mounts = self.text("proc/self/mounts").unwrap_or_default();
        let v2 = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|f| f.get(2) == Some(&"cgroup2"));
        match v2.and_then(|fields| fields.get(1).map(|path| (*path).to_owned())) {
            None => Finding::host(
                "cgroup-v2",
                Severity::High,
                "cgroup v2 is not mounted",
                "A tag is a cgroup of the v2 tree: without it nothing can be tagged.",
                "Boot with systemd.unified_cgroup_hierarchy=1, or mount it: mount -t cgroup2 none /sys/fs/cgroup/unified",
            ),
            Some(path) => Finding::host(
                "cgroup-v2",
                Severity::Note,
                format!("cgroup v2 is at {path}"),
                "Tags live there.",
                "",
            ),
        }
    }

    fn lsm(&self, layers: &[Layer]) -> Option<Finding> {
        if layers.iter().any(|layer| layer.is_lsm() && layer.state == LayerState::Active) {
            let active = layers.iter().filter(|l| l.is_lsm() && l.state == LayerState::Active).count();
            let what = format!("the BPF LSM layer works, with {active} hooks");
            return Some(Finding::host(
                "lsm",
                Severity::Note,
                what,
                "It sees what hooks on cgroups do not.",
                "",
            ));
        }
        let (why_not, remedy) = self.lsm_missing(layers);
        let vsock = if self.root.join("dev/vsock").exists() {
            " This host has vsock, by which an unprivileged process reaches the hypervisor."
        } else {
            ""
        };
        Some(Finding::host(
            Weakness::NoLsm.as_str(),
            Severity::Medium,
            format!("the BPF LSM layer is missing: {why_not}"),
            format!(
                "A socket that an untagged process hands over (SCM_RIGHTS, pidfd_getfd), vsock, PPP sockets (PPPoE, \
                 L2TP), helpers behind Unix sockets, and tracing of the user's other processes are seen by LSM hooks only.{vsock}"
            ),
            format!(
                "{remedy} Until then `sluice doctor --drop-in UNIT` closes vsock, PPP sockets, packet sockets and \
                 the sockets of helpers for a unit."
            ),
        ))
    }

    /// Why there is no LSM layer, and what to do.
    fn lsm_missing(&self, layers: &[Layer]) -> (String, String) {
        let said = layers.iter().find_map(|layer| match &layer.state {
            LayerState::Absent { why } if layer.is_lsm() || layer.name == "lsm" => Some(why.clone()),
            _ => None,
        });
        let nothing_to_do =
            "Use the distribution's own kernel: those of Debian 12, Ubuntu 22.04 and RHEL 9 have it.";
        let config = self.config();
        if config.as_deref().is_some_and(|c| !c.lines().any(|line| line == "CONFIG_BPF_LSM=y")) {
            return ("the kernel was built without CONFIG_BPF_LSM".to_owned(), nothing_to_do.to_owned());
        }
        if !self.root.join("sys/kernel/btf/vmlinux").exists() {
            let why =
                "the kernel tells no types (/sys/kernel/btf/vmlinux is not there: CONFIG_DEBUG_INFO_BTF)";
            return (why.to_owned(), nothing_to_do.to_owned());
        }
        match self.text("sys/kernel/security/lsm") {
            Some(list) if !list.split(',').any(|lsm| lsm == "bpf") => (
                format!("bpf is not among the LSMs that this kernel booted with ({list})"),
                format!(
                    "Add lsm={list},bpf to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then \
                     update-grub) and reboot."
                ),
            ),
            Some(_) => (
                said.unwrap_or_else(|| "bpf is among the LSMs; the daemon knows whether its programs load".to_owned()),
                "See the reason; `journalctl -u sluice` has the kernel's words.".to_owned(),
            ),
            None => (
                said.unwrap_or_else(|| "which LSMs run cannot be told: securityfs is not mounted".to_owned()),
                "Mount securityfs (mount -t securityfs none /sys/kernel/security) and look at /sys/kernel/security/lsm: \
                 bpf must be in it."
                    .to_owned(),
            ),
        }
    }

    /// The configuration that the kernel was built with, where the distribution left it.
    fn config(&self) -> Option<String> {
        let release = self.text("proc/sys/kernel/osrelease")?;
        self.text(&format!("boot/config-{release}"))
            .or_else(|| self.text(&format!("lib/modules/{release}/config")))
    }

    fn settings(&self, layers: &[Layer]) -> Vec<Finding> {
        let mut found = Vec::new();
        let is = |path: &str, value: &str| self.text(path).as_deref() == Some(value);
        if is("proc/sys/kernel/unprivileged_bpf_disabled", "0") {
            found.push(Finding::host(
                "unprivileged-bpf",
                Severity::Low,
                "every user may load BPF programs",
                "Flaws of the kernel's verifier are then open to tagged jobs.",
                "sysctl -w kernel.unprivileged_bpf_disabled=1, and in /etc/sysctl.d to keep it.",
            ));
        }
        let traced =
            layers.iter().any(|l| l.name == "lsm ptrace_access_check" && l.state == LayerState::Active);
        if is("proc/sys/kernel/yama/ptrace_scope", "0") && !traced {
            found.push(Finding::host(
                "ptrace",
                Severity::Low,
                "processes of one user may trace each other (kernel.yama.ptrace_scope = 0)",
                "A tagged job can have an untagged process of its user send for it.",
                "sysctl -w kernel.yama.ptrace_scope=1, and give jobs users of their own.",
            ));
        }
        if self
            .text("proc/sys/net/core/somaxconn")
            .and_then(|n| n.parse::<u32>().ok())
            .is_some_and(|n| n < 4096)
        {
            found.push(Finding::host(
                "somaxconn",
                Severity::Low,
                "net.core.somaxconn is below 4096",
                "Fewer connections can wait while the gate restarts or is busy; those beyond it are refused.",
                "sysctl -w net.core.somaxconn=4096, and restart the agent.",
            ));
        }
        found
    }
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        }
        root
    }

    fn of<'a>(found: &'a [Finding], id: &str) -> &'a Finding {
        found.iter().find(|f| f.id == id).unwrap_or_else(|| panic!("no {id} in {found:#?}"))
    }

    const GOOD: [(&str, &str); 5] = [
        ("proc/sys/kernel/osrelease", "6.1.0-38-amd64\n"),
        ("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"),
        ("sys/kernel/btf/vmlinux", ""),
        ("sys/kernel/security/lsm", "lockdown,capability,landlock,yama,apparmor,bpf\n"),
        ("proc/sys/net/core/somaxconn", "4096\n"),
    ];

    #[test]
    fn a_kernel_with_everything_has_notes_only() {
        let root = tree(&GOOD);
        let layers = [Layer::active("connect4", ""), Layer::active("lsm socket_create", "")];
        let found = Kernel::below(root.path()).findings(&layers);
        assert!(found.iter().all(|f| !f.counts()), "{found:#?}");
        assert_eq!(of(&found, "kernel").what, "kernel 6.1.0-38-amd64");
    }

    #[test]
    fn why_there_is_no_lsm() {
        let absent = [Layer::absent("lsm", "", "EPERM from BPF_PROG_LOAD")];
        let root = tree(&GOOD);
        let kernel = Kernel::below(root.path());
        assert!(of(&kernel.findings(&absent), "no-lsm").what.contains("EPERM from BPF_PROG_LOAD"));

        fs::write(root.path().join("sys/kernel/security/lsm"), "lockdown,yama").expect("list");
        let finding = of(&kernel.findings(&absent), "no-lsm").clone();
        assert!(finding.what.contains("not among the LSMs that this kernel booted with (lockdown,yama)"));
        assert!(finding.remedy.contains("lsm=lockdown,yama,bpf"), "{}", finding.remedy);
        assert!(!finding.why.contains("vsock, by which"));

        fs::create_dir_all(root.path().join("dev")).expect("dev");
        fs::write(root.path().join("dev/vsock"), "").expect("vsock");
        fs::remove_file(root.path().join("sys/kernel/btf/vmlinux")).expect("no types");
        let finding = of(&kernel.findings(&absent), "no-lsm").clone();
        assert!(finding.what.contains("tells no types") && finding.why.contains("This host has vsock"));

        fs::create_dir_all(root.path().join("boot")).expect("boot");
        fs::write(root.path().join("boot/config-6.1.0-38-amd64"), "# CONFIG_BPF_LSM is not set\n")
            .expect("config");
        assert!(of(&kernel.findings(&absent), "no-lsm").what.contains("built without CONFIG_BPF_LSM"));
    }

    #[test]
    fn an_old_kernel_and_loose_settings() {
        let root = tree(&[
            ("proc/sys/kernel/osrelease", "5.10.0-30-amd64"),
            ("proc/self/mounts", "cgroup /sys/fs/cgroup/pids cgroup rw 0 0"),
            ("proc/sys/kernel/unprivileged_bpf_disabled", "0"),
            ("proc/sys/kernel/yama/ptrace_scope", "0"),
            ("proc/sys/net/core/somaxconn", "128"),
        ]);
        let found = Kernel::below(root.path()).findings(&[]);
        for (id, severity) in [
            ("kernel", Severity::High),
            ("cgroup-v2", Severity::High),
            ("no-lsm", Severity::Medium),
            ("unprivileged-bpf", Severity::Low),
            ("ptrace", Severity::Low),
            ("somaxconn", Severity::Low),
        ] {
            assert_eq!(of(&found, id).severity, severity, "{id}");
        }
    }
}
