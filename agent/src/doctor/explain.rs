//! What each weakness means, and its remedy: the words of the doctor about tags, layers and the self-test.

use super::facts::{Facts, TagFacts, Who};
use super::finding::{Finding, Severity};
use crate::types::{LayerState, Outcome, Way, Weakness};

/// How bad a weakness is, why it matters, and what to do.
struct Words {
    weakness: Weakness,
    severity: Severity,
    what: &'static str,
    why: &'static str,
    remedy: &'static str,
}

/// The words for each weakness of a tag. Those of the host are told once, by others.
const WORDS: [Words; 12] = [
    Words {
        weakness: Weakness::Root,
        severity: Severity::High,
        what: "runs as root",
        why: "Root owns the cgroup tree: it can move itself out of its tag, stop the agent, or have systemd start \
         something outside of the tag.",
        remedy: "Give the job a user of its own (User= in its unit).",
    },
    Words {
        weakness: Weakness::CapNetRaw,
        severity: Severity::High,
        what: "has CAP_NET_RAW, and no LSM layer closes packet sockets here",
        why: "A packet socket (AF_PACKET) sends frames to the network card past every hook on cgroups.",
        remedy: "Take the capability away, restrict the address families, or boot with the BPF LSM.",
    },
    Words {
        weakness: Weakness::CapNetAdmin,
        severity: Severity::High,
        what: "has CAP_NET_ADMIN",
        why: "It can change routes, firewall rules and address translation, and build tunnels whose packets the kernel \
         itself sends, past the tag's programs.",
        remedy: "Take the capability away.",
    },
    Words {
        weakness: Weakness::CapSysAdmin,
        severity: Severity::High,
        what: "has CAP_SYS_ADMIN",
        why: "It can enter other namespaces, mount, and detach kernel programs: it is as good as root.",
        remedy: "Take the capability away.",
    },
    Words {
        weakness: Weakness::CapBpf,
        severity: Severity::High,
        what: "has CAP_BPF",
        why: "It can load kernel programs of its own, and with CAP_NET_ADMIN put them beside or before ours.",
        remedy: "Take the capability away.",
    },
    Words {
        weakness: Weakness::CapSysPtrace,
        severity: Severity::High,
        what: "has CAP_SYS_PTRACE",
        why: "It can take over any process on the host, or take its open sockets, and have those send for it.",
        remedy: "Take the capability away.",
    },
    Words {
        weakness: Weakness::CapLikeRoot,
        severity: Severity::High,
        what: "has a capability that leads to root",
        why: "To set user ids, to override file permissions, to load modules or to write raw memory is each enough to become \
         root, and root can leave its tag.",
        remedy: "Take the capabilities away.",
    },
    Words {
        weakness: Weakness::ContainerSocket,
        severity: Severity::High,
        what: "may connect to a container engine",
        why: "The engine starts what it is told to, outside of the tag and with the network of the host if asked to.",
        remedy: "Hide the socket from the unit, or take the user out of the engine's group. Where the job needs containers, have \
         them join the tag: tag a slice as well, and name it as the engine's cgroup parent (docker: cgroup-parent in \
         /etc/docker/daemon.json; podman: --cgroup-parent).",
    },
    Words {
        weakness: Weakness::SharedUid,
        severity: Severity::Medium,
        what: "shares its user with processes outside of every tag",
        why: "Processes of one user may trace each other, read each other's memory, and change each other's files: what \
         the job may not send, an untagged process of the same user can be made to send.",
        remedy: "Give the job a user of its own (User= or DynamicUser= in its unit), or tag the user (user = in sluice.toml).",
    },
    Words {
        weakness: Weakness::AddressFilter,
        severity: Severity::Medium,
        what: "has IPAddressDeny= in its unit, which no longer holds",
        why: "systemd's filter looks at the job's own sockets, and those reach the agent only. The agent dials for the job, and \
         no filter of the unit bounds the agent: the job gains the agent's reach.",
        remedy: "Do not rely on IPAddressDeny= for a tagged unit: filter user sluice on the host, or leave the unit untagged.",
    },
    Words {
        weakness: Weakness::NoStartCheck,
        severity: Severity::Low,
        what: "can have processes while its tag is not in force",
        why: "A service is asked at its start whether it is taken, and does not start if not. A slice, a scope, a user or a \
         plain cgroup has no such check: what starts in it before the agent has ever run is not taken.",
        remedy: "Tag the services themselves (unit = in sluice.toml) where that can be.",
    },
    Words {
        weakness: Weakness::Unseen,
        severity: Severity::Low,
        what: "has processes that could not be looked at",
        why: "They ended too soon, or their file systems did not answer: nothing is known of their rights.",
        remedy: "Nothing to do if they are short-lived; see `sluice sessions --json` for what they did.",
    },
];

