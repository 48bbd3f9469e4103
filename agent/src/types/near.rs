//! The nearest of some names: what somebody meant who wrote another.

/// The nearest of `names`, if one is near enough to be a slip of the pen: a third of the letters or fewer differ.
pub fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    let bound = (name.chars().count() / 3).max(1);
    let near = names.iter().map(|n| (distance(name, n), *n)).min()?;
    (near.0 <= bound).then_some(near.1)
}

/// Optimal string alignment: insertions, deletions, changes and swaps of neighbours. Both texts are cut at 64 letters.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
