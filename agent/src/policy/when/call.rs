//! Functions and sums.

use time::OffsetDateTime;

use super::eval::{Run, cannot};
use super::node::{Call, Op, Part};
use super::value::Val;
use crate::policy::known::Fault;

type Answer<'f> = Result<Val<'f>, Fault>;

impl<'f> Run<'f> {
    pub(super) fn call(&mut self, call: Call, values: &mut [Val<'f>]) -> Answer<'f> {
        if values.iter().any(|value| self.nothing(value)) {
            let test = matches!(call, Call::Contains | Call::StartsWith | Call::EndsWith);
            return Ok(if test { Val::Bool(false) } else { Val::Missing });
        }
        let bytes = values.iter().filter_map(Val::text).map(str::len).sum();
        self.spend_bytes(bytes)?;
        let unfit = |value: &Val<'_>| cannot(format!("{} is given to {call:?}", value.kind()));
        let (first, rest) = values.split_first().ok_or(Fault::Missing)?;
        match (call, first, rest.first()) {
            (Call::Contains | Call::StartsWith | Call::EndsWith, first, Some(second)) => {
                let (Some(text), Some(part)) = (first.text(), second.text()) else {
                    return unfit(if first.text().is_some() { second } else { first });
                };
                Ok(Val::Bool(match call {
                    Call::Contains => memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some(),
                    Call::StartsWith => text.starts_with(part),
                    _ => text.ends_with(part),
                }))
            }
            (Call::Size, value, _) => match value.size() {
                Some(size) => Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX))),
                None => unfit(value),
            },
            (Call::LowerAscii | Call::UpperAscii, value, _) => match value.text() {
                Some(text) if call == Call::LowerAscii => Ok(Val::Made(text.to_ascii_lowercase().into())),
                Some(text) => Ok(Val::Made(text.to_ascii_uppercase().into())),
                None => unfit(value),
            },
            (Call::Part(part), Val::Time(time), _) => Ok(Val::Int(part.of(*time))),
            (Call::Int | Call::Double | Call::String, value, _) => converted(call, value),
            (_, value, _) => unfit(value),
        }
    }

    pub(super) fn reckon(&mut self, op: Op, a: &Val<'f>, b: &Val<'f>) -> Answer<'f> {
        let checked = |n: Option<i64>| match n {
            Some(n) => Ok(Val::Int(n)),
            None => cannot("a number is too large, or divided by nothing"),
        };
        match (op, a, b) {
            (_, Val::Int(a), Val::Int(b)) => checked(match op {
                Op::Add => a.checked_add(*b),
                Op::Sub => a.checked_sub(*b),
                Op::Mul => a.checked_mul(*b),
                Op::Div => a.checked_div(*b),
                _ => a.checked_rem(*b),
            }),
            (Op::Rem, Val::Double(_), _) | (Op::Rem, _, Val::Double(_)) => {
                cannot("a fraction has no remainder")
            }
            (_, Val::Double(a), Val::Double(b)) => Ok(Val::Double(doubles(op, *a, *b))),
            #[expect(clippy::cast_precision_loss, reason = "a sum with a fraction is a fraction")]
            (_, Val::Int(a), Val::Double(b)) => Ok(Val::Double(doubles(op, *a as f64, *b))),
            #[expect(clippy::cast_precision_loss, reason = "a sum with a fraction is a fraction")]
            (_, Val::Double(a), Val::Int(b)) => Ok(Val::Double(doubles(op, *a, *b as f64))),
            (Op::Sub, Val::Time(a), Val::Time(b)) => Ok(Val::Span(*a - *b)),
            (Op::Add | Op::Sub, Val::Span(a), Val::Span(b)) => {
                let span = if op == Op::Add { a.checked_add(*b) } else { a.checked_sub(*b) };
                span.map(Val::Span).ok_or(Fault::Cannot("a duration is too long".to_owned()))
            }
            (Op::Add, Val::Time(time), Val::Span(span)) | (Op::Add, Val::Span(span), Val::Time(time)) => {
                time.checked_add(*span).map(Val::Time).ok_or(Fault::Cannot("a time is too far".to_owned()))
            }
            (Op::Sub, Val::Time(time), Val::Span(span)) => {
                time.checked_sub(*span).map(Val::Time).ok_or(Fault::Cannot("a time is too far".to_owned()))
            }
            (Op::Add, a, b) => match (a.text(), b.text()) {
                (Some(a), Some(b)) => {
                    self.spend_bytes(a.len() + b.len())?;
                    Ok(Val::Made([a, b].concat().into()))
                }
                _ => self.joined(a, b),
            },
            _ => cannot(format!("{} and {} cannot be reckoned with", a.kind(), b.kind())),
        }
    }

    fn joined(&mut self, a: &Val<'f>, b: &Val<'f>) -> Answer<'f> {
        if (a.kind(), b.kind()) != ("a list", "a list") {
            return cannot(format!("{} and {} cannot be added", a.kind(), b.kind()));
        }
        self.spend(a.size().unwrap_or_default() + b.size().unwrap_or_default())?;
        let entries = a.entries().into_iter().flatten().chain(b.entries().into_iter().flatten());
        Ok(Val::List(entries.collect::<Vec<_>>().into()))
    }
}

fn doubles(op: Op, a: f64, b: f64) -> f64 {
    match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        _ => a / b,
    }
}

fn converted<'f>(call: Call, value: &Val<'f>) -> Answer<'f> {
    let no = || cannot(format!("{} cannot be made one by {call:?}", value.kind()));
    #[expect(clippy::cast_precision_loss, reason = "asked for: double(n)")]
    #[expect(clippy::cast_possible_truncation, reason = "within the range of i64, as is checked")]
    match (call, value) {
        (Call::Int, Val::Int(n)) => Ok(Val::Int(*n)),
        (Call::Int, Val::Double(n)) if n.abs() < 9.2e18 => Ok(Val::Int(n.trunc() as i64)),
        (Call::Int, Val::Time(time)) => Ok(Val::Int(time.unix_timestamp())),
        (Call::Double, Val::Int(n)) => Ok(Val::Double(*n as f64)),
        (Call::Double, Val::Double(n)) => Ok(Val::Double(*n)),
        (Call::String, Val::Int(n)) => Ok(Val::Made(n.to_string().into())),
        (Call::String, Val::Double(n)) => Ok(Val::Made(n.to_string().into())),
        (Call::String, Val::Bool(holds)) => Ok(Val::Made(holds.to_string().into())),
        (Call::String, Val::Text(_) | Val::Made(_)) => Ok(value.clone()),
        (Call::Int, value) => {
            value.text().and_then(|text| text.parse().ok()).map(Val::Int).map_or_else(no, Ok)
        }
        (Call::Double, value) => {
            value.text().and_then(|text| text.parse().ok()).map(Val::Double).map_or_else(no, Ok)
        }
        _ => no(),
    }
}

impl Part {
    fn of(self, time: OffsetDateTime) -> i64 {
        let time = time.to_offset(time::UtcOffset::UTC);
        match self {
            Self::FullYear => time.year().into(),
            Self::Month => i64::from(u8::from(time.month())) - 1,
            Self::Date => time.day().into(),
            Self::DayOfMonth => i64::from(time.day()) - 1,
            Self::DayOfWeek => time.weekday().number_days_from_sunday().into(),
            Self::DayOfYear => i64::from(time.ordinal()) - 1,
            Self::Hours => time.hour().into(),
            Self::Minutes => time.minute().into(),
            Self::Seconds => time.second().into(),
        }
    }
}
