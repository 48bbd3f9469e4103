//! Judging a condition: bounded in steps, whatever the request holds.

use std::cmp::Ordering;
use std::sync::Arc;

use regex::Regex;

use super::names::Name;
use super::node::{Call, Loop, LoopKind, Node, Op};
use super::value::Val;
use crate::codec::json::fold;
use crate::policy::facts::Facts;
use crate::policy::known::Fault;

/// Steps of one condition. A step is a node, an entry of a list that is compared, or 64 bytes of text.
pub const STEPS: u64 = 100_000;
/// Steps of all conditions of one decision.
pub const STEPS_ALL: u64 = 1_000_000;
/// Bytes of text that cost a step.
const BYTES: usize = 64;

/// One judging of one condition.
pub struct Run<'f> {
    facts: &'f Facts<'f>,
    /// Bytes of the body that are looked at.
    body_max: u64,
    /// Whether what is missing is a value that every test fails on, as in rules that refuse.
    lenient: bool,
    steps: u64,
    vars: Vec<Val<'f>>,
}

type Answer<'f> = Result<Val<'f>, Fault>;

pub fn cannot<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Cannot(why.into()))
}

impl<'f> Run<'f> {
    pub fn new(facts: &'f Facts<'f>, body_max: u64, lenient: bool) -> Self {
        Self { facts, body_max, lenient, steps: 0, vars: Vec::new() }
    }

    /// Whether the condition holds.
    pub fn condition(mut self, node: &'f Node) -> Result<bool, Fault> {
        let answer = self.truth(node);
        self.facts.steps.set(self.facts.steps.get() + self.steps);
        answer
    }

