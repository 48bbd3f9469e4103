//! Where Sluice keeps things on a host, each with the systemd directive that makes it.

/// `ConfigurationDirectory=sluice`: `sluice.toml`, `policy.d/`.
pub const CONFIG_DIR: &str = "/etc/sluice";
/// `StateDirectory=sluice`: the CA (warden only) and the store (the gate's).
pub const STATE_DIR: &str = "/var/lib/sluice";
/// `RuntimeDirectory=sluice`: the control socket, the trust bundle, the tags' state.
pub const RUNTIME_DIR: &str = "/run/sluice";
/// Pinned links and maps. systemd mounts bpffs here at boot.
pub const BPF_DIR: &str = "/sys/fs/bpf/sluice";

/// The control socket, below the runtime directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// The CA certificate (PEM, world-readable), below the runtime directory.
pub const CA_CERT: &str = "ca.pem";
/// The system's roots and our CA in one file (PEM), for runtimes that take a bundle; below the runtime directory.
pub const BUNDLE: &str = "bundle.pem";
/// The CA's key and certificate (0700, root), below the state directory.
pub const CA_DIR: &str = "ca";
/// The keys that sign what is recorded (0700, root), below the state directory.
pub const AUDIT_DIR: &str = "audit";
/// The gate's records (0750, the gate's user), below the state directory.
pub const STORE_DIR: &str = "store";
/// The host's age identity (0600), in there; its recipient stands in a comment, and beside it.
pub const IDENTITY: &str = "identity";
/// The public half of it.
pub const RECIPIENT: &str = "recipient";
