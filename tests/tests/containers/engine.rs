//! Containers of real engines, started by a tagged job: podman, which has no daemon, so that what it starts is the job's.

use std::time::Duration;

use sluice_tests::process::run;

use crate::rig::{job, peers, setup, veth, world_with};

/// podman asks for a host whose cgroups are v2 only, and this test's may be mounted beside v1: so it sees them its own way.
/// The limits are those that it may set without CAP_SYS_RESOURCE.
const PODMAN: &str = "exec unshare --mount --propagation private sh -ec '
  umount -lR /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
  podman --storage-driver vfs --cgroup-manager cgroupfs --events-backend none run --rm --log-driver none \
    --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --pids-limit=-1 --privileged --network ns:/run/netns/box \
    --cgroup-parent $(sed -n s/^0:://p /proc/self/cgroup) -v /usr:/usr:ro -v $SSL_CERT_FILE:/bundle.pem:ro \
    -e CURL_CA_BUNDLE=/bundle.pem localhost/sluice-test:1 curl -sS -m 20 https://www.example.test/bytes/4'";

/// The container's image decides, and nothing that is in none is let through.
const RULES: &str = r#"
mode = "enforce"
[[rule]]
name = "image"
containers = ["localhost/sluice-test:*"]
hosts = ["www.example.test"]
verdict = "allow"
"#;

#[test]
fn curl_in_a_podman_container_is_taken_and_named() {
    let Some(world) = world_with(RULES) else { return };
    let inner = veth(&world, "box", 1);
    setup(
        &world,
        "cd $(mktemp -d)
         mkdir -p image/usr image/etc image/proc image/sys image/dev image/tmp image/run storage
         for d in bin sbin lib lib64; do ln -s usr/$d image/$d; done
         mkdir -p /var/lib/containers
         mount --bind $PWD/storage /var/lib/containers
         tar -C image -c . | podman --storage-driver vfs import - localhost/sluice-test:1",
    );
    let mut command = world.job("ci", "sh").expect("job");
    let ended = run(command.args(["-c", PODMAN]), Duration::from_secs(90)).expect("started");
    assert_eq!(ended.stdout, "xxxx", "{}", ended.stderr);
    let found = world.expect("the exchange", |s| s.tag == "ci" && s.path.as_deref() == Some("/bytes/4"));
    let found = found.expect("recorded").expect("with the agent");
    assert_eq!(found.container_runtime.as_deref(), Some("podman"), "{found:?}");
    assert_eq!(found.rule.as_deref(), Some("image"));
    assert_eq!(found.image.as_deref(), Some("localhost/sluice-test:1"));
    let id = found.container.expect("a container");
    assert!(found.cgroup.ends_with(&format!("/libpod-{id}")), "{}", found.cgroup);
    let outside =
        job(&world, "ci", "curl -sS -m 20 -o /dev/null -w '%{http_code}' https://www.example.test/bytes/5");
    assert_eq!(outside.stdout, "000", "{}", outside.stderr);
    assert_eq!(peers(&world), [inner.parse().expect("address")].into());
}
