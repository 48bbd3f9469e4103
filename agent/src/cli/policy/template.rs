//! Which parts of a path are ids: what of one request says nothing of the next. Pure text; what is an id is judged by its
//! looks alone, so it is judged the same wherever it stands.

/// Names that stand before an id, behind `-` or `_`: what follows is one even when it is short. OpenAI's, mostly.
const PREFIXES: [&str; 34] = [
    "asst", "batch", "call", "chatcmpl", "cmpl", "conv", "cus", "eval", "evalrun", "fc", "file", "ft",
    "ftjob", "img", "key", "modr", "msg", "org", "part", "proj", "req", "resp", "rs", "run", "sess",
    "snapshot", "step", "sub", "thread", "upload", "user", "vs", "vsfb", "ws",
];

/// Bytes of the longest path that is made a pattern of; a glob holds 1,024.
pub const LONGEST: usize = 1000;
/// Segments of the deepest.
pub const DEEPEST: usize = 32;

/// A path's segments, each with its ids as `*`. `None` where no pattern says it: it has a star itself, does not begin with
/// a slash, or is too long or too deep.
pub fn segments(path: &str) -> Option<Vec<String>> {
    let below = path.strip_prefix('/')?;
    let raw: Vec<&str> = below.split('/').collect();
    if path.contains('*') || path.len() > LONGEST || raw.len() > DEEPEST {
        return None;
    }
    let next = |at: usize| raw.get(at + 1).copied();
    Some(raw.iter().enumerate().map(|(at, text)| segment(text, next(at))).collect())
}

/// The pattern that segments make.
pub fn pattern(segments: &[String]) -> String {
    segments.iter().flat_map(|segment| ["/", segment]).collect()
}

/// A segment with its ids as `*`; `next` is the one behind it. What has a star already stays as it is.
pub fn segment(text: &str, next: Option<&str>) -> String {
    if text.contains('*') {
        return text.to_owned();
    }
    // A git object: the first two digits of its name are a folder.
    let folder = text.len() == 2
        && is_hex(text)
        && next.is_some_and(|next| is_hex(next) && [38, 62].contains(&next.len()));
    if folder || is_digits(text) {
        return "*".to_owned();
    }
    for (at, _) in text.match_indices(['-', '_']) {
        let (prefix, id) = (&text[..at], &text[at + 1..]);
        let short = id.len() >= 6
            && id.bytes().all(|b| b.is_ascii_alphanumeric())
            && id.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        if short && PREFIXES.contains(&prefix) {
            return format!("{}*", &text[..=at]);
        }
    }
    if is_token(text) { "*".to_owned() } else { collapsed(&parts(&dates_and_uuids(text))) }
}

/// Each part between marks, ids as stars.
fn parts(text: &str) -> String {
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    let mark = |c: char| !(c.is_ascii_alphanumeric() || c == '*');
    for (at, found) in text.match_indices(mark).chain([(text.len(), "")]) {
        let part = &text[from..at];
        // What is behind a % is an octet, not a number.
        let octet = out.ends_with('%');
        out.push_str(if !octet && is_id(part) { "*" } else { part });
        out.push_str(found);
        from = at + found.len();
    }
    out
}

/// Stars with nothing but one mark between them become one.
fn collapsed(text: &str) -> String {
    let mut text = text.to_owned();
    loop {
        let shorter = ["**", "*-*", "*_*", "*.*", "*:*", "*~*"]
            .iter()
            .fold(text.clone(), |text, run| text.replace(run, "*"));
        if shorter == text {
            return text;
        }
        text = shorter;
    }
}

