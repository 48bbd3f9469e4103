//! What is measured against what: the "first" column of the project's performance goals, and two peers' figures from
//! the same kind of set-up (haproxy and nginx, TLS on both legs, one core).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::measure::spread;

/// Which way a client's traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Straight to the upstream.
    Direct,
    /// Through Sluice.
    Through,
    /// Through haproxy, which ends TLS and opens it again and does nothing else: the same rig's yardstick.
    Peer,
}

impl Side {
    /// In the order of a round.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Through, Self::Peer];

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Through => "through Sluice",
            Self::Peer => "through haproxy",
        }
    }
}

/// How a figure is made of the measurements, and which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Through over direct; at least the goal.
    RatioAtLeast,
    /// Through over direct; at most the goal.
    RatioAtMost,
    /// Through alone; at most the goal.
    AtMost,
    /// Through minus direct; at most the goal.
    DifferenceAtMost,
}

/// One goal.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Key of the measurements.
    pub key: &'static str,
    /// For people.
    pub text: &'static str,
    /// See [`Kind`].
    pub kind: Kind,
    /// The figure to reach.
    pub goal: f64,
    /// haproxy's, nginx's figure, where known.
    pub peers: [Option<f64>; 2],
}

const fn goal(key: &'static str, text: &'static str, kind: Kind, goal: f64, peers: [Option<f64>; 2]) -> Goal {
    Goal { key, text, kind, goal, peers }
}

/// All goals, in the order in which they are printed.
pub const GOALS: [Goal; 21] = [
    goal(
        "h1_rps_1",
        "requests/s, 1 connection (no goal: wake-ups across cores)",
        Kind::RatioAtLeast,
        0.0,
        [None, None],
    ),
    goal(
        "h1_rps_32",
        "requests/s, 32 keep-alive connections",
        Kind::RatioAtLeast,
        0.60,
        [Some(0.73), Some(0.77)],
    ),
    goal(
        "gate_us_per_request",
        "gate CPU µs for one such request",
        Kind::AtMost,
        45.0,
        [Some(33.0), Some(32.0)],
    ),
    goal(
        "policy_rps_32",
        "the same with 100 rules (10 in CEL), to none (\"direct\")",
        Kind::RatioAtLeast,
        0.95,
        [None, None],
    ),
    goal(
        "bearer_rps_32",
        "the same with an injected bearer, to none (\"direct\")",
        Kind::RatioAtLeast,
        0.97,
        [None, None],
    ),
    goal(
        "sigv4_1mib_rps_8",
        "1 MiB bodies/s signed anew (SigV4), to not (\"direct\")",
        Kind::RatioAtLeast,
        0.85,
        [None, None],
    ),
    goal(
        "sigv4_pieces_1mib_rps_8",
        "the same, signed in pieces of 64 KiB",
        Kind::RatioAtLeast,
        0.85,
        [None, None],
    ),
    goal("h2_rps_32", "requests/s, HTTP/2, 32 streams", Kind::RatioAtLeast, 0.60, [Some(0.73), Some(0.67)]),
    goal(
        "new_per_second",
        "new TLS connections/s, full handshakes",
        Kind::RatioAtLeast,
        0.40,
        [Some(0.63), Some(1.42)],
    ),
    goal(
        "gate_us_per_connection",
        "gate CPU µs for one new connection",
        Kind::AtMost,
        900.0,
        [Some(1118.0), Some(465.0)],
    ),
    goal("bulk_mb_s", "bulk MB/s, one stream", Kind::RatioAtLeast, 0.60, [Some(0.86), Some(0.94)]),
    goal("gate_cpu_s_per_gb", "gate CPU-s per GB", Kind::AtMost, 2.2, [Some(1.41), Some(1.71)]),
    goal("warm_first_byte_us", "first byte, warm host", Kind::RatioAtMost, 3.0, [Some(2.05), Some(2.29)]),
    goal(
        "cold_first_byte_us",
        "first byte, host never seen",
        Kind::RatioAtMost,
        2.5,
        [Some(2.58), Some(1.24)],
    ),
    goal(
        "sse_python_us",
        "delay of an SSE event, Python client",
        Kind::RatioAtMost,
        2.0,
        [Some(1.85), Some(1.66)],
    ),
    goal(
        "sse_delay_us",
        "the same, client of one system call (no goal)",
        Kind::RatioAtMost,
        f64::INFINITY,
        [None, None],
    ),
    goal(
        "idle_kib_per_connection",
        "gate KiB per idle connection (8,000 open)",
        Kind::AtMost,
        60.0,
        [Some(46.0), Some(16.0)],
    ),
    goal(
        "idle_resident_mib",
        "resident MiB when idle, both processes",
        Kind::AtMost,
        60.0,
        [Some(20.0), Some(24.0)],
    ),
    goal(
        "mask_json_rps_32",
        "requests/s, 1 KiB of JSON, every detector to none",
        Kind::RatioAtLeast,
        0.85,
        [None, None],
    ),
    goal(
        "mask_sse_delay_us",
        "delay of an event, every detector minus none, µs",
        Kind::DifferenceAtMost,
        100.0,
        [None, None],
    ),
    goal("connect_us", "connect(): tagged minus untagged, µs", Kind::DifferenceAtMost, 15.0, [None, None]),
];

/// Measurements by side and key: the values of all rounds.
#[derive(Clone, Debug, Default)]
pub struct Rounds(BTreeMap<Side, BTreeMap<String, Vec<f64>>>);

impl Rounds {
    /// Adds one round's value.
    pub fn add(&mut self, side: Side, key: &str, value: f64) {
        self.0.entry(side).or_default().entry(key.to_owned()).or_default().push(value);
    }