/// What there is to say about the tags.
pub fn tags(facts: &Facts) -> Vec<Finding> {
    facts.tags.iter().flat_map(tag).collect()
}

fn tag(tag: &TagFacts) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        tag.weakened.iter().filter_map(|(weakness, who)| weakened(tag, *weakness, who)).collect();
    found.sort_by_key(|finding| finding.severity);
    found
}

fn weakened(tag: &TagFacts, weakness: Weakness, who: &Who) -> Option<Finding> {
    let words = WORDS.iter().find(|words| words.weakness == weakness)?;
    let mut what = format!("tag {} {}", tag.tag, words.what);
    if let Some((pid, comm)) = &who.example {
        let uids: Vec<String> = who.uids.iter().map(u32::to_string).collect();
        what += &format!(
            ": {} of {} processes, such as {comm} (pid {pid}), uid {}",
            who.count,
            tag.processes,
            uids.join(", ")
        );
    }
    if weakness == Weakness::ContainerSocket {
        let sockets: Vec<_> = tag.sockets.iter().map(|path| path.display().to_string()).collect();
        what += &format!(" at {}", sockets.join(", "));
    }
    let mut remedy = words.remedy.to_owned();
    let helps = !matches!(weakness, Weakness::AddressFilter | Weakness::NoStartCheck | Weakness::Unseen);
    if let Some(unit) = tag.unit.as_ref().filter(|unit| helps && unit.ends_with(".service")) {
        remedy += &format!(" `sluice doctor --drop-in {unit}` prints the settings.");
    }
    Some(Finding {
        id: weakness.as_str().to_owned(),
        severity: words.severity,
        tag: Some(tag.tag.to_string()),
        unit: tag.unit.clone(),
        what,
        why: words.why.to_owned(),
        remedy,
    })
}

/// What the kernel layers and the self-test leave open. What is said about the LSM is the kernel check's.
pub fn layers(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for layer in facts.layers.iter().filter(|layer| !layer.is_lsm() && layer.name != "lsm") {
        if let LayerState::Absent { why } = &layer.state {
            found.push(Finding::host(
                Weakness::LayerMissing.as_str(),
                Severity::Medium,
                format!("the kernel layer {} is missing: {why}", layer.name),
                "What it alone closes is open; what others close too stays closed.",
                "Use a kernel from 5.15 on with BPF for cgroups (CONFIG_CGROUP_BPF), and the agent's own unit.",
            ));
        }
    }
    let Some(test) = &facts.self_test else { return found };
    if let Some(trouble) = &test.trouble {
        found.push(Finding::host(
            "self-test",
            Severity::Low,
            format!("the self-test did not run to its end: {trouble}"),
            "What the layers close is not proven on this host.",
            "Look at `journalctl -u sluice` and restart the agent.",
        ));
    }
    for way in test.unexpected() {
        let Outcome::Open { why, .. } = &way.outcome else { continue };
        if way.name.starts_with(Way::PPPOX) {
            found.push(pppox(way, why));
            continue;
        }
        found.push(Finding::host(
            Weakness::WayOpen.as_str(),
            Severity::High,
            format!("the self-test got out by {}: {why}", way.name),
            "A layer that should have closed it is loaded, and did not: the host's kernel differs from what was tested.",
            "Report it, with the kernel's version. Until then do not rely on the tags of this host.",
        ));
    }
    found
}

