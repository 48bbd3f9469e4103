//! What tags need of systemd, over D-Bus: transient scopes, reload, freezing, and where a unit's cgroup is. systemd
//! alone writes below its part of the cgroup tree; we ask it to.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use zbus::{OwnedObjectPath, Variant};

use super::tree::CgroupPath;

/// systemd's own socket, for root, there before the bus is and when the bus is down.
const PRIVATE: &str = "unix:path=/run/systemd/private";

/// How long one call or job may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A unit of this name is loaded.
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// How long systemd may take to forget a scope whose last process has ended.
const FORGOTTEN: Duration = Duration::from_secs(2);

/// systemd said no, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Neither the system bus nor systemd's own socket could be reached.
    #[error("systemd cannot be reached over D-Bus")]
    Unreachable(#[source] zbus::Error),
    /// A call failed.
    #[error("systemd refused {what}")]
    Call {
        /// The method and its object.
        what: String,
        /// Its answer.
        #[source]
        source: zbus::Error,
    },
    /// A job ended otherwise than done.
    #[error("systemd's job for {unit} ended as {result:?}")]
    Job {
        /// The unit.
        unit: String,
        /// `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
        result: String,
    },
    /// No answer in time.
    #[error("systemd did not finish {0} in {PATIENCE:?}")]
    Late(String),
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    #[zbus(allow_interactive_auth)]
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(name = "GetUnitByPID")]
    fn unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn freeze_unit(&self, name: &str) -> zbus::Result<()>;
    fn thaw_unit(&self, name: &str) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn subscribe(&self) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
    #[zbus(signal)]
    fn unit_removed(&self, id: String, unit: OwnedObjectPath) -> zbus::Result<()>;
}

/// A unit as systemd knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnitFacts {
    /// `loaded`, `not-found`, `masked` …
    pub load_state: String,
    /// Where its cgroup is, or will be when it starts.
    pub cgroup: CgroupPath,
}

/// A connection to systemd.
#[derive(Clone)]
pub(super) struct Systemd {
    connection: zbus::Connection,
    manager: ManagerProxy<'static>,
}

/// Whether systemd is this host's init (sd_booted(3)).
pub(super) fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

impl Systemd {
    /// Connects, over the system bus or, where there is none, over systemd's own socket.
    pub async fn connect() -> Result<Self, SystemdError> {
        match Self::over_bus().await {
            Ok(systemd) => Ok(systemd),
            Err(bus) => Self::over_private_socket().await.map_err(|_| SystemdError::Unreachable(bus)),
        }
    }

    async fn over_bus() -> Result<Self, zbus::Error> {
        Self::over(zbus::connection::Builder::system()).await
    }

    async fn over_private_socket() -> Result<Self, zbus::Error> {
        Self::over(zbus::connection::Builder::address(PRIVATE).p2p()).await
    }

    async fn over(builder: zbus::connection::Builder<'_>) -> Result<Self, zbus::Error> {
        let late = || zbus::Error::from(io::Error::from(io::ErrorKind::TimedOut));
        let open = async {
            let connection = builder.method_timeout(PATIENCE).build().await?;
            let manager = ManagerProxy::new(&connection).await?;
            manager.subscribe().await?;
            Ok(Self { connection, manager })
        };
        tokio::time::timeout(PATIENCE, open).await.unwrap_or_else(|_| Err(late()))
    }

    /// Whether the connection still stands.
    pub fn is_open(&self) -> bool {
        !self.connection.is_closed()
    }

    /// Starts a transient scope in `slice` that holds `pids`, and waits until it runs. It ends with its last process, or
    /// after `within`, and is forgotten then, failed or not.
    pub async fn scope(
        &self,
        unit: &str,
        pids: &[u32],
        slice: &str,
        description: &str,
        within: Option<Duration>,
    ) -> Result<(), SystemdError> {
        let what = || format!("to start {unit}");
        let failed = |source| SystemdError::Call { what: what(), source };
        // Listening before asking: the job may be over before its path is known here.
        let mut removed = self.manager.receive_job_removed().await.map_err(failed)?;
        let mut properties = vec![
            ("Description", Variant::from(description)),
            ("PIDs", Variant::from(pids.to_vec())),
            ("Slice", Variant::from(slice)),
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        let micros = within.map(|within| u64::try_from(within.as_micros()).unwrap_or(u64::MAX));
        properties.extend(micros.map(|micros| ("RuntimeMaxUSec", Variant::from(micros))));
        let job = self.started(unit, &properties).await.map_err(failed)?;
        let wait = async {
            while let Some(signal) = removed.next().await {
                let args = signal.args().map_err(failed)?;
                if *args.job() == job {
                    return Ok(args.result().clone());
                }
            }
            Err(SystemdError::Late(what()))
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Ok(result)) if result == "done" => Ok(()),
            Ok(Ok(result)) => Err(SystemdError::Job { unit: unit.to_owned(), result }),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(SystemdError::Late(what())),
        }
    }

