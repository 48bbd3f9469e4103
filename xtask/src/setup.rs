//! `cargo xtask setup`: the Debian packages that the tasks need, in one list with the reason of each. What is there
//! already, from whatever source, is left alone.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::sh;

/// The tasks that need packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Demo,
    Test,
    Bench,
    Dist,
    Ebpf,
    Profile,
    Vm,
}

impl Task {
    const ALL: [Self; 7] =
        [Self::Demo, Self::Test, Self::Bench, Self::Dist, Self::Ebpf, Self::Profile, Self::Vm];

    fn parse(name: &str) -> Option<Self> {
        match name {
            "demo" => Some(Self::Demo),
            "test" => Some(Self::Test),
            "bench" => Some(Self::Bench),
            "dist" => Some(Self::Dist),
            "ebpf" => Some(Self::Ebpf),
            "profile" => Some(Self::Profile),
            "vm" => Some(Self::Vm),
            _ => None,
        }
    }
}

/// How we see that a package's content is there already, wherever it came from.
enum Probe {
    /// A program on PATH.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// Only dpkg can tell.
    Installed,
}

struct Package {
    name: &'static str,
    probe: Probe,
    tasks: &'static [Task],
    /// For the reader of this list.
    #[expect(dead_code, reason = "the reason stands beside the package for people; no code reads it")]
    why: &'static str,
}

const fn package(name: &'static str, probe: Probe, tasks: &'static [Task], why: &'static str) -> Package {
    Package { name, probe, tasks, why }
}

use Probe::{File, Installed, Program};
use Task::{Bench, Demo, Dist, Ebpf, Profile, Test, Vm};

const PACKAGES: &[Package] = &[
    package("gcc", Program("cc"), &[Demo, Test, Bench, Dist, Ebpf], "aws-lc is C; the linker"),
    package(
        "libc6-dev",
        File("/usr/include/stdio.h"),
        &[Demo, Test, Bench, Dist, Ebpf],
        "headers and crt for cc",
    ),
    package(
        "ca-certificates",
        File("/etc/ssl/certs/ca-certificates.crt"),
        &[Demo, Test, Bench, Dist],
        "the system's roots",
    ),
    package("iproute2", Program("ip"), &[Demo, Test, Bench], "network namespaces of the tests"),
    package(
        "curl",
        File("/usr/bin/curl"),
        &[Demo, Test, Bench],
        "a client: of the demo, and for events in the bench",
    ),
    package("python3", File("/usr/bin/python3"), &[Demo, Test, Bench], "a client: the script of the demo"),
    package(
        "openssl",
        Program("openssl"),
        &[Demo, Test, Bench],
        "certificates, and a second opinion on ours",
    ),
    package("git", File("/usr/bin/git"), &[Test, Dist], "a client: clone over https; the date of a package"),
    package("wget", File("/usr/bin/wget"), &[Test], "a client with GnuTLS"),
    package("python3-venv", Installed, &[Test], "where requests, httpx, openai and grpcio are put"),
    package("nodejs", File("/usr/bin/node"), &[Test], "a client: fetch and the openai package"),
    package("npm", Program("npm"), &[Test], "fetches that package"),
    package("golang-go", File("/usr/bin/go"), &[Test], "a client in Go"),
    package(
        "golang-golang-x-mod-dev",
        Installed,
        &[Test],
        "Go's own trees, notes and tiles: a second opinion on ours",
    ),
    package("bind9-dnsutils", Program("dig"), &[Test], "a client: dig"),
    package("musl-tools", Program("musl-gcc"), &[Test], "a client with musl's resolver"),
    package("postgresql-client", Program("psql"), &[Test], "a client: of a protocol that names no host"),
    package("default-jdk-headless", File("/usr/bin/javac"), &[Test], "a client in Java, and keytool"),
    package(
        "xz-utils",
        Program("xz"),
        &[Test, Bench, Dist, Profile],
        "unpacks x509-limbo, and the profile of release builds",
    ),
    package("llvm-22", Program("llvm-profdata-22"), &[Profile], "adds up what the processes counted"),
    package("gdb", Program("gcore"), &[Test], "a dump of a process, which a job must not get of the agent's"),
    package("e2fsprogs", File("/usr/sbin/mkfs.ext4"), &[Test], "file systems on a disk that loses its power"),
    package("strace", Program("strace"), &[Test], "makes writes and syncs of the store fail"),
    package("zstd", Program("zstd"), &[Test], "bodies in that content coding"),
    package("nginx-light", Program("nginx"), &[Test, Bench], "an upstream that is not ours"),
    package(
        "xmlsec1",
        Program("xmlsec1"),
        &[Test],
        "verifies SAML assertions for the bridge that is tested with",
    ),
    package("podman", Program("podman"), &[Test], "containers of a real engine"),
    package("slirp4netns", Program("slirp4netns"), &[Test], "the network of rootless containers"),
    package("age", Program("age"), &[Test], "opens the keys of sealed bodies"),
    package("tshark", Program("tshark"), &[Test], "reads the packets of sluice export"),
    package(
        "chromium",
        Program("chromium"),
        &[Test],
        "its developer tools import the archives of sluice export",
    ),
    package("wrk", Program("wrk"), &[Bench], "load over HTTP/1.1"),
    package("haproxy", Program("haproxy"), &[Bench], "the peer in the same place"),
    package("nghttp2-client", Program("h2load"), &[Bench], "load over HTTP/2"),
    package("debootstrap", Program("debootstrap"), &[Test], "the Debian tree that the systemd tests boot"),
    package("systemd-container", Program("systemd-nspawn"), &[Test], "boots that tree"),
    package("systemd", Program("systemd-analyze"), &[Test, Dist], "judges the unit's exposure"),
    package("dpkg-dev", Program("dpkg-shlibdeps"), &[Test, Dist], "the package's library dependencies"),
    package("lintian", Program("lintian"), &[Dist], "judges the package"),
    package(
        "qemu-system-x86",
        Program("qemu-system-x86_64"),
        &[Test, Vm],
        "runs tests on Debian's own kernel",
    ),
    package("rustc-web", Installed, &[Ebpf], "a rustc of the version that Debian's bpf libstd belongs to"),
    package("libstd-rust-web-dev-bpf", Installed, &[Ebpf], "core for the BPF target"),
    package("llvm-22-dev", Installed, &[Ebpf], "bpf-linker links against it"),
    package("zlib1g-dev", Installed, &[Ebpf], "bpf-linker links against it"),
    package("libzstd-dev", Installed, &[Ebpf], "bpf-linker links against it"),
];

