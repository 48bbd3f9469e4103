//! Which functions and operators there are, and what they take.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use regex::RegexBuilder;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::lower::{Lower, Lowered};
use super::names::Kind;
use super::node::{Call, LoopKind, Node, Op, Part};
use super::value::Val;
use crate::types::nearest;

/// Bytes that a pattern may take compiled, and that its cache may.
pub const PATTERN: usize = 256 * 1024;

pub fn operator(name: &str) -> Option<Op> {
    Some(match name {
        operators::EQUALS => Op::Eq,
        operators::NOT_EQUALS => Op::Ne,
        operators::LESS => Op::Lt,
        operators::LESS_EQUALS => Op::Le,
        operators::GREATER => Op::Gt,
        operators::GREATER_EQUALS => Op::Ge,
        operators::IN => Op::In,
        operators::ADD => Op::Add,
        operators::SUBSTRACT => Op::Sub,
        operators::MULTIPLY => Op::Mul,
        operators::DIVIDE => Op::Div,
        operators::MODULO => Op::Rem,
        _ => return None,
    })
}

pub fn repeats(name: &str) -> Option<LoopKind> {
    Some(match name {
        "all" => LoopKind::All,
        "exists" => LoopKind::Exists,
        "exists_one" => LoopKind::ExistsOne,
        "filter" => LoopKind::Filter,
        "map" => LoopKind::Map,
        _ => return None,
    })
}

/// The kind of `a op b`.
pub fn result(op: Op, a: &Kind, b: &Kind) -> Result<Kind, String> {
    use Kind::{Any, Bool, List, Map, Null, Number, Span, Text, Time};
    let (left, right) = (a.words(), b.words());
    match op {
        Op::Eq | Op::Ne if a.meets(b) => Ok(Bool),
        Op::Eq | Op::Ne => Err(format!("{left} and {right} are never the same")),
        Op::In => match b {
            Any => Ok(Bool),
            List(of) | Map(of) => {
                let of = if let Map(_) = b { &Text } else { &**of };
                if a.meets(of) { Ok(Bool) } else { Err(format!("{left} is never in a list of others")) }
            }
            _ => Err(format!("`in` looks in a list or a map, not in {right}")),
        },
        Op::Lt | Op::Le | Op::Gt | Op::Ge => match (a, b) {
            (Any, Any | Bool | Number | Text | Time | Span) | (Bool | Number | Text | Time | Span, Any) => {
                Ok(Bool)
            }
            (a, b) if a == b && matches!(a, Bool | Number | Text | Time | Span) => Ok(Bool),
            _ => Err(format!("{left} and {right} cannot be ordered")),
        },
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Rem => match (op, a, b) {
            (_, Any, Any) | (_, Any, Number) | (_, Number, Any) => Ok(Any),
            (_, Number, Number) => Ok(Number),
            (Op::Sub, Time, Time) | (Op::Add | Op::Sub, Span, Span) => Ok(Span),
            (Op::Add | Op::Sub, Time, Span) | (Op::Add, Span, Time) => Ok(Time),
            (Op::Add, Text, Text | Any) | (Op::Add, Any, Text) => Ok(Text),
            (Op::Add, List(a), List(b)) => Ok(List(if a == b { a.clone() } else { Box::new(Any) })),
            (Op::Add, List(_), Any) | (Op::Add, Any, List(_)) => Ok(List(Box::new(Any))),
            (Op::Add | Op::Sub, Any, Time | Span) | (Op::Add | Op::Sub, Time | Span, Any) => Ok(Any),
            (_, Null, _) | (_, _, Null) => Err("null cannot be reckoned with".to_owned()),
            _ => Err(format!("{left} and {right} cannot be reckoned with")),
        },
    }
}

/// Names, what they are called on or with, and what comes out.
const FUNCTIONS: &[(&str, Call, &[Kind], Kind)] = &[
    ("contains", Call::Contains, &[Kind::Text, Kind::Text], Kind::Bool),
    ("startsWith", Call::StartsWith, &[Kind::Text, Kind::Text], Kind::Bool),
    ("endsWith", Call::EndsWith, &[Kind::Text, Kind::Text], Kind::Bool),
    ("lowerAscii", Call::LowerAscii, &[Kind::Text], Kind::Text),
    ("upperAscii", Call::UpperAscii, &[Kind::Text], Kind::Text),
    ("size", Call::Size, &[Kind::Any], Kind::Number),
    ("int", Call::Int, &[Kind::Any], Kind::Number),
    ("double", Call::Double, &[Kind::Any], Kind::Number),
    ("string", Call::String, &[Kind::Any], Kind::Text),
    ("getFullYear", Call::Part(Part::FullYear), &[Kind::Time], Kind::Number),
    ("getMonth", Call::Part(Part::Month), &[Kind::Time], Kind::Number),
    ("getDate", Call::Part(Part::Date), &[Kind::Time], Kind::Number),
    ("getDayOfMonth", Call::Part(Part::DayOfMonth), &[Kind::Time], Kind::Number),
    ("getDayOfWeek", Call::Part(Part::DayOfWeek), &[Kind::Time], Kind::Number),
    ("getDayOfYear", Call::Part(Part::DayOfYear), &[Kind::Time], Kind::Number),
    ("getHours", Call::Part(Part::Hours), &[Kind::Time], Kind::Number),
    ("getMinutes", Call::Part(Part::Minutes), &[Kind::Time], Kind::Number),
    ("getSeconds", Call::Part(Part::Seconds), &[Kind::Time], Kind::Number),
];
const OTHERS: [&str; 10] =
    ["matches", "timestamp", "duration", "dyn", "has", "all", "exists", "exists_one", "map", "filter"];

