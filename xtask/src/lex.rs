//! Just enough of Rust's lexical grammar for the order and size checks: identifiers and punctuation with their lines,
//! without comments, strings and character literals. Not a parser: it knows no syntax.

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Line, from 1.
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or keyword, a number's digits included; raw identifiers without `r#`.
    Word(String),
    /// One character of punctuation.
    Mark(char),
}

impl Token {
    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(own) if own == word)
    }

    pub fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    /// The identifier, if it is one.
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Mark(_) => None,
        }
    }
}

/// All tokens of a source text.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new() };
    while lexer.step() {}
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.block_comment();
        } else if let Some(length) = literal(self.rest) {
            self.skip(length);
        } else if first.is_alphanumeric() || first == '_' {
            self.word();
        } else {
            if !first.is_whitespace() {
                self.tokens.push(Token { line: self.line, kind: Kind::Mark(first) });
            }
            self.skip(first.len_utf8());
        }
        true
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    fn word(&mut self) {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        if word == "r" && self.rest[end..].starts_with('#') {
            self.skip(end + 1);
            return;
        }
        self.tokens.push(Token { line: self.line, kind: Kind::Word(word.to_owned()) });
        self.skip(end);
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth = 0usize;
        let mut at = 0;
        while at < self.rest.len() {
            if self.rest[at..].starts_with("/*") {
                depth += 1;
                at += 2;
            } else if self.rest[at..].starts_with("*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            } else {
                at += self.rest[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        self.skip(at);
    }
}

/// Length of the string or character literal that the text begins with, prefix and quotes included.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|prefix| text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['"', '\'', '#'])))?;
    let rest = &text[prefix.len()..];
    if prefix.ends_with('r') {
        return raw_string(rest).map(|length| prefix.len() + length);
    }
    match rest.chars().next()? {
        '"' => Some(prefix.len() + quoted(rest, '"')),
        '\'' if is_character(rest) => Some(prefix.len() + quoted(rest, '\'')),
        _ => None,
    }
}

/// `#"…"#` with as many marks at the end as at the start; `None` for a raw identifier.
fn raw_string(text: &str) -> Option<usize> {
    let marks = text.len() - text.trim_start_matches('#').len();
    let body = text[marks..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(marks + 1 + length)
}

/// `'x'` and `'\n'` are characters, `'x` is a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

/// Length of a quoted literal with escapes, both quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).iter().filter_map(|token| token.word().map(str::to_owned)).collect()
    }

    #[test]
    fn comments_strings_and_characters_are_left_out() {
        let source = "a // b\n /* c /* d */ e */ f \"g \\\" h\" r#\"i \" j\"# k b\"l\" 'm' '\\'' n br##\"o\"# \"## p c\"q\"";
        assert_eq!(words(source), ["a", "f", "k", "n", "p"]);
    }

    #[test]
    fn lifetimes_and_raw_identifiers_stay() {
        assert_eq!(words("fn x<'a>(b: &'a str) { r#type }"), ["fn", "x", "a", "b", "a", "str", "type"]);
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = "\"1\n2\" /* 2\n3 */ here";
        assert_eq!(tokens(source), [Token { line: 3, kind: Kind::Word("here".to_owned()) }]);
    }
}
