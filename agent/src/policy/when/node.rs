//! A condition as it is judged: names resolved, patterns compiled, loops said as what they are.

use regex::Regex;

use super::names::Name;
use super::value::Val;

/// One step.
#[derive(Debug)]
pub enum Node {
    Const(Val<'static>),
    Name(Name),
    /// The variable of a loop, counted from the outermost.
    Var(usize),
    Member(Box<Node>, Box<str>),
    Index(Box<(Node, Node)>),
    Has(Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    If(Box<(Node, Node, Node)>),
    Binary(Op, Box<(Node, Node)>),
    Call(Call, Vec<Node>),
    Matches(Box<(Node, Regex)>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Loop(Box<Loop>),
}

/// Two in, one out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl Op {
    /// Whether its answer is yes or no.
    pub fn compares(self) -> bool {
        !matches!(self, Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Rem)
    }
}

/// Functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Int,
    Double,
    String,
    /// A part of a time, in UTC.
    Part(Part),
}

/// Parts of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    FullYear,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// Sunday is 0.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
}

/// Over a list, or the names of a map.
#[derive(Debug)]
pub struct Loop {
    pub kind: LoopKind,
    pub over: Node,
    /// The test; for `map` the value.
    pub body: Node,
    /// For `map` with three arguments: only where this holds.
    pub only: Option<Node>,
}

/// What a loop yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}