impl Lower<'_> {
    pub(super) fn function(
        &mut self,
        at: u64,
        name: &str,
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Lowered {
        let given: Vec<&IdedExpr> = target.into_iter().chain(args).collect();
        match (name, &given[..]) {
            ("matches", [of, pattern]) => return self.matches(at, of, pattern),
            ("timestamp" | "duration", [of]) if target.is_none() => return self.moment(at, name, of),
            ("dyn", [of]) if target.is_none() => return (self.lower(of).0, Kind::Any),
            _ => {}
        }
        let Some((_, call, takes, gives)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).chain(OTHERS).collect();
            let remedy = match nearest(name, &known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known: {}", known.join(", ")),
            };
            return self.wrong(at, format!("unknown function {name} ({remedy})"));
        };
        if given.len() != takes.len() {
            return self.wrong(at, format!("{name}() takes {}, not {}", takes.len(), given.len()));
        }
        let mut nodes = Vec::with_capacity(given.len());
        for (of, wants) in given.into_iter().zip(*takes) {
            let (node, kind) = self.lower(of);
            let sized =
                *call != Call::Size || matches!(kind, Kind::Any | Kind::Text | Kind::List(_) | Kind::Map(_));
            if !kind.meets(wants) || !sized || kind == Kind::Null {
                self.wrong(of.id, format!("{} is given to {name}()", kind.words()));
            }
            nodes.push(node);
        }
        (Node::Call(*call, nodes), gives.clone())
    }

    fn matches(&mut self, at: u64, of: &IdedExpr, pattern: &IdedExpr) -> Lowered {
        let (node, kind) = self.lower(of);
        if !kind.meets(&Kind::Text) {
            return self.wrong(at, format!("{} is given to matches()", kind.words()));
        }
        let Some(text) = literal(pattern) else {
            return self.wrong(pattern.id, "the pattern of matches() must be a text that stands here");
        };
        let built =
            RegexBuilder::new(text).size_limit(PATTERN).dfa_size_limit(PATTERN).nest_limit(32).build();
        match built {
            Ok(regex) => (Node::Matches(Box::new((node, regex))), Kind::Bool),
            Err(error) => {
                let error = error.to_string();
                let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.wrong(pattern.id, format!("the pattern cannot be used: {last}"))
            }
        }
    }

    /// `timestamp("2026-12-01T00:00:00Z")`, `duration("90m")`.
    fn moment(&mut self, at: u64, name: &str, of: &IdedExpr) -> Lowered {
        let Some(text) = literal(of) else {
            return self.wrong(at, format!("{name}() takes a text that stands here"));
        };
        if name == "timestamp" {
            return match OffsetDateTime::parse(text, &Rfc3339) {
                Ok(time) => (Node::Const(Val::Time(time)), Kind::Time),
                Err(_) => self.wrong(at, "timestamp() takes a time as in \"2026-12-01T00:00:00Z\""),
            };
        }
        match span(text) {
            Some(span) => (Node::Const(Val::Span(span)), Kind::Span),
            None => self.wrong(at, "duration() takes a time span as in \"90m\" or \"1h30m\""),
        }
    }
}

/// A text that stands in the condition itself.
fn literal(of: &IdedExpr) -> Option<&str> {
    match &of.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// Whole numbers with `h`, `m`, `s`, `ms`, one behind the other.
fn span(text: &str) -> Option<Duration> {
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut span = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let seconds = |of: i64| number.checked_mul(of).map(Duration::seconds);
        let part = match &rest[digits..digits + unit] {
            "h" => seconds(3600)?,
            "m" => seconds(60)?,
            "s" => seconds(1)?,
            "ms" => Duration::milliseconds(number),
            _ => return None,
        };
        span = span.checked_add(part)?;
        rest = &rest[digits + unit..];
    }
    Some(if negative { -span } else { span })
}
