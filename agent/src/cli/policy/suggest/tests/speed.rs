//! How long a large store takes.

use std::fs;

use super::store::{Did, chat, did, reading, suggested_of, write};
use crate::cli::filter::FilterArgs;
use crate::cli::policy::replay::ReplayArgs;
use crate::cli::policy::template::tests::Dice;

#[test]
#[ignore = "measures"]
fn a_hundred_thousand_exchanges() {
    let mut dice = Dice(1);
    let all: Vec<Did> = (0..100_000)
        .map(|n| match n % 4 {
            0 => chat(["gpt-4o", "gpt-5", "o3"][dice.roll(3)]),
            _ => did("GET", ["a.example", "b.example", "c.example"][dice.roll(3)], &dice.path()),
        })
        .collect();
    let dir = tempfile::tempdir().expect("directory");
    let store = dir.path().join("store");
    write(&store, &all);
    let begun = std::time::Instant::now();
    let text = suggested_of(&store, false).expect("rules");
    println!("suggest: {:?}, {} bytes", begun.elapsed(), text.len());
    fs::write(dir.path().join("sluice.toml"), format!("mode = \"enforce\"\n{text}")).expect("written");
    let begun = std::time::Instant::now();
    let args = ReplayArgs {
        directory: dir.path().to_owned(),
        of: FilterArgs::all_of(&store),
        reading: reading(&store),
        all: false,
        json: false,
    };
    let mut out = Vec::new();
    args.replay(&mut out).expect("replayed");
    println!("replay: {:?}\n{}", begun.elapsed(), String::from_utf8_lossy(&out));
    let status = fs::read_to_string("/proc/self/status").expect("status");
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
}
