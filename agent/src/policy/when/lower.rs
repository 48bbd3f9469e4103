//! From what the parser read to what is judged: every name known, every kind fitting, every loop bounded; or each mistake
//! with its place.

use cel::common::ast::{
    CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators,
};

use super::Mistake;
use super::functions;
use super::names::{self, Kind};
use super::node::{Loop, LoopKind, Node, Op};
use super::value::Val;
use crate::types::nearest;

/// Expressions inside one another.
const DEPTH: usize = 48;
/// Loops inside one another.
const LOOPS: usize = 2;

/// Reads an expression; gathers what is wrong with it.
pub struct Lower<'e> {
    pub source: &'e str,
    pub info: &'e SourceInfo,
    pub mistakes: Vec<Mistake>,
    /// Whether a name stands in the body.
    pub asks_body: bool,
    /// Whether one stands in messages of a WebSocket.
    pub asks_message: bool,
    /// Whether it asks which side sent one.
    pub asks_speaker: bool,
    /// Claims that it asks for by name.
    pub claims: Vec<String>,
    depth: usize,
    /// Variables of the loops around, outermost first.
    vars: Vec<(String, Kind)>,
}

/// What is judged, and its kind.
pub type Lowered = (Node, Kind);

impl<'e> Lower<'e> {
    pub fn new(source: &'e str, info: &'e SourceInfo) -> Self {
        Self {
            source,
            info,
            mistakes: Vec::new(),
            asks_body: false,
            asks_message: false,
            asks_speaker: false,
            claims: Vec::new(),
            depth: 0,
            vars: Vec::new(),
        }
    }

    /// Notes a mistake; what stands in for the value fits everywhere.
    pub fn wrong(&mut self, at: u64, what: impl Into<String>) -> Lowered {
        let at = self.info.offset_for(at).map_or(0, |(start, _)| start as usize);
        let at = self.source.floor_char_boundary(at);
        let mistake = Mistake { at, what: what.into() };
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
        (Node::Const(Val::Null), Kind::Any)
    }

    pub fn lower(&mut self, of: &IdedExpr) -> Lowered {
        if self.depth == DEPTH {
            return self.wrong(of.id, format!("more than {DEPTH} expressions inside one another"));
        }
        self.depth += 1;
        let lowered = match &of.expr {
            Expr::Literal(literal) => self.literal(of.id, literal),
            Expr::Ident(name) => self.path(of, name),
            Expr::Select(select) => self.select(of, select),
            Expr::Call(call) => self.call(of.id, call),
            Expr::List(list) => self.list(&list.elements),
            Expr::Map(map) => self.map(of.id, &map.entries),
            Expr::Struct(_) => self.wrong(of.id, "structs are not known here"),
            Expr::Comprehension(_) | Expr::Unspecified => self.wrong(of.id, "this is not known here"),
        };
        self.depth -= 1;
        lowered
    }

    fn literal(&mut self, at: u64, literal: &LiteralValue) -> Lowered {
        let (value, kind) = match literal {
            LiteralValue::Boolean(holds) => (Val::Bool(*holds.inner()), Kind::Bool),
            LiteralValue::Int(n) => (Val::Int(*n.inner()), Kind::Number),
            LiteralValue::Double(n) => (Val::Double(*n.inner()), Kind::Number),
            LiteralValue::Null => (Val::Null, Kind::Null),
            LiteralValue::String(text) => (Val::Made(text.inner().into()), Kind::Text),
            LiteralValue::UInt(n) => match i64::try_from(*n.inner()) {
                Ok(n) => (Val::Int(n), Kind::Number),
                Err(_) => return self.wrong(at, "a number larger than 9223372036854775807"),
            },
            LiteralValue::Bytes(_) => return self.wrong(at, "bytes are not known here; write a text"),
        };
        (Node::Const(value), kind)
    }

    /// A name, as it is written from its root.
    fn path(&mut self, of: &IdedExpr, path: &str) -> Lowered {
        if let Some(at) = self.vars.iter().rposition(|(name, _)| name == path) {
            return (Node::Var(at), self.vars[at].1.clone());
        }
        if let Some((name, kind)) = names::find(path) {
            self.asks_body |= name.asks_body();
            self.asks_message |= name.asks_message();
            self.asks_speaker |= name == names::Name::MessageFrom;
            return (Node::Name(name), kind);
        }
        let below: Vec<_> = names::below(path).collect();
        if !below.is_empty() {
            return self.wrong(of.id, format!("{path} is no value; name one of {}", below.join(", ")));
        }
        let mut known = names::all();
        known.extend(["caller", "identity", "destination", "request", "message"]);
        let remedy = near(path, &known).unwrap_or_else(|| {
            let parent = path.rsplit_once('.').map(|(parent, _)| names::below(parent).collect::<Vec<_>>());
            match parent.filter(|names| !names.is_empty()) {
                Some(names) => format!("known: {}", names.join(", ")),
                None => "known: caller, identity, destination, host, request, message, now".to_owned(),
            }
        });
        self.wrong(of.id, format!("unknown name {path} ({remedy})"))
    }

