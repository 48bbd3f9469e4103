//! Plain tables and small words for people: columns aligned with spaces, colours only on a terminal that wants them.

use std::io::{self, IsTerminal, Write};

use crate::record::visible::{Keep, visible};

/// How a cell stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    #[default]
    Plain,
    /// Less than the rest.
    Dim,
    /// Look here.
    Warn,
    /// Something is wrong.
    Bad,
}

/// What stdout takes.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// A person looks at it: long cells are cut.
    pub person: bool,
    /// Colours are wanted.
    pub colour: bool,
}

impl Look {
    /// Of this process: colours on a terminal, unless NO_COLOR is set (<https://no-color.org>).
    pub fn of_stdout() -> Self {
        let person = io::stdout().is_terminal();
        #[expect(clippy::disallowed_methods, reason = "a convention of terminals, for looks alone")]
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { person, colour: person && !plain }
    }
}

/// One cell. Its text is made harmless when it is made.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell, `-` when there is nothing to say.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = visible(text.as_ref(), Keep::Nothing);
        Self { text: if text.is_empty() { "-".to_owned() } else { text.into_owned() }, tone: Tone::Plain }
    }

    /// The same in another tone.
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// Writes rows below their heads, each column as wide as its widest cell; the last is not padded. Cells of more than `cut`
/// characters are cut for a person.
///
/// # Errors
/// Whatever writing says.
pub fn write<const N: usize>(
    out: &mut impl Write,
    look: Look,
    heads: Option<[&str; N]>,
    rows: &[[Cell; N]],
    cut: usize,
) -> io::Result<()> {
    let fit = |text: &str| match text.char_indices().nth(cut) {
        Some((at, _)) if look.person => format!("{}…", &text[..at]),
        _ => text.to_owned(),
    };
    let heads = heads.map(|heads| heads.map(|head| Cell::new(head).tone(Tone::Dim)));
    let rows: Vec<[Cell; N]> = heads
        .into_iter()
        .chain(rows.iter().cloned())
        .map(|row| row.map(|cell| Cell { text: fit(&cell.text), ..cell }))
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.text.chars().count().max(*width);
        }
    }
    for row in &rows {
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let last = at + 1 == N;
            let pad = if last { 0 } else { width - cell.text.chars().count() + 2 };
            let (on, off) = if look.colour { codes(cell.tone) } else { ("", "") };
            write!(out, "{on}{}{off}{:pad$}", cell.text, "")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A word in a tone, where colours are wanted. The word is ours: nothing is made harmless here.
pub fn painted(word: &str, tone: Tone, look: Look) -> String {
    let (on, off) = if look.colour { codes(tone) } else { ("", "") };
    format!("{on}{word}{off}")
}

fn codes(tone: Tone) -> (&'static str, &'static str) {
    match tone {
        Tone::Plain => ("", ""),
        Tone::Dim => ("\x1b[2m", "\x1b[0m"),
        Tone::Warn => ("\x1b[33m", "\x1b[0m"),
        Tone::Bad => ("\x1b[31m", "\x1b[0m"),
    }
}

/// A size with three digits or so: `17`, `4.2K`, `1.0M`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", "K", "M", "G", "T"] {
        if value < 999.5 || unit == "T" {
            return if unit.is_empty() || value >= 99.5 {
                format!("{value:.0}{unit}")
            } else {
                format!("{value:.1}{unit}")
            };
        }
        value /= 1024.0;
    }
    bytes.to_string()
}

/// A duration with three digits or so: `870µs`, `12.4ms`, `1.24s`, `3m05s`.
pub fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..1_000_000 => format!("{:.1}ms", us as f64 / 1e3),
        1_000_000..60_000_000 => format!("{:.2}s", us as f64 / 1e6),
        _ => format!("{}m{:02}s", us / 60_000_000, us / 1_000_000 % 60),
    }
}

/// Whether writing ended because nobody reads any more (`| head`): then the work is done.
pub fn nobody_reads(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(look: Look) -> String {
        let rows = [
            [Cell::new("a"), Cell::new("x\x1b[31my"), Cell::new("")],
            [Cell::new("longer"), Cell::new("b").tone(Tone::Bad), Cell::new("0123456789abcdef")],
        ];
        let mut out = Vec::new();
        write(&mut out, look, Some(["ONE", "TWO", "THREE"]), &rows, 12).expect("a Vec takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn columns_are_aligned_and_harmless() {
        let plain = rendered(Look { person: false, colour: false });
        assert_eq!(
            plain,
            "ONE     TWO         THREE\na       x\\x1b[31my  -\nlonger  b           0123456789abcdef\n"
        );
        let person = rendered(Look { person: true, colour: true });
        assert!(person.contains("\x1b[31mb\x1b[0m           0123456789ab…\n"), "{person:?}");
    }

    #[test]
    fn words_for_people() {
        for (bytes, want) in
            [(0, "0"), (999, "999"), (1000, "1.0K"), (1536, "1.5K"), (1 << 20, "1.0M"), (200 << 20, "200M")]
        {
            assert_eq!(size(bytes), want);
        }
        for (us, want) in [(7, "7µs"), (12_440, "12.4ms"), (1_240_000, "1.24s"), (185_000_000, "3m05s")] {
            assert_eq!(duration(us), want);
        }
    }
}
