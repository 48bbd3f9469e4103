//! `cargo xtask vm`: runs a command on Debian's own kernel in QEMU, with BPF LSM on, on the host's file system.
//!
//! The guest's root is the host's `/` by 9p, read-only, with a tmpfs laid over it: programs and test binaries are found
//! under their own paths, and what the guest writes is gone with it. `target/vm/share` is the exception: the host's, and
//! writable. There is no network but loopback. No KVM is needed (TCG); boot takes about 15 s.
//!
//! ```text
//! cargo xtask vm [--minutes N] [--processors N] [--memory SIZE] [--append KERNEL_WORDS] [--kernel TREE] -- COMMAND ARGUMENT…
//! cargo xtask vm [OPTIONS] test TARGET [ARGUMENT…]     a test target of sluice-tests, built here and run there
//! ```
//!
//! TREE is another kernel's, laid out as a package of it is when unpacked: `boot/vmlinuz-RELEASE` and `lib/modules/RELEASE`,
//! with virtio, 9p and overlay as modules.
//!
//! The command runs as root in the host's current directory with `SLUICE_VM=1`; its output and its exit status are ours.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};

use crate::setup::{self, Task};
use crate::sh;

/// What the guest prints last, on a line of its own, followed by the command's exit status.
const ENDED: &str = "sluice-vm: ended with ";
/// What the guest's first process needs before it sees the host's files, with their dependencies in order.
const MODULES: [&str; 3] = ["virtio_pci", "9pnet_virtio", "9p"];

/// What the kernel is told. `panic` with -no-reboot ends QEMU: a guest that cannot boot fails at once. Waits for grace
/// periods are most of what attaching and detaching programs takes, and nothing is lost here when they are shortened.
const KERNEL_WORDS: &str = "console=ttyS0 loglevel=4 panic=-1 mitigations=off \
    lsm=landlock,lockdown,yama,apparmor,bpf rcupdate.rcu_expedited=1";

/// How the guest is run.
pub struct Options {
    /// When it is killed.
    pub minutes: u32,
    /// Emulated processors. One, unless a test needs more: QEMU emulates several each in a thread of its own, and when the
    /// kernel patches code that another of them is about to run, QEMU (7.2) may go on running the breakpoint of
    /// text_poke_bp() that it has translated, although the page holds the finished instruction. Both processors then take
    /// that trap for ever ("soft lockup", seen at bpf_lsm_socket_create+1 with the call in place). A processor is made to
    /// see new code by text_poke_sync(); one processor cannot miss it. It is also a third cheaper.
    pub processors: u8,
    /// As QEMU has it.
    pub memory: String,
    /// Words for the kernel.
    pub append: String,
    /// Another kernel's tree.
    pub kernel: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { minutes: 60, processors: 1, memory: "3G".to_owned(), append: String::new(), kernel: None }
    }
}

/// `vm …`, see the head of this file.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut options = Options::default();
    let mut rest = arguments;
    loop {
        let (word, value) = (rest.first().map(String::as_str), rest.get(1));
        match (word, value) {
            (Some("--minutes"), Some(value)) => options.minutes = value.parse().context("--minutes")?,
            (Some("--processors"), Some(value)) => {
                options.processors = value.parse().context("--processors")?;
            }
            (Some("--memory"), Some(value)) => options.memory.clone_from(value),
            (Some("--append"), Some(value)) => options.append.clone_from(value),
            (Some("--kernel"), Some(value)) => options.kernel = Some(value.into()),
            (Some("--"), Some(_)) => return guest(&options, &rest[1..], &mut |line| println!("{line}")),
            (Some("test"), Some(target)) => return test(&options, target, &rest[2..]),
            _ => bail!(
                "vm [--minutes N] [--processors N] [--memory SIZE] [--append WORDS] [--kernel TREE] -- COMMAND… | test TARGET [ARGUMENT…]"
            ),
        }
        rest = &rest[2..];
    }
}

/// Builds a test target of `sluice-tests` and runs it in the guest, one test at a time.
fn test(options: &Options, target: &str, arguments: &[String]) -> Result<()> {
    let program = test_program(target)?.display().to_string();
    let words = [program, "--test-threads=1".to_owned()].into_iter().chain(arguments.iter().cloned());
    guest(options, &words.collect::<Vec<_>>(), &mut |line| println!("{line}"))
}

