//! What SECURITY.md promises must be shown by a test that is there: every `path::test` between backticks names a file
//! and a function with a test's attribute in it.

use anyhow::{Context as _, Result, bail};

use crate::sh;

const PAGE: &str = "SECURITY.md";

/// Checks every name on the page.
pub fn check() -> Result<()> {
    let page = std::fs::read_to_string(sh::root().join(PAGE)).context(PAGE)?;
    let names = named(&page);
    if names.is_empty() {
        bail!("{PAGE} names no test");
    }
    let mut missing = Vec::new();
    for (path, test) in names {
        let source = std::fs::read_to_string(sh::root().join(path)).unwrap_or_default();
        if !has_test(&source, test) {
            missing.push(format!("{path}::{test}"));
        }
    }
    if !missing.is_empty() {
        bail!("{PAGE} names tests that are not there\n{}", missing.join("\n"));
    }
    Ok(())
}

/// The file and the test of each `…rs::name` between backticks.
fn named(page: &str) -> Vec<(&str, &str)> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| text.split_once("::").filter(|(path, _)| path.ends_with(".rs"))).collect()
}

/// Whether a test of this name stands in a source file, its attribute a few lines above it at most.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    lines.iter().enumerate().any(|(at, line)| {
        is_it(line)
            && lines[..at]
                .iter()
                .rev()
                .take_while(|above| above.starts_with("#[") || above.starts_with("///"))
                .any(|above| *above == "#[test]" || above.starts_with("#[tokio::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_between_backticks_are_found_and_looked_up() {
        let page = "a `cargo test` b `a/b.rs::holds`,\n`c.rs::gone` and `Type::method`";
        assert_eq!(named(page), [("a/b.rs", "holds"), ("c.rs", "gone")]);
        let source =
            "#[tokio::test]\n#[expect(x)]\nasync fn holds() {}\nfn gone() {}\n#[test]\nfn holds_more() {}\n";
        assert!(has_test(source, "holds") && has_test(source, "holds_more"));
        assert!(!has_test(source, "gone") && !has_test(source, "more") && !has_test("", "holds"));
    }
}