    pub fn spend(&mut self, steps: usize) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > STEPS || self.facts.steps.get() + self.steps > STEPS_ALL {
            return cannot(format!("it takes more than {STEPS} steps"));
        }
        Ok(())
    }

    /// For so many bytes of text.
    pub fn spend_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.spend(bytes / BYTES)
    }

    /// What stands for what is missing.
    fn or_missing(&self, answer: Answer<'f>) -> Answer<'f> {
        match answer {
            Err(Fault::Missing) if self.lenient => Ok(Val::Missing),
            answer => answer,
        }
    }

    /// Whether a value is nothing, and that is a value here.
    pub fn nothing(&self, value: &Val<'_>) -> bool {
        self.lenient && value.is_nothing()
    }

    fn truth(&mut self, node: &'f Node) -> Result<bool, Fault> {
        match self.eval(node)? {
            Val::Bool(holds) => Ok(holds),
            value if self.nothing(&value) => Ok(false),
            value => cannot(format!("{} is asked whether it holds", value.kind())),
        }
    }

    pub fn eval(&mut self, node: &'f Node) -> Answer<'f> {
        self.spend(1)?;
        match node {
            Node::Const(value) => Ok(value.borrowed()),
            Node::Name(name) => {
                let value = name.value(self.facts, self.body_max);
                self.or_missing(value)
            }
            Node::Var(at) => self.vars.get(*at).cloned().ok_or(Fault::Missing),
            Node::Member(of, name) => {
                let of = self.holder(of, name)?;
                let value = self.member(&of, name);
                self.or_missing(value)
            }
            Node::Index(of) => self.index(of),
            Node::Has(of) => match self.eval(of) {
                Ok(value) => Ok(Val::Bool(!matches!(value, Val::Missing))),
                Err(Fault::Missing) => Ok(Val::Bool(false)),
                Err(fault) => Err(fault),
            },
            Node::Not(of) => self.truth(of).map(|holds| Val::Bool(!holds)),
            Node::Negate(of) => self.negated(of),
            Node::And(both) => self.both(both, false),
            Node::Or(both) => self.both(both, true),
            Node::If(of) => {
                let next = if self.truth(&of.0)? { &of.1 } else { &of.2 };
                self.eval(next)
            }
            Node::Binary(op, of) => {
                let (a, b) = (self.eval(&of.0)?, self.eval(&of.1)?);
                self.binary(*op, &a, &b)
            }
            Node::Call(call, of) => self.called(*call, of),
            Node::Matches(of) => self.matched(of),
            Node::List(of) => {
                let list = of.iter().map(|node| self.eval(node)).collect::<Result<Vec<_>, _>>()?;
                Ok(Val::List(list.into()))
            }
            Node::Map(of) => self.map(of),
            Node::Loop(of) => self.repeat(of),
        }
    }

    fn called(&mut self, call: Call, of: &'f [Node]) -> Answer<'f> {
        match of {
            // Nearly all have one or two: these need no list.
            [one] => {
                let one = self.eval(one)?;
                self.call(call, &mut [one])
            }
            [one, other] => {
                let mut both = [self.eval(one)?, self.eval(other)?];
                self.call(call, &mut both)
            }
            of => {
                let mut values = of.iter().map(|node| self.eval(node)).collect::<Result<Vec<_>, _>>()?;
                self.call(call, &mut values)
            }
        }
    }

    /// What a member is asked of: header fields and parameters of which others are not known, too.
    fn holder(&mut self, of: &'f Node, member: &str) -> Answer<'f> {
        match of {
            Node::Name(Name::Headers) if let Some(alike) = self.facts.alike_headers(member).next() => {
                cannot(format!("the field {member:?} is there as {:?}", alike.as_str()))
            }
            Node::Name(Name::Query) if let Some(alike) = self.facts.alike_parameter(member) => {
                cannot(format!("the parameter {member:?} is there as {alike:?}"))
            }
            // The usual answer costs no look at the other fields.
            Node::Name(Name::Headers) if self.facts.lacks_header(member) => Ok(Val::Map(Arc::default())),
            Node::Name(name) if name.is_partly_known(self.facts) => name.holder(self.facts, member),
            of => self.eval(of),
        }
    }

    /// A member by its name. One that is there in another letter case is neither missing nor it: servers differ.
    fn member(&mut self, of: &Val<'f>, name: &str) -> Answer<'f> {
        let found = of.member(name);
        if let (Err(Fault::Missing), Val::Json(serde_json::Value::Object(map))) = (&found, of) {
            self.spend(map.len() / 8)?;
            let same = |key: &String| match key.is_ascii() {
                true => key.eq_ignore_ascii_case(name),
                false => fold(key) == fold(name),
            };
            if let Some(key) = map.keys().find(|key| same(key)) {
                return cannot(format!("the member {name:?} is there as {key:?}"));
            }
        }
        found
    }

    fn index(&mut self, of: &'f (Node, Node)) -> Answer<'f> {
        let list = match &of.1 {
            Node::Const(at) if at.text().is_some() => self.holder(&of.0, at.text().unwrap_or_default())?,
            _ => self.eval(&of.0)?,
        };
        let at = self.eval(&of.1)?;
        let value = match &at {
            Val::Int(at) => list.entry(*at),
            at if self.nothing(at) => Err(Fault::Missing),
            at => match at.text() {
                Some(name) => self.member(&list, name),
                None => cannot(format!("{} is used as an index", at.kind())),
            },
        };
        self.or_missing(value)
    }

    fn negated(&mut self, of: &'f Node) -> Answer<'f> {
        match self.eval(of)? {
            Val::Int(n) => {
                n.checked_neg().map(Val::Int).ok_or(Fault::Cannot("a number is too large".to_owned()))
            }
            Val::Double(n) => Ok(Val::Double(-n)),
            Val::Span(span) => Ok(Val::Span(-span)),
            value if self.nothing(&value) => Ok(Val::Missing),
            value => cannot(format!("{} has no negative", value.kind())),
        }
    }

    fn matched(&mut self, of: &'f (Node, Regex)) -> Answer<'f> {
        let value = self.eval(&of.0)?;
        match value.text() {
            Some(text) => {
                self.spend(text.len() / 16)?;
                Ok(Val::Bool(of.1.is_match(text)))
            }
            None if self.nothing(&value) => Ok(Val::Bool(false)),
            None => cannot(format!("{} is matched against a pattern", value.kind())),
        }
    }

    /// `&&` and `||`: a side that decides does so whatever is wrong with the other.
    fn both(&mut self, of: &'f (Node, Node), decides: bool) -> Answer<'f> {
        let first = self.truth(&of.0);
        if first == Ok(decides) {
            return Ok(Val::Bool(decides));
        }
        match (first, self.truth(&of.1)) {
            (_, Ok(holds)) if holds == decides => Ok(Val::Bool(decides)),
            (Err(first), Err(second)) => Err(first.or(second)),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
            _ => Ok(Val::Bool(!decides)),
        }
    }

    fn map(&mut self, of: &'f [(Node, Node)]) -> Answer<'f> {
        let mut map: Vec<(Arc<str>, Val<'f>)> = Vec::with_capacity(of.len());
        for (key, value) in of {
            let key = self.eval(key)?;
            let Some(key) = key.text() else { return cannot(format!("{} is a member's name", key.kind())) };
            if map.iter().any(|(other, _)| **other == *key) {
                return cannot("a map has a member twice");
            }
            map.push((key.into(), self.eval(value)?));
        }
        Ok(Val::Map(map.into()))
    }

    fn repeat(&mut self, of: &'f Loop) -> Answer<'f> {
        let over = self.eval(&of.over)?;
        let entries = match over.entries() {
            Some(entries) if self.lenient || !over.is_nothing() => entries,
            _ => return cannot(format!("{} is gone through like a list", over.kind())),
        };
        let depth = self.vars.len();
        let answer = match of.kind {
            LoopKind::All => self.quantify(of, entries, false),
            LoopKind::Exists => self.quantify(of, entries, true),
            LoopKind::ExistsOne => self.gather(of, entries).map(|held| Val::Bool(held.len() == 1)),
            LoopKind::Filter | LoopKind::Map => self.gather(of, entries).map(|held| Val::List(held.into())),
        };
        self.vars.truncate(depth);
        answer
    }

    /// The first entry that decides does so, whatever is wrong with others.
    fn quantify(
        &mut self,
        of: &'f Loop,
        entries: impl Iterator<Item = Val<'f>>,
        decides: bool,
    ) -> Answer<'f> {
        let mut wrong = None;
        for entry in entries {
            self.vars.push(entry);
            let holds = self.truth(&of.body);
            self.vars.pop();
            match holds {
                Ok(holds) if holds == decides => return Ok(Val::Bool(decides)),
                Ok(_) => {}
                // Its steps are spent: it ends here.
                Err(fault) if self.steps > STEPS => return Err(fault),
                Err(fault) => wrong = Some(wrong.map_or(fault.clone(), |wrong: Fault| wrong.or(fault))),
            }
        }
        wrong.map_or(Ok(Val::Bool(!decides)), Err)
    }

    fn gather(
        &mut self,
        of: &'f Loop,
        entries: impl Iterator<Item = Val<'f>>,
    ) -> Result<Vec<Val<'f>>, Fault> {
        let mut held = Vec::new();
        for entry in entries {
            self.vars.push(entry);
            let taken = match (of.kind, &of.only) {
                (LoopKind::Map, Some(only)) => self.truth(only)?,
                (LoopKind::Map, None) => true,
                _ => self.truth(&of.body)?,
            };
            if taken && of.kind == LoopKind::Map {
                held.push(self.eval(&of.body)?);
            }
            let entry = self.vars.pop();
            if taken && of.kind != LoopKind::Map {
                held.extend(entry);
            }
        }
        Ok(held)
    }

    fn binary(&mut self, op: Op, a: &Val<'f>, b: &Val<'f>) -> Answer<'f> {
        let bytes = a.text().map_or(0, str::len).min(b.text().map_or(0, str::len));
        self.spend_bytes(bytes)?;
        let ordered = |holds: fn(Ordering) -> bool| match a.order(b) {
            Some(order) => Ok(Val::Bool(holds(order))),
            // Not a number: ordered against no other.
            None if a.kind() == "a number" && b.kind() == "a number" => Ok(Val::Bool(false)),
            None => cannot(format!("{} and {} cannot be ordered", a.kind(), b.kind())),
        };
        match op {
            Op::Eq => self.equal(a, b).map(Val::Bool),
            Op::Ne => self.equal(a, b).map(|same| Val::Bool(!same)),
            Op::In if self.nothing(b) => Ok(Val::Bool(false)),
            Op::In => self.held(a, b).map(Val::Bool),
            _ if self.nothing(a) || self.nothing(b) => {
                Ok(if op.compares() { Val::Bool(false) } else { Val::Missing })
            }
            Op::Lt => ordered(Ordering::is_lt),
            Op::Le => ordered(Ordering::is_le),
            Op::Gt => ordered(Ordering::is_gt),
            Op::Ge => ordered(Ordering::is_ge),
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Rem => self.reckon(op, a, b),
        }
    }

    fn held(&mut self, a: &Val<'f>, b: &Val<'f>) -> Result<bool, Fault> {
        if let Val::Map(_) | Val::Json(serde_json::Value::Object(_)) = b {
            return match a.text() {
                Some(name) => match self.member(b, name) {
                    Ok(_) => Ok(true),
                    Err(Fault::Missing) => Ok(false),
                    Err(fault) => Err(fault),
                },
                None if matches!(a.kind(), "a list" | "a map" | "null") => {
                    cannot(format!("{} is looked for among a map's names", a.kind()))
                }
                None => Ok(false),
            };
        }
        let Some(entries) = b.entries().filter(|_| !b.is_nothing()) else {
            return cannot(format!("something is looked for in {}", b.kind()));
        };
        for entry in entries {
            if self.equal(a, &entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Values of different kinds are not the same; what is missing is like nothing else.
    pub fn equal(&mut self, a: &Val<'f>, b: &Val<'f>) -> Result<bool, Fault> {
        self.spend(1)?;
        if let (Val::Missing, _) | (_, Val::Missing) = (a, b) {
            return Ok(false);
        }
        if let (Val::Null, Val::Null) = (a, b) {
            return Ok(true);
        }
        if let Some(order) = a.order(b) {
            self.spend_bytes(a.text().map_or(0, str::len).min(b.text().map_or(0, str::len)))?;
            return Ok(order.is_eq());
        }
        if a.kind() != b.kind() || !matches!(a.kind(), "a list" | "a map") || a.size() != b.size() {
            return Ok(false);
        }
        let (Some(mut left), Some(mut right)) = (a.entries(), b.entries()) else { return Ok(false) };
        if a.kind() == "a list" {
            while let (Some(left), Some(right)) = (left.next(), right.next()) {
                if !self.equal(&left, &right)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for name in left {
            let Some(name) = name.text() else { return Ok(false) };
            let (Ok(left), Ok(right)) = (a.member(name), b.member(name)) else { return Ok(false) };
            if !self.equal(&left, &right)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
