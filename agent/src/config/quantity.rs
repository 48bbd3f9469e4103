//! Sizes and durations as people write them: `1MiB`, `512KiB`, `10s`, `2m`.

use std::time::Duration;

/// Bytes: a whole number, alone or with one of B, KiB, MiB, GiB, TiB, kB, MB, GB, TB. `None`: something else, or too
/// large for 63 bits.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|n| i64::try_from(*n).is_ok())
}

/// A duration: a whole number with one of ms, s, m, h. A number alone is refused: its unit would be a guess.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("1MiB", Some(1 << 20)),
            ("0", Some(0)),
            ("64 KiB", Some(65536)),
            ("1.5MiB", None),
            ("MiB", None),
            ("-1", None),
            ("1mib", None),
            ("99999999999999999999", None),
            ("9999999TiB", None),
        ] {
            assert_eq!(bytes(text), want, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("10s", Some(Duration::from_secs(10))),
            ("250ms", Some(Duration::from_millis(250))),
            ("2m", Some(Duration::from_secs(120))),
            ("10", None),
            ("", None),
        ] {
            assert_eq!(duration(text), want, "{text}");
        }
    }
}