    fn select(&mut self, of: &IdedExpr, select: &SelectExpr) -> Lowered {
        if let Some(path) = self.qualified(of) {
            // Up to the longest name that has a value, names; behind it, members.
            let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let has_value = |path: &str| {
                let mut upto = path.match_indices('.').map(|(at, _)| &path[..at]).chain([path]);
                upto.any(|name| names::find(name).is_some())
            };
            if names::find(&path).is_some() {
                return self.path(of, &path);
            }
            if !has_value(parent) {
                // The first word that goes wrong is the mistake.
                return match names::below(parent).next() {
                    None if !parent.is_empty() => self.lower(&select.operand),
                    _ => self.path(of, &path),
                };
            }
        }
        let (inner, kind) = self.lower(&select.operand);
        let kind = match kind {
            Kind::Any | Kind::Null => Kind::Any,
            Kind::Map(of) => *of,
            kind => {
                return self.wrong(of.id, format!("{} has no member {}", kind.words(), select.field));
            }
        };
        self.claim(&inner, &select.field);
        (Node::Member(Box::new(inner), select.field.as_str().into()), kind)
    }

    /// The name that an expression spells, where its root is no variable.
    fn qualified(&self, of: &IdedExpr) -> Option<String> {
        match &of.expr {
            Expr::Ident(name) if self.vars.iter().any(|(var, _)| var == name) => None,
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select(select) => Some(format!("{}.{}", self.qualified(&select.operand)?, select.field)),
            _ => None,
        }
    }

    fn list(&mut self, elements: &[IdedExpr]) -> Lowered {
        let (nodes, kinds): (Vec<_>, Vec<_>) = elements.iter().map(|element| self.lower(element)).unzip();
        let kind = together(kinds);
        if nodes.iter().all(|node| matches!(node, Node::Const(_))) {
            let values = nodes.into_iter().filter_map(|node| match node {
                Node::Const(value) => Some(value),
                _ => None,
            });
            return (Node::Const(Val::List(values.collect::<Vec<_>>().into())), Kind::List(Box::new(kind)));
        }
        (Node::List(nodes), Kind::List(Box::new(kind)))
    }