    fn median(&self, side: Side, key: &str) -> Option<f64> {
        Some(spread(self.0.get(&side)?.get(key)?.clone()).p50)
    }

    /// The figure that a goal is about, of one side; `None` when something was not measured.
    pub fn figure(&self, goal: &Goal, side: Side) -> Option<f64> {
        let measured = self.median(side, goal.key)?;
        let direct = || self.median(Side::Direct, goal.key);
        Some(match goal.kind {
            Kind::RatioAtLeast | Kind::RatioAtMost => measured / direct()?,
            Kind::AtMost => measured,
            Kind::DifferenceAtMost => measured - direct()?,
        })
    }

    /// Everything as JSON: medians, all rounds, figures with pass or miss.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = GOALS
            .iter()
            .map(|g| {
                let figure = self.figure(g, Side::Through);
                json!({"key": g.key, "what": g.text, "direct": self.median(Side::Direct, g.key),
                    "through": self.median(Side::Through, g.key), "figure": figure, "goal": g.goal,
                    "met": figure.map(|f| g.met(f)), "met_as_here": figure.map(|f| self.met_here(g, f)),
                    "haproxy_here": self.figure(g, Side::Peer),
                    "haproxy": g.peers[0], "nginx": g.peers[1]})
            })
            .collect();
        let rounds = |side| self.0.get(&side);
        json!({"figures": figures, "rounds": {"direct": rounds(Side::Direct), "through": rounds(Side::Through),
            "haproxy": rounds(Side::Peer)}})
    }

    /// Whether a figure reaches the goal as this machine moves it: where haproxy, which does the same work, is worse here
    /// than in the goals' own rig, by the same factor.
    fn met_here(&self, goal: &Goal, figure: f64) -> bool {
        let ratio = matches!(goal.kind, Kind::RatioAtLeast | Kind::RatioAtMost);
        let moved = match (self.figure(goal, Side::Peer), goal.peers[0]) {
            (Some(here), Some(there)) if ratio => goal.goal * here / there,
            _ => goal.goal,
        };
        goal.met(figure) || Goal { goal: moved, ..*goal }.met(figure)
    }

    /// The table for people. `haproxy` is this rig's, `peers` are those of the goals' own rig. A figure that reaches its
    /// goal only as this machine moves haproxy's is marked with a star.
    pub fn table(&self) -> String {
        let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), short);
        let row = |a: &str, b: [String; 8]| {
            let [direct, through, figure, goal, verdict, here, haproxy, nginx] = b;
            format!(
                "{a:<58} {direct:>9} {through:>9} {figure:>8} {goal:>8} {verdict:>5} {here:>8}  {haproxy:>7} {nginx:>7}\n"
            )
        };
        let heads = ["direct", "through", "figure", "goal", "", "haproxy", "peers: h", "nginx"];
        let mut text = row("", heads.map(str::to_owned));
        for g in &GOALS {
            let figure = self.figure(g, Side::Through);
            let verdict = match figure {
                None => "–",
                Some(figure) if g.met(figure) => "pass",
                Some(figure) if self.met_here(g, figure) => "pass*",
                Some(_) => "MISS",
            };
            let goal = format!("{} {}", if g.kind == Kind::RatioAtLeast { "≥" } else { "≤" }, short(g.goal));
            let cells = [
                cell(self.median(Side::Direct, g.key)),
                cell(self.median(Side::Through, g.key)),
                cell(figure),
                goal,
                verdict.to_owned(),
                cell(self.figure(g, Side::Peer)),
                cell(g.peers[0]),
                cell(g.peers[1]),
            ];
            text.push_str(&row(g.text, cells));
        }
        text
    }

    /// How many goals were not reached or not measured, and how many were only as this machine moves haproxy's figures.
    pub fn missed(&self) -> (usize, usize) {
        let figures = || GOALS.iter().map(|g| (g, self.figure(g, Side::Through)));
        let missed = figures().filter(|(g, figure)| !figure.is_some_and(|f| self.met_here(g, f))).count();
        let starred =
            figures().filter(|(g, figure)| figure.is_some_and(|f| !g.met(f) && self.met_here(g, f)));
        (missed, starred.count())
    }
}

impl Goal {
    /// Whether a figure reaches it.
    pub fn met(&self, figure: f64) -> bool {
        match self.kind {
            Kind::RatioAtLeast => figure >= self.goal,
            Kind::RatioAtMost | Kind::AtMost | Kind::DifferenceAtMost => figure <= self.goal,
        }
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_medians() {
        let mut rounds = Rounds::default();
        for (direct, through) in [(100.0, 50.0), (90.0, 60.0), (110.0, 70.0)] {
            rounds.add(Side::Direct, "h1_rps_32", direct);
            rounds.add(Side::Through, "h1_rps_32", through);
        }
        assert_eq!(rounds.figure(&GOALS[1], Side::Through), Some(0.6));
        assert!(GOALS[1].met(0.6) && !GOALS[1].met(0.59));
        assert_eq!(rounds.missed(), (GOALS.len() - 1, 0), "the rest was not measured");
        for (direct, through, peer, met) in
            [(100.0, 55.0, 66.0, true), (100.0, 55.0, 73.0, false), (100.0, 60.0, 90.0, true)]
        {
            let mut rounds = Rounds::default();
            rounds.add(Side::Direct, "h1_rps_32", direct);
            rounds.add(Side::Through, "h1_rps_32", through);
            rounds.add(Side::Peer, "h1_rps_32", peer);
            assert_eq!(
                rounds.met_here(&GOALS[1], through / direct),
                met,
                "haproxy at {peer}: a goal is never raised"
            );
        }
    }
}
