//! A request as a reader of this test's own sees it: nothing here is the gate's or its libraries'.

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub method: String,
    pub path: Vec<u8>,
    pub query: Option<String>,
    /// Host, or `:authority`.
    pub authority: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// Fields of one name stay in order; an order among names is no promise.
impl PartialEq for Heard {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |of: &Self| {
            let mut headers = of.headers.clone();
            headers.sort_by(|a, b| a.0.cmp(&b.0));
            headers
        };
        (&self.method, &self.path, &self.query, &self.authority, &self.body, &self.trailers)
            == (&other.method, &other.path, &other.query, &other.authority, &other.body, &other.trailers)
            && sorted(self) == sorted(other)
    }
}

impl Heard {
    pub fn add(&mut self, name: &str, value: &[u8]) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Values of a field, as text.
    pub fn values(&self, name: &str) -> Vec<String> {
        let of = self.headers.iter().filter(|(n, _)| n == name);
        of.map(|(_, v)| String::from_utf8_lossy(v).into_owned()).collect()
    }

    /// Path and query.
    pub fn target(&self) -> Vec<u8> {
        let query = self.query.iter().flat_map(|q| [b"?", q.as_bytes()].concat());
        self.path.iter().copied().chain(query).collect()
    }

    /// The host without its port, in lower case.
    pub fn host(&self) -> String {
        let host = self.authority.split(':').next().unwrap_or_default();
        host.to_ascii_lowercase()
    }

    /// The values of parameters that some servers take for this one: in another letter case, as a list, behind a space.
    pub fn alike(&self, name: &str) -> Vec<String> {
        let query = self.query.as_deref().unwrap_or_default();
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let pairs = pairs.map(|(name, value)| (decoded(name), decoded(value)));
        let is = |key: &str| {
            let key = key.trim_start_matches(' ').to_lowercase();
            key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('['))
        };
        pairs.filter(|(key, _)| key != name && is(key)).map(|(_, value)| value).collect()
    }

    /// Values of a query parameter (WHATWG URL §5.1).
    pub fn parameters(&self, name: &str) -> Vec<String> {
        let query = self.query.as_deref().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(n, _)| decoded(n) == name).map(|(_, v)| decoded(v)).collect()
    }
}

/// Percent-decoded, with `+` for a space.
pub fn decoded(text: &str) -> String {
    let text = text.replace('+', " ").into_bytes();
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let hex =
            text.get(at + 1..at + 3).filter(|d| text[at] == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        match hex.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(text[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn field(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line.iter().position(|b| *b == b':').expect("a colon");
    let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
    (String::from_utf8(line[..colon].to_ascii_lowercase()).expect("a name"), value.to_owned())
}

fn lines(section: &[u8]) -> Vec<&[u8]> {
    let text = section.strip_suffix(b"\r\n").unwrap_or(section);
    let mut lines = Vec::new();
    let mut from = 0;
    for end in memchr::memmem::find_iter(text, b"\r\n") {
        lines.push(&text[from..end]);
        from = end + 2;
    }
    if from < text.len() {
        lines.push(&text[from..]);
    }
    lines
}

/// The first HTTP/1 request of `bytes`, and how long it is; `None` while it is not whole.
pub fn http1(bytes: &[u8]) -> Option<(Heard, usize)> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let mut all = lines(&bytes[..head - 2]).into_iter();
    let first = all.next().expect("a request line");
    let mut words = first.split(|b| *b == b' ');
    let method = String::from_utf8(words.next().expect("a method").to_owned()).expect("text");
    let mut target = words.next().expect("a target").to_owned();
    assert_eq!((words.next(), words.next()), (Some(&b"HTTP/1.1"[..]), None), "{}", first.escape_ascii());
    let mut heard = Heard { method, headers: all.map(field).collect(), ..Heard::default() };
    heard.authority = heard.values("host").concat();
    if let Some(rest) = target.to_ascii_lowercase().strip_prefix(b"http://").map(<[u8]>::len) {
        let authority = target.split_off(target.len() - rest);
        let end = authority.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(authority.len());
        target = authority[end..].to_owned();
    }
    let query = target.iter().position(|b| *b == b'?');
    heard.query = query.map(|at| String::from_utf8(target[at + 1..].to_owned()).expect("text"));
    heard.path = target[..query.unwrap_or(target.len())].to_owned();
    let rest = &bytes[head..];
    let length = heard.values("content-length").first().map_or(0, |n| n.parse().expect("a length"));
    if heard.values("transfer-encoding").is_empty() {
        heard.body = rest.get(..length)?.to_owned();
        return Some((heard, head + length));
    }
    let mut at = 0;
    loop {
        let line = memchr::memmem::find(&rest[at..], b"\r\n")?;
        let size = std::str::from_utf8(&rest[at..at + line]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        at += line + 2;
        if size == 0 {
            break;
        }
        heard.body.extend(rest.get(at..at + size)?);
        assert_eq!(rest.get(at + size..at + size + 2)?, b"\r\n");
        at += size + 2;
    }
    if rest.get(at..at + 2)? == b"\r\n" {
        return Some((heard, head + at + 2));
    }
    let end = memchr::memmem::find(&rest[at..], b"\r\n\r\n")? + 4;
    heard.trailers = lines(&rest[at..at + end - 2]).into_iter().map(field).collect();
    Some((heard, head + at + end))
}
