//! Numbers out of many measurements.

use serde::{Deserialize, Serialize};

/// Where the measurements of one thing lie.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    /// How many there were.
    pub count: usize,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// The spread of some measurements; all zero for none.
pub fn spread(mut all: Vec<f64>) -> Spread {
    all.sort_by(f64::total_cmp);
    Spread { count: all.len(), p50: quantile(&all, 0.5), p99: quantile(&all, 0.99) }
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let s = spread((1..=101).rev().map(f64::from).collect());
        assert_eq!((s.count, s.p50, s.p99), (101, 51.0, 100.0));
        assert_eq!(spread(vec![]).p50, 0.0);
        assert_eq!(spread(vec![3.0]).p99, 3.0);
    }
}