    /// Asks for a unit, once more when the one of its name that has ended is forgotten.
    async fn started(&self, unit: &str, properties: &[(&str, Variant<'_>)]) -> zbus::Result<OwnedObjectPath> {
        let mut forgotten = self.manager.receive_unit_removed().await?;
        let start = || self.manager.start_transient_unit(unit, "fail", properties, &[]);
        match start().await {
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == UNIT_EXISTS => {}
            other => return other,
        }
        let gone = async {
            while let Some(signal) = forgotten.next().await {
                if signal.args().is_ok_and(|args| args.id() == unit) {
                    return;
                }
            }
        };
        // One that lives on stays there: the second answer says so.
        let _ = tokio::time::timeout(FORGOTTEN, gone).await;
        start().await
    }

    /// Halts or lets go on every process of a unit.
    pub async fn freeze(&self, unit: &str, halt: bool) -> Result<(), SystemdError> {
        let done =
            if halt { self.manager.freeze_unit(unit).await } else { self.manager.thaw_unit(unit).await };
        let what = format!("to {} {unit}", if halt { "freeze" } else { "thaw" });
        done.map_err(|source| SystemdError::Call { what, source })
    }

    /// Makes systemd read its unit files again, drop-ins included. Also attaches and detaches the `BPFProgram=`s of
    /// units that run (tried on systemd 252).
    pub async fn reload(&self) -> Result<(), SystemdError> {
        self.manager.reload().await.map_err(|source| SystemdError::Call { what: "to reload".into(), source })
    }

    /// What systemd knows of a unit, loading its file if need be.
    pub async fn unit(&self, unit: &str) -> Result<UnitFacts, SystemdError> {
        let failed = |source| SystemdError::Call { what: format!("to load {unit}"), source };
        let path = self.manager.load_unit(unit).await.map_err(failed)?;
        let interface = match unit.rsplit_once('.') {
            Some((_, "scope")) => "org.freedesktop.systemd1.Scope",
            _ => "org.freedesktop.systemd1.Service",
        };
        let load_state =
            self.property(&path, "org.freedesktop.systemd1.Unit", "LoadState").await.map_err(failed)?;
        let cgroup = self.property(&path, interface, "ControlGroup").await.map_err(failed)?;
        let slice = self.property(&path, interface, "Slice").await.map_err(failed)?;
        let slice = if slice.is_empty() { "system.slice".to_owned() } else { slice };
        let cgroup = if cgroup.is_empty() {
            CgroupPath(format!("{}/{}", slice_cgroup(&slice).0, escape(unit)))
        } else {
            CgroupPath(cgroup)
        };
        Ok(UnitFacts { load_state, cgroup })
    }

    /// Whether the unit of a process is being restarted: systemd calls its job so until the stop is over.
    pub async fn is_restarting(&self, pid: u32) -> Result<bool, SystemdError> {
        let failed = |source| SystemdError::Call { what: "to tell this unit's job".to_owned(), source };
        let unit = self.manager.unit_by_pid(pid).await.map_err(failed)?;
        let job = self.value(&unit, "org.freedesktop.systemd1.Unit", "Job").await.map_err(failed)?;
        let (id, job): (u32, OwnedObjectPath) = job.try_into().map_err(failed)?;
        if id == 0 {
            return Ok(false);
        }
        let kind = self.property(&job, "org.freedesktop.systemd1.Job", "JobType").await.map_err(failed)?;
        Ok(matches!(kind.as_str(), "restart" | "try-restart"))
    }

    /// Whether a unit has an `IPAddressDeny=`.
    pub async fn denies_addresses(&self, unit: &str) -> Result<bool, SystemdError> {
        let failed = |source| SystemdError::Call { what: format!("to load {unit}"), source };
        let path = self.manager.load_unit(unit).await.map_err(failed)?;
        let interface = match unit.rsplit_once('.') {
            Some((_, "scope")) => "org.freedesktop.systemd1.Scope",
            Some((_, "slice")) => "org.freedesktop.systemd1.Slice",
            _ => "org.freedesktop.systemd1.Service",
        };
        let value = self.value(&path, interface, "IPAddressDeny").await.map_err(failed)?;
        let denied: Vec<(i32, Vec<u8>, u32)> = value.try_into().map_err(failed)?;
        Ok(!denied.is_empty())
    }

    async fn property(&self, path: &OwnedObjectPath, interface: &str, name: &str) -> zbus::Result<String> {
        String::try_from(self.value(path, interface, name).await?)
    }

    async fn value(
        &self,
        path: &OwnedObjectPath,
        interface: &str,
        name: &str,
    ) -> zbus::Result<zbus::OwnedVariant> {
        let proxy = zbus::fdo::PropertiesProxy::builder(&self.connection)
            .destination("org.freedesktop.systemd1")
            .path(path)
            .build()
            .await?;
        Ok(proxy.get(interface.try_into()?, name).await?)
    }
}

/// The cgroup of a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
pub(super) fn slice_cgroup(slice: &str) -> CgroupPath {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let mut path = String::new();
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path.push('/');
        path.push_str(&escape(&format!("{}.slice", &stem[..at])));
    }
    CgroupPath(path)
}

/// How systemd names a unit's cgroup where the name would clash with a file of the kernel's (`cg_escape`).
fn escape(unit: &str) -> String {
    const TAKEN: [&str; 12] = [
        "cgroup", "cpu", "cpuset", "io", "memory", "pids", "rdma", "misc", "hugetlb", "devices", "freezer",
        "irq",
    ];
    let clash =
        unit.starts_with(['_', '.']) || unit.split_once('.').is_some_and(|(first, _)| TAKEN.contains(&first));
    if clash { format!("_{unit}") } else { unit.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_slices() {
        assert_eq!(slice_cgroup("user-1000.slice").0, "/user.slice/user-1000.slice");
        assert_eq!(slice_cgroup("a-b-c.slice").0, "/a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(slice_cgroup("system.slice").0, "/system.slice");
        assert_eq!(escape("cpu.service"), "_cpu.service");
        assert_eq!(escape("cpus.service"), "cpus.service");
    }
}
