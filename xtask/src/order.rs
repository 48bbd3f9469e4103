//! The one rule of the agent's layout: lib.rs lists its modules in order, and a module uses only modules listed above
//! it. Read from tokens, so paths inside macros count too.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::lex::{Token, tokens};
use crate::sh;

/// Checks the agent; the error lists every upward use.
pub fn check() -> Result<()> {
    let source = sh::root().join("agent/src");
    let lib = source.join("lib.rs");
    let order = modules(&std::fs::read_to_string(&lib).with_context(|| lib.display().to_string())?);
    let mut findings = Vec::new();
    for file in sh::rust_files(&source)? {
        let Some(module) = Module::of(file.strip_prefix(&source)?) else { continue };
        if !order.contains(&module.top) {
            findings.push(format!("{}: lib.rs lists no module {}", sh::relative(&file), module.top));
            continue;
        }
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        findings.extend(upward(&order, &module, &text).iter().map(|use_| {
            format!(
                "{}:{}: {} uses {}, which lib.rs lists below it",
                sh::relative(&file),
                use_.line,
                module.top,
                use_.module
            )
        }));
    }
    if !findings.is_empty() {
        bail!("{} upward\n{}", findings.len(), findings.join("\n"));
    }
    Ok(())
}

/// A source file's place in the module tree.
struct Module {
    /// The module of lib.rs that it belongs to.
    top: String,
    /// How many `super` lead from it to the crate's root.
    depth: usize,
}

