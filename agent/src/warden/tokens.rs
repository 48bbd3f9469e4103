//! Where tokens that may prove a caller's identity are found: its environment, a file of its, `sluice run`. They are handed
//! to the gate unread: whether one is good is its to say.
//!
//! A job can make the reading of its own memory and files take for ever (a file system of its own, in which a page or a
//! file never comes). So threads apart from the daemon's loop read: see [`readers`].

mod readers;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::caller::start_time;
use super::gate_process::Mailbox;
use super::tags::{Process, Tags};
use crate::config::Issuer;
use crate::types::{Caller, TagName, Token, issuer::TOKEN_MAX};
use crate::wire::{TOKENS, ToGate};
use readers::Readers;

/// Bytes of an environment that are read: Linux allows more, nobody uses it.
const ENVIRONMENT: u64 = 512 * 1024;
/// Tags that can have a token of `sluice run` at once: more than there can be tags.
const HELD: usize = 256;

/// Where tokens are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    variables: Vec<String>,
    files: Vec<PathBuf>,
}

impl Places {
    /// Those of the configuration, in its order.
    pub fn of(issuers: &[Issuer]) -> Self {
        let mut places = Self::default();
        for issuer in issuers {
            for name in &issuer.token_env {
                if !places.variables.contains(name) {
                    places.variables.push(name.clone());
                }
            }
            places.files.extend(issuer.token_file.clone().filter(|file| !places.files.contains(file)));
        }
        places
    }

    fn any(&self) -> bool {
        !self.variables.is_empty() || !self.files.is_empty()
    }
}

/// Finds and holds tokens. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Given by `sluice run`, for all of a tag, while that is the tag that it was given for (it began then).
    held: Mutex<HashMap<TagName, (time::OffsetDateTime, Token)>>,
    readers: Readers,
}

impl Tokens {
    /// Holds a token for all processes of a tag; an earlier one is replaced.
    ///
    /// # Errors
    /// Why not.
    pub fn hold(&self, tags: &Tags, tag: &TagName, token: Token) -> Result<(), &'static str> {
        let since = tags.entry(tag).ok_or("the tag is over")?.since;
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|tag, (since, _)| tags.entry(tag).is_some_and(|entry| entry.since == *since));
        if held.len() >= HELD && !held.contains_key(tag) {
            return Err("too many tags have a token");
        }
        held.insert(tag.clone(), (since, token));
        Ok(())
    }

    fn held(&self, tags: &Tags, tag: &TagName) -> Option<Token> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, token) = held.get(tag)?;
        tags.entry(tag).filter(|entry| entry.since == *since).map(|_| token.clone())
    }

    /// Begins to look for the caller's tokens; the gate gets them under `call`. `false`: there is nothing to look for, and
    /// nothing follows.
    pub fn look(&self, tags: &Tags, places: &Places, caller: &Caller, call: u64, gate: Mailbox) -> bool {
        let held = self.held(tags, &caller.tag);
        if held.is_none() && !places.any() {
            return false;
        }
        let tell = move |tokens| {
            // A gate that does not read, or is gone, wants none.
            let _ = gate.post(vec![(ToGate::Tokens { call, tokens }, None)]);
        };
        // Which process it was is not known any more: its environment neither.
        let Some(started) = caller.start_time.filter(|_| places.any()) else {
            tell(held.into_iter().collect());
            return true;
        };
        let whose = Whose { pid: caller.pid, started, uid: caller.uid, gid: caller.gid };
        let places = places.clone();
        let (tell_less, held_only) = (tell.clone(), held.clone());
        let read = move || {
            let mut found = read(&whose, &places);
            found.extend(held);
            found.truncate(TOKENS);
            tell(found);
        };
        if self.0.readers.run(&caller.tag, caller.uid, Box::new(read)).is_err() {
            tracing::debug!("too many environments of {} are being read", caller.tag);
            tell_less(held_only.into_iter().collect());
        }
        true
    }
}

