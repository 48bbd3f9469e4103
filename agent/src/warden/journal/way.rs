//! The ways out of a tag that the kernel part stops, in words: what each is called, what was stopped, and what to do about
//! it where it is meant to be open.

use std::net::SocketAddr;

use agent_ebpf::Counter;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// As scripts know it: the value of `SLUICE_WAY`.
    pub name: &'static str,
    /// What was stopped, and why.
    pub what: &'static str,
    /// What to do if it is meant to be open.
    pub remedy: &'static str,
}

const fn told(
    counter: Counter,
    name: &'static str,
    what: &'static str,
    remedy: &'static str,
) -> (Counter, Way) {
    (counter, Way { name, what, remedy })
}

/// The words for each [`Counter`] that is told as an event. The others are counted only.
const TOLD: [(Counter, Way); 24] = [
    told(
        Counter::MapFull,
        "map-full",
        "there was no room to remember it",
        "see whether the host is out of memory, or the job opens connections faster than they are accepted",
    ),
    told(
        Counter::BoundDevice,
        "bound-device",
        "its socket would be tied to a network device, by which the agent cannot be reached",
        "have the job name no interface (curl --interface and its like)",
    ),
    told(
        Counter::NoListener,
        "no-listener",
        "the agent has no listener for it",
        "see `sluice status`: the gate is away",
    ),
    told(
        Counter::OwnListener,
        "own-listener",
        "it dialled the agent's own listener",
        "have the job connect to its destination; it is taken on the way",
    ),
    told(
        Counter::Protocol,
        "protocol",
        "sockets of this kind cannot be followed (ping, raw, UDP-Lite, SCTP, …)",
        "have the job use TCP",
    ),
    told(
        Counter::SourceRoute,
        "source-route",
        "a source route would lead past the agent",
        "none: have the job set no IP options",
    ),
    told(
        Counter::NewNamespace,
        "new-namespace",
        "its network namespace has no listener of the agent's yet: its connections wait",
        "none if it goes on within seconds; otherwise see `sluice status`",
    ),
    told(Counter::Udp, "udp", "datagrams other than DNS are refused", "add udp = [\"ADDRESS:PORT\"]"),
    told(
        Counter::Quic,
        "quic",
        "HTTP/3 is refused, so that the client turns to TCP",
        "none is needed by clients that turn to TCP; for others add udp = [\"ADDRESS:PORT\"]",
    ),
    told(
        Counter::DnsOverTls,
        "dns-over-tls",
        "encrypted DNS is refused: names are resolved by the agent",
        "have the job use the system's resolver",
    ),
    told(
        Counter::NoResolver,
        "no-resolver",
        "the agent's resolver is away",
        "see `sluice status`: the gate is away",
    ),
    told(
        Counter::LoopbackDenied,
        "loopback",
        "the tag's option keeps it from this host's own services",
        "set loopback = \"pass\"",
    ),
    told(
        Counter::Metadata,
        "metadata",
        "cloud metadata addresses hand out the machine's credentials",
        "set metadata = true",
    ),
    told(Counter::Bind, "bind", "the port is one of the agent's own", "have the job listen on another port"),
    told(
        Counter::Disguise,
        "disguise",
        "a socket option would make packets look like somebody else's, or have the kernel tell the neighbours of a group",
        "take CAP_NET_ADMIN and CAP_NET_RAW from the job, which does not need them here",
    ),
    told(Counter::Inbound, "inbound", "other hosts may not connect to the tag", "set inbound = true"),
    told(
        Counter::Egress,
        "egress",
        "a packet was stopped that no connection of the tag accounts for",
        "restart the job if its connection is older than the tag",
    ),
    told(Counter::Mptcp, "mptcp", "the tag's option refuses multipath TCP", "set mptcp = true"),
    told(
        Counter::Family,
        "family",
        "sockets of this family cannot be followed",
        "have the job use TCP over IPv4 or IPv6, or Unix sockets",
    ),
    told(
        Counter::ForeignSocket,
        "foreign-socket",
        "it used a socket that was not made in its tag",
        "have the job make its own; it may be older than the tag: restart it",
    ),
    told(
        Counter::PassedSocket,
        "passed-socket",
        "it was handed a socket that was not made in its tag",
        "tag the process that hands it over too",
    ),
    told(
        Counter::UnixPeer,
        "unix-peer",
        "it dialled a Unix socket whose owner would act for it outside of the tag",
        "see `sluice doctor`",
    ),
    told(
        Counter::Ptrace,
        "ptrace",
        "it wanted to trace or read a process outside of its tag",
        "give the job a user of its own",
    ),
    told(
        Counter::DnsPace,
        "dns-pace",
        "the tag asks more names in a second than one may, of a resolver that it shares with others",
        "have the job keep the answers, or see why it asks so much",
    ),
];

/// The words for what a [`Counter`] tells as an event; `None` for those that are counted only.
pub fn of(counter: Counter) -> Option<Way> {
    TOLD.iter().find(|(told, _)| *told == counter).map(|(_, way)| *way)
}

impl Way {
    /// The remedy with the destination put in.
    pub fn remedy_for(&self, address: Option<SocketAddr>) -> String {
        match address {
            Some(address) => {
                self.remedy.replace("ADDRESS:PORT", &address.to_string().replace("]:", "/128]:"))
            }
            None => self.remedy.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_is_told_once_or_is_counted_only() {
        let untold: Vec<Counter> =
            Counter::ALL.into_iter().filter(|counter| of(*counter).is_none()).collect();
        let counted = [
            Counter::Taken,
            Counter::Loopback,
            Counter::Agent,
            Counter::HeldBack,
            Counter::Dns,
            Counter::UdpAllowed,
        ];
        assert_eq!(untold, counted);
        assert_eq!(TOLD.len() + counted.len(), Counter::ALL.len());
        let names: BTreeSet<&str> = TOLD.iter().map(|(_, way)| way.name).collect();
        assert_eq!(names.len(), TOLD.len());
        assert!(TOLD.iter().all(|(_, way)| !way.what.is_empty() && !way.remedy.is_empty()));
    }

    #[test]
    fn a_remedy_names_a_rule_that_can_be_read() {
        let udp = of(Counter::Udp).expect("told");
        for address in ["203.0.113.10:4000", "[2001:db8::1]:4000"] {
            let remedy = udp.remedy_for(address.parse().ok());
            let rule = remedy.split('"').nth(1).expect("a rule");
            assert!(rule.parse::<crate::config::UdpRule>().is_ok(), "{remedy}");
        }
    }
}
