//! Ceilings that keep files and functions readable: 400 lines a file, 60 a function. An argued exception stands in
//! `xtask/size-exceptions.txt`, and falls out of it as soon as it is not needed.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::lex::{Token, tokens};
use crate::sh;

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;
const FOLDERS: [&str; 4] = ["agent/src", "agent-ebpf/src", "xtask/src", "tests"];

/// A file (`path`) or function (`path::name`) and its lines.
#[derive(Debug, PartialEq, Eq)]
struct Long {
    what: String,
    lines: usize,
    ceiling: usize,
}

/// An argued exception: `path[::function] lines reason`.
#[derive(Debug, PartialEq, Eq)]
struct Exception {
    what: String,
    lines: usize,
}

/// Checks every source file of the workspace.
pub fn check() -> Result<()> {
    let mut long = Vec::new();
    for folder in FOLDERS {
        for file in sh::rust_files(&sh::root().join(folder))? {
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            long.extend(measure(&sh::relative(&file), &text));
        }
    }
    let list = Path::new("xtask/size-exceptions.txt");
    let exceptions =
        parse(&std::fs::read_to_string(sh::root().join(list)).with_context(|| list.display().to_string())?)?;
    let findings = judge(&long, &exceptions);
    if !findings.is_empty() {
        bail!("{} findings\n{}", findings.len(), findings.join("\n"));
    }
    Ok(())
}

fn measure(path: &str, text: &str) -> Vec<Long> {
    let mut long = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES {
        long.push(Long { what: path.to_owned(), lines, ceiling: FILE_LINES });
    }
    for (name, lines) in functions(&tokens(text)) {
        if lines > FUNCTION_LINES {
            long.push(Long { what: format!("{path}::{name}"), lines, ceiling: FUNCTION_LINES });
        }
    }
    long
}

/// Name and lines (signature and braces included) of each function with a body.
fn functions(tokens: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in 0..tokens.len().saturating_sub(1) {
        let Some(name) = tokens[at + 1].word().filter(|_| tokens[at].is_word("fn")) else { continue };
        if let Some(end) = body_end(&tokens[at..]) {
            found.push((name.to_owned(), end - tokens[at].line + 1));
        }
    }
    found
}

/// The line of the brace that closes the body; `None` for a signature alone. Braces of const generics in a signature
/// stand inside `<…>` or `[…]`; the body's is the first one outside round and square brackets.
fn body_end(tokens: &[Token]) -> Option<usize> {
    let (mut brackets, mut braces) = (0usize, 0usize);
    for token in tokens {
        if token.is_mark('(') || token.is_mark('[') {
            brackets += 1;
        } else if token.is_mark(')') || token.is_mark(']') {
            brackets = brackets.saturating_sub(1);
        } else if token.is_mark(';') && brackets == 0 && braces == 0 {
            return None;
        } else if token.is_mark('{') {
            braces += 1;
        } else if token.is_mark('}') {
            braces = braces.saturating_sub(1);
            if braces == 0 && brackets == 0 {
                return Some(token.line);
            }
        }
    }
    None
}

fn parse(list: &str) -> Result<Vec<Exception>> {
    let mut exceptions = Vec::new();
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.splitn(3, ' ');
        let (Some(what), Some(lines), Some(_reason)) = (parts.next(), parts.next(), parts.next()) else {
            bail!("`{line}`: path[::function], lines and a reason are needed");
        };
        let lines = lines.parse().with_context(|| format!("`{line}`: lines"))?;
        exceptions.push(Exception { what: what.to_owned(), lines });
    }
    Ok(exceptions)
}

fn judge(long: &[Long], exceptions: &[Exception]) -> Vec<String> {
    let mut findings = Vec::new();
    for Long { what, lines, ceiling } in long {
        match exceptions.iter().find(|exception| exception.what == *what) {
            None => findings.push(format!("{what}: {lines} lines, at most {ceiling}")),
            Some(exception) if exception.lines < *lines => {
                findings.push(format!("{what}: {lines} lines, at most {} by its exception", exception.lines));
            }
            Some(_) => {}
        }
    }
    for exception in exceptions {
        if long.iter().all(|long| long.what != exception.what) {
            findings.push(format!("{}: its exception is not needed any more", exception.what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_signature_to_closing_brace() {
        let source = "fn one() {}\ntrait T { fn none(a: [u8; 3]); }\nfn three(\n  f: fn(u8) -> u8,\n) { if x { \"}\" } }\n";
        let found = functions(&tokens(source));
        assert_eq!(found, [("one".to_owned(), 1), ("three".to_owned(), 3)]);
    }

    #[test]
    fn too_long_is_found_and_an_exception_holds_only_to_its_number() {
        let source = format!("fn long() {{\n{}}}\n", "x();\n".repeat(FUNCTION_LINES));
        let long = measure("a.rs", &source);
        assert_eq!(long, [Long { what: "a.rs::long".to_owned(), lines: 62, ceiling: 60 }]);
        assert_eq!(judge(&long, &[]), ["a.rs::long: 62 lines, at most 60"]);
        let exceptions = parse("# why\na.rs::long 62 a table").expect("a list");
        assert_eq!(judge(&long, &exceptions), [""; 0]);
        assert_eq!(judge(&long, &parse("a.rs::long 61 a table").expect("a list")).len(), 1);
        assert_eq!(judge(&[], &exceptions).len(), 1, "an exception that nothing needs");
        assert_eq!(measure("b.rs", &"\n".repeat(FILE_LINES + 1)).len(), 1);
        assert_eq!(measure("b.rs", &"\n".repeat(FILE_LINES)), []);
    }

    #[test]
    fn an_exception_needs_its_reason() {
        assert!(parse("a.rs 500").is_err());
    }
}