/// No hook on a cgroup sees such a socket, and what it sends is no packet of one that they see.
fn pppox(way: &Way, why: &str) -> Finding {
    Finding::host(
        Weakness::WayOpen.as_str(),
        Severity::High,
        format!("a tagged process may have a {}: {why}", way.name),
        "By PPP sockets (AF_PPPOX) a process without any right sends to other hosts, by L2TP over a UDP socket that it \
         connects or as frames of its own (PPPoE), past every hook of a cgroup.",
        "Boot with bpf in lsm=, or keep the modules out: write the lines `install pppox /bin/false`, `install pppoe /bin/false` \
         and `install l2tp_ppp /bin/false` to /etc/modprobe.d/sluice.conf, `rmmod l2tp_ppp pppoe pppox` (pptp too, where it is \
         there), and restart the agent. Until then RestrictAddressFamilies= of `sluice doctor --drop-in UNIT` closes it for a \
         unit.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Layer, SelfTest, TagName};
    use std::collections::BTreeMap;

    fn facts(weakness: Weakness, unit: Option<&str>) -> Facts {
        let mut who = Who::default();
        who.add(7, "job", 1000);
        who.add(8, "job", 1000);
        let tag = TagFacts {
            tag: TagName::parse("ci").expect("tag"),
            unit: unit.map(str::to_owned),
            taken: true,
            processes: 2,
            weakened: BTreeMap::from([(weakness, who)]),
            sockets: vec!["/run/docker.sock".into()],
        };
        Facts { tags: vec![tag], ..Facts::default() }
    }

    #[test]
    fn every_weakness_is_explained_by_somebody() {
        for weakness in Weakness::ALL {
            let found = tags(&facts(weakness, Some("job.service")));
            let of_host = matches!(weakness, Weakness::NoLsm | Weakness::LayerMissing | Weakness::WayOpen);
            assert_eq!(found.len(), usize::from(!of_host), "{weakness}");
            for finding in found {
                assert_eq!(finding.id, weakness.as_str());
                assert!(finding.counts() && !finding.why.is_empty() && !finding.remedy.is_empty());
            }
        }
    }

    #[test]
    fn a_finding_names_the_process_the_socket_and_the_drop_in() {
        let found = tags(&facts(Weakness::ContainerSocket, Some("job.service"))).remove(0);
        assert_eq!(
            found.what,
            "tag ci may connect to a container engine: 2 of 2 processes, such as job (pid 7), uid 1000 at /run/docker.sock"
        );
        assert!(found.remedy.ends_with("`sluice doctor --drop-in job.service` prints the settings."));
        let slice = tags(&facts(Weakness::Root, Some("jobs.slice"))).remove(0);
        assert!(!slice.remedy.contains("--drop-in"));
    }

    #[test]
    fn layers_and_the_self_test() {
        let way = |name: &str, unexpected| Way {
            name: name.to_owned(),
            outcome: Outcome::Open { unexpected, why: "it arrived".to_owned() },
        };
        let facts = Facts {
            layers: vec![
                Layer::active("connect4", ""),
                Layer::absent("skb egress", "", "no"),
                Layer::absent("lsm", "", "no BTF"),
            ],
            self_test: Some(SelfTest {
                ways: vec![way("vsock", false), way("sctp", true), way("pppox socket, l2tp", true)],
                took_ms: 1,
                trouble: None,
            }),
            ..Facts::default()
        };
        let found = layers(&facts);
        let words: Vec<_> = found.iter().map(|f| (f.id.as_str(), f.severity)).collect();
        assert_eq!(
            words,
            [("layer-missing", Severity::Medium), ("way-open", Severity::High), ("way-open", Severity::High)]
        );
        let remedy = &found[2].remedy;
        assert!(
            remedy.contains("install l2tp_ppp /bin/false") && remedy.contains("RestrictAddressFamilies=")
        );
        assert!(!found[1].remedy.contains("modprobe.d"));
    }
}