/// Dates (RFC 3339, perhaps with a time behind) and UUIDs (RFC 9562), wherever they stand.
fn dates_and_uuids(text: &str) -> String {
    const DATE: &str = "9999-99-99";
    const UUID: &str = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(c) = text[at..].chars().next() {
        let before = text[..at].bytes().next_back();
        let starts = !before.is_some_and(|b| b.is_ascii_alphanumeric());
        let found = [UUID, DATE].into_iter().find(|shape| starts && has_shape(&text[at..], shape));
        match found {
            Some(shape) => {
                out.push('*');
                at += shape.len();
                if shape == DATE {
                    at += time_behind(&text[at..]);
                }
            }
            None => {
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
    out
}

/// Bytes of a time of day behind a date.
fn time_behind(text: &str) -> usize {
    let is_time = text.starts_with(['T', 't', '_']) && text[1..].starts_with(|c: char| c.is_ascii_digit());
    if !is_time {
        return 0;
    }
    let bytes = text.as_bytes();
    let belongs = |at: usize| match bytes[at] {
        b'.' => bytes.get(at + 1).is_some_and(u8::is_ascii_digit),
        b => b.is_ascii_digit() || b":Zz".contains(&b),
    };
    (1..bytes.len()).find(|at| !belongs(*at)).unwrap_or(bytes.len())
}

/// Whether a text begins with this shape, and something else than a letter or digit is behind it, or a time.
fn has_shape(text: &str, shape: &str) -> bool {
    let Some(begin) = text.as_bytes().get(..shape.len()) else { return false };
    let fits = begin.iter().zip(shape.bytes()).all(|(b, s)| match s {
        b'9' => b.is_ascii_digit(),
        b'h' => b.is_ascii_hexdigit(),
        mark => *b == mark,
    });
    let behind = text.as_bytes().get(shape.len());
    fits && behind.is_none_or(|b| !b.is_ascii_alphanumeric() || b.eq_ignore_ascii_case(&b't'))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn has(text: &str, of: fn(&u8) -> bool) -> bool {
    text.as_bytes().iter().any(of)
}

/// How often letters and digits, and small letters and large ones, change: a word does so rarely, a random text all the
/// time.
fn changes(text: &str) -> usize {
    let change = |two: &[u8]| {
        let (a, b) = (two[0], two[1]);
        let digit = (a.is_ascii_digit() && b.is_ascii_alphabetic())
            || (a.is_ascii_alphabetic() && b.is_ascii_digit());
        digit || (a.is_ascii_lowercase() && b.is_ascii_uppercase())
    };
    text.as_bytes().windows(2).filter(|two| change(two)).count()
}

/// Whether a whole segment is a token: base64url (RFC 4648 §5), a JWT, and what services make of them.
fn is_token(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~:=+".contains(&b));
    let mixed = has(text, u8::is_ascii_lowercase) && has(text, u8::is_ascii_uppercase);
    let enough =
        if has(text, u8::is_ascii_digit) { (text.len() / 8).max(4) } else { (text.len() / 4).max(4) };
    text.len() >= 20 && plain && mixed && changes(text) >= enough
}

/// Whether a part between marks is an id: a number of four digits and more, a hash, a ULID, a random text.
fn is_id(part: &str) -> bool {
    let (digit, letter) = (has(part, u8::is_ascii_digit), has(part, u8::is_ascii_alphabetic));
    let hash = is_hex(part) && ((part.len() >= 8 && digit) || part.len() >= 32);
    // Crockford's alphabet has no I, L, O, U.
    let crockford = |b: u8| b.is_ascii_alphanumeric() && !b"ILOU".contains(&b.to_ascii_uppercase());
    let ulid = part.len() == 26 && matches!(part.as_bytes()[0], b'0'..=b'7') && part.bytes().all(crockford);
    let random = (part.len() >= 10 && digit && letter && changes(part) >= 4)
        || (part.len() >= 16 && changes(part) >= part.len() / 4);
    (part.len() >= 4 && is_digits(part)) || hash || ulid || random
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::policy::pattern::Glob;

    /// A generator that is the same every time (xorshift64).
    pub struct Dice(pub u64);

    impl Dice {
        pub fn roll(&mut self, of: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % of as u64) as usize
        }

        /// A path of words, marks and ids.
        pub fn path(&mut self) -> String {
            const WORDS: [&str; 24] = [
                "v1",
                "files",
                "chat",
                "file-",
                "resp_",
                "-",
                "_",
                ".",
                "%2F",
                "..",
                "",
                "a",
                "7",
                "2024-01-31",
                "0123abcd",
                "01JZ8Q4T9VABCDEFGHJKMNPQRS",
                "Tz0aQ9xK2mB7cD",
                "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                "bü",
                "~",
                "T10:00:00Z",
                ";x=1",
                "pack-",
                "99",
            ];
            let mut path = String::new();
            for _ in 0..=self.roll(6) {
                path.push('/');
                (0..self.roll(4)).for_each(|_| path.push_str(WORDS[self.roll(WORDS.len())]));
            }
            if path.is_empty() { "/".to_owned() } else { path }
        }
    }

    #[test]
    fn ids_are_told_from_words() {
        for (path, want) in [
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/files/file-8vJ2kQ1n5LmZ/content", "/v1/files/file-*/content"),
            ("/v1/responses/resp_67ccd2bed1ec8190b14f964abc054267", "/v1/responses/resp_*"),
            ("/v1/assistants/asst_abc123/", "/v1/assistants/asst_*/"),
            ("/v1/threads/thread_AbC/runs/run_1a2b3c", "/v1/threads/thread_AbC/runs/run_*"),
            ("/users/42", "/users/*"),
            ("/users/me", "/users/me"),
            ("/a/6ba7b810-9dad-11d1-80b4-00c04fd430c8.json", "/a/*.json"),
            ("/s/01JZ8Q4T9VABCDEFGHJKMNPQRS", "/s/*"),
            ("/x/objects/ab/cdef0123456789abcdef0123456789abcdef01", "/x/objects/*/*"),
            ("/x/objects/ab/cd", "/x/objects/ab/cd"),
            ("/x/pack-cdef0123456789abcdef0123456789abcdef0123.pack", "/x/pack-*.pack"),
            ("/logs/2024-01-31", "/logs/*"),
            ("/logs/2024/01/31", "/logs/*/*/*"),
            ("/logs/day-2024-01-31T10:00:00Z.log", "/logs/day-*.log"),
            ("/bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/getMe", "/*/getMe"),
            ("/t/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.Ab0_-9xYz", "/t/*"),
            (
                "/simple/requests/requests-2.31.0-py3-none-any.whl",
                "/simple/requests/requests-2.31.0-py3-none-any.whl",
            ),
            (
                "/v1beta/models/gemini-1.5-pro:generateContent",
                "/v1beta/models/gemini-1.5-pro:generateContent",
            ),
            ("/git/demo.git/info/refs", "/git/demo.git/info/refs"),
            (
                "/MyVeryLongControllerNameHandler/x86_64/sha256",
                "/MyVeryLongControllerNameHandler/x86_64/sha256",
            ),
            ("/a%201234/b", "/a%201234/b"),
            ("/", "/"),
            ("//", "//"),
        ] {
            assert_eq!(pattern(&segments(path).expect(path)), want, "{path}");
        }
        for path in ["", "*", "x", "/a/*", &"/a".repeat(33), &format!("/{}", "a".repeat(1000))] {
            assert_eq!(segments(path), None, "{path}");
        }
    }

    #[test]
    fn a_template_matches_what_it_was_made_of_and_has_none_of_its_own() {
        let mut dice = Dice(0x5EED);
        for _ in 0..20_000 {
            let path = dice.path();
            let made = segments(&path).expect("a plain path");
            let text = pattern(&made);
            let glob = Glob::parse(&text).expect("a pattern");
            assert!(glob.matches(&path), "{path} {text}");
            assert!(!text.contains("**"), "{path} {text}");
            assert_eq!(made.len(), path.split('/').count() - 1, "{path}");
            let next = |at: usize| made.get(at + 1).map(String::as_str);
            let again: Vec<String> =
                made.iter().enumerate().map(|(at, text)| segment(text, next(at))).collect();
            assert_eq!(again, made, "twice: {path}");
        }
    }
}
