//! What a container was made from, as the engines' files have it. Each read is bounded; what is not where engines have it
//! by default is not known.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Bytes of a file that are read at most. `containers.json` has some hundred for each container of the host.
const FILE: u64 = 8 << 20;

/// Containers whose image is remembered; beyond it all are forgotten.
const REMEMBERED: usize = 1024;

/// How long it is believed that a container's image cannot be known: its files may come after it.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// The longest name of an image; beyond it is cut.
const NAME: usize = 512;

/// Images by container.
pub struct Images {
    root: PathBuf,
    known: HashMap<String, (Option<String>, Instant)>,
}

impl Default for Images {
    fn default() -> Self {
        Self { root: PathBuf::from("/"), known: HashMap::new() }
    }
}

impl Images {
    /// The image of a container of root's. `id` is 64 hex digits or a machine's plain name.
    pub fn of(&mut self, runtime: &str, id: &str) -> Option<String> {
        if let Some((image, at)) = self.known.get(id)
            && (image.is_some() || at.elapsed() < UNKNOWN_FOR)
        {
            return image.clone();
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let image = look_up(&self.root, runtime, id).map(|name| name.chars().take(NAME).collect::<String>());
        self.known.insert(id.to_owned(), (image.clone(), Instant::now()));
        image
    }
}

fn look_up(root: &Path, runtime: &str, id: &str) -> Option<String> {
    match runtime {
        "docker" => docker(root, id),
        "podman" | "cri-o" => storage(root, id),
        "containerd" | "kubernetes" => bundle(root, id).or_else(|| storage(root, id)),
        _ => None,
    }
}

fn json(path: &Path) -> Option<Value> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Docker's own record of a container.
fn docker(root: &Path, id: &str) -> Option<String> {
    let record = json(&root.join("var/lib/docker/containers").join(id).join("config.v2.json"))?;
    Some(record["Config"]["Image"].as_str()?.to_owned())
}

/// The list of containers/storage, which podman and CRI-O share.
fn storage(root: &Path, id: &str) -> Option<String> {
    let drivers = ["overlay", "vfs", "btrfs", "zfs"];
    drivers.iter().find_map(|driver| {
        let list = format!("var/lib/containers/storage/{driver}-containers/containers.json");
        let list = json(&root.join(list))?;
        let container = list.as_array()?.iter().find(|container| container["id"] == id)?;
        let metadata: Value = serde_json::from_str(container["metadata"].as_str()?).ok()?;
        let name = metadata["image-name"].as_str().filter(|name| !name.is_empty());
        Some(name.or_else(|| container["image"].as_str())?.to_owned())
    })
}

/// containerd's bundle of a running container (OCI), with the annotations of the kubelet.
fn bundle(root: &Path, id: &str) -> Option<String> {
    let tasks = root.join("run/containerd/io.containerd.runtime.v2.task");
    ["k8s.io", "default"].iter().find_map(|namespace| {
        let config = json(&tasks.join(namespace).join(id).join("config.json"))?;
        let annotations = &config["annotations"];
        let name = annotations["io.kubernetes.cri.image-name"].as_str();
        Some(name.or_else(|| annotations["nerdctl/image"].as_str())?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Images) {
        let dir = tempfile::tempdir().expect("temporary folder");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let images = Images { root: dir.path().to_owned(), known: HashMap::new() };
        (dir, images)
    }

    #[test]
    fn engines_files() {
        let (_dir, mut images) = host(&[
            (
                "var/lib/docker/containers/d1/config.v2.json",
                r#"{"Config":{"Image":"nginx:1.27"},"Image":"sha256:0"}"#,
            ),
            (
                "var/lib/containers/storage/overlay-containers/containers.json",
                r#"[{"id":"p0"},{"id":"p1","image":"abc","metadata":"{\"image-name\":\"localhost/job:1\"}"},
                    {"id":"p2","image":"abc","metadata":"{}"}]"#,
            ),
            (
                "run/containerd/io.containerd.runtime.v2.task/k8s.io/k1/config.json",
                r#"{"annotations":{"io.kubernetes.cri.image-name":"registry/x@sha256:1"}}"#,
            ),
            ("var/lib/docker/containers/d2/config.v2.json", "{\"Config\": 7"),
        ]);
        for (runtime, id, want) in [
            ("docker", "d1", Some("nginx:1.27")),
            ("docker", "d2", None),
            ("docker", "d3", None),
            ("podman", "p1", Some("localhost/job:1")),
            ("cri-o", "p2", Some("abc")),
            ("podman", "p0", None),
            ("containerd", "k1", Some("registry/x@sha256:1")),
            ("nspawn", "web", None),
        ] {
            assert_eq!(images.of(runtime, id).as_deref(), want, "{runtime} {id}");
        }
    }

    #[test]
    fn a_pipe_in_the_files_place_is_not_waited_for() {
        let (dir, mut images) = host(&[("var/lib/docker/containers/d1/x", "")]);
        let path = dir.path().join("var/lib/docker/containers/d1/config.v2.json");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).expect("pipe");
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(images.of("docker", "d1")));
        let got = wait.recv_timeout(Duration::from_secs(10));
        assert_eq!(got, Ok(None), "it waited for a writer");
    }
}