/// The process that the kernel named.
struct Whose {
    pid: u32,
    started: u64,
    uid: u32,
    gid: u32,
}

/// The tokens of one process. A file comes first: it can be renewed while the process lives, its environment cannot.
/// Nothing, when the process has ended meanwhile: what was read may be another's.
fn read(whose: &Whose, places: &Places) -> Vec<Token> {
    let proc = Path::new("/proc").join(whose.pid.to_string());
    let is_still = || start_time(&proc) == Some(whose.started);
    // Held, so that the number cannot change its meaning between the checks.
    let Ok(process) = Process::open(whose.pid) else { return Vec::new() };
    if !is_still() {
        return Vec::new();
    }
    let mut found: Vec<Token> = places.files.iter().filter_map(|file| of_file(&proc, whose, file)).collect();
    if !places.variables.is_empty() {
        found.extend(of_environment(&proc, &places.variables));
    }
    if is_still() && process.alive().unwrap_or(false) { found } else { Vec::new() }
}

fn of_environment(proc: &Path, variables: &[String]) -> Vec<Token> {
    let mut bytes = Vec::new();
    let read =
        fs::File::open(proc.join("environ")).and_then(|file| file.take(ENVIRONMENT).read_to_end(&mut bytes));
    if let Err(error) = read {
        tracing::debug!("{}: {error}", proc.display());
        return Vec::new();
    }
    let tokens = variables.iter().filter_map(|name| in_environment(&bytes, name)).collect();
    zeroize::Zeroize::zeroize(&mut bytes);
    tokens
}

/// The first of a variable's values, as getenv(3) has it.
fn in_environment(environment: &[u8], name: &str) -> Option<Token> {
    let value = |entry: &'_ [u8]| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(std::str::from_utf8(value).ok().and_then(|text| Token::parse(text).ok()))
    };
    environment.split(|b| *b == 0).find_map(value).flatten()
}