    fn map(&mut self, at: u64, entries: &[cel::common::ast::IdedEntryExpr]) -> Lowered {
        let (mut nodes, mut kinds) = (Vec::new(), Vec::new());
        for entry in entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return self.wrong(at, "structs are not known here");
            };
            let (key, kind) = self.lower(&entry.key);
            if !kind.meets(&Kind::Text) {
                self.wrong(entry.key.id, format!("{} is a member's name; write a text", kind.words()));
            }
            let (value, kind) = self.lower(&entry.value);
            nodes.push((key, value));
            kinds.push(kind);
        }
        (Node::Map(nodes), Kind::Map(Box::new(together(kinds))))
    }

    fn call(&mut self, at: u64, call: &CallExpr) -> Lowered {
        match (call.func_name.as_str(), &call.target, &call.args[..]) {
            (operators::LOGICAL_AND, None, [a, b]) => {
                let both = Box::new((self.test(a), self.test(b)));
                (Node::And(both), Kind::Bool)
            }
            (operators::LOGICAL_OR, None, [a, b]) => {
                let both = Box::new((self.test(a), self.test(b)));
                (Node::Or(both), Kind::Bool)
            }
            (operators::LOGICAL_NOT, None, [of]) => (Node::Not(Box::new(self.test(of))), Kind::Bool),
            (operators::NEGATE, None, [of]) => {
                let (node, kind) = self.lower(of);
                if !matches!(kind, Kind::Number | Kind::Span | Kind::Any) {
                    return self.wrong(at, format!("{} has no negative", kind.words()));
                }
                (Node::Negate(Box::new(node)), kind)
            }
            (operators::CONDITIONAL, None, [of, a, b]) => {
                let test = self.test(of);
                let ((a, left), (b, right)) = (self.lower(a), self.lower(b));
                (Node::If(Box::new((test, a, b))), together(vec![left, right]))
            }
            (operators::INDEX, None, [of, index]) => self.index(at, of, index),
            ("has", None, [of]) => match &of.expr {
                Expr::Select(_) => {
                    let (node, _) = self.lower(of);
                    (Node::Has(Box::new(node)), Kind::Bool)
                }
                _ => self.wrong(at, "has() asks for a member, as in has(request.json.model)"),
            },
            (name, None, [a, b]) if functions::operator(name).is_some() => {
                let op = functions::operator(name).unwrap_or(Op::Eq);
                let (left, right) = (self.lower(a), self.lower(b));
                self.binary(at, op, left, right)
            }
            (name, Some(over), args) if functions::repeats(name).is_some() => {
                self.repeat(at, name, over, args)
            }
            (name, target, args) => self.function(at, name, target.as_deref(), args),
        }
    }

    /// What must be yes or no.
    pub fn test(&mut self, of: &IdedExpr) -> Node {
        let (node, kind) = self.lower(of);
        if !kind.meets(&Kind::Bool) || kind == Kind::Null {
            self.wrong(of.id, format!("{} stands where true or false must", kind.words()));
        }
        node
    }

    fn index(&mut self, at: u64, of: &IdedExpr, index: &IdedExpr) -> Lowered {
        let ((node, kind), (by, by_kind)) = (self.lower(of), self.lower(index));
        let kind = match (kind, &by_kind) {
            (Kind::Any, Kind::Any | Kind::Text | Kind::Number) => Kind::Any,
            (Kind::List(of), Kind::Any | Kind::Number) | (Kind::Map(of), Kind::Any | Kind::Text) => *of,
            (kind, by) => {
                return self.wrong(at, format!("{} is no index of {}", by.words(), kind.words()));
            }
        };
        if let Node::Const(name) = &by {
            self.claim(&node, name.text().unwrap_or_default());
        }
        (Node::Index(Box::new((node, by))), kind)
    }

    /// Notes that a member of the claims is asked for.
    fn claim(&mut self, of: &Node, name: &str) {
        if matches!(of, Node::Name(names::Name::Claims)) {
            self.claims.push(name.to_owned());
        }
    }

    fn binary(&mut self, at: u64, op: Op, (a, left): Lowered, (b, right): Lowered) -> Lowered {
        match functions::result(op, &left, &right) {
            Ok(kind) => (Node::Binary(op, Box::new((a, b))), kind),
            Err(what) => self.wrong(at, what),
        }
    }

    fn repeat(&mut self, at: u64, name: &str, over: &IdedExpr, args: &[IdedExpr]) -> Lowered {
        let kind = functions::repeats(name).unwrap_or(LoopKind::All);
        let (over, over_kind) = self.lower(over);
        let (var, only, body) = match (kind, args) {
            (_, [var, body]) => (var, None, body),
            (LoopKind::Map, [var, only, body]) => (var, Some(only), body),
            _ => return self.wrong(at, format!("{name}() takes a name and a test, as in {name}(x, x == 1)")),
        };
        let Expr::Ident(var) = &var.expr else {
            return self.wrong(var.id, format!("{name}() begins with the name of its variable"));
        };
        if self.vars.len() == LOOPS {
            return self
                .wrong(at, format!("more than {LOOPS} of all, exists, map and filter inside one another"));
        }
        if names::find(var).is_some() || names::below(var).next().is_some() {
            return self.wrong(at, format!("{var} has a meaning already; take another name"));
        }
        let entry = match over_kind {
            Kind::Any => Kind::Any,
            Kind::List(of) => *of,
            Kind::Map(_) => Kind::Text,
            kind => {
                return self
                    .wrong(at, format!("{name}() goes through a list or a map, not {}", kind.words()));
            }
        };
        self.vars.push((var.clone(), entry.clone()));
        let only = only.map(|only| self.test(only));
        let (body, result) = if kind == LoopKind::Map {
            let (body, of) = self.lower(body);
            (body, Kind::List(Box::new(of)))
        } else {
            let filtered = kind == LoopKind::Filter;
            (self.test(body), if filtered { Kind::List(Box::new(entry)) } else { Kind::Bool })
        };
        self.vars.pop();
        (Node::Loop(Box::new(Loop { kind, over, body, only })), result)
    }
}

/// The kind that all have, or any.
fn together(kinds: Vec<Kind>) -> Kind {
    let mut kinds = kinds.into_iter();
    let Some(first) = kinds.next() else { return Kind::Any };
    if kinds.all(|kind| kind == first) { first } else { Kind::Any }
}

/// "did you mean": the whole name, or its last word among those with the same begin.
pub fn near(name: &str, known: &[&'static str]) -> Option<String> {
    let parent = name.rsplit_once('.').map_or("", |(parent, _)| parent);
    let siblings: Vec<&str> = names::below(parent).collect();
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let words: Vec<String> = siblings.iter().map(|name| last(name)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let sibling = nearest(&last(name), &words)
        .and_then(|word| siblings.iter().find(|name| last(name) == word).copied());
    sibling.or_else(|| nearest(name, known)).map(|near| format!("did you mean {near}?"))
}
