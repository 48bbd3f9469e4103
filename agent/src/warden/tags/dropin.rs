//! systemd drop-ins of tagged units: they bring the programs to a unit's cgroup before its first process, order the unit
//! after the agent, and refuse to start a service whose cgroup is not taken.
//!
//! systemd skips a `BPFProgram=` whose pin is not there and starts the unit all the same (tried on 252). So a service
//! also gets an `ExecCondition=` that asks the agent, from inside the service's own cgroup, whether it is taken, and
//! fails the start (exit 255) when it is not. Slices and scopes run no command of their own: for them the order and the
//! pins are all there is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Config, Designation};
use crate::types::TagName;
use crate::warden::kernel;

/// The drop-in's file name. The generator's and the daemon's bear the same one, so that the latter counts.
pub const FILE: &str = "50-sluice.conf";

/// Where the daemon's drop-ins live: gone with the next boot, when the generator's take over.
pub const RUNTIME_UNITS: &str = "/run/systemd/system";

/// What a drop-in says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DropIn {
    /// The unit that it adds to, with its suffix.
    pub unit: String,
    /// The whole file.
    pub text: String,
}

/// How a unit is led to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Started after the agent, which is started with it.
    AfterAgent,
    /// Left out: the agent itself runs below this unit, and would wait for itself.
    Free,
}

/// The drop-in of a tag's unit; `program` is the path of our binary.
pub(super) fn compose(tag: &TagName, unit: &str, bpf: &Path, program: &Path, order: Order) -> DropIn {
    let kind = match unit.rsplit_once('.') {
        Some((_, "slice")) => "Slice",
        Some((_, "scope")) => "Scope",
        _ => "Service",
    };
    let mut text =
        format!("# Made by sluice for the tag {tag}: its connections are taken. Remove with: sluice untag\n");
    if order == Order::AfterAgent {
        text += "[Unit]\nWants=sluice.service\nAfter=sluice.service\n";
    }
    text += &format!("[{kind}]\n");
    for (kind, pin) in kernel::systemd_programs(bpf, tag) {
        text += &format!("BPFProgram={kind}:{}\n", pin.display());
    }
    if kind == "Service" && order == Order::AfterAgent {
        text += &format!("ExecCondition=+{} taken {tag}\n", program.display());
    }
    DropIn { unit: unit.to_owned(), text }
}

/// The unit that a designation's drop-in belongs to; cgroups have none. `uid` turns a user's name into a number.
pub(super) fn unit_of(designation: &Designation, uid: impl Fn(&str) -> Option<u32>) -> Option<String> {
    match designation {
        Designation::Unit(unit) | Designation::Slice(unit) => Some(unit.clone()),
        Designation::Cgroup(_) => None,
        Designation::User(user) => uid(user).map(|uid| format!("user-{uid}.slice")),
    }
}

/// The number of a user given by name or number; `None` for a name that the host does not have.
pub(super) fn uid_of(user: &str) -> Option<u32> {
    if let Ok(uid) = user.parse() {
        return Some(uid);
    }
    nix::unistd::User::from_name(user).ok().flatten().map(|u| u.uid.as_raw())
}

fn place(units: &Path, unit: &str) -> PathBuf {
    units.join(format!("{unit}.d")).join(FILE)
}

/// Writes a drop-in below `units`; tells whether anything changed, so that systemd is not told to reload for nothing.
pub(super) fn write(units: &Path, dropin: &DropIn) -> io::Result<bool> {
    let path = place(units, &dropin.unit);
    // The generator's may say the same already.
    for known in [Some(path.clone()), generated(units, &dropin.unit)].into_iter().flatten() {
        if fs::read_to_string(known).is_ok_and(|text| text == dropin.text) {
            return Ok(false);
        }
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    super::state::write_atomically(&path, dropin.text.as_bytes(), 0o644)?;
    Ok(true)
}

/// What the generator wrote at the last daemon-reload: systemd.generator(7) gives it /run/systemd/generator.
fn generated(units: &Path, unit: &str) -> Option<PathBuf> {
    Some(place(&units.parent()?.join("generator"), unit))
}

/// Removes a unit's drop-in, and its directory if that is empty then. Tells whether systemd must reload: because one
/// was there, or because the generator wrote one that it will not write again.
pub(super) fn remove(units: &Path, unit: &str) -> io::Result<bool> {
    let path = place(units, unit);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(generated(units, unit).is_some_and(|path| path.exists()));
        }
        Err(e) => return Err(e),
    }
    if let Some(folder) = path.parent() {
        let _ = fs::remove_dir(folder); // not empty: somebody else's drop-ins live there
    }
    Ok(true)
}