impl Module {
    /// `None` for the crate roots themselves.
    fn of(path: &Path) -> Option<Self> {
        let mut parts: Vec<String> =
            path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        match parts.as_slice() {
            [] => None,
            [one] if one == "lib" || one == "main" => None,
            [top, ..] => Some(Self { top: top.clone(), depth: parts.len() }),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Use {
    line: usize,
    module: String,
}

/// The `mod x;` of a crate root, in order.
fn modules(lib: &str) -> Vec<String> {
    let tokens = tokens(lib);
    tokens
        .windows(3)
        .filter(|three| three[0].is_word("mod") && three[2].is_mark(';'))
        .filter_map(|three| three[1].word().map(str::to_owned))
        .collect()
}

/// Every use of a module that stands below the file's own.
fn upward(order: &[String], module: &Module, text: &str) -> Vec<Use> {
    let own = order.iter().position(|name| *name == module.top).unwrap_or(order.len());
    uses(&tokens(text), module.depth)
        .into_iter()
        .filter(|use_| {
            // A glob of the crate would hide what is used.
            use_.module == "*"
                || order.iter().position(|name| *name == use_.module).is_some_and(|at| at > own)
        })
        .collect()
}

/// First segments of all paths from the crate's root: after `crate::`, and after enough `super::`.
fn uses(tokens: &[Token], depth: usize) -> Vec<Use> {
    let mut found = Vec::new();
    let mut nesting = Nesting::default();
    let mut at = 0;
    while at < tokens.len() {
        nesting.step(tokens, at);
        let begins = at == 0 || !tokens[at - 1].is_mark(':');
        if tokens[at].is_word("crate") && colons(tokens, at + 1) {
            first_segments(tokens, at + 3, &mut found);
        } else if tokens[at].is_word("super") && begins {
            let mut supers = 0;
            while tokens.get(at).is_some_and(|token| token.is_word("super")) && colons(tokens, at + 1) {
                supers += 1;
                at += 3;
            }
            if supers == depth + nesting.inline() {
                first_segments(tokens, at, &mut found);
            }
            if supers > 0 {
                continue;
            }
        }
        at += 1;
    }
    found
}

fn colons(tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token.is_mark(':'))
        && tokens.get(at + 1).is_some_and(|token| token.is_mark(':'))
}

/// `name`, `*`, or the first segment of each member of `{…}`.
fn first_segments(tokens: &[Token], at: usize, found: &mut Vec<Use>) {
    let Some(first) = tokens.get(at) else { return };
    if let Some(word) = first.word() {
        found.push(Use { line: first.line, module: word.to_owned() });
    } else if first.is_mark('*') {
        found.push(Use { line: first.line, module: "*".to_owned() });
    } else if first.is_mark('{') {
        let mut depth = 0usize;
        let mut expected = false;
        for (offset, token) in tokens[at..].iter().enumerate() {
            if token.is_mark('{') {
                depth += 1;
                expected = depth == 1;
            } else if token.is_mark('}') {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            } else if depth == 1 && token.is_mark(',') {
                expected = true;
            } else if expected {
                first_segments(tokens, at + offset, found);
                expected = false;
            }
        }
    }
}

/// Inline modules (`mod tests { … }`) add one `super` each.
#[derive(Default)]
struct Nesting {
    braces: usize,
    /// Brace depth at which each open inline module began.
    modules: Vec<usize>,
}

impl Nesting {
    fn step(&mut self, tokens: &[Token], at: usize) {
        if tokens[at].is_mark('{') {
            self.braces += 1;
            if at >= 2 && tokens[at - 2].is_word("mod") {
                self.modules.push(self.braces);
            }
        } else if tokens[at].is_mark('}') {
            if self.modules.last() == Some(&self.braces) {
                self.modules.pop();
            }
            self.braces = self.braces.saturating_sub(1);
        }
    }

    fn inline(&self) -> usize {
        self.modules.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        let order = modules(
            "//! `mod no;`\npub mod words;\n// mod not;\nmod judge;\npub(crate) mod line;\npub mod cli;\n",
        );
        assert_eq!(order, ["words", "judge", "line", "cli"]);
        let module = Module::of(Path::new(file)).expect("a module");
        upward(&order, &module, text).into_iter().map(|use_| use_.module).collect()
    }

    #[test]
    fn uses_of_modules_above_and_of_itself_are_good() {
        let text = "use crate::words::{Id, judge};\nuse crate::judge::{self, line::cli};\nfn f() { crate::words::f() }";
        assert_eq!(found("judge/mod.rs", text), [""; 0]);
        assert_eq!(
            found(
                "judge.rs",
                "pub(in crate::judge) fn f() {} // crate::cli::x\nconst S: &str = \"crate::cli\";"
            ),
            [""; 0]
        );
    }

    #[test]
    fn uses_of_modules_below_are_bad_wherever_they_stand() {
        assert_eq!(found("words.rs", "use crate::judge::X;"), ["judge"]);
        assert_eq!(found("words.rs", "fn f() { println!(\"{}\", crate::line::f()) }"), ["line"]);
        assert_eq!(
            found("judge/a/b.rs", "use crate::{words::{Id, Name}, line::{x::{y}, z}, cli};"),
            ["line", "cli"]
        );
        assert_eq!(found("judge.rs", "#[cfg(test)] mod tests { use crate::{line}; }"), ["line"]);
        assert_eq!(found("judge.rs", "use crate::*;"), ["*"]);
        assert_eq!(found("judge.rs", "use crate::{words, *};"), ["*"]);
    }

    #[test]
    fn super_up_to_the_root_counts_like_crate() {
        assert_eq!(found("judge.rs", "use super::line::X;"), ["line"]);
        assert_eq!(found("judge/mod.rs", "use super::{words, cli};"), ["cli"]);
        assert_eq!(found("judge/part.rs", "use super::line::X;"), [""; 0], "judge's own part named line");
        assert_eq!(found("judge/part.rs", "use super::super::line::X;"), ["line"]);
        assert_eq!(found("judge.rs", "mod tests { use super::line::X; }"), [""; 0]);
        assert_eq!(found("judge.rs", "mod tests { use super::super::line::X; }"), ["line"]);
        assert_eq!(found("judge.rs", "mod tests { fn f() {} } use super::line::X;"), ["line"]);
    }

    #[test]
    fn crate_roots_are_free() {
        assert!(Module::of(Path::new("lib.rs")).is_none());
        assert!(Module::of(Path::new("main.rs")).is_none());
    }
}