/// Builds a test target of `sluice-tests`, and says where its program is.
pub fn test_program(target: &str) -> Result<PathBuf> {
    sh::run(&mut sh::cargo(&["build", "--package", "sluice", "--bin", "sluice"]))?;
    let words = ["test", "--package", "sluice-tests", "--test", target, "--no-run"];
    let mut build = sh::cargo(&words);
    let built = build.stderr(Stdio::piped()).output().context("cargo")?;
    let said = String::from_utf8_lossy(&built.stderr);
    if !built.status.success() {
        bail!("cargo {}: {}\n{said}", words.join(" "), built.status);
    }
    // `  Executable tests/kernel/main.rs (target/debug/deps/kernel-0123456789abcdef)`
    let line = said.lines().rfind(|line| line.trim_start().starts_with("Executable "));
    let program = line.and_then(|line| line.rsplit_once('(')?.1.strip_suffix(')'));
    let program = program.with_context(|| format!("{target}: cargo names no executable\n{said}"))?;
    Ok(sh::root().join(program))
}

/// Boots the guest, runs `command` in it, gives each line that it prints to `line`, and fails unless it ended with 0.
pub fn guest(options: &Options, command: &[String], line: &mut dyn FnMut(&str)) -> Result<()> {
    let (place, kernel) = prepare(options.kernel.as_deref())?;
    // Two guests at once, of one run or of two, must not meet.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let own = |ending: &str| place.join(format!("{}-{number}.{ending}", std::process::id()));
    let (initrd, console) = (own("initrd"), own("console"));
    std::fs::write(&initrd, archive(&kernel, command)?).context("write the initrd")?;
    let mut qemu = qemu(options, &kernel, &place, &initrd, &console)?;
    eprintln!("+ (Linux {}) {}", kernel.release, command.join(" "));
    let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("qemu-system-x86_64")?;
    let output = child.stdout.take().context("the child has no standard output")?;
    let mut status = None;
    for text in BufReader::new(output).split(b'\n') {
        let text = text.context("the guest's output")?;
        let text = String::from_utf8_lossy(&text);
        let text = text.trim_end_matches('\r');
        if let Some(ended) = text.strip_prefix(ENDED) {
            status = ended.parse::<u8>().ok();
            continue;
        }
        line(text);
    }
    let ended = child.wait().context("qemu-system-x86_64")?;
    std::fs::remove_file(&initrd).context("remove the initrd")?;
    let Some(status) = status else {
        let said = std::fs::read(&console).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last: Vec<&str> = said.lines().rev().take(40).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!(
            "the guest did not end in {} minutes ({ended}); its console:\n{}",
            options.minutes,
            last.join("\n")
        );
    };
    std::fs::remove_file(&console).context("remove the console's file")?;
    ensure!(status == 0, "{}: exit status {status} in the guest", command.join(" "));
    Ok(())
}

/// Fetches what a guest needs: where that is, and the kernel: the one in `tree`, or Debian's. Not to be called twice at the
/// same time.
pub fn prepare(tree: Option<&Path>) -> Result<(PathBuf, Kernel)> {
    setup::install(Task::Vm)?;
    let place = sh::root().join("target/vm");
    let kernel = kernel(&place, tree)?;
    std::fs::create_dir_all(place.join("share")).context("target/vm/share")?;
    Ok((place, kernel))
}

fn qemu(options: &Options, kernel: &Kernel, place: &Path, initrd: &Path, console: &Path) -> Result<Command> {
    let share = |id: &str, path: &Path, more: &str| {
        format!("local,id={id},path={},security_model=none,multidevs=remap{more}", path.display())
    };
    let words = format!("{KERNEL_WORDS} {}", options.append);
    // `timeout` rather than a clock of ours: it holds whatever the guest prints, or does not.
    let mut command = sh::command("timeout", &["--foreground", "--signal=KILL"]);
    command.arg(format!("{}m", options.minutes)).arg("qemu-system-x86_64");
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", &options.memory]);
    command.arg("-smp").arg(options.processors.to_string());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initrd).args(["-append", &words]);
    command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    command.arg("-fsdev").arg(share("host", Path::new("/"), ",readonly=on"));
    command.args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
    command.arg("-fsdev").arg(share("share", &place.join("share"), ""));
    command.args(["-device", "virtio-9p-pci,fsdev=share,mount_tag=share"]);
    Ok(command)
}