/// The token in a file that the process itself could read: opened in its own root, by its user, and not waited for. So nobody
/// has us read for him what he may not. Its directory is reached through no link; the file itself may be one to another in
/// that directory or below it, on the same file system, as Kubernetes renews its tokens (`token` -> `..data/token`).
fn of_file(proc: &Path, whose: &Whose, file: &Path) -> Option<Token> {
    let read = || -> io::Result<Vec<u8>> {
        let (from, file) = match file.strip_prefix("/") {
            Ok(below) => ("root", below),
            Err(_) => ("cwd", file),
        };
        let from =
            openat(CWD, proc.join(from), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let above = file.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let opened = {
            let _as_user = AsUser::enter(whose)?;
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let above = openat2(&from, above, flags, Mode::empty(), inside)?;
            // Not into /proc, where what is the process's own would be ours.
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            openat2(&above, name, flags, Mode::empty(), inside)?
        };
        let opened = fs::File::from(opened);
        if !opened.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        opened.take(TOKEN_MAX as u64 + 64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Token::parse(std::str::from_utf8(&bytes).ok()?).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::debug!("{} of process {}: {error}", file.display(), whose.pid);
            None
        }
    }
}

/// While it lives, this thread opens files as the user of the process: setfsuid(2), which is the thread's own, and takes the
/// rights over others' files with it.
struct AsUser(Uid, Gid);

impl AsUser {
    fn enter(whose: &Whose) -> io::Result<Self> {
        let (uid, gid) = (Uid::from_raw(whose.uid), Gid::from_raw(whose.gid));
        let before = Self(setfsuid(uid), setfsgid(gid));
        // The call itself never says that it failed; asked again with what is invalid, it says who we are.
        let (is_uid, is_gid) = (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)));
        if (is_uid, is_gid) == (uid, gid) {
            Ok(before)
        } else {
            Err(io::Error::from(io::ErrorKind::PermissionDenied))
        }
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        setfsuid(self.0);
        setfsgid(self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const TOKEN: &str = "aaaa.bbbb.cccc";

    fn sleeper(dir: &Path, uid: u32) -> Child {
        Command::new("/bin/sleep")
            .arg("60")
            .env("ID_TOKEN", TOKEN)
            .env("OTHER", "x")
            .current_dir(dir)
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep runs")
    }

    fn whose(child: &Child, uid: u32) -> Whose {
        let proc = Path::new("/proc").join(child.id().to_string());
        // The child is sleep when its exe is: before that its environment is ours.
        while fs::read_link(proc.join("exe")).expect("its exe") == std::env::current_exe().expect("ours") {
            std::thread::yield_now();
        }
        Whose { pid: child.id(), started: start_time(&proc).expect("it lives"), uid, gid: uid }
    }

    fn places(variables: &[&str], files: &[&str]) -> Places {
        Places {
            variables: variables.iter().map(|name| (*name).to_owned()).collect(),
            files: files.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn an_environment_is_read_by_name() {
        let environment = b"PATH=/bin\0ID_TOKENX=a.b.c\0ID_TOKEN=a.b.c\0ID_TOKEN=d.e.f\0EMPTY=\0NOISE";
        for (name, wanted) in
            [("ID_TOKEN", Some("a.b.c")), ("PATH", None), ("EMPTY", None), ("NOISE", None), ("TOKEN", None)]
        {
            assert_eq!(in_environment(environment, name).as_ref().map(Token::expose), wanted, "{name}");
        }
    }

    #[test]
    fn only_the_process_that_was_named_is_read() {
        let dir = tempfile::tempdir().expect("directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let mut child = sleeper(dir.path(), 65534);
        let named = whose(&child, 65534);
        let of = |whose: &Whose| read(whose, &places(&["NONE", "ID_TOKEN"], &[]));
        assert_eq!(of(&named), [Token::parse(TOKEN).expect("a token")]);
        let earlier = Whose { started: named.started - 1, ..whose(&child, 65534) };
        assert!(of(&earlier).is_empty());
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(of(&named).is_empty());
    }

    #[test]
    fn only_files_that_the_process_may_read_are_read() {
        let dir = tempfile::tempdir().expect("directory");
        let at = |name: &str| dir.path().join(name);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        for (name, uid, mode) in
            [("mine", 65534, 0o600), ("roots", 0, 0o600), ("public", 0, 0o644), ("bobs", 1234, 0o600)]
        {
            fs::write(at(name), format!("{TOKEN}\n")).expect("file");
            chown(at(name), Some(uid), Some(uid)).expect("owner");
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("mode");
        }
        symlink(at("public"), at("link")).expect("link");
        symlink(dir.path(), at("loop")).expect("link");
        // As Kubernetes does.
        fs::create_dir_all(at("vol/..2026_11_22")).expect("directory");
        fs::write(at("vol/..2026_11_22/token"), TOKEN).expect("file");
        symlink("..2026_11_22", at("vol/..data")).expect("link");
        symlink("..data/token", at("vol/token")).expect("link");
        symlink("../public", at("vol/above")).expect("link");
        symlink("mine", at("same")).expect("link");
        symlink("roots", at("to-roots")).expect("link");
        symlink("/proc/self/environ", at("ours")).expect("link");
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o666)).expect("pipe");
        fs::write(at("huge"), "a".repeat(1 << 20)).expect("file");
        let mut child = sleeper(dir.path(), 65534);
        let named = whose(&child, 65534);
        let absolute = at("mine").display().to_string();
        for (file, is_read) in [
            ("mine", true),
            ("public", true),
            (&*absolute, true),
            ("roots", false),
            ("bobs", false),
            ("link", false),
            ("loop/public", false),
            ("vol/token", true),
            ("vol/..data/token", false),
            ("vol/above", false),
            ("same", true),
            ("to-roots", false),
            ("ours", false),
            ("..", false),
            ("pipe", false),
            ("huge", false),
            ("absent", false),
            (".", false),
        ] {
            assert_eq!(read(&named, &places(&[], &[file])).len(), usize::from(is_read), "{file}");
        }
        assert!(fs::read(at("roots")).is_ok(), "this thread is root again");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}
