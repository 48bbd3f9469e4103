//! What becomes of the store when the process, the machine or the disk fails: after each restart `audit verify` passes,
//! and what was acknowledged is there.

mod acknowledged;
mod faults;
mod kill;
mod power;

/// splitmix64: any seed is good.
pub struct Dice(pub u64);

impl Dice {
    /// `SLUICE_SEED`, or whatever the clock says.
    pub fn seeded() -> Self {
        let given = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let seed = given.unwrap_or(now.as_nanos() as u64);
        println!("SLUICE_SEED={seed}");
        Self(seed)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// One time in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Copies a directory that a test failed on to where it stays; gives the place.
pub fn left_behind(dir: &std::path::Path) -> String {
    let kept = tempfile::tempdir().expect("a directory").keep();
    let copied = std::process::Command::new("cp").arg("-a").arg(dir).arg(&kept).status();
    assert!(copied.expect("cp").success());
    kept.display().to_string()
}