/// The units that have a drop-in of ours below `units`.
pub(super) fn present(units: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(units) else { return Vec::new() };
    let unit = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let unit = name.strip_suffix(".d")?.to_owned();
        entry.path().join(FILE).is_file().then_some(unit)
    };
    entries.filter_map(Result::ok).filter_map(unit).collect()
}

/// The systemd generator (systemd.generator(7)): writes the drop-ins of the configured intercepts below `out`, early at
/// boot and at each daemon-reload, so that the order stands before the agent has ever run.
///
/// # Errors
/// When a file cannot be written; the other files are written all the same.
pub fn generate(config: &Config, out: &Path, program: &Path) -> io::Result<()> {
    let mut first = Ok(());
    for one in &config.intercepts {
        let Some(unit) = unit_of(&one.designation, uid_of) else { continue };
        // A generator runs outside of the tree that it orders, so the slice that holds the agent is known by name only.
        let order = if matches!(unit.as_str(), "system.slice" | "sluice.slice") {
            Order::Free
        } else {
            Order::AfterAgent
        };
        let dropin = compose(&one.name, &unit, &config.paths.bpf, program, order);
        let written = fs::create_dir_all(place(out, &unit).parent().unwrap_or(out))
            .and_then(|()| fs::write(place(out, &unit), dropin.text));
        first = first.and(written);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Intercept;

    fn tag(name: &str) -> TagName {
        TagName::parse(name).expect("name")
    }

    #[test]
    fn a_service_waits_and_asks() {
        let program = Path::new("/usr/bin/sluice");
        let dropin = compose(&tag("c.i"), "x.service", Path::new("/b"), program, Order::AfterAgent);
        assert!(dropin.text.contains("[Unit]\nWants=sluice.service\nAfter=sluice.service\n[Service]\n"));
        for line in ["connect6:/b/tags/c+i/prog_connect6", "sock_ops:/b/tags/c+i/prog_established"] {
            assert!(dropin.text.contains(&format!("\nBPFProgram={line}\n")), "{}", dropin.text);
        }
        assert!(dropin.text.contains("ExecCondition=+/usr/bin/sluice taken c.i\n"));
        let slice = compose(&tag("ci"), "x.slice", Path::new("/b"), program, Order::Free);
        assert!(slice.text.contains("[Slice]\nBPFProgram=") && !slice.text.contains("[Unit]"));
    }

    #[test]
    fn written_once_and_removed_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let units = dir.path().join("system");
        let dropin = DropIn { unit: "x.service".into(), text: "[Unit]\n".into() };
        assert!(write(&units, &dropin).expect("written"));
        assert!(!write(&units, &dropin).expect("same"));
        assert_eq!(present(&units), ["x.service"]);
        fs::write(units.join("x.service.d/other.conf"), "").expect("another's");
        assert!(remove(&units, "x.service").expect("removed"));
        assert!(!remove(&units, "x.service").expect("gone"));
        assert!(units.join("x.service.d/other.conf").exists());
        assert!(present(&units).is_empty());
    }

    #[test]
    fn the_generator_orders_what_the_configuration_names() {
        let dir = tempfile::tempdir().expect("directory");
        let intercept =
            |name: &str, designation| Intercept { name: tag(name), designation, options: Default::default() };
        let config = Config {
            intercepts: vec![
                intercept("a", Designation::Unit("a.service".into())),
                intercept("b", Designation::User("4711".into())),
                intercept("c", Designation::Cgroup("/c".into())),
            ],
            ..Config::default()
        };
        generate(&config, dir.path(), Path::new("/usr/bin/sluice")).expect("generated");
        let mut units = present(dir.path());
        units.sort();
        assert_eq!(units, ["a.service", "user-4711.slice"]);
    }
}