/// `setup [TASK]`.
pub fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => Task::ALL.into_iter().try_for_each(install),
        [name] => install(Task::parse(name).with_context(|| format!("{name}: no task of setup"))?),
        _ => bail!("one task at most"),
    }
}

/// Kernel programs, cgroups and namespaces need root, and so does apt-get.
pub fn require_root() -> Result<()> {
    if sh::output(&mut sh::command("id", &["-u"]))?.trim() != "0" {
        bail!("needs root (kernel programs, cgroups, network namespaces): run it in a root shell");
    }
    Ok(())
}

/// Installs what a task lacks. `apt-get update` runs only when the first try does not know or find a package.
pub fn install(task: Task) -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|package| package.tasks.contains(&task) && !present(package))
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if sh::which("apt-get").is_none() {
        bail!("missing: {}; there is no apt-get here to install them with", missing.join(" "));
    }
    require_root()?;
    if apt(&missing).is_err() {
        sh::run(sh::command("apt-get", &["update", "-q"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
        apt(&missing)?;
    }
    Ok(())
}

fn apt(packages: &[&str]) -> Result<()> {
    let mut command = sh::command("apt-get", &["install", "-q", "-y", "--no-install-recommends"]);
    sh::run(command.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn present(package: &Package) -> bool {
    match package.probe {
        Program(program) => sh::which(program).is_some(),
        File(file) => Path::new(file).exists(),
        Installed => {
            let mut query = sh::command("dpkg-query", &["-W", "-f", "${db:Status-Status}", package.name]);
            query.output().is_ok_and(|output| output.stdout == b"installed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_package_stands_twice() {
        for (at, one) in PACKAGES.iter().enumerate() {
            assert!(
                PACKAGES[at + 1..].iter().all(|other| other.name != one.name),
                "{} stands twice",
                one.name
            );
        }
    }

    #[test]
    fn every_task_is_known_by_its_name() {
        for name in ["demo", "test", "bench", "dist", "ebpf", "vm"] {
            assert!(Task::parse(name).is_some(), "{name}");
        }
        assert_eq!(Task::parse("tests"), None);
    }
}