/// Debian's kernel and a static shell, unpacked below `target/vm`: the host itself gets no other kernel.
#[derive(Debug)]
pub struct Kernel {
    release: String,
    image: PathBuf,
    modules: PathBuf,
    busybox: PathBuf,
}

fn kernel(place: &Path, tree: Option<&Path>) -> Result<Kernel> {
    let busybox = unpack(place, "busybox-static")?.join("bin/busybox");
    let (tree, release) = match tree {
        Some(tree) => (tree.canonicalize().with_context(|| tree.display().to_string())?, release_of(tree)?),
        None => debian(place)?,
    };
    let modules = tree.join("lib/modules").join(&release);
    if !modules.join("modules.dep").exists() {
        sh::run(Command::new(&busybox).arg("depmod").arg("-b").arg(&tree).arg(&release))?;
    }
    Ok(Kernel { image: tree.join(format!("boot/vmlinuz-{release}")), release, modules, busybox })
}

/// The one kernel in a tree.
fn release_of(tree: &Path) -> Result<String> {
    let boot = tree.join("boot");
    let files = std::fs::read_dir(&boot).with_context(|| boot.display().to_string())?;
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut releases = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
    releases.next().with_context(|| format!("{}: no vmlinuz-RELEASE", boot.display()))
}

/// Debian's newest: its tree and its release.
fn debian(place: &Path) -> Result<(PathBuf, String)> {
    let newest = sh::output(&mut sh::command("apt-cache", &["depends", "linux-image-amd64"]))?;
    let package =
        newest.split_whitespace().rfind(|word| word.starts_with("linux-image-") && word.ends_with("-amd64"));
    let package = package.context("apt-cache knows no linux-image-amd64")?;
    Ok((unpack(place, package)?, package.trim_start_matches("linux-image-").to_owned()))
}

/// Downloads a Debian package and unpacks it, once.
fn unpack(place: &Path, package: &str) -> Result<PathBuf> {
    let tree = place.join(package);
    if tree.exists() {
        return Ok(tree);
    }
    let fresh = place.join(format!("{package}.{}", std::process::id()));
    std::fs::create_dir_all(&fresh).with_context(|| fresh.display().to_string())?;
    sh::run(Command::new("apt-get").args(["download", "-q", package]).current_dir(&fresh))?;
    let mut files = std::fs::read_dir(&fresh)?.filter_map(|entry| Some(entry.ok()?.path()));
    let deb = files.find(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let deb = deb.with_context(|| format!("{package}: nothing was downloaded"))?;
    sh::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(fresh.join("tree")))?;
    if let Err(error) = std::fs::rename(fresh.join("tree"), &tree)
        && !tree.exists()
    {
        return Err(error).with_context(|| tree.display().to_string()); // Else another run was first.
    }
    std::fs::remove_dir_all(&fresh).with_context(|| fresh.display().to_string())?;
    Ok(tree)
}

/// The guest's first process.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /host /top /new
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
@INSERT
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 host /host
mount -t tmpfs -o size=80% tmpfs /top
mkdir /top/upper /top/work
mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work overlay /new
cd /new
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs devtmpfs dev
mkdir -p dev/pts dev/shm
mount -t devpts devpts dev/pts
for place in dev/shm run tmp var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $place; done
mount -t securityfs securityfs sys/kernel/security
mount -t bpf -o mode=0700 bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p lib/modules run/vm sbin
mount -t tmpfs tmpfs lib/modules
cp /bin/busybox run/vm/busybox
ln -s busybox run/vm/modprobe
echo /run/vm/modprobe > /proc/sys/kernel/modprobe
cp /job run/vm/job
mkdir lib/modules/@RELEASE
mount --bind ./@MODULES lib/modules/@RELEASE
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none share ./@SHARE
ip link set lo up
stty -F /dev/ttyS1 raw -echo
mount --move . /
exec chroot . /bin/sh -c '
{ setsid -w /run/vm/job </dev/null 2>&1; echo; echo "@ENDED$?"; } | sed -u "/^@ENDED/q" >/dev/ttyS1
sync; echo o >/proc/sysrq-trigger; sleep 60'
"#;

