//! What the names of cgroups say of containers: each engine names them its own way.

/// A container as a cgroup's path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    pub id: String,
    pub runtime: &'static str,
    /// The path down to the part that names it.
    pub path: &'a str,
}

/// The longest name of a machine that is believed to be one.
const NAME: usize = 64;

/// The outermost container in a cgroup's path: what is named so further in, the container named itself.
pub fn find(path: &str) -> Option<Named<'_>> {
    let mut end = 0;
    let mut above = "";
    for part in path.split('/') {
        end += part.len() + 1;
        if let Some((runtime, id)) = part_of(above, part) {
            return Some(Named { id, runtime, path: &path[..(end - 1).min(path.len())] });
        }
        above = part;
    }
    None
}

/// `user@UID.service`: what is below it, the user named.
pub fn is_user_manager(part: &str) -> bool {
    part.starts_with("user@") && part.ends_with(".service")
}

fn part_of(above: &str, part: &str) -> Option<(&'static str, String)> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let machine = |name: &str| is_name(name).then(|| name.to_owned());
    if let Some((engine, id)) = name.rsplit_once('-').filter(|(_, id)| is_id(id)) {
        let runtime = match engine {
            "docker" => "docker",
            "libpod" => "podman",
            "cri-containerd" | "nerdctl" => "containerd",
            "crio" => "cri-o",
            // libpod-conmon-ID and crio-conmon-ID: the container's monitor, which is outside of it.
            _ => return None,
        };
        return Some((runtime, id.to_owned()));
    }
    if is_id(part) {
        let runtime = match above {
            "docker" => "docker",
            "libpod_parent" => "podman",
            pod if pod.starts_with("pod") || pod.starts_with("kubepods") => "kubernetes",
            _ => "unknown",
        };
        return Some((runtime, part.to_owned()));
    }
    // systemd's machines.
    if above == "machine.slice" {
        let nspawn = part.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service"));
        let machine_ = part.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope"));
        let name = unescape(nspawn.or(machine_)?);
        // libvirt's virtual machines are in the same slice; their processes are not inside.
        return (!name.starts_with("qemu-")).then(|| machine(&name)).flatten().map(|name| ("nspawn", name));
    }
    if above == "lxc" {
        return machine(part).map(|name| ("lxc", name));
    }
    part.strip_prefix("lxc.payload.").and_then(machine).map(|name| ("lxc", name))
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME).contains(&text.len()) && text.bytes().all(plain)
}

/// systemd writes what a unit's name cannot hold as `\x2d` (systemd.unit(5)).
fn unescape(text: &str) -> String {
    text.replace("\\x2d", "-").replace("\\x5f", "_").replace("\\x2e", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_names() {
        let id = "0123456789abcdef".repeat(4);
        for (path, runtime) in [
            (format!("/system.slice/docker-{id}.scope"), Some("docker")),
            (format!("/docker/{id}"), Some("docker")),
            (format!("/docker/{id}/child"), Some("docker")),
            (format!("/machine.slice/libpod-{id}.scope/container"), Some("podman")),
            (format!("/libpod_parent/libpod-{id}"), Some("podman")),
            (format!("/machine.slice/libpod-conmon-{id}.scope"), None),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope"),
                Some("podman"),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podab_cd.slice/cri-containerd-{id}.scope"
                ),
                Some("containerd"),
            ),
            (format!("/kubepods/burstable/pod11-22/{id}"), Some("kubernetes")),
            (format!("/kubepods.slice/kubepods-pod1.slice/crio-{id}.scope"), Some("cri-o")),
            (format!("/custom/{id}"), Some("unknown")),
            (format!("/docker/{}", "g".repeat(64)), None),
            ("/user.slice/session-3.scope".to_owned(), None),
            ("/".to_owned(), None),
            (String::new(), None),
        ] {
            let found = find(&path);
            assert_eq!(found.as_ref().map(|named| named.runtime), runtime, "{path}");
            if let Some(named) = found {
                assert_eq!(named.id, id, "{path}");
                assert!(path.starts_with(named.path) && named.path.contains(&id), "{named:?}");
            }
        }
    }

    #[test]
    fn machines() {
        for (path, want) in [
            ("/machine.slice/systemd-nspawn@web\\x2d1.service/payload", Some(("nspawn", "web-1"))),
            ("/machine.slice/machine-deb.scope/payload/system.slice", Some(("nspawn", "deb"))),
            ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", None),
            ("/lxc.payload.box/init.scope", Some(("lxc", "box"))),
            ("/lxc/box", Some(("lxc", "box"))),
            ("/lxc/a b", None),
        ] {
            let found = find(path).map(|named| (named.runtime, named.id));
            assert_eq!(found, want.map(|(runtime, id)| (runtime, id.to_owned())), "{path}");
        }
    }
}
