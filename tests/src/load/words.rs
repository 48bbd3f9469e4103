//! Numbers out of what other programs print.

use anyhow::{Context, Result};

/// The word after `label`.
///
/// # Errors
/// There is none.
pub fn after<'a>(text: &'a str, label: &str) -> Result<&'a str> {
    let rest = text.split_once(label).with_context(|| format!("no {label} in:\n{text}"))?.1;
    rest.split_whitespace().next().context("a word")
}

/// wrk's `1.23ms`, `45.00us`, `1.20s`.
///
/// # Errors
/// It is no such time.
pub fn duration_us(text: &str) -> Result<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, unit) = units
        .iter()
        .find_map(|(unit, us)| text.strip_suffix(unit).and_then(|n| Some((n.parse::<f64>().ok()?, us))))
        .with_context(|| format!("{text} is no time"))?;
    Ok(number * unit)
}