/// The initrd: shell, modules, and the command.
fn archive(kernel: &Kernel, command: &[String]) -> Result<Vec<u8>> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let mut insert = String::new();
    let list = load_order(&kernel.modules, &[&MODULES[..], &["overlay"]].concat())?;
    let folder = |name| (name, 0o040_755, Vec::new());
    let mut files = vec![folder("bin"), folder("dev"), ("bin/busybox", 0o100_755, read(&kernel.busybox)?)];
    let names: Vec<String> = (0..list.len()).map(|at| format!("module{at}.ko")).collect();
    for (name, module) in names.iter().zip(&list) {
        insert.push_str(&format!("insmod /{name}\n"));
        files.push((name, 0o100_644, read(&kernel.modules.join(module))?));
    }
    let share = sh::root().join("target/vm/share");
    let init = INIT
        .replace("@INSERT\n", &insert)
        .replace("@RELEASE", &kernel.release)
        .replace("@MODULES", &kernel.modules.display().to_string())
        .replace("@SHARE", &share.display().to_string())
        .replace("@ENDED", ENDED);
    files.push(("init", 0o100_755, init.into_bytes()));
    files.push(("job", 0o100_755, job(command)?.into_bytes()));
    Ok(newc(&files))
}

/// The command as a script, in our own directory.
fn job(command: &[String]) -> Result<String> {
    let here = std::env::current_dir().context("the current directory")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let here = quoted(&here.display().to_string());
    Ok(format!(
        "#!/bin/sh\nulimit -n 1048576\nexport SLUICE_VM=1 HOME=/root RUST_BACKTRACE=1 PATH={}\ncd {here} && exec {}\n",
        quoted(&path),
        words.join(" ")
    ))
}

/// One word for sh.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The files of modules and of all that they need, each after what it needs.
fn load_order(modules: &Path, names: &[&str]) -> Result<Vec<String>> {
    let list = modules.join("modules.dep");
    let list = std::fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let mut order = Vec::new();
    for name in names {
        let ending = format!("/{name}.ko");
        let file = list
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0))
            .find(|file| file.ends_with(&ending));
        add(&list, file.with_context(|| format!("the kernel has no module {name}"))?, &mut order);
    }
    Ok(order)
}

fn add(list: &str, file: &str, order: &mut Vec<String>) {
    if order.iter().any(|one| one == file) {
        return;
    }
    let line = list.lines().find_map(|line| line.strip_prefix(file)?.strip_prefix(':'));
    for needed in line.unwrap_or_default().split_whitespace() {
        add(list, needed, order);
    }
    order.push(file.to_owned());
}

/// A cpio archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst): path, mode and
/// content of each file.
fn newc(files: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let end = ("TRAILER!!!", 0, Vec::new());
    for (number, (name, mode, content)) in files.iter().chain([&end]).enumerate() {
        // Magic, inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, check.
        let fields = [number + 1, *mode as usize, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        archive.extend_from_slice(b"070701");
        for field in fields {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let list = "a/ring.ko: a/virtio.ko\na/virtio.ko:\na/pci.ko: a/ring.ko a/virtio.ko\n";
        let mut order = Vec::new();
        add(list, "a/pci.ko", &mut order);
        assert_eq!(order, ["a/virtio.ko", "a/ring.ko", "a/pci.ko"]);
    }

    #[test]
    fn an_archive_is_aligned_and_ends() {
        let archive = newc(&[("init", 0o100_755, b"hello".to_vec())]);
        assert!(archive.starts_with(b"07070100000001000081ed"));
        assert_eq!(archive.len() % 4, 0);
        assert!(archive.windows(10).any(|part| part == b"TRAILER!!!"));
        let at = archive.windows(5).position(|part| part == b"hello").expect("the content");
        assert_eq!(at % 4, 0);
    }

    #[test]
    fn words_are_quoted() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
